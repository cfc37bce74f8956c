"""An agent's place in the registry: announced once subscribed, then kept until the agent stops.

An unreachable registry never hinders the agent's work: it is logged once, and retried. A final
refusal ends the start of the agent; later on, it is logged as an error. While a handler blocks the
event loop, the thread that renews leases renews the place too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum

import msgspec

from soorma.bus import type_name
from soorma.registry import plain_definition, put_of
from soorma.transport.calls import checked, segment
from soorma.transport.headers import tenant_headers
from soorma.transport.http import JSON, Transport
from soorma.transport.pauses import Backoff
from soorma_common.errors import InvalidRequest, NotFound, SoormaError, Unavailable
from soorma_common.names import check_name
from soorma_common.registry import (
    LONGEST_TTL,
    SHORTEST_TTL,
    Announcement,
    Capability,
    EventDefinition,
    check_announcement,
)

ATTEMPT_SECONDS = 5.0
FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
FAREWELL_SECONDS = 1.0

log = logging.getLogger("soorma.agent")


def names_of(events: Iterable[str | Enum | EventDefinition]) -> list[str]:
    """The types of the events that an agent declares to consume or produce."""
    if isinstance(events, str | EventDefinition):
        raise InvalidRequest(f"a list of event types is meant, as [{events!r}], not {events!r}")
    kinds = (
        type_name(event.type if isinstance(event, EventDefinition) else event) for event in events
    )
    return [check_name("event type", kind) for kind in kinds]


def definitions_of(events: Iterable[str | Enum | EventDefinition]) -> list[EventDefinition]:
    """The definitions among the events."""
    return [plain_definition(event) for event in events if isinstance(event, EventDefinition)]


def announcement(
    description: str, capabilities: list[str | Capability], consumed: list[str], produced: list[str]
) -> Announcement:
    """The announcement of an agent; InvalidRequest or LimitExceeded if it is invalid."""
    takes, publishes = list(dict.fromkeys(consumed)), list(dict.fromkeys(produced))
    return check_announcement(Announcement(description, capabilities, takes, publishes))


class Presence:
    """The announcement of an agent's instance, with the events it defines, kept up while it runs.

    `tried` is set once the first attempt is over. If that was refused for good, `refusal` is the
    error.
    """

    def __init__(
        self,
        transport: Transport,
        tenant_id: str | None,
        place: tuple[str, str],
        announcement: Announcement,
        definitions: list[EventDefinition],
    ) -> None:
        self._transport = transport
        self._headers = tenant_headers(tenant_id)
        self._name, instance = place
        self._path = f"/v1/registry/agents/{segment(self._name)}/instances/{segment(instance)}"
        self._announcement = announcement
        self._definitions = [(definition, *put_of(definition)) for definition in definitions]
        self.tried, self.refused = asyncio.Event(), asyncio.Event()
        self.refusal: SoormaError | None = None
        self._told: set[str] = set()
        self._is_announced = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self, lease_seconds: float) -> None:
        """Announces the subscribed agent in the background, again if it was announced before.

        Its time to live is that of a lease; the thread that renews leases renews it with them.
        """
        self._announcement.ttl = min(max(lease_seconds, SHORTEST_TTL), LONGEST_TTL)
        self._is_announced = False
        self._news.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"soorma-presence-{self._name}")

    def abandon(self) -> None:
        """Stops without notice; the place expires at the end of its time to live."""
        if self._task is not None:
            self._task.cancel()

    async def end(self) -> None:
        """Gives the place up; if the registry cannot be reached, the place expires."""
        if self._task is None:
            return
        self.abandon()
        await asyncio.gather(self._task, return_exceptions=True)
        with suppress(SoormaError, TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._call("DELETE", self._path)

    async def _run(self) -> None:
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY, least=1.0)
        while True:
            self._news.clear()
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    await self._beat()
            except (Unavailable, TimeoutError) as error:
                self._tell_once(error)
                pause = backoff.pause()
            except SoormaError as error:
                self._refuse(error)
                return
            else:
                pause = self._announcement.ttl / 3
                backoff.reset()
            self.tried.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def _beat(self) -> None:
        if self._is_announced:
            try:
                await self._call("POST", f"{self._path}/heartbeat")
            except NotFound:
                log.info("agent %s: the registry has lost it, announcing it again", self._name)
            else:
                return
        await self._announce()

    async def _announce(self) -> None:
        for definition, path, body in self._definitions:
            try:
                await self._call("PUT", path, body)
            except Unavailable:
                raise
            except SoormaError as error:
                if not self.tried.is_set():
                    raise
                log.error(  # noqa: TRY400 - the error says it all
                    "agent %s: event %r is not defined: %s", self._name, definition.type, error
                )
        await self._call("PUT", self._path, msgspec.json.encode(self._announcement))
        self._is_announced = True
        self._told.clear()
        log.debug("agent %s is announced", self._name)

    async def _call(self, method: str, path: str, body: bytes | None = None) -> None:
        headers = self._headers if body is None else {**self._headers, "Content-Type": JSON}
        checked(*await self._transport.request("registry", method, path, headers, body))

    def _refuse(self, error: SoormaError) -> None:
        if self.tried.is_set():
            log.error(
                "agent %s: the registry refuses it, it is not announced any more: %s",
                self._name,
                error,
            )
        else:
            self.refusal = error
            self.refused.set()
            self.tried.set()

    def _tell_once(self, error: Exception) -> None:
        what = (
            "no answer in time"
            if isinstance(error, TimeoutError) and not str(error)
            else str(error)
        )
        if what not in self._told:
            self._told.add(what)
            log.warning(
                "agent %s: it is not announced, trying again until it works: %s", self._name, what
            )
