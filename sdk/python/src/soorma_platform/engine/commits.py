"""The one way in: deciding a commit."""

from __future__ import annotations

import msgspec

from soorma_common.errors import Fenced, Forbidden, HistoryGone, IdempotencyMismatch, InvalidRequest
from soorma_common.events import check_envelope
from soorma_common.limits import Limits
from soorma_common.memory import Cause, Commit, Committed, PlanCommitted
from soorma_common.names import Scope, check_name
from soorma_common.operations import (
    LONGEST_TTL,
    AnyOperation,
    Append,
    Cleanup,
    ExpirePlan,
    Extend,
    KeyOperation,
    Merge,
    RecordAction,
    Set,
)
from soorma_common.values import check
from soorma_platform.engine.deliveries import settle
from soorma_platform.engine.plans import PlanEditor
from soorma_platform.engine.publishing import lane_of, place, publish
from soorma_platform.engine.rows import Decision, DeliveryRow, Needs, Snapshot, StoredAnswer

MINUTE = 60_000

_NULL = msgspec.Raw(b"null")


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
    limits.check("commit_events", len(commit.events), "the number of the commit's events")
    names = [check_name("plan_id", plan.plan_id) for plan in commit.plans]
    if len(set(names)) != len(names):
        raise InvalidRequest("a plan is named twice in the commit; put its operations into one part")
    for event in commit.events:
        check_envelope(event)
    for plan in commit.plans:
        for key in plan.reads:
            check_name("key", key)
        for operation in plan.operations:
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
    lanes = {lane for event in commit.events if (lane := lane_of(request.scope, event.plan_id))}
    events = [(event.id or "", event.topic, event.type) for event in commit.events]
    return Needs(request.scope, plans, counted, request.answer_key, commit.fence, events, lanes)


def decide(request: Request, snapshot: Snapshot, limits: Limits) -> Decision:
    """What a commit writes, or the error that refuses it as a whole."""
    if snapshot.answer is not None:
        return _answer_again(request, snapshot.answer)
    commit = request.commit
    decision = Decision(plans=[], events=[], ready=[])
    if commit.fence is not None:
        settle(decision, _delivery(request, snapshot), snapshot)
    cause = commit.cause or Cause()
    answers: list[PlanCommitted] = []
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
        answers.append(PlanCommitted(part.plan_id, editor.row.revision, results))
    for event in commit.events:
        if row := publish(event, request.scope, snapshot, limits):
            decision.events.append(row)
    decision.committed = Committed(answers, [event.id or "" for event in commit.events], snapshot.now)
    if (key := request.answer_key) is not None:
        expires_at = snapshot.now + request.keep_answer
        decision.answer = StoredAnswer(key, request.fingerprint, decision.committed, expires_at)
    return decision


def place_events(request: Request) -> None:
    """Gives the commit's events their scope and plan."""
    request.commit.events = [place(event, request.scope) for event in request.commit.events]


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
    match operation:
        case KeyOperation(key=key):
            check_name("key", key)
            _check_argument(operation, limits)
        case RecordAction(name=name):
            check_name("action", name)
        case ExpirePlan(ttl=ttl):
            _check_ttl(ttl)


def _check_argument(operation: KeyOperation, limits: Limits) -> None:
    match operation:
        case Set(value=value) | Append(value=value) | Extend(value=value) | Merge(value=value):
            limits.check("value_bytes", len(bytes(value)), f"the value for {operation.key!r}, in bytes,")
            check(value, f"the value for {operation.key!r}")
    if isinstance(operation, Set):
        _check_ttl(operation.ttl)


def _check_ttl(ttl: float | None) -> None:
    if ttl is not None and not 0 < ttl <= LONGEST_TTL:
        raise InvalidRequest(f"ttl must be more than 0 and at most {LONGEST_TTL:.0f} seconds, not {ttl}")


def check_horizon(what: str, asked: int, horizon: int) -> None:
    """Raises HistoryGone if `asked` lies before the oldest revision or position still kept."""
    if asked < horizon:
        raise HistoryGone(
            f"{what} {asked} lies before {horizon}, the oldest one still kept; start from there",
            horizon=horizon,
        )


def needs_of_expiry(scope: Scope, plan_id: str, keys: set[str]) -> Needs:
    """What must be loaded to sweep a plan, or some of its keys, whose time to live is over."""
    return Needs(scope, {plan_id: keys})


def expire(plan_id: str, keys: set[str], snapshot: Snapshot, *, limits: Limits) -> Decision:
    """Sweeps what has expired of a plan as a commit of its own; nothing, where it was given a new life meanwhile."""
    editor = PlanEditor(snapshot.plans[plan_id], now=snapshot.now, limits=limits, cause=Cause(actor="soorma"))
    for key in sorted(keys):
        editor.expire(key)
    return Decision(plans=[editor.change] if editor.change.history else [])
