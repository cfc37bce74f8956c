"""The one way in: deciding a commit."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from soorma_common.errors import Conflict, Fenced, Forbidden, IdempotencyMismatch
from soorma_common.events import Envelope
from soorma_common.limits import Limits
from soorma_common.memory import NOBODY, Cause, Commit, Committed, PlanCommit, PlanCommitted
from soorma_common.names import Scope
from soorma_common.operations import (
    AnyLifeOperation,
    Cleanup,
    Compensate,
    Deadline,
    Ending,
    Fail,
    Fork,
    KeyOperation,
    LifeOperation,
    PlaceOperation,
)
from soorma_platform.engine import endings, life, sagas
from soorma_platform.engine.deliveries import finish, settle
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.plans import PlanEditor
from soorma_platform.engine.publishing import lane_of, place, publish
from soorma_platform.engine.requests import check_answerable
from soorma_platform.engine.rows import Decision, DeliveryRow, Needs, PlanState, Snapshot, StoredAnswer
from soorma_platform.engine.timers import set_timer

MINUTE = 60_000
ODD_TICKETS = 16
"""Keys that others have put into the line of a semaphore, beyond which it would not move."""

_NULL = msgspec.Raw(b"null")


class Request:
    """A commit as it came in: whose, under which idempotency key, and a fingerprint of its body.

    `cause` is who makes it and because of what, as the platform knows it; `under` is the fence of the
    delivery in whose handler it is made, which it does not settle. `of_life` are its operations that reach
    beyond the keys of their plans, with these plans. `awaited`: what it publishes is a request whose sender waits
    for the response.
    """

    __slots__ = (
        "awaited",
        "cause",
        "commit",
        "fingerprint",
        "idempotency_key",
        "keep_answer",
        "of_life",
        "scope",
        "under",
    )

    def __init__(
        self,
        scope: Scope,
        commit: Commit,
        fingerprint: str,
        idempotency_key: str | None = None,
        keep_answer: int = 15 * MINUTE,
        *,
        awaited: bool = False,
        cause: Cause = NOBODY,
        under: str | None = None,
    ) -> None:
        self.awaited = awaited
        self.cause = cause
        self.under = under
        self.scope = scope
        self.commit = commit
        self.fingerprint = fingerprint
        self.idempotency_key = idempotency_key
        self.keep_answer = keep_answer
        self.of_life: list[tuple[str, AnyLifeOperation]] = [
            (part.plan_id, one) for part in commit.plans for one in part.operations if isinstance(one, LifeOperation)
        ]

    @property
    def answer_key(self) -> str | None:
        """Under what the first answer is kept: the fence of a delivery, else the idempotency key."""
        if self.commit.fence:
            return f"fence:{self.commit.fence}"
        return None if self.idempotency_key is None else f"key:{self.idempotency_key}"

    def events(self) -> list[Envelope]:
        """All that the commit publishes, now or later."""
        events = [*self.commit.events, *(timer.event for timer in self.commit.timers)]
        for _, operation in self.of_life:
            if isinstance(operation, Deadline):
                events.append(operation.timer.event)
            elif isinstance(operation, Compensate):
                events.append(operation.event)
        return events

    def prepare(self, new_id: Callable[[], str]) -> None:
        """Gives all that it publishes its scope and plan, and an id where it has none."""
        commit, scope = self.commit, self.scope
        if commit.events:
            commit.events = [_named(place(event, scope), new_id) for event in commit.events]
        for timer in commit.timers:
            timer.event = _named(place(timer.event, scope), new_id)
        for plan_id, operation in self.of_life:
            match operation:
                case Deadline(timer=timer):
                    timer.event = _named(life.of_plan(timer.event, plan_id, self.cause, scope), new_id)
                case Compensate(event=event):
                    operation.event = _named(life.of_plan(event, plan_id, self.cause, scope), new_id)
                case Ending():
                    operation.event_id = operation.event_id or new_id()


def _named(event: Envelope, new_id: Callable[[], str]) -> Envelope:
    event.id = event.id or new_id()
    return event


def needs(request: Request) -> Needs:
    """What must be loaded before a prepared request can be decided."""
    commit = request.commit
    plans: dict[str, set[str]] = {}
    fence = commit.fence or request.under
    found = Needs(request.scope, plans, set(), request.answer_key, fence, settles=bool(commit.fence))
    for plan in commit.plans:
        keys = plans[plan.plan_id] = set(plan.reads)
        for operation in plan.operations:
            if isinstance(operation, KeyOperation):
                keys.add(operation.key)
            elif isinstance(operation, PlaceOperation):
                keys.update(operation.all_places())
                if operation.ticket is not None:
                    keys.add(operation.ticket)
                found.lines.setdefault(plan.plan_id, {})[operation.line] = operation.places + ODD_TICKETS
            elif isinstance(operation, Cleanup):
                found.counted.add(plan.plan_id)
    if request.awaited and (parent := commit.events[0].parent_event_id) is not None:
        found.asked_by = (parent, commit.events[0].source or "")
    if not (commit.events or commit.timers or commit.cancels or request.of_life):
        return found
    timed = list(commit.timers)
    published = list(commit.events)
    undoing: list[Envelope] = []
    for plan_id, operation in request.of_life:
        match operation:
            case Ending():
                published.append(life.told(request.scope, plan_id, operation, request.cause))
                found.closing.add(plan_id)
                if isinstance(operation, Fail):
                    found.sagas.setdefault(plan_id, set())
            case Deadline(timer=timer):
                timed.append(timer)
            case Compensate(event=event):
                undoing.append(event)
                found.sagas.setdefault(plan_id, set()).add(event.id or "")
            case Fork(plan_id=source, revision=revision):
                found.forks[plan_id] = (source, revision)
    found.events = [(event.id or "", event.topic, event.type) for event in (*published, *undoing)]
    found.lanes = {lane for event in published if (lane := lane_of(request.scope, event.plan_id))}
    found.timers = {timer.event.id or "" for timer in timed} | set(commit.cancels)
    found.timed_plans = {timer.event.plan_id for timer in timed}
    return found


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
    elif request.under is not None:
        _delivery(request, snapshot)
    group = None if decision.settled is None else decision.settled.group_id
    answers: list[PlanCommitted] = []
    editors: list[PlanEditor] = []
    told = 0
    for part, editor in _editors(commit, snapshot.plans, snapshot.moment, limits, request.cause, group):
        if part.operations:
            editor.begin()
        results = []
        for operation in part.operations:
            text = editor.apply(operation)
            if text is None or commit.fence is not None:  # a handler has seen its results before, and reads no others
                results.append(_NULL)
                continue
            told += len(text)
            limits.check("result_bytes", told, "the results of the commit, in bytes (`blind` asks for none),")
            results.append(msgspec.Raw(text.encode()))
        if editor.change.history or editor.change.puts:
            decision.plans.append(editor.change)
            editors.append(editor)
        answers.append(PlanCommitted(part.plan_id, editor.row.revision, results))
    cancelled = _cancel(decision, request, snapshot)
    ended = {editor.row.plan_id for editor in editors if editor.endings}
    for event in commit.events:
        if request.awaited:
            check_answerable(event, request.scope, snapshot)
        survives = request.awaited or life.outlives(event, ended, decision.settled)
        if row := publish(event, request.scope, snapshot, limits, outlives=survives):
            decision.events.append(row)
    for editor in editors:
        if request.of_life or editor.row.status == "failed":
            _live_on(decision, editor, request, snapshot, limits)
    if decision.settled is not None:
        finish(decision, decision.settled, snapshot)
    for timer in commit.timers:
        survives = life.outlives(timer.event, ended, decision.settled)
        if timed := set_timer(timer, request.scope, snapshot, limits, outlives=survives):
            decision.timers.append(timed)
    cancelled += _cancel(decision, request, snapshot)  # what this commit has set itself
    ids = [event.id or "" for event in commit.events] + [timer.event.id or "" for timer in commit.timers]
    decision.committed = Committed(answers, ids, snapshot.now, cancelled)
    if (key := request.answer_key) is not None:
        expires_at = snapshot.uptime + request.keep_answer
        decision.answer = StoredAnswer(key, request.fingerprint, decision.committed, expires_at)
    return decision


def check_reads(commit: Commit, plans: dict[str, PlanState], limits: Limits) -> None:
    """Raises Conflict unless the plans, of which only what lives is given, are as the commit has read them."""
    _editors(commit, plans, Moment(0, 0, 0), limits, NOBODY)


def _editors(
    commit: Commit,
    plans: dict[str, PlanState],
    moment: Moment,
    limits: Limits,
    cause: Cause,
    group: int | None = None,
) -> list[tuple[PlanCommit, PlanEditor]]:
    """The parts of a commit with their plans; Conflict, which names all that is stale, unless all is as it was read."""
    found, conflicts = [], []
    for part in commit.plans:
        editor = PlanEditor(plans[part.plan_id], moment=moment, limits=limits, cause=cause, group_id=group)
        found.append((part, editor))
        try:
            editor.check_reads(part.reads, part.expected_revision)
            if part.expected_status is not None:
                editor.check_status(part.expected_status)
        except Conflict as conflict:
            conflicts.append(conflict)
    if conflicts:
        conflicts[0].details["stale"] = [place for one in conflicts for place in one.details.get("stale", ())]
        raise conflicts[0]
    return found


def _live_on(decision: Decision, editor: PlanEditor, request: Request, snapshot: Snapshot, limits: Limits) -> None:
    """What follows of the end of a plan, and of what was registered for it."""
    scope, change = request.scope, editor.change
    endings.tell(decision, editor, scope, snapshot, limits)
    for timer in editor.deadlines:
        if timed := set_timer(timer, scope, snapshot, limits, incarnation=editor.row.incarnation):
            decision.timers.append(timed)
    if change.compensations:
        sagas.register(change, snapshot, limits)
    endings.undo(decision, editor, scope, snapshot)


def _cancel(decision: Decision, request: Request, snapshot: Snapshot) -> list[str]:
    """Takes back the timers that the commit cancels and that wait; their ids."""
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


def purge(plan_id: str, before: int, snapshot: Snapshot, *, limits: Limits) -> Decision:
    """Removes everything of a plan that ended before an uptime; nothing, if it lives again."""
    editor = PlanEditor(snapshot.plans[plan_id], moment=snapshot.moment, limits=limits, cause=Cause(actor="soorma"))
    editor.purge(before)
    return Decision(plans=[editor.change] if editor.change.history else [])


def needs_of_purge(scope: Scope, plan_id: str) -> Needs:
    """What must be loaded to purge a plan."""
    return Needs(scope, {plan_id: set()}, closing={plan_id})


def needs_of_expiry(scope: Scope, plan_id: str, keys: set[str]) -> Needs:
    """What must be loaded to sweep a plan, or some of its keys, whose time to live is over."""
    return Needs(scope, {plan_id: keys})


def expire(plan_id: str, keys: set[str], snapshot: Snapshot, *, limits: Limits) -> Decision:
    """Sweeps what has expired of a plan as a commit of its own; nothing, where it was given a new life meanwhile.

    Nor while the wall clock is not settled: it may have jumped since this was asked for.
    """
    if not snapshot.moment.is_settled:
        return Decision()
    editor = PlanEditor(snapshot.plans[plan_id], moment=snapshot.moment, limits=limits, cause=Cause(actor="soorma"))
    editor.sweep(keys)
    return Decision(plans=[editor.change] if editor.change.history else [])
