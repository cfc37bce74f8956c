"""Timers: events that are published later, once, unless cancelled before."""

from __future__ import annotations

import msgspec

from soorma_common.errors import EventIdConflict
from soorma_common.events import Timer, decode_envelope, encode_envelope
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.times import milliseconds
from soorma_platform.engine.commands import Decision, Need, Snapshot, Writes
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.publishing import filled, fingerprint_of, lane_of, publish
from soorma_platform.engine.rows.events import EventsNeed, KnownIds
from soorma_platform.engine.rows.plans import PlanRow, PlansFound, PlansNeed
from soorma_platform.engine.rows.timers import TimerCounts, TimerGone, TimerRow, TimersNeed


def due_at(timer: Timer, now: Moment) -> int:
    """Returns when it is due, in ms: a time by the wall clock, a delay by the steady clock."""
    if timer.at is not msgspec.UNSET:
        return milliseconds(timer.at)
    return now.steady + round((timer.delay or 0) * 1000)


def set_timer(
    timer: Timer,
    scope: Scope,
    found: Snapshot,
    limits: Limits,
    *,
    incarnation: int | None = None,
    outlives: bool = False,
) -> TimerRow | None:
    """Returns the row of a new timer for an addressed event; None if it waits or fired already.

    With an `incarnation` of its plan it is a deadline. With `outlives` its event is handled even
    though the plan has ended. Raises EventIdConflict if its id was used in this tenant for other
    content, or waits for another time.
    """
    event, due = timer.event, due_at(timer, found.moment)
    fingerprint, asked = fingerprint_of(event), _time_text(timer)
    event_id = event.id or ""  # the service gives every event an id before it asks
    known = found.part(KnownIds)
    waiting = known.timers.get(event_id)
    before = waiting.fingerprint if waiting else known.published.get(event_id)
    if before is not None:
        if before != fingerprint or (waiting and waiting.asked != asked):
            raise EventIdConflict(
                f"an event with the id {event_id!r} and other content, or for another time, was "
                "published or timed "
                "before; give this one its own id, or cancel that first",
                event_id=event_id,
            )
        return None
    filled(event, found.now, limits)
    counts = found.part(TimerCounts).of
    count = counts[event.plan_id] + 1
    limits.check("plan_timers", count, "the number of the plan's timers")
    counts[event.plan_id] = count
    text = encode_envelope(event)
    is_delay = timer.at is msgspec.UNSET
    of = (event_id, scope, event.plan_id)
    row = TimerRow(
        *of, due, incarnation, asked, fingerprint, text, is_delay=is_delay, outlives=outlives
    )
    known.timers[event_id] = row
    return row


def _time_text(timer: Timer) -> str:
    return f"in {timer.delay or 0} s" if timer.at is msgspec.UNSET else timer.at


class FireTimer:
    """The firing of a timer: its event is published, and the timer removed.

    Nothing happens if it is gone or not due. The outcome is the topic of the event, None if none
    was published.
    """

    def __init__(self, timer: TimerRow) -> None:
        self.scope = timer.scope
        self._event_id = timer.event_id
        self._plan_id = timer.plan_id
        self._event = decode_envelope(timer.envelope)

    def needs(self) -> list[Need]:
        event, lane = self._event, lane_of(self.scope, self._plan_id)
        found: list[Need] = [] if self._plan_id is None else [PlansNeed({self._plan_id: set()})]
        events = [(self._event_id, event.topic, event.type)]
        return [*found, EventsNeed(events, {lane} if lane else set()), TimersNeed({self._event_id})]

    def decide(self, found: Snapshot) -> Decision[str | None]:
        timers = found.part(KnownIds).timers
        timer = timers.get(self._event_id)
        if timer is None or timer.left(found.moment) > 0 or timer.id is None:
            return Decision(None)
        writes: Writes = [TimerGone(timer.id)]
        plan = (
            found.part(PlansFound).states[timer.plan_id].row if timer.plan_id is not None else None
        )
        if plan is not None and _is_past(timer, plan, found.now):
            return Decision(None, writes)
        del timers[self._event_id]
        event = decode_envelope(timer.envelope)
        row = publish(event, timer.scope, found, limits=None, outlives=timer.outlives)
        if row is None:
            return Decision(None, writes)
        return Decision(row.topic, [*writes, row])


def _is_past(timer: TimerRow, plan: PlanRow, now: int) -> bool:
    """Returns True if the plan was cancelled or purged since or, for a deadline, has ended."""
    if timer.id is not None and timer.id <= plan.past_timer:
        return True
    if timer.incarnation is None:
        return False
    has_expired = plan.expires_at is not None and plan.expires_at <= now
    return has_expired or not plan.is_active or timer.incarnation != plan.incarnation
