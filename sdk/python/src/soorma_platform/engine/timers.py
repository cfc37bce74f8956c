"""Timers: events that are published later, once, unless they are cancelled before."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

from soorma_common.errors import EventIdConflict
from soorma_common.events import Envelope, Timer, decode_envelope, encode_envelope
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_platform.engine.publishing import lane_of, publish
from soorma_platform.engine.rows import Decision, Needs, Snapshot, TimerRow


def due_at(timer: Timer, now: int) -> int:
    """When it is due, in ms."""
    if timer.at is not msgspec.UNSET:
        return round(datetime.fromisoformat(timer.at).timestamp() * 1000)
    return now + round((timer.delay or 0) * 1000)


def set_timer(
    event: Envelope, due: int, scope: Scope, snapshot: Snapshot, limits: Limits, *, while_active: bool = False
) -> TimerRow | None:
    """The row of a new timer for a placed event; None if just this one waits already, or has fired.

    Raises EventIdConflict if its id was used in this tenant for another content.
    """
    text = encode_envelope(event)
    fingerprint = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    event_id = event.id or ""  # the service gives every event an id before it asks
    waiting = snapshot.timers.get(event_id)
    known = waiting.fingerprint if waiting else snapshot.published.get(event_id)
    if known is not None:
        if known != fingerprint:
            raise EventIdConflict(
                f"an event with the id {event_id!r} and other content was published or timed before; "
                "give this one its own id",
                event_id=event_id,
            )
        return None
    limits.check("event_bytes", len(text.encode()), f"event {event.type!r}, in bytes,")
    count = snapshot.timers_of.get(event.plan_id, 0) + 1
    limits.check("plan_timers", count, "the number of the plan's timers")
    snapshot.timers_of[event.plan_id] = count
    row = TimerRow(event_id, scope, event.plan_id, due, while_active, fingerprint, text)
    snapshot.timers[event_id] = row
    return row


def needs_of_firing(timer: TimerRow) -> Needs:
    """What must be loaded before a timer that is due can fire."""
    event = decode_envelope(timer.envelope)
    lane = lane_of(timer.scope, timer.plan_id)
    return Needs(
        timer.scope,
        {timer.plan_id: set()} if timer.plan_id is not None and timer.while_active else {},
        events=[(timer.event_id, event.topic, event.type)],
        lanes={lane} if lane else set(),
        timers={timer.event_id},
    )


def fire(event_id: str, snapshot: Snapshot, limits: Limits) -> Decision:
    """Publishes the event of a timer that is due, and removes the timer; nothing, if it is gone or not due."""
    timer = snapshot.timers.get(event_id)
    if timer is None or timer.due_at > snapshot.now or timer.id is None:
        return Decision()
    decision = Decision(events=[], unset=[timer.id])
    plan = snapshot.plans.get(timer.plan_id) if timer.plan_id is not None else None
    if timer.while_active and plan is not None and not plan.row.is_active:
        return decision
    if row := publish(decode_envelope(timer.envelope), timer.scope, snapshot, limits):
        decision.events.append(row)
    return decision
