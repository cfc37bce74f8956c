"""One run of an agent, from start to stop: its connection, its attempts and its registry entry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from soorma.config import ClientConfig
from soorma.runtime import process_forks
from soorma.runtime.attempts import Attempts
from soorma.runtime.connection import Connection
from soorma.runtime.handlers import Handlers
from soorma.runtime.harness import Harness
from soorma.runtime.presence import Presence
from soorma.transport.calls import Caller
from soorma_common.delivery import Deliver, Hello, ReleaseFrame, Welcome
from soorma_common.errors import SoormaError
from soorma_common.protocol import PROTOCOL
from soorma_common.registry import Announcement, EventDefinition

GIVE_BACK_SECONDS = 5.0
log = logging.getLogger("soorma.agent")


class Profile(NamedTuple):
    """The identity of an agent on the platform.

    `process` is a name that no other process has, `connections` numbers its connections.
    """

    name: str
    instance: str
    process: str
    connections: Iterator[int]
    max_concurrency: int
    announcement: Announcement
    definitions: list[EventDefinition]


class Session:
    """A run of an agent; `exhausted` is called with the reason when only a new process helps."""

    def __init__(
        self,
        profile: Profile,
        config: ClientConfig,
        caller: Caller,
        handlers: Handlers,
        harness: Harness,
        exhausted: Callable[[str], None],
    ) -> None:
        self._profile = profile
        self._tenant_id = config.tenant_id
        self._handlers = handlers
        name, instance, transport = profile.name, profile.instance, caller.transport
        self.connection = Connection(
            transport, self._hello, self._on_welcome, self._on_deliver, self._on_cancel
        )
        self.attempts = Attempts(
            name,
            instance,
            config,
            caller,
            self.connection,
            profile.max_concurrency,
            exhausted,
            harness,
        )
        told = profile.announcement
        self.presence = Presence(
            transport, config.tenant_id, (name, instance), told, profile.definitions
        )
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.create_task(self.connection.run(), name=f"soorma-agent-{name}")
        process_forks.enter(self.loop)

    async def ready(self) -> None:
        """Returns once the agent is subscribed and the registry has responded or is unreachable."""
        await self.connection.subscribed.wait()
        await self.presence.tried.wait()

    @property
    def has_failed(self) -> bool:
        """True if the platform or the registry has refused the agent."""
        return self.task.done() or self.presence.refused.is_set()

    async def drain(self, patience: float) -> None:
        """Takes no further events, and waits for running handlers.

        Events of handlers that do not end within `patience` seconds are given back.
        """
        await self.connection.drain()
        waits_for = len(self.attempts.running)
        log.info(
            "agent %s takes no further events; handlers that it waits for: %d",
            self._profile.name,
            waits_for,
        )
        # Once refused for good, no handler can commit any more.
        unfinished = await self.attempts.drain(0 if self.task.done() else patience)
        if unfinished and not self.task.done():
            with suppress(SoormaError, TimeoutError):
                async with asyncio.timeout(GIVE_BACK_SECONDS):
                    await self.connection.call(ReleaseFrame(self.connection.number(), unfinished))

    async def close(self) -> BaseException | None:
        """Ends the connection; returns the exception with which it has ended."""
        self.task.cancel()
        outcome = (await asyncio.gather(self.task, return_exceptions=True))[0]
        process_forks.leave(self.loop)
        self.attempts.close()
        return outcome

    async def abandon(self) -> None:
        """Ends like a killed process: nothing is drained, given back or reported."""
        self.task.cancel()
        process_forks.leave(self.loop)
        self.presence.abandon()
        await asyncio.gather(self.task, self.attempts.abandon(), return_exceptions=True)

    def _hello(self) -> Hello:
        profile = self._profile
        return Hello(
            profile.name,
            profile.instance,
            self._handlers.subscriptions,
            profile.max_concurrency,
            self._tenant_id,
            self.attempts.running,
            profile.process,
            next(profile.connections),
            PROTOCOL,
        )

    def _on_welcome(self, welcome: Welcome) -> None:
        self.attempts.resume(welcome)
        self.presence.begin(welcome.lease_seconds)
        types = ", ".join(sorted(s.type for s in self._handlers.subscriptions))
        log.info("agent %s is subscribed to %s", self._profile.name, types)
        for line in welcome.unserved:
            log.warning("agent %s: %s", self._profile.name, line)

    def _on_deliver(self, delivery: Deliver) -> None:
        self.attempts.begin(delivery, self._handlers[delivery.handler])

    def _on_cancel(self, fences: list[str]) -> None:
        self.attempts.cancel(fences)
