"""EventClient: publishes and receives events outside agents, as in user interfaces and scripts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from soorma.bus import BusClient, EnvelopeFields, RequestOptions, type_name
from soorma.callables import call, check_callable
from soorma.config import ClientConfig
from soorma.local import shown
from soorma.transport.calls import Caller, caller_for
from soorma_common.errors import InvalidRequest, SoormaError
from soorma_common.events import Event
from soorma_common.names import check_name
from soorma_common.topics import TopicLike, check_topic

log = logging.getLogger("soorma.client")
Listener = Callable[[Event], Any]
L = TypeVar("L", bound=Listener)


class EventClient:
    """A client that publishes events, connected or not, and listens to topics while connected.

    A listener receives what is published from `connect` on, each event once and in order, across
    reconnections too; unlike an agent, it receives nothing from before. `tenant_id` (or
    SOORMA_TENANT_ID) confines the client to a tenant.
    """

    def __init__(
        self,
        agent_id: str,
        source: str | None = None,
        tenant_id: str | None = None,
        *,
        config: ClientConfig | None = None,
        api_key: str | Callable[[], str] | None = None,
    ) -> None:
        self.agent_id = check_name("agent_id", agent_id)
        self.source = source or agent_id
        config = config or ClientConfig.from_env()
        if api_key is not None:
            config = replace(config, api_key=api_key)
        self.tenant_id = tenant_id or config.tenant_id
        self._config = replace(
            config,
            tenant_id=self.tenant_id,
            api_key=api_key if api_key is not None else config.api_key,
        )
        self._caller = caller_for(self._config)
        self._bus = BusClient(self._config, self._caller, self.source)
        self._closed = False
        self._listeners: list[tuple[str | None, str | None, Listener]] = []
        self._reading: _Reading | None = None

    @property
    def api_key(self) -> str | Callable[[], str] | None:
        """The key that it was given, or the function that returns it."""
        return self._config.api_key

    def work_over(self, caller: Caller) -> Caller:
        """Uses another caller from now on; returns the previous one."""
        before, self._caller = self._caller, caller
        self._bus = BusClient(self._config, caller, self.source)
        return before

    def on_event(self, event_type: str | Enum, topic: TopicLike | None = None) -> Callable[[L], L]:
        """Registers a listener of (event), plain or async, for a type and, if given, a topic."""
        kind, where = (
            check_name("event_type", type_name(event_type)),
            None if topic is None else check_topic(topic),
        )

        def register(listener: L) -> L:
            check_callable(listener, "a listener", "event")
            self._listeners.append((None if kind == "*" else kind, where, listener))
            return listener

        return register

    def on_all_events(self, listener: L) -> L:
        """Registers a listener of (event), plain or async, for all events of connected topics."""
        check_callable(listener, "a listener", "event")
        self._listeners.append((None, None, listener))
        return listener

    async def connect(self, topics: Iterable[TopicLike]) -> None:
        """Starts listening to topics; no event published after it returns is missed."""
        if self._reading is not None:
            raise InvalidRequest("the client is connected already; disconnect it first")
        if self._closed:
            self.work_over(caller_for(self._config))
            self._closed = False
        names = [check_topic(topic) for topic in topics]
        if not names:
            raise InvalidRequest("name at least one topic to listen to")
        reading = self._reading = _Reading()
        reading.task = asyncio.create_task(
            self._read(names, reading), name=f"soorma-client-{self.agent_id}"
        )
        try:
            await reading.is_open
        except BaseException:
            await self._stop_listening()
            raise

    async def disconnect(self) -> None:
        """Stops listening and closes the client, which then refuses all calls but `connect`.

        `connect` opens it again. No listener is called any more; one that disconnects its own
        client runs to its end.
        """
        self._closed = True
        await self._stop_listening()
        await self._caller.close()

    async def _stop_listening(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.is_over = True
            is_inside = reading.is_handing_out and _listening.get() is reading
            if not is_inside and reading.task is not None:
                reading.task.cancel()
                with suppress(asyncio.CancelledError, SoormaError):
                    await reading.task

    @property
    def _open_bus(self) -> BusClient:
        if self._closed:
            raise InvalidRequest(
                f"client {self.agent_id!r} is closed; connect(…) opens it again, or make another "
                "with EventClient(…)"
            )
        return self._bus

    def __repr__(self) -> str:
        state = (
            "closed"
            if self._closed
            else "connected"
            if self._reading is not None
            else "not connected"
        )
        return f"EventClient({self.agent_id!r}, {shown(self._config.events_url)}, {state})"

    async def publish(
        self,
        event_type: str | Enum,
        topic: TopicLike,
        data: Any = None,
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        **envelope: Unpack[EnvelopeFields],
    ) -> str:
        """Publishes an event, now or later, and returns its id; see `BusClient.publish`."""
        return await self._open_bus.publish(event_type, topic, data, delay=delay, at=at, **envelope)

    async def cancel(self, event_id: str) -> bool:
        """Cancels an event that was to be published later; returns True if it was still pending."""
        return bool(await self._open_bus.cancel(event_id))

    async def publish_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Publishes all of the events or none; see `BusClient.publish_many`."""
        return await self._open_bus.publish_many(events)

    async def request(
        self, event_type: str | Enum, data: Any = None, **arguments: Unpack[RequestOptions]
    ) -> Event:
        """Publishes a request and awaits its response; see `BusClient.request`."""
        return await self._open_bus.request(event_type, data, **arguments)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.disconnect()

    async def _read(self, topics: Iterable[str], reading: _Reading) -> None:
        query = {"topics": ",".join(topics), "tenant_id": self.tenant_id}
        _listening.set(reading)
        try:
            await self._follow(query, reading)
        except SoormaError as error:
            if reading.is_open.done():
                if reading.is_over:
                    return
                log.exception("client %s has stopped listening", self.agent_id)
                raise
            reading.is_open.set_exception(error)

    async def _follow(self, query: Mapping[str, Any], reading: _Reading) -> None:
        stream = self._caller.follow("events", "/v1/events/stream", None, query, for_ever=True)
        async with aclosing(stream):
            async for kind, _, data in stream:
                if kind == "open" and not reading.is_open.done():
                    reading.is_open.set_result(None)
                elif kind == "event":
                    reading.is_handing_out = True
                    await self._hand_out(data, reading)
                    reading.is_handing_out = False
                if reading.is_over:
                    return

    async def _hand_out(self, data: bytes, reading: _Reading) -> None:
        event = Event.from_json(data)
        for kind, topic, listener in list(self._listeners):
            if kind in (None, event.type) and topic in (None, event.topic):
                try:
                    # Each listener gets its own event, as one may change it.
                    await call(listener, Event.from_json(data))
                except asyncio.CancelledError:
                    if reading.is_over:
                        raise
                    log.exception("a listener was cancelled on event %s %s", event.type, event.id)
                except Exception:
                    log.exception("a listener failed on event %s %s", event.type, event.id)
                if reading.is_over:
                    return


class _Reading:
    """The reading of events from a `connect` to its `disconnect`."""

    def __init__(self) -> None:
        self.is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_handing_out = self.is_over = False
        self.task: asyncio.Task[None] | None = None


_listening: ContextVar[_Reading | None] = ContextVar("soorma_listening", default=None)
"""The reading whose listener runs this code, in any task that the listener has started."""
