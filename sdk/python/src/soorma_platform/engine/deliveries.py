"""The delivery rules: who is next in a lane, when a failure is tried again, when a delivery is given up.

A lane is the events of one plan for one group. Only its head has a time it is ready at; while it is in
an agent's hands that time is the end of its lease, so an agent that vanishes gives it back by itself.
"""

from __future__ import annotations

import msgspec

from soorma_common.delivery import RetryPolicy
from soorma_common.errors import Fenced
from soorma_common.events import DEAD_LETTERED, Envelope, decode_envelope
from soorma_common.limits import Limits
from soorma_common.memory import Cause
from soorma_common.names import Scope
from soorma_common.operations import Fail
from soorma_common.topics import Topic
from soorma_platform.engine import endings, sagas
from soorma_platform.engine.life import FAILED, is_dropped
from soorma_platform.engine.plans import PlanEditor
from soorma_platform.engine.publishing import lane_of, publish
from soorma_platform.engine.rows import DeadLetterRow, Decision, DeliveryRow, Needs, PlanChange, Snapshot

LONGEST_REASON = 4000
LONGEST_WAIT = 365 * 86_400.0
"""Seconds that a handler may ask to be left alone for."""


def settle(decision: Decision, delivery: DeliveryRow, snapshot: Snapshot) -> None:
    """The delivery is over: the next of its lane leads now."""
    decision.settled = delivery
    if delivery.lane is None:
        return
    if delivery.next_in_lane is not None:
        decision.ready.append((delivery.next_in_lane, snapshot.uptime))
    else:
        snapshot.busy.discard((delivery.group_id, delivery.lane))


def finish(decision: Decision, delivery: DeliveryRow, snapshot: Snapshot) -> None:
    """What follows when a delivery is over: of a failed plan the next compensation is published."""
    moved = sagas.on_settled(decision, delivery, snapshot)
    if moved and snapshot.delivery_plan is not None:
        change = next((change for change in decision.plans if change.row.plan_id == delivery.plan_id), None)
        if change is None:
            change = PlanChange(snapshot.delivery_plan, {}, set(), [], [], [])
            decision.plans.append(change)
        change.compensations += moved
        if change.row.stalled:
            change.row.stalled, change.lives_on = 0, False  # it moves again


def drop(snapshot: Snapshot) -> Decision:
    """Settles a delivery whose plan was cancelled, unhandled; nothing if it is gone already."""
    decision = Decision(ready=[], plans=[], events=[])
    if snapshot.delivery is not None:
        settle(decision, snapshot.delivery, snapshot)
    return decision


def needs_of_drop(fence: str, scope: Scope) -> Needs:
    """What must be loaded before a delivery is dropped."""
    return Needs(scope, fence=fence)


def backoff(policy: RetryPolicy, failures: int, draw: float) -> int:
    """Milliseconds to wait after so many failures (from 1); `draw` in [-1, 1] spreads it by the jitter."""
    return round(1000 * policy.delay(failures, draw))


def verdict(delivery: DeliveryRow) -> str | None:
    """The reason to give a delivery up for the processes that died of it; None while that may be another's fault."""
    if not delivery.died_alone or delivery.deaths - delivery.cleared < delivery.retry.max_deaths:
        return None
    return f"{_deaths(delivery.deaths, delivery.silences)}, {_last(delivery.deaths)} with nothing else in hand"


def _deaths(deaths: int, silences: int) -> str:
    processes = "1 process" if deaths == 1 else f"{deaths} processes"
    if not silences:
        return f"{processes} died while handling it"
    if silences == deaths:
        return f"{processes} gave no sign of life for a lease while handling it"
    died = deaths - silences
    return f"{processes} ended while handling it ({died} died, {silences} gave no sign of life for a lease)"


def _last(deaths: int) -> str:
    return "this one" if deaths == 1 else "the last one"


class _Trace(msgspec.Struct):
    """What a change remembers of the event that it was made for."""

    id: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None


_traces = msgspec.json.Decoder(_Trace)


class Failure(msgspec.Struct):
    """A failed attempt: why, when the handler wants it again, whether it gives it up, a draw for the jitter.

    `dead_letter_id` is the id of the event to be published if this is the end. With `defer` it has not failed, and the
    attempt does not count. With `unbegun` it is given up before its handler was run. With `fail_plan` it ends its
    plan, which an event of the id `ending_id` tells.
    """

    fence: str
    reason: str
    draw: float
    dead_letter_id: str
    after: float | None = None
    reject: bool = False
    defer: bool = False
    unbegun: bool = False
    fail_plan: bool = False
    ending_id: str = ""


def needs_of_failure(failure: Failure, scope: Scope, plan_id: str | None) -> Needs:
    """What must be loaded before a failure is decided: a dead letter publishes an event."""
    lane = lane_of(scope, plan_id)
    needs = Needs(
        scope,
        fence=failure.fence,
        events=[(failure.dead_letter_id, Topic.SYSTEM_EVENTS.value, DEAD_LETTERED)],
        lanes={lane} if lane else set(),
    )
    if failure.fail_plan and plan_id is not None:
        needs.plans, needs.sagas, needs.closing = {plan_id: set()}, {plan_id: set()}, {plan_id}
        needs.events.append((failure.ending_id, Topic.PLAN_EVENTS.value, FAILED))
    return needs


def fail(failure: Failure, snapshot: Snapshot, limits: Limits) -> Decision:
    """A failed attempt is tried again later, or ends as a dead letter; Fenced if it is no longer this agent's."""
    delivery = snapshot.delivery
    if delivery is None:
        raise Fenced("this delivery was given to another agent before its failure was reported")
    if is_dropped(delivery.type, delivery.position, snapshot.delivery_plan):
        return drop(snapshot)
    reason = failure.reason[:LONGEST_REASON]
    if failure.unbegun:
        delivery.attempt -= 1
    elif not failure.defer:
        delivery.failures += 1
    if failure.defer or (not failure.reject and delivery.failures < delivery.retry.max_attempts):
        wait = backoff(delivery.retry, max(delivery.failures, 1), failure.draw)
        if failure.after is not None:
            wait = round(1000 * min(max(failure.after, 0), LONGEST_WAIT))
        return Decision(retried=(delivery, snapshot.uptime + wait, reason), deferred=failure.defer)
    return _give_up(delivery, reason, failure, snapshot, limits)


def _give_up(delivery: DeliveryRow, reason: str, failure: Failure, snapshot: Snapshot, limits: Limits) -> Decision:
    decision = Decision(ready=[], events=[], plans=[])
    parked = delivery.retry.then == "park" and not failure.fail_plan
    if failure.fail_plan and delivery.plan_id is None:
        reason = f"{reason} (fail_plan=True: the event belongs to no plan that could fail)"
    decision.dead_letter = DeadLetterRow(delivery, reason, snapshot.now, parked)
    if not parked:
        settle(decision, delivery, snapshot)
    failed = decode_envelope(delivery.envelope)
    if failure.fail_plan and delivery.plan_id is not None:
        _fail_plan(decision, delivery, Fail(reason, event_id=failure.ending_id), snapshot, limits)
    if failed.type == DEAD_LETTERED:
        return decision  # or a group that fails on dead letters would feed itself for ever
    scope = Scope(delivery.tenant_id, delivery.user_id)
    notice = _notice(failed, delivery, reason, failure.dead_letter_id)
    if row := publish(notice, scope, snapshot, limits, outlives=True):
        decision.events.append(row)
    return decision


def _fail_plan(decision: Decision, delivery: DeliveryRow, ending: Fail, snapshot: Snapshot, limits: Limits) -> None:
    """The plan of an event that is given up ends with it, unless it has ended before."""
    state = snapshot.plans[delivery.plan_id or ""]
    cause = cause_of(delivery.group, None, delivery.envelope)
    editor = PlanEditor(state, moment=snapshot.moment, limits=limits, cause=cause, group_id=delivery.group_id)
    ending.if_active = True
    editor.apply(ending)
    if editor.endings:
        decision.plans.append(editor.change)
        scope = Scope(delivery.tenant_id, delivery.user_id)
        endings.tell(decision, editor, scope, snapshot, limits)
        endings.undo(decision, editor, scope, snapshot)


def cause_of(agent: str, instance: str | None, envelope: str) -> Cause:
    """The cause of what an agent does about an event, given as JSON text."""
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
