"""The rules of deliveries: order within lanes, retries, and giving up.

A lane is the events of one plan for one group. Only its head has a time at which it is ready. While
an agent handles the head, that is the end of its lease, so an agent that vanishes returns it
automatically.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from soorma_common.causes import Cause
from soorma_common.errors import Fenced
from soorma_common.events import DEAD_LETTERED, Envelope, decode_envelope
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.operations import Fail
from soorma_common.retry import RetryPolicy
from soorma_common.topics import Topic
from soorma_platform.engine import endings, sagas
from soorma_platform.engine.commands import Decision, Need, Snapshot, Writes
from soorma_platform.engine.life import FAILED, is_discarded
from soorma_platform.engine.plans import PlanEditor
from soorma_platform.engine.publishing import lane_of, publish, topics_of
from soorma_platform.engine.rows.deliveries import (
    DeadLetterRow,
    DeliveryNeed,
    DeliveryRow,
    InHand,
    Retried,
    Settled,
)
from soorma_platform.engine.rows.events import Audience, EventsNeed
from soorma_platform.engine.rows.plans import PlanChange, PlansFound, PlansNeed
from soorma_platform.engine.rows.sagas import SagasNeed

LONGEST_REASON = 4000
LONGEST_WAIT = 365 * 86_400.0
"""The longest delay, in seconds, that a handler may ask for."""


def settle(delivery: DeliveryRow, found: Snapshot) -> Settled:
    """Returns the row that ends a delivery; from then on the next of its lane leads."""
    if delivery.lane is not None and delivery.next_in_lane is None:
        found.part(Audience).busy.discard((delivery.group_id, delivery.lane))
    return Settled(delivery, found.uptime)


def continue_saga(writes: Writes, delivery: DeliveryRow, found: Snapshot) -> None:
    """Publishes the next compensation of a failed plan once the current one is handled."""
    moved, plan = sagas.on_settled(writes, delivery, found), found.part(InHand).plan
    if moved and plan is not None:
        changes = (one for one in writes if isinstance(one, PlanChange))
        change = next(
            (change for change in changes if change.row.plan_id == delivery.plan_id), None
        )
        if change is None:
            change = PlanChange(plan, {}, set(), [], [], [])
            writes.append(change)
        change.compensations += moved
        if change.row.stalled:
            change.row.stalled, change.lives_on = 0, False  # it moves again


class DiscardDelivery:
    """The discarding of a delivery whose plan was cancelled.

    The outcome is the delivery; None if it is gone.
    """

    def __init__(self, scope: Scope, fence: str) -> None:
        self.scope = scope
        self._fence = fence

    def needs(self) -> list[Need]:
        return [DeliveryNeed(self._fence)]

    def decide(self, found: Snapshot) -> Decision[DeliveryRow | None]:
        delivery = found.part(InHand).delivery
        return Decision(delivery, [] if delivery is None else [settle(delivery, found)])


def backoff(policy: RetryPolicy, failures: int, draw: float) -> int:
    """Returns the milliseconds to wait after `failures` failures (from 1).

    `draw` in [-1, 1] spreads them by the jitter.
    """
    return round(1000 * policy.delay(failures, draw))


def verdict(delivery: DeliveryRow) -> str | None:
    """Returns why a delivery that killed processes is given up; None if it may be innocent."""
    if not delivery.died_alone or delivery.deaths - delivery.cleared < delivery.retry.max_deaths:
        return None
    return (
        f"{_deaths(delivery.deaths, delivery.silences)}, {_last(delivery.deaths)} with nothing "
        "else in hand"
    )


def _deaths(deaths: int, silences: int) -> str:
    processes = "1 process" if deaths == 1 else f"{deaths} processes"
    if not silences:
        return f"{processes} died while handling it"
    if silences == deaths:
        return f"{processes} gave no sign of life for a lease while handling it"
    died = deaths - silences
    return (
        f"{processes} ended while handling it ({died} died, {silences} gave no sign of life "
        "for a lease)"
    )


def _last(deaths: int) -> str:
    return "this one" if deaths == 1 else "the last one"


class _Trace(msgspec.Struct):
    """The parts of an event that are recorded with the changes made for it."""

    id: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None


_traces = msgspec.json.Decoder(_Trace)


class Became(Enum):
    """The fate of a delivery whose attempt has failed."""

    RETRIED = auto()
    DEFERRED = auto()
    DEAD_LETTER = auto()
    DISCARDED = auto()
    """its plan has ended"""


class FailureOutcome(msgspec.Struct):
    """The fate of a delivery, and the topics of the events published with it."""

    delivery: DeliveryRow
    became: Became
    topics: list[str] = []


class FailDelivery:
    """The failure of an attempt: its event is delivered again later, or becomes a dead letter.

    `decide` raises Fenced if the delivery is no longer this agent's.

    `after` is the delay in seconds. `reject` gives the event up at once. `defer` postpones it, and
    the attempt does not count as failed. `unbegun` says that its handler was not run: the attempt
    does not count. `fail_plan` fails the plan if the event is given up. `draw` in [-1, 1] spreads
    the backoff by its jitter.
    """

    def __init__(
        self,
        scope: Scope,
        plan_id: str | None,
        fence: str,
        reason: str,
        *,
        draw: float,
        dead_letter_id: str,
        ending_id: str = "",
        after: float | None = None,
        reject: bool = False,
        defer: bool = False,
        unbegun: bool = False,
        fail_plan: bool = False,
        limits: Limits,
    ) -> None:
        """The ids are of the events that announce a dead letter and the end of its plan."""
        self.scope = scope
        self._plan_id = plan_id
        self._fence = fence
        self._reason = reason[:LONGEST_REASON]
        self._draw = draw
        self._dead_letter_id, self._ending_id = dead_letter_id, ending_id
        self._after = after
        self._reject, self._defer, self._unbegun, self._fail_plan = (
            reject,
            defer,
            unbegun,
            fail_plan,
        )
        self._limits = limits

    def needs(self) -> list[Need]:
        lane = lane_of(self.scope, self._plan_id)
        needs: list[Need] = [DeliveryNeed(self._fence)]
        events = [(self._dead_letter_id, Topic.SYSTEM_EVENTS.value, DEAD_LETTERED)]
        if self._fail_plan and self._plan_id is not None:
            plan_id = self._plan_id
            needs += [
                PlansNeed({plan_id: set()}, closing={plan_id}),
                SagasNeed({plan_id: set()}, {plan_id: lane or ""}),
            ]
            events.append((self._ending_id, Topic.PLAN_EVENTS.value, FAILED))
        return [*needs, EventsNeed(events, {lane} if lane else set())]

    def decide(self, found: Snapshot) -> Decision[FailureOutcome]:
        in_hand = found.part(InHand)
        delivery = in_hand.delivery
        if delivery is None:
            raise Fenced("this delivery was given to another agent before its failure was reported")
        if is_discarded(delivery.type, delivery.position, in_hand.plan):
            return Decision(FailureOutcome(delivery, Became.DISCARDED), [settle(delivery, found)])
        if self._unbegun:
            delivery.attempt -= 1
        elif not self._defer:
            delivery.failures += 1
        if self._defer or (not self._reject and delivery.failures < delivery.retry.max_attempts):
            return self._retry(delivery, found.uptime)
        return self._give_up(delivery, found)

    def _retry(self, delivery: DeliveryRow, now: int) -> Decision[FailureOutcome]:
        wait = backoff(delivery.retry, max(delivery.failures, 1), self._draw)
        if self._after is not None:
            wait = round(1000 * min(max(self._after, 0), LONGEST_WAIT))
        became = Became.DEFERRED if self._defer else Became.RETRIED
        return Decision(
            FailureOutcome(delivery, became),
            [Retried(delivery, now + wait, self._reason, is_deferred=self._defer)],
        )

    def _give_up(self, delivery: DeliveryRow, found: Snapshot) -> Decision[FailureOutcome]:
        reason = self._reason
        is_parked = delivery.retry.then == "park" and not self._fail_plan
        if self._fail_plan and delivery.plan_id is None:
            reason = f"{reason} (fail_plan=True: the event belongs to no plan that could fail)"
        writes: Writes = [DeadLetterRow(delivery, reason, found.now, is_parked)]
        if not is_parked:
            writes.append(settle(delivery, found))
        failed = decode_envelope(delivery.envelope)
        if self._fail_plan and delivery.plan_id is not None:
            self._end_plan(writes, delivery, Fail(reason, event_id=self._ending_id), found)
        outcome = FailureOutcome(delivery, Became.DEAD_LETTER)
        # Otherwise a group that fails on dead letters would feed itself for ever.
        if failed.type != DEAD_LETTERED:
            notice = _notice(failed, delivery, reason, self._dead_letter_id)
            if row := publish(notice, self.scope, found, self._limits, outlives=True):
                writes.append(row)
        outcome.topics = topics_of(writes)
        return Decision(outcome, writes)

    def _end_plan(
        self, writes: Writes, delivery: DeliveryRow, ending: Fail, found: Snapshot
    ) -> None:
        """Fails the plan of an event that is given up, unless it has ended before."""
        state, limits = found.part(PlansFound).states[delivery.plan_id or ""], self._limits
        cause = cause_of(delivery.group, None, delivery.envelope)
        editor = PlanEditor(
            state, moment=found.moment, limits=limits, cause=cause, group_id=delivery.group_id
        )
        ending.if_active = True
        editor.apply(ending)
        if editor.endings:
            writes.append(editor.finished())
            endings.publish_endings(writes, editor, self.scope, found, limits)
            endings.undo(writes, editor, self.scope, found)


def cause_of(agent: str, instance: str | None, envelope: str) -> Cause:
    """Returns the cause of an agent's changes for an event, which is given as JSON text."""
    event = _traces.decode(envelope)
    return Cause(agent, instance, event.id, event.correlation_id, event.trace_id)


def _notice(failed: Envelope, delivery: DeliveryRow, reason: str, event_id: str) -> Envelope:
    data = {
        "event_id": failed.id,
        "type": failed.type,
        "topic": failed.topic,
        "group": delivery.group,
        "attempts": delivery.attempt,
        "failures": delivery.failures,
        "deaths": delivery.deaths,
        "reason": reason,
    }
    return Envelope(
        type=DEAD_LETTERED,
        topic=Topic.SYSTEM_EVENTS.value,
        id=event_id,
        source=delivery.group,
        data=msgspec.Raw(msgspec.json.encode(data)),
        tenant_id=failed.tenant_id,
        user_id=failed.user_id,
        session_id=failed.session_id,
        plan_id=delivery.plan_id,
        correlation_id=failed.correlation_id,
        trace_id=failed.trace_id,
        parent_event_id=failed.id,
    )
