"""Publication of events: outside a handler at once, inside it with the handler's commit."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any, Protocol, Required, TypedDict, Unpack
from uuid import uuid4

import msgspec

from soorma.awaits import awaited
from soorma.config import ClientConfig
from soorma.local import shown
from soorma.transport.calls import Caller, segment
from soorma_common.errors import DeadLettered, InvalidRequest, TimedOut
from soorma_common.events import (
    DEAD_LETTERED,
    Envelope,
    Event,
    Timer,
    check_envelope,
    check_timer,
    plan_of,
)
from soorma_common.names import Scope, check_name
from soorma_common.times import check_timeout
from soorma_common.topics import Topic, TopicLike, check_topic
from soorma_common.values import encode

LONGEST_POLL = 30


class EventFields(TypedDict, total=False):
    """Fields of any event that can be given where it is published; the others fill themselves in."""

    tenant_id: str | None
    user_id: str | None
    session_id: str | None
    plan_id: str | None
    correlation_id: str | None
    subject: str | None
    source: str | None
    trace_id: str | None
    parent_event_id: str | None
    payload_schema_name: str | None
    event_id: str | None


class EnvelopeFields(EventFields, total=False):
    """Those fields, and where an answer to the event goes."""

    response_event: str | None
    response_topic: TopicLike | None


class PublishOptions(EnvelopeFields, total=False):
    """What `publish` takes by name."""

    delay: float | timedelta | None
    at: datetime | None


class RequestOptions(EventFields, total=False):
    """What `request` takes by name."""

    response_event: Required[str | Enum]
    topic: TopicLike
    response_topic: TopicLike
    timeout: float | None


class Outbox(Protocol):
    """Where events go: to the platform, or into a handler's transaction."""

    async def send(self, events: list[Envelope]) -> None:
        """Takes events that have their ids."""
        ...

    async def set_timer(self, timer: Timer) -> None:
        """Takes an event to be published later."""
        ...

    async def cancel_timer(self, scope: Scope, event_id: str) -> bool | None:
        """Takes a timed event back; whether it was still waiting, None where that is not known yet."""
        ...

    async def request(
        self, event: Envelope, response_of: Callable[[Envelope], Awaitable[Event]]
    ) -> Event:
        """Publishes an event at once and returns its response, which `response_of` the published event awaits."""
        ...


class PlatformOutbox:
    """Publishes to the platform: accepted events are durable when `send` returns.

    `check_scope` raises where it must not be used for a tenant and user. `fence` is that of the
    delivery in whose handler it is used: once that is in other hands, it is refused with Fenced.
    """

    def __init__(
        self,
        caller: Caller,
        check_scope: Callable[[Scope], None] | None = None,
        fence: str | None = None,
    ) -> None:
        self._caller = caller
        self._fence = fence
        self._check_scope = check_scope or _any_scope

    async def send(self, events: list[Envelope]) -> None:
        for event in events:
            self._check_scope(_scope_of(event))
        body = msgspec.json.encode(events[0] if len(events) == 1 else events)
        await self._caller.call(
            "events", "POST", "/v1/events/publish", body=body, fence=self._fence
        )

    async def set_timer(self, timer: Timer) -> None:
        body = msgspec.json.encode(timer)
        scope = _scope_of(timer.event)
        self._check_scope(scope)
        await self._caller.call(
            "events", "POST", "/v1/events/timers", scope=scope, body=body, fence=self._fence
        )

    async def cancel_timer(self, scope: Scope, event_id: str) -> bool:
        self._check_scope(scope)
        path = f"/v1/events/timers/{segment(event_id)}"
        answer = await self._caller.call("events", "DELETE", path, scope=scope, fence=self._fence)
        return bool(msgspec.json.decode(answer)["cancelled"])

    async def request(
        self, event: Envelope, response_of: Callable[[Envelope], Awaitable[Event]]
    ) -> Event:
        """Asks, and waits; ReentrantRequest where only those could respond who wait for this request."""
        self._check_scope(_scope_of(event))
        body = msgspec.json.encode(event)
        awaited = {"awaited": "true"}
        await self._caller.call(
            "events", "POST", "/v1/events/publish", body=body, query=awaited, fence=self._fence
        )
        return await response_of(event)


@awaited
class BusClient:
    """Publishes events and awaits answers.

    Ids fill themselves in. In a handler a publish inherits tenant, user, session, plan, trace and
    correlation id of the event in hand and names it as parent. Outside, it is of the configured or
    default tenant and user, and an event without a correlation id gets its own id as one.
    """

    def __init__(
        self,
        config: ClientConfig,
        caller: Caller,
        source: str,
        outbox: Outbox | None = None,
        cause: Event | None = None,
    ) -> None:
        self._config = config
        self._caller = caller
        self._source = source
        self._outbox: Outbox = outbox or PlatformOutbox(caller)
        self._cause = cause

    def __repr__(self) -> str:
        return f"BusClient({shown(self._config.events_url)})"

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
        """Publishes an event and returns its id: now, `delay` seconds after the commit, or `at` a time.

        One that is published later survives restarts, is published once, and can be taken back with
        `cancel`.

        `envelope`: event_id, tenant_id, user_id, session_id, plan_id, correlation_id, subject,
        source, response_event, response_topic, trace_id, parent_event_id, payload_schema_name.
        Publishing the same event_id again does nothing, with other content it raises
        EventIdConflict.
        """
        event = self._event(event_type, topic, data, envelope)
        if delay is None and at is None:
            await self._outbox.send([event])
        else:
            await self._outbox.set_timer(timer_of(event, delay, at))
        return str(event.id)

    async def cancel(
        self, event_id: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> bool | None:
        """Takes back an event that was to be published later; tells whether it was still waiting.

        In a handler it is taken back with the handler's commit. Of one that this handler has set,
        the answer is True then; of any other it is None: not known yet.
        """
        scope = self._config.scope(tenant_id, user_id)
        return await self._outbox.cancel_timer(scope, check_name("event_id", event_id))

    async def publish_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Publishes events as one, all or none, each given as the arguments of `publish`; returns their ids."""
        made = []
        for arguments in events:
            given = dict(arguments)
            event_type, topic = given.pop("event_type"), given.pop("topic")
            made.append(self._event(event_type, topic, given.pop("data", None), given))
        if made:
            await self._outbox.send(made)
        return [str(event.id) for event in made]

    async def announce(
        self,
        event_type: str | Enum,
        data: Any = None,
        topic: TopicLike = Topic.BUSINESS_FACTS,
        **envelope: Unpack[PublishOptions],
    ) -> str:
        """Publishes a fact for whom it may concern; returns its id."""
        return await self.publish(event_type, topic, data, **envelope)

    async def request(
        self,
        event_type: str | Enum,
        data: Any = None,
        *,
        response_event: str | Enum,
        topic: TopicLike = Topic.ACTION_REQUESTS,
        response_topic: TopicLike = Topic.ACTION_RESULTS,
        timeout: float | timedelta | None = 30.0,  # noqa: ASYNC109 - part of what is asked for
        **envelope: Unpack[EventFields],
    ) -> Event:
        """Publishes a request under a correlation id of its own and awaits the one answer that belongs to it.

        Raises TimedOut after `timeout` seconds (None: never), DeadLettered as soon as a group gives
        the request up. In a handler it goes out at once, though the handler's changes are not
        committed yet, and its response is recorded: a later attempt that asks the same gets the
        same response, and nobody is asked again. ReentrantRequest where those who would respond
        wait for this handler themselves.
        """
        wait = check_timeout("timeout", timeout)
        given = {
            "correlation_id": str(uuid4()),
            **envelope,
            "response_event": _name(response_event),
            "response_topic": check_topic(response_topic),
        }
        asked = self._event(event_type, topic, data, given)
        return await self._outbox.request(asked, partial(self._answer, timeout=wait))

    async def respond(
        self,
        request: Event,
        data: Any = None,
        *,
        event_type: str | Enum | None = None,
        topic: TopicLike | None = None,
        **envelope: Unpack[PublishOptions],
    ) -> str:
        """Answers a request: its response event, on its response topic, under its correlation id."""
        kind = event_type or request.get("response_event")
        if kind is None:
            raise InvalidRequest(
                f"event {request.get('type')!r} asks for no answer; name one with event_type="
            )
        where = topic or request.get("response_topic") or Topic.ACTION_RESULTS
        given: dict[str, Any] = {
            name: request.get(name)
            for name in ("correlation_id", "tenant_id", "user_id", "plan_id")
        }
        return await self.publish(kind, where, data, **{**given, **envelope})

    async def _answer(self, asked: Envelope, timeout: float | None) -> Event:  # noqa: ASYNC109
        scope = self._config.scope(asked.tenant_id, asked.user_id)
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        path = f"/v1/events/answer/{segment(str(asked.id))}"
        while True:
            left = LONGEST_POLL if deadline is None else deadline - loop.time()
            if left <= 0:
                raise TimedOut(self._late(asked, timeout), event_id=asked.id)
            found = await self._poll(path, scope, left)
            if found is None:
                continue
            if found.type == DEAD_LETTERED and asked.response_event != DEAD_LETTERED:
                told = found["data"]
                raise DeadLettered(
                    f"request {asked.type!r} was given up by {told['group']!r} after "
                    f"{told['attempts']} attempts: "
                    f"{told['reason']}",
                    **told,
                )
            return found

    def _late(self, asked: Envelope, timeout: float | None) -> str:
        text = (
            f"no {asked.response_event!r} came within {timeout} s in response to "
            f"{asked.type!r}: does an agent take it?"
        )
        if self._cause is None:
            return text
        return (
            f"{text} While this handler waits, it keeps its place: {self._source!r} handles no "
            "other event of its "
            "plan, and one less at a time"
        )

    async def _poll(self, path: str, scope: Scope, left: float) -> Event | None:
        seconds = max(1, min(LONGEST_POLL, round(left)))
        try:
            async with asyncio.timeout(left):
                found = (
                    await self._caller.read(
                        "events", path, scope, patience=seconds, timeout=seconds
                    )
                )["event"]
        except TimeoutError as error:
            if isinstance(error, TimedOut):
                raise
            return None
        return None if found is None else Event(found)

    def _event(
        self, event_type: str | Enum, topic: TopicLike, data: Any, envelope: Mapping[str, Any]
    ) -> Envelope:
        given = {name: value for name, value in envelope.items() if value is not None}
        identity = given.pop("event_id", None) or str(uuid4())
        if unknown := given.keys() - _ENVELOPE:
            raise TypeError(
                f"publish takes no {', '.join(sorted(unknown))}; it takes "
                f"{', '.join(sorted(_ENVELOPE))}"
            )
        raw = msgspec.UNSET if data is None else msgspec.Raw(encode(data).encode())
        event = Envelope(
            type=_name(event_type), topic=check_topic(topic), id=identity, data=raw, **given
        )
        event.source = event.source or self._source
        self._inherit(event)
        scope = self._config.scope(event.tenant_id, event.user_id)
        event.tenant_id, event.user_id = scope.tenant_id, scope.user_id
        event.correlation_id = event.correlation_id or identity
        event.trace_id = event.trace_id or trace_of(identity)
        return check_envelope(event)

    def _inherit(self, event: Envelope) -> None:
        """Takes over what the event in hand says and this one does not."""
        if self._cause is None:
            return
        for field in ("tenant_id", "user_id", "session_id", "correlation_id", "trace_id"):
            if getattr(event, field) is None:
                setattr(event, field, self._cause.get(field))
        event.parent_event_id = event.parent_event_id or self._cause.get("id")
        event.plan_id = plan_of(event) or self._cause.get("plan_id")


def _scope_of(event: Envelope) -> Scope:
    return Scope(str(event.tenant_id), str(event.user_id))


def _any_scope(_: Scope) -> None:
    """Who may publish for whom is decided on the platform."""


def timer_of(event: Envelope, delay: float | timedelta | None, at: datetime | None) -> Timer:
    """An event that is to be published later; InvalidRequest if it is not said once when."""
    if at is not None and not isinstance(at, datetime):
        raise InvalidRequest(
            f"at= is a datetime with a time zone, as datetime.now(UTC), not {at!r}"
        )
    if at is not None and at.tzinfo is None:
        raise InvalidRequest(
            f"at= needs a time zone: {at.isoformat()} could be anywhere; use datetime.now(UTC)"
        )
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if seconds is not None and type(seconds) not in (int, float):
        raise InvalidRequest(f"delay= is a number of seconds, or a timedelta, not {delay!r}")
    when = msgspec.UNSET if at is None else _in_utc(at)
    return check_timer(Timer(event, msgspec.UNSET if seconds is None else seconds, when))


def _in_utc(at: datetime) -> str:
    try:
        return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:  # the first or the last day there is, in a time zone that puts it beyond
        return at.isoformat()


_ENVELOPE = frozenset(Envelope.__struct_fields__) - {"type", "topic", "id", "data", "time"}


def trace_of(identity: str) -> str:
    """The trace id (W3C form) of an event that begins a trace: the same however often it is sent."""
    return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()


def _name(event_type: str | Enum) -> str:
    return str(event_type.value) if isinstance(event_type, Enum) else event_type


type_name: Callable[[str | Enum], str] = _name
"""The name of an event type given as text or as a member of an enum."""
