"""Reaching the platform: where it is, for whom the command speaks, and how its refusals end the command."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import stat
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from soorma.cli import screen
from soorma.cli.exits import CommandError, Exit
from soorma_common.errors import (
    Conflict,
    EventIdConflict,
    HistoryGone,
    InvalidRequest,
    NotFound,
    PlanEnded,
    PlanExists,
    SoormaError,
    Unavailable,
)
from soorma_common.json_text import decode
from soorma_common.names import check_name

if TYPE_CHECKING:
    from soorma.bus import BusClient
    from soorma.config import ClientConfig, Service
    from soorma.memory.client import MemoryClient
    from soorma.transport.calls import Caller

T = TypeVar("T")

PATIENCE_SECONDS = "3"
"""A person waits for the command, so that it gives an outage less time than an agent does."""

SOURCE = "soorma-cli"

_EXITS: tuple[tuple[type[SoormaError], Exit], ...] = (
    (Unavailable, Exit.UNAVAILABLE),
    (NotFound, Exit.NOT_FOUND),
    (Conflict, Exit.CONFLICT),
    (EventIdConflict, Exit.CONFLICT),
    (PlanEnded, Exit.CONFLICT),
    (PlanExists, Exit.CONFLICT),
    (HistoryGone, Exit.GONE),
    (InvalidRequest, Exit.USAGE),
)


class Platform:
    """The platform, on connections of its own, for one tenant and user. Use it inside `on_platform`."""

    def __init__(self, config: ClientConfig, caller: Caller) -> None:
        self._config = config
        self._caller = caller
        self.scope = config.scope(None, None)

    @property
    def memory(self) -> MemoryClient:
        """Working memory, for changes."""
        from soorma.memory.client import MemoryClient  # noqa: PLC0415 - reading does without

        return MemoryClient.on(self._config, self._caller)

    @property
    def bus(self) -> BusClient:
        """Publishing."""
        from soorma.bus import BusClient  # noqa: PLC0415 - reading does without

        return BusClient(self._config, self._caller, SOURCE)

    async def read(self, service: Service, path: str, **query: Any) -> Any:
        """The answer to a GET, as the service's documentation has it."""
        return await self._caller.read(service, path, self.scope, **query)

    async def post(self, service: Service, path: str, **query: Any) -> None:
        """A POST that has no body."""
        await self._caller.call(service, "POST", path, scope=self.scope, query=query)

    async def delete(self, service: Service, path: str, **query: Any) -> Any:
        """The answer to a DELETE."""
        return decode(await self._caller.call(service, "DELETE", path, scope=self.scope, query=query))

    async def whole(self, service: Service, path: str, rows: str, **query: Any) -> dict[str, Any]:
        """The answer to a GET of all pages as one: its first page's facts with the `rows` of all."""
        first = page = await self.read(service, path, **query)
        while page["next"] is not None:
            page = await self.read(service, path, **{**query, "after": page["next"]})
            first[rows] += page[rows]
        del first["next"]
        return dict(first)

    async def follow(self, service: Service, path: str, **query: Any) -> AsyncGenerator[tuple[int, bytes], None]:
        """What a stream says, with its positions, until Ctrl+C: none is lost or told twice when it reconnects."""
        stood = False
        async for kind, position, data in self._caller.follow(service, path, self.scope, query, for_ever=True):
            if kind == "open":
                screen.note("the stream stands again; nothing was lost" if stood else "following; Ctrl+C ends it")
                stood = True
            elif position is not None:
                yield position, data

    async def close(self) -> None:
        """Closes the connections."""
        await self._caller.close()


def on_platform(tenant: str | None, user: str | None, work: Callable[[Platform], Awaitable[T]]) -> T:
    """Does the work on the platform that is meant; CommandError, in one line, if that fails."""
    _hear_the_sdk()
    try:
        return asyncio.run(_work(tenant, user, work))
    except SoormaError as error:
        raise CommandError(exit_of(error), " ".join(screen.plain(error.message).split())) from error


def until_interrupted(
    tenant: str | None, user: str | None, stream: Callable[[Platform], AsyncGenerator[None, None]]
) -> None:
    """Follows a stream on the platform; Ctrl+C is how one ends it, and no failure."""

    async def follow(platform: Platform) -> None:
        async with _ending_with_its_reader(), aclosing(stream(platform)) as lines:
            async for _ in lines:
                pass

    try:
        on_platform(tenant, user, follow)
    except KeyboardInterrupt:
        return


def _hear_the_sdk() -> None:
    """What the SDK would log of an outage is for the person who waits."""
    log = logging.getLogger("soorma")
    if not log.handlers:
        log.addHandler(_Notes(logging.WARNING))


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        screen.note(screen.plain(record.getMessage()))


@asynccontextmanager
async def _ending_with_its_reader() -> AsyncGenerator[None, None]:
    """Ends `… | head` when head has enough, not when the next line finds nobody to read it."""
    task, output, left = asyncio.current_task(), sys.stdout.fileno(), False

    def leave() -> None:
        nonlocal left
        left = True
        loop.remove_reader(output)
        if task is not None:
            task.cancel()

    loop = asyncio.get_running_loop()
    if stat.S_ISFIFO(os.fstat(output).st_mode) and fcntl.fcntl(output, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
        loop.add_reader(output, leave)  # the writing end of a pipe is never readable, but tells that it is broken
    try:
        yield
    except asyncio.CancelledError:
        if left:
            raise CommandError(Exit.OUTPUT_CLOSED, "") from None
        raise
    finally:
        loop.remove_reader(output)


async def _work(tenant: str | None, user: str | None, work: Callable[[Platform], Awaitable[T]]) -> T:
    from soorma.context import caller_for  # noqa: PLC0415 - imports aiohttp, which --help does without

    config = config_for(tenant, user)
    platform = Platform(config, caller_for(config))
    try:
        return await work(platform)
    finally:
        await platform.close()


def config_for(tenant: str | None, user: str | None) -> ClientConfig:
    """Where the platform is, found as the SDK finds it, for the tenant and user that the command line names."""
    from soorma.config import ClientConfig  # noqa: PLC0415

    env = {"SOORMA_RETRY_SECONDS": PATIENCE_SECONDS}
    env |= {name: value for name, value in os.environ.items() if name.startswith("SOORMA_") and value}
    if tenant is not None:
        env["SOORMA_TENANT_ID"] = check_name("tenant_id", tenant)
    if user is not None:
        env["SOORMA_USER_ID"] = check_name("user_id", user)
    return ClientConfig.from_env(env)


def exit_of(error: SoormaError) -> Exit:
    """The exit code that tells what kind of failure this is."""
    return next((code for kind, code in _EXITS if isinstance(error, kind)), Exit.REFUSED)
