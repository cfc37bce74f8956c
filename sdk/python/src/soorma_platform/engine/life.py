"""The life of a plan: active, then completed, failed or cancelled, then purged.

An event announces each end.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from soorma_common.causes import Cause
from soorma_common.errors import PlanCancelled, PlanEnded
from soorma_common.events import DEAD_LETTERED, Envelope
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.operations import ENDINGS, AnyEnding, Complete, Fail, argument
from soorma_common.times import rfc3339
from soorma_common.topics import Topic
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.publishing import addressed, lane_of, publish
from soorma_platform.engine.rows.dead_letters import LetterRow
from soorma_platform.engine.rows.deliveries import DeliveryRow
from soorma_platform.engine.rows.events import EventsNeed
from soorma_platform.engine.rows.plans import MOVING, PlanChange, PlanRow, PlansFound, PlansNeed

FAILED = f"plan.{ENDINGS[Fail]}"
STALLED = "plan.stalled"
"""The type of the event, on system-events, that reports a stalled plan."""
LIFE_EVENTS = frozenset(
    (*(f"plan.{status}" for status in ENDINGS.values()), STALLED, DEAD_LETTERED)
)
"""Types of events about a plan that are handled whatever becomes of it."""


class Handed(Protocol):
    """An event that is about to be handed to a handler."""

    @property
    def type(self) -> str: ...

    @property
    def position(self) -> int: ...

    @property
    def outlives(self) -> bool: ...


def ending_event(scope: Scope, plan_id: str, ending: AnyEnding, cause: Cause) -> Envelope:
    """Returns the event that announces a plan's end."""
    status = ENDINGS[type(ending)]
    what = "result" if isinstance(ending, Complete) else "reason"
    data = {
        "plan_id": plan_id,
        "status": status,
        what: msgspec.Raw((argument(ending) or "null").encode()),
    }
    return Envelope(
        type=f"plan.{status}",
        topic=Topic.PLAN_EVENTS.value,
        id=ending.event_id,
        data=msgspec.Raw(msgspec.json.encode(data)),
        tenant_id=scope.tenant_id,
        user_id=scope.user_id,
        plan_id=plan_id,
        source=cause.actor,
        correlation_id=cause.correlation_id,
        trace_id=cause.trace_id,
        parent_event_id=cause.event_id,
    )


def of_plan(event: Envelope, plan_id: str, cause: Cause, scope: Scope) -> Envelope:
    """Returns an event registered for a plan, with the plan and the commit's cause filled in."""
    made = msgspec.structs.replace(
        event,
        plan_id=plan_id,
        source=event.source or cause.actor,
        correlation_id=event.correlation_id or cause.correlation_id,
        trace_id=event.trace_id or cause.trace_id,
        parent_event_id=event.parent_event_id or cause.event_id,
    )
    return addressed(made, scope)


class ReportStalled:
    """The report that a plan is stalled, as seen at a revision.

    It is made once per revision, and not at all if the plan has moved on.
    """

    def __init__(
        self, scope: Scope, plan_id: str, revision: int, event_id: str, *, limits: Limits
    ) -> None:
        self.scope = scope
        self._plan_id = plan_id
        self._revision = revision
        self._event_id = event_id
        self._limits = limits

    def needs(self) -> list[Need]:
        lane = lane_of(self.scope, self._plan_id)
        events = [(self._event_id, Topic.SYSTEM_EVENTS.value, STALLED)]
        return [PlansNeed({self._plan_id: set()}), EventsNeed(events, {lane} if lane else set())]

    def decide(self, found: Snapshot) -> Decision[None]:
        row = found.part(PlansFound).states[self._plan_id].row
        if (
            row.revision != self._revision
            or row.status not in MOVING
            or row.stalled == self._revision
        ):
            return Decision(None)
        row.stalled = self._revision
        data = {
            "plan_id": self._plan_id,
            "revision": self._revision,
            "idle_since": rfc3339(row.updated_at),
        }
        event = Envelope(
            type=STALLED,
            topic=Topic.SYSTEM_EVENTS.value,
            id=self._event_id,
            data=msgspec.Raw(msgspec.json.encode(data)),
            tenant_id=self.scope.tenant_id,
            user_id=self.scope.user_id,
            plan_id=self._plan_id,
        )
        published = publish(event, self.scope, found, self._limits)
        change = PlanChange(row, {}, set(), [], [], [], lives_on=False)
        return Decision(None, [change, published] if published else [change])


def is_discarded(kind: str, position: int, plan: PlanRow | None) -> bool:
    """Returns True if an event is no longer handled: its plan was cancelled or purged after it."""
    return plan is not None and position <= plan.past_position and kind not in LIFE_EVENTS


def is_unwanted(event: Handed, plan: PlanRow | None, group_id: int, now: int) -> bool:
    """Returns True if an event is too late for a handler that takes no events of ended plans.

    No group works on for a plan that failed or was cancelled. If it was completed, groups other
    than the one that did so still handle what was published before: which group sees an event must
    not depend on which was quicker.
    """
    if (
        plan is None
        or event.outlives
        or event.type in LIFE_EVENTS
        or plan.life(now) in ("missing", "active")
    ):
        return False
    return (
        plan.status != "completed"
        or event.position > plan.end_position
        or group_id == plan.ended_by
    )


def outlives(event: Envelope, ended: Collection[str], delivery: DeliveryRow | None) -> bool:
    """Returns True if an event of a commit is handled even though its plan has ended.

    That holds for one published with the end, and for one that follows from an event which was
    itself handled after the end.
    """
    if event.plan_id is None:
        return False
    if event.plan_id in ended:
        return True
    return (
        delivery is not None
        and delivery.plan_id == event.plan_id
        and (delivery.outlives or delivery.ended_plans or delivery.type in LIFE_EVENTS)
    )


def check_replay(letter: LetterRow, plan: PlanRow, now: int) -> None:
    """Raises PlanEnded if a dead letter would not be handled when replayed."""
    plan_id = plan.plan_id
    if is_discarded(letter.type, letter.position, plan):
        raise PlanEnded(
            f"dead letter {letter.id} is of an earlier life of plan {plan_id!r}, which was "
            "cancelled or purged "
            "since: its event is not handled any more; publish it anew",
            plan_id=plan_id,
        )
    if not letter.ended_plans and is_unwanted(letter, plan, letter.group_id, now):
        raise PlanEnded(
            f"dead letter {letter.id} is of plan {plan_id!r}, which is {plan.status}: its handler "
            "takes no events of "
            "plans that have ended; let it, with on_event(…, ended_plans=True), or publish the "
            "event for another plan",
            plan_id=plan_id,
            plan_status=plan.status,
        )


def check_wanted(delivery: DeliveryRow, plan: PlanRow | None) -> None:
    """Raises PlanCancelled if the delivery's plan was cancelled or purged meanwhile."""
    if is_discarded(delivery.type, delivery.position, plan):
        raise PlanCancelled(
            f"plan {delivery.plan_id!r} was cancelled, or purged: nothing of this attempt was "
            "changed or published",
            plan_id=delivery.plan_id,
        )
