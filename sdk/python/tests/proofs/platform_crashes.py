"""A platform in this process that dies at a boundary of a commit and restarts on the same file.

It dies as a process does: the writer's transaction is abandoned where it stands, connections are
cut, no response and no frame leaves it any more, and its store, services and bus are not used
again. Its waiting tasks are ended silently. Agents and clients live on, and reconnect.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Self

import apsw

from soorma.testing import LocalPlatform
from soorma_platform.buses.in_process import InProcessBus
from soorma_platform.http.asgi import AsgiApp, AsgiScope, Message, Receive, Send
from soorma_platform.stores.sqlite.database import SQL

ANSWER = "the answer"
_NAMES = {statement: name for name, statement in SQL.items()}


class MortalPlatform(LocalPlatform):
    """A `LocalPlatform` that `crash_platform` kills, once."""

    _crash: PlatformCrash | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._process = _Process(self._platform.services)
        self._network.services = self._process.services
        return self

    def crash_platform(self, boundary: int | None) -> PlatformCrash:
        """Kills the platform before the writer's statement of this number, counted from 1 on.

        Counting starts now. The response to a commit counts as a statement of its own, after the
        COMMIT. None kills nobody, and only counts. The count ends when the test advances the clock,
        which bypasses the network.
        """
        self._crash = PlatformCrash(self, boundary)
        return self._crash

    async def advance(self, seconds: float, *, settle: bool = True) -> None:
        """Advances the clock; nobody dies meanwhile, nor afterwards."""
        if self._crash is not None:
            await self.settle()
            self._crash.is_armed = False
        await super().advance(seconds, settle=settle)

    async def _die_and_restart(self) -> None:
        platform, store = self._platform, self._platform.store
        platform.stopping()  # it neither gives back nor writes what its agents had in hand
        for socket in list(self._network.sockets):
            socket.close()
        store._connections.writer._closed = True
        store._connections.writer._queue.put(None)
        store._connections.writer._thread.join()
        for task in platform._background:
            task.cancel()
        await asyncio.gather(self._process.kill(), *platform._background, return_exceptions=True)
        self._leave(store._connections.writer.connection)
        await store.close()
        platform.bus = InProcessBus()
        platform.bus.subscribe(self._note)
        platform._stopping = False
        await platform.__aenter__()
        self._process = _Process(platform.services)
        self._network.services = self._process.services

    def _leave(self, connection: apsw.Connection) -> None:
        """Leaves an open transaction: SQLite rolls it back when the file is closed or opened."""


class TornPlatform(MortalPlatform):
    """A planted fault: what a transaction has written so far stays when the platform dies."""

    def _leave(self, connection: apsw.Connection) -> None:
        connection.exec_trace = None
        if connection.in_transaction:
            connection.execute("COMMIT")


class PlatformCrash:
    """The boundaries that the writer came to until the platform died; `happened` is true then."""

    def __init__(self, platform: MortalPlatform, boundary: int | None) -> None:
        self.passed: list[str] = []
        self.happened = False
        self.is_armed = True
        self._boundary = boundary
        self._platform = platform
        self._loop = asyncio.get_running_loop()
        store = platform._platform.store
        self._report = store._connections.writer._report
        store._connections.writer.connection.exec_trace = self._on_statement
        self._commit_all = store._connections.writer._commit_all
        store._connections.writer._report = self._on_answer  # type: ignore[method-assign]
        store._connections.writer._commit_all = self._on_batch  # type: ignore[method-assign]

    def _on_statement(self, _: object, statement: str, __: object) -> bool:
        if self._is_over(_NAMES.get(statement.strip(), statement.strip())):
            raise _Death
        return True

    def _on_batch(self, batch: Any, *, at_once: bool = False) -> bool:
        with suppress(_Death):
            return self._commit_all(batch, at_once=at_once)
        return True

    def _on_answer(self, batch: Any) -> None:
        if not self._is_over(ANSWER):
            self._report(batch)

    def _is_over(self, where: str) -> bool:
        if self.is_armed and not self.happened:
            self.passed.append(where)
            if len(self.passed) == self._boundary:
                self.happened = True
                self._loop.call_soon_threadsafe(self._kill)
        return self.happened

    def _kill(self) -> None:
        network = self._platform._network
        network.begin(
            "the platform starts again", self._platform._die_and_restart(), is_change=True
        )


class _Death(BaseException):
    """Nothing in the writer catches it, nor rolls back."""


class _Process:
    """The services of one life of the platform, each cut off when it ends."""

    def __init__(self, services: dict[str, AsgiApp]) -> None:
        self.services: dict[str, AsgiApp] = {
            name: self._mortal(service) for name, service in services.items()
        }
        self._is_dead = False
        self._calls: set[asyncio.Task[None]] = set()

    async def kill(self) -> None:
        """Cuts off all requests and connections that are being served."""
        self._is_dead = True
        # again and again: some wait, in their end too, for what the dead writer had in hand
        while self._calls:
            for call in self._calls:
                call.cancel()
            await asyncio.sleep(0)

    def _mortal(self, service: AsgiApp) -> AsgiApp:
        async def serve(scope: AsgiScope, receive: Receive, send: Send) -> None:
            async def send_alive(message: Message) -> None:
                self._check()
                await send(message)

            self._check()
            call = asyncio.ensure_future(_awaited(service(scope, receive, send_alive)))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            try:
                await call
            except asyncio.CancelledError:
                if self._is_dead and scope["type"] == "websocket":
                    return  # it was closed already
                self._check()
                call.cancel()
                raise

        return serve

    def _check(self) -> None:
        if self._is_dead:
            raise ConnectionResetError("the platform was killed")


async def _awaited(work: Any) -> None:
    await work
