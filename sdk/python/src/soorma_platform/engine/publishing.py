"""Publishing: the fields filled into an event, the groups that get it, and repeated ids."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import msgspec

from soorma_common.errors import EventIdConflict, Forbidden
from soorma_common.events import Envelope, encode_envelope, plan_of
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.times import rfc3339
from soorma_platform.engine.commands import Snapshot, Writes
from soorma_platform.engine.rows.events import (
    Audience,
    EventRow,
    KnownIds,
    NewDelivery,
    SubscriptionRow,
)


@lru_cache(maxsize=4096)  # asked twice for each event
def lane_of(scope: Scope, plan_id: str | None) -> str | None:
    """Returns the lane of a plan's events, an opaque text; None without a plan.

    An event without a plan is a lane of its own.
    """
    if plan_id is None:
        return None
    text = msgspec.json.encode((scope.tenant_id, scope.user_id, plan_id))
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def addressed(event: Envelope, scope: Scope) -> Envelope:
    """Returns the event as published in a scope, with its plan named in the envelope.

    Raises Forbidden if it names another tenant or user.
    """
    if event.tenant_id not in (None, scope.tenant_id) or event.user_id not in (None, scope.user_id):
        raise Forbidden(
            f"event {event.type!r} names tenant {event.tenant_id!r} and user {event.user_id!r}, "
            "but is published "
            f"for tenant {scope.tenant_id!r} and user {scope.user_id!r}",
        )
    return msgspec.structs.replace(
        event, tenant_id=scope.tenant_id, user_id=scope.user_id, plan_id=plan_of(event)
    )


def fingerprint_of(event: Envelope) -> str:
    """Returns a digest that distinguishes an addressed event from others of the same id."""
    return hashlib.blake2b(encode_envelope(event).encode(), digest_size=16).hexdigest()


def filled(event: Envelope, now: int, limits: Limits | None) -> tuple[Envelope, str]:
    """Returns the event as it enters the log, with its text.

    Raises LimitExceeded if it is too large. Without limits, an event accepted before is not
    measured again.
    """
    # A decision may be repeated: its input must stay as it is.
    event = msgspec.structs.replace(event)
    event.time = event.time or rfc3339(now)
    event.correlation_id = event.correlation_id or event.id
    event.source = event.source or "soorma"
    text = encode_envelope(event)
    if limits is not None:
        limits.check("event_bytes", len(text.encode()), "event {!r}, in bytes,", event.type)
    return event, text


def publish(
    event: Envelope, scope: Scope, found: Snapshot, limits: Limits | None, *, outlives: bool = False
) -> EventRow | None:
    """Returns the log row and deliveries of an addressed event; None if it is in the log already.

    With `outlives` it is handled even though its plan has ended.

    Raises EventIdConflict if its id was used in this tenant for other content, or belongs to a
    waiting timer. Marks the lanes it takes as busy in `found`, so that a second event of the same
    commit queues behind it.
    """
    fingerprint = fingerprint_of(event)
    event_id = event.id or ""  # the service gives every event an id before it asks
    known, audience = found.part(KnownIds), found.part(Audience)
    before = known.published.get(event_id)
    if before is not None:
        if before != fingerprint:
            raise EventIdConflict(
                f"an event with the id {event.id!r} and other content was published before; give "
                "this one its own id",
                event_id=event.id,
            )
        return None
    if event_id in known.timers:
        raise EventIdConflict(
            f"an event with the id {event_id!r} waits to be published later; cancel that first, or "
            "give this one its "
            "own id",
            event_id=event_id,
        )
    known.published[event_id] = fingerprint
    event, text = filled(event, found.now, limits)
    lane = lane_of(scope, event.plan_id)
    row = EventRow(
        event_id=event_id,
        scope=scope,
        plan_id=event.plan_id,
        lane=lane,
        topic=event.topic,
        type=event.type,
        correlation_id=event.correlation_id or event_id,
        at=found.uptime,
        envelope=text,
        fingerprint=fingerprint,
        deliveries=[],
        outlives=outlives,
    )
    for subscriber in one_per_group(audience.subscribers[event.topic, event.type]):
        row.deliveries.append(_deliver(subscriber, lane, audience.busy, found.uptime))
    return row


def topics_of(writes: Writes) -> list[str]:
    """Returns the topics of the published events, for counting."""
    return [row.topic for row in writes if isinstance(row, EventRow)]


def one_per_group(subscribers: list[SubscriptionRow]) -> list[SubscriptionRow]:
    """Returns the closest subscription of each group.

    A named type precedes `*`, then a named topic precedes `*`.
    """
    best: dict[int, SubscriptionRow] = {}
    for row in sorted(subscribers, key=lambda row: (row.type == "*", row.topic == "*", row.id)):
        best.setdefault(row.group_id, row)
    return list(best.values())


def covers(pattern: tuple[str, str], other: tuple[str, str]) -> bool:
    """Returns True if a handler of `pattern` (type, topic) takes all that `other` takes."""
    return all(mine in ("*", theirs) for mine, theirs in zip(pattern, other, strict=True))


def _deliver(
    subscriber: SubscriptionRow, lane: str | None, busy: set[tuple[int, str]], now: int
) -> NewDelivery:
    if lane is None or not subscriber.ordered:
        return NewDelivery(subscriber.group_id, subscriber.id, None, now)
    place_in_line = (subscriber.group_id, lane)
    ready_at = None if place_in_line in busy else now
    busy.add(place_in_line)
    return NewDelivery(subscriber.group_id, subscriber.id, lane, ready_at)
