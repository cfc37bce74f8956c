"""The one way in: deciding a commit."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from soorma_common.errors import Fenced, Forbidden, IdempotencyMismatch, InvalidRequest
from soorma_common.events import Envelope, check_envelope, check_timer
from soorma_common.limits import Limits
from soorma_common.memory import Cause, Commit, Committed, PlanCommitted
from soorma_common.names import Scope, check_name
from soorma_common.operations import (
    LONGEST_TTL,
    AnyEnding,
    AnyOperation,
    Append,
    Cancel,
    Cleanup,
    Compensate,
    Complete,
    Deadline,
    Ending,
    ExpirePlan,
    Extend,
    Fail,
    Fork,
    Join,
    KeyOperation,
    Merge,
    Operation,
    RecordAction,
    Set,
)
from soorma_common.values import check
from soorma_platform.engine import life, sagas
from soorma_platform.engine.deliveries import finish, settle
from soorma_platform.engine.plans import PlanEditor
from soorma_platform.engine.publishing import lane_of, place, publish
from soorma_platform.engine.rows import Decision, DeliveryRow, Needs, Snapshot, StoredAnswer
from soorma_platform.engine.timers import due_at, set_timer

MINUTE = 60_000

_NULL = msgspec.Raw(b"null")
_LAST_REVISION = (1 << 62) - 1
Kind = TypeVar("Kind", bound=Operation)


class Request(msgspec.Struct):
    """A commit as it came in: whose, under which idempotency key, and a fingerprint of its body."""

    scope: Scope
    commit: Commit
    fingerprint: str
    idempotency_key: str | None = None
    keep_answer: int = 15 * MINUTE

    @property
    def answer_key(self) -> str | None:
        """Under what the first answer is kept: the fence of a delivery, else the idempotency key."""
        if self.commit.fence:
            return f"fence:{self.commit.fence}"
        return None if self.idempotency_key is None else f"key:{self.idempotency_key}"


def check_commit(commit: Commit, limits: Limits) -> None:
    """Raises InvalidRequest or LimitExceeded where a commit from outside is not one that can be decided."""
    operations = sum(len(plan.operations) for plan in commit.plans)
    limits.check("commit_operations", operations, "the number of the commit's operations")
    limits.check("plan_keys", sum(len(plan.reads) for plan in commit.plans), "the number of keys the commit relies on")
    events = len(commit.events) + len(commit.timers) + len(commit.cancels)
    limits.check("commit_events", events, "the number of the commit's events")
    names = [check_name("plan_id", plan.plan_id) for plan in commit.plans]
    if len(set(names)) != len(names):
        raise InvalidRequest("a plan is named twice in the commit; put its operations into one part")
    for event in commit.events:
        check_envelope(event)
    for timer in commit.timers:
        check_timer(timer)
    for event_id in commit.cancels:
        check_name("event_id", event_id)
    for plan in commit.plans:
        for key in plan.reads:
            check_name("key", key)
        for number, operation in enumerate(plan.operations):
            if number and isinstance(operation, Fork):
                raise InvalidRequest(f"plan {plan.plan_id!r} begins with its fork: no operation goes before that")
            _check_operation(operation, limits)


def needs(request: Request) -> Needs:
    """What must be loaded before the commit can be decided. Events must have their ids."""
    commit = request.commit
    plans: dict[str, set[str]] = {}
    counted: set[str] = set()
    for plan in commit.plans:
        keys = plans[plan.plan_id] = set(plan.reads)
        for operation in plan.operations:
            if isinstance(operation, KeyOperation):
                keys.add(operation.key)
            elif isinstance(operation, Cleanup):
                counted.add(plan.plan_id)
    told = [life.told(request.scope, plan_id, ending, commit.cause) for plan_id, ending in endings(commit)]
    sagas = {plan_id for kind in (Fail, Compensate) for plan_id, _ in _operations(commit, kind)}
    undoing = [operation.event for _, operation in _operations(commit, Compensate)]
    timers = [*commit.timers, *(operation.timer for _, operation in _operations(commit, Deadline))]
    published = [*commit.events, *told]
    lanes = {lane for event in published if (lane := lane_of(request.scope, event.plan_id))}
    events = [(event.id or "", event.topic, event.type) for event in (*published, *undoing)]
    return Needs(
        request.scope,
        plans,
        counted,
        request.answer_key,
        commit.fence,
        events,
        lanes,
        timers={timer.event.id or "" for timer in timers} | set(commit.cancels),
        timed_plans={timer.event.plan_id for timer in timers},
        sagas=sagas,
        forks={plan_id: (fork.plan_id, fork.revision) for plan_id, fork in _operations(commit, Fork)},
    )


def decide(request: Request, snapshot: Snapshot, limits: Limits) -> Decision:
    """What a commit writes, or the error that refuses it as a whole."""
    if snapshot.answer is not None:
        return _answer_again(request, snapshot.answer)
    commit = request.commit
    decision = Decision(plans=[], events=[], ready=[], timers=[], unset=[])
    if commit.fence is not None:
        delivery = _delivery(request, snapshot)
        life.check_wanted(delivery, snapshot.delivery_plan)
        settle(decision, delivery, snapshot)
    cause = commit.cause or Cause()
    answers: list[PlanCommitted] = []
    editors: list[PlanEditor] = []
    for part in commit.plans:
        editor = PlanEditor(snapshot.plans[part.plan_id], now=snapshot.now, limits=limits, cause=cause)
        editor.check_reads(part.reads, part.expected_revision)
        if part.operations:
            editor.sweep()
        results = []
        for operation in part.operations:
            text = editor.apply(operation)
            results.append(_NULL if text is None else msgspec.Raw(text.encode()))
        if editor.change.history:
            decision.plans.append(editor.change)
            editors.append(editor)
        answers.append(PlanCommitted(part.plan_id, editor.row.revision, results))
    for event in commit.events:
        if row := publish(event, request.scope, snapshot, limits):
            decision.events.append(row)
    for editor in editors:
        _live_on(decision, editor, request, snapshot, limits)
    if decision.settled is not None:
        finish(decision, decision.settled, snapshot, limits)
    cancelled = _time(decision, request, snapshot, limits)
    ids = [event.id or "" for event in (*commit.events, *(timer.event for timer in commit.timers))]
    decision.committed = Committed(answers, ids, snapshot.now, cancelled)
    if (key := request.answer_key) is not None:
        expires_at = snapshot.now + request.keep_answer
        decision.answer = StoredAnswer(key, request.fingerprint, decision.committed, expires_at)
    return decision


def place_events(request: Request) -> None:
    """Gives the commit's events, the timed ones too, their scope and plan."""
    commit, scope = request.commit, request.scope
    commit.events = [place(event, scope) for event in commit.events]
    for timer in commit.timers:
        timer.event = place(timer.event, scope)
    for plan_id, deadline in _operations(commit, Deadline):
        deadline.timer.event = life.of_plan(deadline.timer.event, plan_id, commit.cause, scope)
    for plan_id, compensate in _operations(commit, Compensate):
        compensate.event = life.of_plan(compensate.event, plan_id, commit.cause, scope)


def new_events(commit: Commit) -> list[Envelope]:
    """All that the commit publishes, now or later: each is to have an id."""
    return [
        *commit.events,
        *(timer.event for timer in commit.timers),
        *(operation.timer.event for _, operation in _operations(commit, Deadline)),
        *(operation.event for _, operation in _operations(commit, Compensate)),
    ]


def endings(commit: Commit) -> list[tuple[str, AnyEnding]]:
    """The operations that end a plan, with the plans."""
    return [(part.plan_id, one) for part in commit.plans for one in part.operations if isinstance(one, Ending)]


def _operations(commit: Commit, kind: type[Kind]) -> list[tuple[str, Kind]]:
    """The operations of a kind, with the plans they are for."""
    return [(part.plan_id, one) for part in commit.plans for one in part.operations if isinstance(one, kind)]


def _live_on(decision: Decision, editor: PlanEditor, request: Request, snapshot: Snapshot, limits: Limits) -> None:
    """What follows of the end of a plan, and of what was registered for it."""
    scope, cause = request.scope, request.commit.cause
    plan_id, change = editor.row.plan_id, editor.change
    for ending in editor.endings:
        if row := publish(life.told(scope, plan_id, ending, cause), scope, snapshot, limits):
            decision.events.append(row)
    for timer in editor.deadlines:
        due = due_at(timer, snapshot.now)
        if timed := set_timer(timer.event, due, scope, snapshot, limits, while_active=True):
            decision.timers.append(timed)
    if change.compensations:
        count = len(change.compensations) + snapshot.sagas[plan_id].count
        limits.check("plan_compensations", count, "the number of the plan's compensations")
    if editor.row.status == "failed":
        for moved in sagas.go_on(decision, plan_id, change.compensations, scope, snapshot, limits):
            if moved not in change.compensations:
                change.compensations.append(moved)


def _time(decision: Decision, request: Request, snapshot: Snapshot, limits: Limits) -> list[str]:
    """Sets the commit's timers, and takes back those it cancels; the ids of the latter that were still waiting."""
    for timer in request.commit.timers:
        due = due_at(timer, snapshot.now)
        if row := set_timer(timer.event, due, request.scope, snapshot, limits):
            decision.timers.append(row)
    cancelled = []
    for event_id in request.commit.cancels:
        waiting = snapshot.timers.get(event_id)
        if waiting is None or waiting.scope != request.scope:
            continue
        cancelled.append(event_id)
        del snapshot.timers[event_id]
        if waiting.id is None:
            decision.timers.remove(waiting)
        else:
            decision.unset.append(waiting.id)
    return cancelled


def _delivery(request: Request, snapshot: Snapshot) -> DeliveryRow:
    delivery = snapshot.delivery
    if delivery is None:
        raise Fenced(
            "this delivery was given to another agent (its lease had run out), or was settled before: "
            "nothing of this attempt was changed or published",
        )
    if (delivery.tenant_id, delivery.user_id) != (request.scope.tenant_id, request.scope.user_id):
        raise Forbidden("a delivery is answered in the scope of its event's tenant and user only")
    return delivery


def _answer_again(request: Request, first: StoredAnswer) -> Decision:
    if first.fingerprint != request.fingerprint:
        if request.commit.fence:
            raise Fenced("this delivery was answered before, with another commit: nothing of this one was applied")
        raise IdempotencyMismatch(
            f"the idempotency key {request.idempotency_key!r} was used for a request with another body",
        )
    return Decision(replayed=first)


def _check_operation(operation: AnyOperation, limits: Limits) -> None:
    if isinstance(operation, Ending) and operation.event_id is not None:
        check_name("event_id", operation.event_id)
    match operation:
        case Complete(result=value) if value is not msgspec.UNSET:
            limits.check("value_bytes", len(bytes(value)), "the plan's result, in bytes,")
            check(value, "the plan's result")
        case Fail(reason=reason) | Cancel(reason=reason):
            limits.check("value_bytes", len(reason.encode()), "the reason, in bytes,")
        case Deadline(timer=timer):
            check_timer(timer)
        case Compensate(event=event):
            check_envelope(event)
        case KeyOperation(key=key):
            check_name("key", key)
            _check_argument(operation, limits)
        case RecordAction(name=name):
            check_name("action", name)
        case ExpirePlan(ttl=ttl):
            _check_ttl(ttl)
        case Fork(plan_id=plan_id, revision=revision):
            check_name("plan_id", plan_id)
            if revision is not None and not 0 <= revision <= _LAST_REVISION:
                raise InvalidRequest(f"a revision to fork at is a number from 0 on, not {revision}")


def _check_argument(operation: KeyOperation, limits: Limits) -> None:
    match operation:
        case Join(arrival=arrival, expect=expect):
            check_name("arrival", arrival)
            names = expect if isinstance(expect, list) else []
            count = len(set(names)) if isinstance(expect, list) else expect
            if count < 1 or (isinstance(expect, list) and count < len(expect)):
                raise InvalidRequest(f"join at {operation.key!r} expects at least one, and no name twice: {expect}")
            for name in names:
                check_name("expect", name)
        case Set(value=value) | Append(value=value) | Extend(value=value) | Merge(value=value):
            limits.check("value_bytes", len(bytes(value)), f"the value for {operation.key!r}, in bytes,")
            check(value, f"the value for {operation.key!r}")
    if isinstance(operation, Set):
        _check_ttl(operation.ttl)


def _check_ttl(ttl: float | None) -> None:
    if ttl is not None and not 0 < ttl <= LONGEST_TTL:
        raise InvalidRequest(f"ttl must be more than 0 and at most {LONGEST_TTL:.0f} seconds, not {ttl}")


def purge(plan_id: str, before: int, snapshot: Snapshot, *, limits: Limits) -> Decision:
    """Removes everything of a plan that ended before a time; nothing, if it lives again."""
    editor = PlanEditor(snapshot.plans[plan_id], now=snapshot.now, limits=limits, cause=Cause(actor="soorma"))
    editor.purge(before)
    return Decision(plans=[editor.change] if editor.change.history else [])


def needs_of_expiry(scope: Scope, plan_id: str, keys: set[str]) -> Needs:
    """What must be loaded to sweep a plan, or some of its keys, whose time to live is over."""
    return Needs(scope, {plan_id: keys})


def expire(plan_id: str, keys: set[str], snapshot: Snapshot, *, limits: Limits) -> Decision:
    """Sweeps what has expired of a plan as a commit of its own; nothing, where it was given a new life meanwhile."""
    editor = PlanEditor(snapshot.plans[plan_id], now=snapshot.now, limits=limits, cause=Cause(actor="soorma"))
    for key in sorted(keys):
        editor.expire(key)
    return Decision(plans=[editor.change] if editor.change.history else [])
