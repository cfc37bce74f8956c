"""The network of a test, in place of sockets: connections, calls under way, and faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from typing import Any, TypeVar
from weakref import WeakSet

import msgspec

from soorma.config import Service
from soorma.testing.asgi import Exchange, SocketPipe, http_scope, socket_scope
from soorma.testing.attempts import counted, current, uncounted
from soorma.testing.faults import Failure, failure_of
from soorma_common.delivery import AgentFrame, Deliver, Hello, ServiceFrame, Welcome
from soorma_common.errors import InvalidRequest, Unavailable
from soorma_platform.http.asgi import AsgiApp

BLOCKING_SECONDS = 3.0
_DELIVERY = b'{"frame":"deliver"'
_ANSWERS = (b'{"frame":"commit"', b'{"frame":"fail"')
_agent_frames = msgspec.json.Decoder(AgentFrame)
_service_frames = msgspec.json.Decoder(ServiceFrame)
T = TypeVar("T")


class Network:
    """The services within reach, and all traffic to and from them."""

    def __init__(self, services: Mapping[str, AsgiApp]) -> None:
        self.services = services
        self.failures: list[Failure] = []
        self.sockets: list[LocalSocket] = []
        self.transports: WeakSet[LocalTransport] = WeakSet()
        self.activity = 0
        self.changes: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: set[asyncio.Future[None]] = set()
        self._moved = asyncio.Event()

    def begin(
        self, name: str, work: Coroutine[Any, Any, T], *, is_change: bool = False
    ) -> asyncio.Task[T]:
        """Starts a task that outlives its caller.

        One with `is_change` must end before all is settled.
        """
        if asyncio.get_running_loop() is not self._loop:
            work.close()
            raise InvalidRequest(
                "this platform was started in another event loop; start it where it is used (with "
                "pytest-asyncio: give the test and the fixture the same loop_scope)"
            )
        task = self._loop.create_task(work, name=name, context=self._context.copy())
        for among in (self._tasks, self.changes) if is_change else (self._tasks,):
            among.add(task)
            task.add_done_callback(among.discard)
        task.add_done_callback(lambda _: self.touch())
        return task

    def touch(self) -> None:
        """Records that something has moved."""
        self.activity += 1
        self._moved.set()

    async def moved(self, patience: float) -> None:
        """Returns when something moves, or after `patience` seconds."""
        self._moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._moved.wait()

    async def never(self) -> None:
        """Waits until the network closes, and is then cancelled."""
        future = self._loop.create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    async def close(self) -> None:
        """Ends everything under way."""
        for socket in list(self.sockets):
            socket.close()
        for ending in (*self._waiting, *self._tasks - {socket.serving for socket in self.sockets}):
            ending.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)


class LocalTransport:
    """A client's `soorma.transport.http.Transport` to a platform in this process."""

    def __init__(self, network: Network) -> None:
        self.is_dead = False
        self.is_frozen = False
        self.socket: LocalSocket | None = None
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._thawed = asyncio.Event()
        self._exchanges: set[Exchange] = set()
        network.transports.add(self)

    async def request(
        self,
        service: Service,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> tuple[int, bytes]:
        return await counted(
            f"{method} {path}", self._request(service, method, path, headers, body)
        )

    async def _request(
        self,
        service: Service,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> tuple[int, bytes]:
        await self.passes()
        failure = failure_of(self._network.failures, service, method, path)
        if failure is not None and not failure.lost:
            raise failure.error(service, method, path)
        exchange = Exchange(service, body)
        work = exchange.run(self._network.services[service], http_scope(method, path, headers))
        await asyncio.shield(
            self._network.begin(f"{method} {path}", work, is_change=method != "GET")
        )
        await self.passes()
        if failure is not None:
            raise failure.error(service, method, path)
        return await exchange.status, await exchange.body()

    @asynccontextmanager
    async def stream(
        self, service: Service, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        exchange = Exchange(service, None)
        task = await counted(f"GET {path}", self._open(exchange, service, path, headers))
        self._exchanges.add(exchange)
        try:
            yield await exchange.status, self._pieces(exchange)
        finally:
            self._exchanges.discard(exchange)
            task.cancel()
            await uncounted(_ended(task))

    async def _open(
        self, exchange: Exchange, service: Service, path: str, headers: Mapping[str, str]
    ) -> asyncio.Task[None]:
        await self.passes()
        if failure := failure_of(self._network.failures, service, "GET", path):
            raise failure.error(service, "GET", path)
        work = exchange.run(self._network.services[service], http_scope("GET", path, headers))
        task = self._network.begin(f"GET {path}", work)
        try:
            await asyncio.shield(exchange.status)
        except BaseException:
            task.cancel()
            raise
        return task

    async def _pieces(self, exchange: Exchange) -> AsyncIterator[bytes]:
        while (piece := await counted("the next of a stream", exchange.piece())) is not None:
            await self.passes()
            self._network.touch()
            yield piece

    @asynccontextmanager
    async def connect(
        self, service: Service, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[LocalSocket]:
        await self.passes()
        if failure := failure_of(self._network.failures, service, "GET", path):
            raise failure.error(service, "GET", path)
        socket = LocalSocket(service, self, self._network)
        work = socket.run(self._network.services[service], socket_scope(path, headers))
        socket.serving = self._network.begin(f"WebSocket {path}", work)
        self._network.sockets.append(socket)
        socket.serving.add_done_callback(lambda _: self._network.sockets.remove(socket))
        try:
            await socket.accepted
            self.socket = socket
            yield socket
        finally:
            self.socket = None
            socket.close()
            if not self.is_dead:
                await asyncio.wait({socket.serving})

    def request_blocking(
        self, service: Service, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Makes a request from a thread; while the event loop is blocked, it is an outage."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        work = self.request(service, "POST", path, sent, body)
        try:
            asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise Unavailable(f"the platform of this test has ended: {error}") from error
        try:
            status, content = asked.result(BLOCKING_SECONDS)
        except TimeoutError as error:
            asked.cancel()
            raise Unavailable(
                f"the event loop of this test was blocked for {BLOCKING_SECONDS:g} s"
            ) from error
        if status >= 400:
            raise Unavailable(f"the {service} service responded with {status} to {path}")
        return content

    async def close(self) -> None:
        """Does nothing: there is nothing to close."""

    async def passes(self) -> None:
        """Waits until this client's traffic may pass: not while frozen, never once dead."""
        while self.is_frozen and not self.is_dead:
            await self._thawed.wait()
        if self.is_dead:
            await self._network.never()

    def freeze(self) -> None:
        """Holds up all traffic from now on."""
        self.is_frozen = True
        self._thawed.clear()

    def thaw(self) -> None:
        """Lets all traffic pass that was held up."""
        self.is_frozen = False
        self._thawed.set()

    def die(self) -> None:
        """Cuts all connections, as the end of a process does; nothing passes any more."""
        self.is_dead = True
        self._thawed.set()
        self.cut()

    def cut(self) -> None:
        """Cuts all connections; the client may make new ones."""
        if self.socket is not None:
            self.socket.close()
        for exchange in self._exchanges:
            exchange.cut()
        self._network.touch()


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})


class LocalSocket(SocketPipe):
    """An agent's WebSocket; the first frames tell which agent and replica it connects."""

    serving: asyncio.Task[None]

    def __init__(self, service: Service, transport: LocalTransport, network: Network) -> None:
        super().__init__(service)
        self.hello: Hello | None = None
        self.replica: str | None = None
        self.fences: set[str] = set()
        """of what its agent was sent, and may still have in hand"""
        self._transport = transport
        self._network = network

    async def send(self, frame: bytes) -> None:
        """Sends a frame.

        Sending an attempt's outcome and waiting for the response are awaits of the attempt.
        """
        await self._transport.passes()
        if self.hello is None:
            hello = _agent_frames.decode(frame)
            self.hello = hello if isinstance(hello, Hello) else None
        attempt = current() if frame.startswith(_ANSWERS) else None
        if attempt is not None:
            await attempt.reach("its outcome is sent")
        self.put(frame)
        self._network.touch()
        if attempt is not None:
            await attempt.reach("its outcome is answered")

    async def receive(self) -> bytes:
        try:
            return await self.take()
        finally:
            # the dead hear nothing, not even that the connection is lost
            await self._transport.passes()

    def on_frame(self, frame: bytes) -> None:
        """Records a frame to the agent as a movement, and takes the replica from the welcome."""
        self._network.touch()
        if self.replica is None:
            welcome = _service_frames.decode(frame)
            if isinstance(welcome, Welcome):
                self.replica, self.fences = welcome.replica, set(welcome.kept)
        elif frame.startswith(_DELIVERY):
            delivery = _service_frames.decode(frame)
            assert isinstance(delivery, Deliver)  # noqa: S101 - it begins as one
            self.fences.add(delivery.fence)

    @property
    def is_live(self) -> bool:
        """True if an agent is connected and takes what it is sent."""
        return self.is_open and self.replica is not None and not self._transport.is_frozen
