"""The network of the simulation: messages arrive late, out of order between connections, or never.

Some arrive twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from simulator.world import Process, World
from soorma.testing.asgi import Exchange, Message, http_scope, lost, socket_scope
from soorma.transport.http import Service

if TYPE_CHECKING:
    from soorma_platform.http.asgi import AsgiApp


class Network:
    """The network between the agents and the current platform."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.platform: Process | None = None
        """None while there is none"""
        self.services: Mapping[str, AsgiApp] = {}
        self.links: dict[Link, None] = {}
        self.lost_requests = self.lost_answers = self.repeated = 0.0
        """how likely each is"""
        self._calls: dict[_Call, None] = {}

    def latency(self) -> float:
        """Seconds that a message is on its way."""
        dice = self.world.dice
        return dice.uniform(0.0005, 0.005) if dice.random() < 0.95 else dice.uniform(0.005, 0.4)

    def send(self, to: Process, callback: Callable[..., object], *args: Any) -> None:
        """Delivers something to a process after a while."""
        to.call_later(self.latency(), callback, *args)

    def connected(self, process: Process, services: Mapping[str, AsgiApp]) -> None:
        """Connects a platform."""
        self.platform, self.services = process, services

    def disconnect_platform(self) -> None:
        """Disconnects the platform: each end of a connection to it notices after a while."""
        self.platform = None
        for link in list(self.links):
            link.cut()
        for call in self._calls:
            self.send(call.client, call.fail)
        self._calls.clear()

    def begin(self, call: _Call) -> None:
        """Sends a request."""
        chance = self.world.dice.random()
        self._calls[call] = None
        if chance < self.lost_requests:
            self.world.note(call.client.name, "request lost", call.path)
            self._end(call, call.fail)
            return
        self._arrive_later(call, answered=chance >= self.lost_requests + self.lost_answers)
        if self.world.dice.random() < self.repeated:
            self.world.note(call.client.name, "request twice", call.path)
            self._arrive_later(call, answered=False)

    def _arrive_later(self, call: _Call, *, answered: bool) -> None:
        there = self.platform
        if there is None:
            self._end(call, call.fail)
            return
        self.send(there, lambda: there.create_task(self._serve(call, answered=answered)))

    async def _serve(self, call: _Call, *, answered: bool) -> None:
        exchange = Exchange(call.service, call.body)
        await exchange.run(
            self.services[call.service], http_scope(call.method, call.path, call.headers)
        )
        status, body = await exchange.status, await exchange.body()
        if answered:
            self._end(call, lambda: call.answer(status, body))
        elif not call.future.done():
            self.world.note(call.client.name, "answer lost", call.path)
            self._end(call, call.fail)

    def _end(self, call: _Call, how: Callable[[], None]) -> None:
        self._calls.pop(call, None)
        self.send(call.client, how)


class _Call:
    """A request of a client, until it gets a response."""

    def __init__(self, client: Process, service: Service, method: str, path: str) -> None:
        self.client = client
        self.service = service
        self.method = method
        self.path = path
        self.headers: Mapping[str, str] = {}
        self.body: bytes | None = None
        self.future: asyncio.Future[tuple[int, bytes]] = client.create_future()

    def answer(self, status: int, body: bytes) -> None:
        if not self.future.done():
            self.future.set_result((status, body))

    def fail(self) -> None:
        if not self.future.done():
            self.future.set_exception(lost(self.service))


class End:
    """One end of a link: what has arrived there, in the order it was sent."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._arrived: deque[Message | None] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self.last_arrival = 0.0

    def arrive(self, message: Message | None) -> None:
        self._arrived.append(message)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def get(self) -> Message | None:
        while not self._arrived:
            self._waiting = self.process.create_future()
            await self._waiting
        return self._arrived.popleft()


class Link:
    """A WebSocket, ordered in each direction until cut; what is in flight then may be lost."""

    def __init__(self, network: Network, client: Process, server: Process) -> None:
        self._network = network
        self.client = End(client)
        self.server = End(server)
        self.is_cut = False

    def send(self, to: End, message: Message | None) -> None:
        world = self._network.world
        at = to.last_arrival = max(to.last_arrival, world.now + self._network.latency())
        to.process.call_at(at, to.arrive, message)

    def cut(self, *, unnoticed: float = 0.0) -> None:
        """Cuts the connection: each end notices in its own time, the platform `unnoticed` s later.

        What was sent before arrives before; what the platform sends until then is lost.
        """
        if not self.is_cut:
            self.is_cut = True
            self._network.links.pop(self, None)
            self.send(self.client, None)
            self.server.last_arrival = max(
                self.server.last_arrival, self._network.world.now + unnoticed
            )
            self.send(self.server, {"type": "websocket.disconnect", "code": 1006})

    async def serve(self, app: AsgiApp, path: str) -> None:
        """The platform's part."""
        self.server.arrive({"type": "websocket.connect"})
        try:
            await app(socket_scope(path), self._receive, self._answer)
        except Exception:
            if not self.is_cut:  # a server only logs what comes of a connection that was lost
                raise
        finally:
            self.cut()

    async def _receive(self) -> Message:
        message = await self.server.get()
        assert message is not None
        return message

    async def _answer(self, message: Message) -> None:
        if message["type"] == "websocket.close":
            self.cut()
        elif not self.is_cut:
            self.send(self.client, message)
        elif self._network.world.now >= self.server.last_arrival:
            raise OSError("the client is gone")


class _Socket:
    """The client's end, as the SDK has it."""

    def __init__(self, link: Link, service: str) -> None:
        self._link = link
        self._service = service

    async def send(self, frame: bytes) -> None:
        if self._link.is_cut:
            raise lost(self._service)
        self._link._network.world.note(self._link.client.process.name, "sends", frame)
        self._link.send(self._link.server, {"type": "websocket.receive", "bytes": frame})

    async def receive(self) -> bytes:
        message = await self._link.client.get()
        if message is None:
            self._link.client.arrive(None)
            raise lost(self._service)
        frame: bytes = message.get("bytes", b"")
        self._link._network.world.note(self._link.client.process.name, "hears", frame)
        return frame


class SimulatedTransport:
    """A `soorma.transport.http.Transport` of one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    async def request(
        self,
        service: Service,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> tuple[int, bytes]:
        if self._process.is_ending:
            raise lost(service)
        call = _Call(self._process, service, method, path)
        call.headers, call.body = headers, body
        self._network.begin(call)
        return await call.future

    def stream(
        self, service: Service, path: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[tuple[int, AsyncIterator[bytes]]]:
        """Nobody in the simulation reads streams."""
        raise NotImplementedError

    @asynccontextmanager
    async def connect(self, service: Service, path: str) -> AsyncIterator[_Socket]:
        network, server = self._network, self._network.platform
        await asyncio.sleep(network.latency())
        if server is None or server is not network.platform or self._process.is_ending:
            raise lost(service)
        link = Link(network, self._process, server)
        network.links[link] = None
        server.create_task(link.serve(network.services[service], path))
        try:
            accepted = await link.client.get()
            if accepted is None:
                raise lost(service)
            yield _Socket(link, service)
        finally:
            link.cut()

    def request_blocking(
        self, service: Service, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """There are no threads in the simulation: see `leases.SimulatedLeases`."""
        raise NotImplementedError

    async def close(self) -> None:
        pass
