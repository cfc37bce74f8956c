"""EventClient: publishing and reading events outside an agent, as user interfaces and scripts do."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from types import TracebackType
from typing import Any, Self, TypeVar

from soorma.bus import BusClient, type_name
from soorma.calls import Caller, caller_for
from soorma.config import ClientConfig
from soorma.local import shown
from soorma_common.errors import InvalidRequest, SoormaError
from soorma_common.events import Event
from soorma_common.names import check_name
from soorma_common.topics import Topic, check_topic

log = logging.getLogger("soorma.client")
Listener = Callable[[Event], Any]
L = TypeVar("L", bound=Listener)


class EventClient:
    """Publishes events, with or without a connection, and listens to topics while connected.

    A listener sees what is published from `connect` on, each event once and in order, through reconnections
    too; unlike an agent it gets nothing of the time before. `tenant_id` (or SOORMA_TENANT_ID) confines it.
    """

    def __init__(
        self,
        agent_id: str,
        source: str | None = None,
        tenant_id: str | None = None,
        *,
        config: ClientConfig | None = None,
    ) -> None:
        self.agent_id = check_name("agent_id", agent_id)
        self.source = source or agent_id
        config = config or ClientConfig.from_env()
        self.tenant_id = tenant_id or config.tenant_id
        self._config = replace(config, tenant_id=self.tenant_id)
        self._work_over(caller_for(self._config))
        self._closed = False
        self._listeners: list[tuple[str | None, str | None, Listener]] = []
        self._reading: asyncio.Task[None] | None = None

    def _work_over(self, caller: Caller) -> None:
        """From now on its calls go over that caller; `soorma.testing` puts one of its own here."""
        self._caller = caller
        self._bus = BusClient(self._config, caller, self.source)

    def on_event(self, event_type: str | Enum, topic: str | Topic | None = None) -> Callable[[L], L]:
        """Registers a function of the event, plain or async, for a type and, if given, a topic."""
        kind, where = (
            check_name("event_type", type_name(event_type)),
            None if topic is None else check_topic(topic),
        )

        def register(listener: L) -> L:
            self._listeners.append((None if kind == "*" else kind, where, listener))
            return listener

        return register

    def on_all_events(self, listener: L) -> L:
        """Registers a function of the event, plain or async, for all events of the connected topics."""
        self._listeners.append((None, None, listener))
        return listener

    async def connect(self, topics: Iterable[str | Topic]) -> None:
        """Listens to topics; returns once nothing published from here on can be missed."""
        if self._reading is not None:
            raise InvalidRequest("the client is connected already; disconnect it first")
        if self._closed:
            self._work_over(caller_for(self._config))
            self._closed = False
        names = [check_topic(topic) for topic in topics]
        if not names:
            raise InvalidRequest("name at least one topic to listen to")
        is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(names, is_open), name=f"soorma-client-{self.agent_id}")
        try:
            await is_open
        except BaseException:
            await self._stop_listening()
            raise

    async def disconnect(self) -> None:
        """Stops listening and closes the client; from here on it refuses all but `connect`, which opens it again."""
        await self._stop_listening()
        self._closed = True
        await self._caller.close()

    async def _stop_listening(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError, SoormaError):
                await self._reading
            self._reading = None

    @property
    def _open_bus(self) -> BusClient:
        if self._closed:
            raise InvalidRequest(
                f"client {self.agent_id!r} is closed; connect(…) opens it again, or make another with EventClient(…)"
            )
        return self._bus

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self._reading is not None else "not connected"
        return f"EventClient({self.agent_id!r}, {shown(self._config.events_url)}, {state})"

    async def publish(
        self,
        event_type: str | Enum,
        topic: str | Topic,
        data: Any = None,
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        **envelope: str | None,
    ) -> str:
        """Publishes an event, now or later, and returns its id; see `BusClient.publish`."""
        return await self._open_bus.publish(event_type, topic, data, delay=delay, at=at, **envelope)

    async def cancel(self, event_id: str) -> bool:
        """Takes back an event that was to be published later; tells whether it was still waiting."""
        return bool(await self._open_bus.cancel(event_id))

    async def publish_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Publishes events as one; see `BusClient.publish_many`."""
        return await self._open_bus.publish_many(events)

    async def request(self, event_type: str | Enum, data: Any = None, **arguments: Any) -> Event:
        """Publishes a request and awaits its answer; see `BusClient.request`."""
        return await self._open_bus.request(event_type, data, **arguments)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def _read(self, topics: list[str], is_open: asyncio.Future[None]) -> None:
        query = {"topics": ",".join(topics), "tenant_id": self.tenant_id}
        try:
            await self._follow(query, is_open)
        except SoormaError as error:
            if is_open.done():
                log.exception("client %s has stopped listening", self.agent_id)
                raise
            is_open.set_exception(error)

    async def _follow(self, query: Mapping[str, Any], is_open: asyncio.Future[None]) -> None:
        async for kind, _, data in self._caller.follow("events", "/v1/events/stream", None, query, for_ever=True):
            if kind == "open" and not is_open.done():
                is_open.set_result(None)
            elif kind == "event":
                await self._hand_out(Event.from_json(data))

    async def _hand_out(self, event: Event) -> None:
        for kind, topic, listener in self._listeners:
            if kind in (None, event.type) and topic in (None, event.topic):
                try:
                    outcome = listener(event)
                    if inspect.isawaitable(outcome):
                        await outcome
                except Exception:
                    log.exception("a listener failed on event %s %s", event.type, event.id)
