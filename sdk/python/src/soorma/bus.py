"""Publishing of events: outside a handler at once, inside it with the handler's commit."""

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
from soorma.config import UNNAMED, ClientConfig, Unnamed
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
    """Optional fields of a published event; those that are left out are filled in."""

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
    """The fields of an event, and the type and topic of its response."""

    response_event: str | None
    response_topic: TopicLike | None


class PublishOptions(EnvelopeFields, total=False):
    """Keyword arguments of `publish`."""

    delay: float | timedelta | None
    at: datetime | None


class RequestOptions(EventFields, total=False):
    """Keyword arguments of `request`."""

    response_event: Required[str | Enum]
    topic: TopicLike
    response_topic: TopicLike
    timeout: float | None


class Outbox(Protocol):
    """The destination of events: the platform, or a handler's transaction."""

    async def send(self, events: list[Envelope]) -> None:
        """Accepts events that have their ids."""
        ...

    async def set_timer(self, timer: Timer) -> None:
        """Accepts an event to be published later."""
        ...

    async def cancel_timer(self, scope: Scope, event_id: str) -> bool | None:
        """Cancels a timer; True if it was still pending, None if that is not known yet."""
        ...

    async def request(
        self, event: Envelope, response_of: Callable[[Envelope], Awaitable[Event]]
    ) -> Event:
        """Publishes a request at once and returns its response, awaited by `response_of`."""
        ...


class PlatformOutbox:
    """The outbox that publishes to the platform: events are durable when `send` returns.

    `check_scope` raises if the outbox must not be used for a tenant and user. `fence` is that of
    the delivery whose handler uses the outbox: once the delivery belongs to another agent, calls
    are refused with Fenced.
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
            self._check_scope(scope_of(event))
        body = msgspec.json.encode(events[0] if len(events) == 1 else events)
        await self._caller.call(
            "events", "POST", "/v1/events/publish", body=body, fence=self._fence
        )

    async def set_timer(self, timer: Timer) -> None:
        body = msgspec.json.encode(timer)
        scope = scope_of(timer.event)
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
        """Publishes a request and awaits its response.

        Raises ReentrantRequest if all who could respond wait for this request themselves.
        """
        self._check_scope(scope_of(event))
        body = msgspec.json.encode(event)
        awaited = {"awaited": "true"}
        await self._caller.call(
            "events", "POST", "/v1/events/publish", body=body, query=awaited, fence=self._fence
        )
        return await response_of(event)


@awaited
class BusClient:
    """A client that publishes events and awaits responses.

    Ids are filled in. In a handler, an event inherits tenant, user, session, plan, trace and
    correlation id from the event being handled, and names it as its parent. Outside, it belongs to
    the configured or default tenant and user, and without a correlation id it gets its own id as
    one.
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
        """Publishes an event now, `delay` seconds after the commit, or `at` a time; returns its id.

        An event published later survives restarts, is published once, and can be cancelled with
        `cancel`.

        `envelope`: event_id, tenant_id, user_id, session_id, plan_id, correlation_id, subject,
        source, response_event, response_topic, trace_id, parent_event_id, payload_schema_name.
        Publishing the same event_id again has no effect; with other content, it raises
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
        """Cancels an event that was to be published later; returns True if it was still pending.

        In a handler, the cancellation is part of the handler's commit. It then returns True for an
        event that this handler has set, and None for any other: not known yet.
        """
        scope = self._config.scope(tenant_id, user_id)
        return await self._outbox.cancel_timer(scope, check_name("event_id", event_id))

    async def publish_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Publishes all events or none, each given as arguments of `publish`; returns their ids."""
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
        """Publishes a fact for all who subscribe to it; returns its id."""
        return await self.publish(event_type, topic, data, **envelope)

    async def request(
        self,
        event_type: str | Enum,
        data: Any = None,
        *,
        response_event: str | Enum,
        topic: TopicLike = Topic.ACTION_REQUESTS,
        response_topic: TopicLike = Topic.ACTION_RESULTS,
        timeout: float | timedelta | None = 30.0,  # noqa: ASYNC109 - part of the request
        **envelope: Unpack[EventFields],
    ) -> Event:
        """Publishes a request under a correlation id of its own and awaits its response.

        Raises TimedOut after `timeout` seconds (None: never), DeadLettered as soon as a group gives
        the request up, and ReentrantRequest if those who would respond wait for this handler
        themselves. In a handler, the request is published at once, before the handler's changes are
        committed, and its response is recorded: a later attempt that makes the same request gets
        the same response, without publishing it again.
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
        """Responds to a request: with its response event and topic, under its correlation id."""
        kind = event_type or request.get("response_event")
        if kind is None:
            raise InvalidRequest(
                f"event {request.get('type')!r} requests no response; name one with event_type="
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
        # Where a key decides, an event names nobody that its author has not named.
        event.tenant_id = None if isinstance(scope.tenant_id, Unnamed) else scope.tenant_id
        event.user_id = None if isinstance(scope.user_id, Unnamed) else scope.user_id
        event.correlation_id = event.correlation_id or identity
        event.trace_id = event.trace_id or trace_of(identity)
        return check_envelope(event)

    def _inherit(self, event: Envelope) -> None:
        """Fills in missing fields from the event being handled."""
        if self._cause is None:
            return
        for field in ("tenant_id", "user_id", "session_id", "correlation_id", "trace_id"):
            if getattr(event, field) is None:
                setattr(event, field, self._cause.get(field))
        event.parent_event_id = event.parent_event_id or self._cause.get("id")
        event.plan_id = plan_of(event) or self._cause.get("plan_id")


def scope_of(event: Envelope) -> Scope:
    """Returns the tenant and user of an event that is to be published."""
    return Scope(
        UNNAMED.tenant_id if event.tenant_id is None else event.tenant_id,
        UNNAMED.user_id if event.user_id is None else event.user_id,
    )


def _any_scope(_: Scope) -> None:
    """Allows every scope: the platform decides who may publish for whom."""


def timer_of(event: Envelope, delay: float | timedelta | None, at: datetime | None) -> Timer:
    """A timer for an event; InvalidRequest unless exactly one of `delay` and `at` is given."""
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
    except OverflowError:  # the first or last possible day, out of range in UTC
        return at.isoformat()


"""Names that nobody has."""
_ENVELOPE = frozenset(Envelope.__struct_fields__) - {"type", "topic", "id", "data", "time"}


def trace_of(identity: str) -> str:
    """The trace id (W3C form) of an event that begins a trace; the same each time it is sent."""
    return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()


def _name(event_type: str | Enum) -> str:
    return str(event_type.value) if isinstance(event_type, Enum) else event_type


type_name: Callable[[str | Enum], str] = _name
"""The name of an event type given as text or as a member of an enum."""
