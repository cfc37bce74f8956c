"""The decision of a commit: the one way in."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from soorma_common.causes import NOBODY, Cause
from soorma_common.errors import Conflict, Fenced, Forbidden
from soorma_common.events import Envelope
from soorma_common.limits import Limits
from soorma_common.memory import Commit, Committed, PlanCommit, PlanCommitted
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
from soorma_common.semantic import MemoryDone
from soorma_platform.engine import endings, life, memories, sagas
from soorma_platform.engine.accounting import removals
from soorma_platform.engine.blocks import check_token
from soorma_platform.engine.commands import Decision, Need, Snapshot, Writes
from soorma_platform.engine.deliveries import continue_saga, settle
from soorma_platform.engine.idempotency import check_same, key_of
from soorma_platform.engine.keys import check_credential
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.plans import PlanEditor
from soorma_platform.engine.publishing import addressed, lane_of, publish, topics_of
from soorma_platform.engine.quotas import StoredQuota
from soorma_platform.engine.reentrancy import MOST_LINKS, check_answerable
from soorma_platform.engine.rows.audit_log import Author
from soorma_platform.engine.rows.blocks import TokenNeed
from soorma_platform.engine.rows.deliveries import (
    DeliveryNeed,
    DeliveryRow,
    FenceFound,
    FenceNeed,
    InHand,
    WaitersNeed,
)
from soorma_platform.engine.rows.events import EventsNeed, KnownIds
from soorma_platform.engine.rows.idempotency import ResponseFound, ResponseNeed, StoredResponse
from soorma_platform.engine.rows.keys import CredentialNeed
from soorma_platform.engine.rows.plans import LoadedPlan, PlansFound, PlansNeed
from soorma_platform.engine.rows.sagas import SagasNeed
from soorma_platform.engine.rows.timers import TimerGone, TimersNeed
from soorma_platform.engine.rows.usage import UsageNeed
from soorma_platform.engine.timers import set_timer

KEPT = 15 * 60_000
"""Milliseconds for which a response is stored by default."""
ODD_TICKETS = 16
"""Keys of other programs in a semaphore's line, beyond which it would not move."""

SOORMA = Cause(actor="soorma")
"""The platform itself."""
_NULL = msgspec.Raw(b"null")


class CommitOutcome(msgspec.Struct):
    """The outcome of a commit.

    With `is_replay`, it was applied before and has published nothing now.
    """

    committed: Committed
    topics: list[str] = []
    """of the events it has published"""
    is_replay: bool = False


class ApplyCommit:
    """A commit that changes plans, publishes events and settles its delivery: all or nothing.

    `fingerprint` is that of its body, `idempotency_key` the key under which its response is stored
    for `keep_response` ms. `cause` is its author and event, as the platform knows them. `under` is
    the fence of the delivery in whose handler it is made, and which it does not settle. With
    `awaited` it publishes a request whose sender waits for the response. `shown` is the key or
    token by which it was requested: if that is not valid any more, nothing is changed. With an
    `author`, who asks for it outside of handlers, the audit has rows of the plans that it deletes
    and of what it forgets. With a `quota` it is refused if its tenant would store too much.
    """

    def __init__(
        self,
        scope: Scope,
        commit: Commit,
        fingerprint: str,
        idempotency_key: str | None = None,
        keep_response: int = KEPT,
        *,
        limits: Limits,
        awaited: bool = False,
        cause: Cause = NOBODY,
        under: str | None = None,
        shown: CredentialNeed | TokenNeed | None = None,
        author: Author | None = None,
        quota: StoredQuota | None = None,
    ) -> None:
        self.scope = scope
        self.commit = commit
        self._shown = shown
        self._author = author
        self._quota = quota
        self.cause = cause
        self._fingerprint = fingerprint
        self._idempotency_key = idempotency_key
        self._keep_response = keep_response
        self._limits = limits
        self._awaited = awaited
        self._under = under
        self._of_life: list[tuple[str, AnyLifeOperation]] = [
            (part.plan_id, one)
            for part in commit.plans
            for one in part.operations
            if isinstance(one, LifeOperation)
        ]
        """operations that reach beyond the keys of their plans, each with its plan"""
        self._memories: list[memories.Change] = []
        self._stored_event: memories.StoredEvent | None = None

    def events(self) -> list[Envelope]:
        """Returns all events that the commit publishes, now or later."""
        events = [*self.commit.events, *(timer.event for timer in self.commit.timers)]
        for _, operation in self._of_life:
            if isinstance(operation, Deadline):
                events.append(operation.timer.event)
            elif isinstance(operation, Compensate):
                events.append(operation.event)
        return events

    def prepare(self, new_id: Callable[[], str]) -> None:
        """Gives each event its scope and plan, and an id if it has none."""
        commit, scope = self.commit, self.scope
        if commit.events:
            commit.events = [_named(addressed(event, scope), new_id) for event in commit.events]
        for timer in commit.timers:
            timer.event = _named(addressed(timer.event, scope), new_id)
        for plan_id, operation in self._of_life:
            match operation:
                case Deadline(timer=timer):
                    timer.event = _named(
                        life.of_plan(timer.event, plan_id, self.cause, scope), new_id
                    )
                case Compensate(event=event):
                    operation.event = _named(
                        life.of_plan(event, plan_id, self.cause, scope), new_id
                    )
                case Ending():
                    operation.event_id = operation.event_id or new_id()

    @property
    def is_by_handler(self) -> bool:
        """True if a handler makes it, or what it writes through."""
        return self.commit.fence is not None or self._under is not None

    def prepare_memories(self, new_id: Callable[[], str]) -> None:
        """Tokenizes passages, and gives each an id if it has none."""
        self._stored_event = memories.StoredEvent(new_id(), self.scope, self.cause)
        agent_id = self.cause.actor if self.is_by_handler else None
        for operation in self.commit.memories:
            operation.id = operation.id or new_id()
            self._memories.append(memories.prepare(operation, agent_id))

    def needs(self) -> list[Need]:
        commit = self.commit
        needs: list[Need] = [] if self._shown is None else [self._shown]
        if commit.fence is not None:
            needs.append(DeliveryNeed(commit.fence))
        elif self._under is not None:
            needs.append(FenceNeed(self._under))
        if (key := key_of(self._idempotency_key, self.commit.fence)) is not None:
            needs.append(ResponseNeed(key, if_settled=bool(commit.fence)))
        plans = self._plans()
        if commit.plans:
            needs.append(plans)
        if commit.events or commit.timers or commit.cancels or self._of_life:
            needs += self._needs_of_events(plans)
        if self._stored_event is not None:
            needs.append(self._stored_event.need())
        if self._needs_memories:
            needs += memories.needs_of(self._memories, commit.memory_reads)
        if self._quota is not None:
            needs.append(UsageNeed())
        if self._awaited and (parent := commit.events[0].parent_event_id) is not None:
            needs.append(WaitersNeed(parent, commit.events[0].source or "", MOST_LINKS))
        return needs

    @property
    def _needs_memories(self) -> bool:
        return bool(self._memories or self.commit.memory_reads)

    def _plans(self) -> PlansNeed:
        need = PlansNeed({})
        for plan in self.commit.plans:
            keys = need.keys[plan.plan_id] = set(plan.reads)
            for operation in plan.operations:
                if isinstance(operation, KeyOperation):
                    keys.add(operation.key)
                elif isinstance(operation, PlaceOperation):
                    keys.update(operation.all_places())
                    if operation.ticket is not None:
                        keys.add(operation.ticket)
                    need.lines.setdefault(plan.plan_id, {})[operation.line] = (
                        operation.places + ODD_TICKETS
                    )
                elif isinstance(operation, Cleanup):
                    need.counted.add(plan.plan_id)
        return need

    def _needs_of_events(self, plans: PlansNeed) -> list[Need]:
        """Returns the needs of events and timers, and adds those of their plans to `plans`."""
        commit = self.commit
        timed, published = list(commit.timers), list(commit.events)
        undoing: list[Envelope] = []
        sagas_of: dict[str, set[str]] = {}
        for plan_id, operation in self._of_life:
            match operation:
                case Ending():
                    published.append(life.ending_event(self.scope, plan_id, operation, self.cause))
                    plans.closing.add(plan_id)
                    if isinstance(operation, Fail):
                        sagas_of.setdefault(plan_id, set())
                case Deadline(timer=timer):
                    timed.append(timer)
                case Compensate(event=event):
                    undoing.append(event)
                    sagas_of.setdefault(plan_id, set()).add(event.id or "")
                case Fork(plan_id=source, revision=revision):
                    plans.forks[plan_id] = (source, revision)
        needs: list[Need] = []
        if sagas_of:
            lanes_of = {plan_id: lane_of(self.scope, plan_id) or "" for plan_id in sagas_of}
            needs.append(SagasNeed(sagas_of, lanes_of))
        events = [(event.id or "", event.topic, event.type) for event in (*published, *undoing)]
        if events:
            lanes = {lane for event in published if (lane := lane_of(self.scope, event.plan_id))}
            needs.append(EventsNeed(events, lanes))
        ids = {timer.event.id or "" for timer in timed} | set(commit.cancels)
        if ids:
            needs.append(TimersNeed(ids, {timer.event.plan_id for timer in timed}))
        return needs

    def decide(self, found: Snapshot) -> Decision[CommitOutcome]:
        check_credential(found)
        check_token(found)
        key = key_of(self._idempotency_key, self.commit.fence)
        if key is not None and (stored := found.part(ResponseFound).stored) is not None:
            check_same(stored, self._fingerprint, self._idempotency_key, self.commit.fence)
            return Decision(CommitOutcome(stored.committed, is_replay=True))
        commit, limits = self.commit, self._limits
        writes: Writes = []
        settled = self._settle(writes, found)
        before = None if self._quota is None else self._quota.before(found)
        plans, editors = self._edit(writes, found, None if settled is None else settled.group_id)
        if before is not None:
            before.check(editors, remembers=memories.adds(commit.memories))
        remembered = self._remember(writes, found, settled) if self._needs_memories else []
        cancelled = self._cancel(writes, found) if commit.cancels else []
        ended = {editor.row.plan_id for editor in editors if editor.endings}
        for event in commit.events:
            if self._awaited:
                check_answerable(event, self.scope, found)
            survives = self._awaited or life.outlives(event, ended, settled)
            if row := publish(event, self.scope, found, limits, outlives=survives):
                writes.append(row)
        for editor in editors:
            if self._of_life or editor.row.status == "failed":
                self._live_on(writes, editor, found)
        if settled is not None and settled.plan_id is not None:
            continue_saga(writes, settled, found)
        for timer in commit.timers:
            survives = life.outlives(timer.event, ended, settled)
            if timed := set_timer(timer, self.scope, found, limits, outlives=survives):
                writes.append(timed)
        if commit.cancels:
            cancelled += self._cancel(writes, found)  # timers that this commit has set
        ids = [event.id or "" for event in commit.events] + [
            timer.event.id or "" for timer in commit.timers
        ]
        committed = Committed(plans, ids, found.now, cancelled, remembered or msgspec.UNSET)
        if self._author is not None:
            writes += removals(commit, committed, self.scope, self._author)
        if key is not None:
            expires_at = found.uptime + self._keep_response
            writes.append(StoredResponse(key, self._fingerprint, committed, expires_at))
        return Decision(CommitOutcome(committed, topics_of(writes)), writes)

    def _settle(self, writes: Writes, found: Snapshot) -> DeliveryRow | None:
        """Settles the commit's delivery and returns it; None if it settles none.

        Raises Fenced if the delivery in whose handler it is made is gone.
        """
        if self.commit.fence is None:
            if self._under is not None:
                self._check_scope(found.part(FenceFound).scope)
            return None
        in_hand = found.part(InHand)
        if (delivery := in_hand.delivery) is None:
            raise _fenced()
        self._check_scope(Scope(delivery.tenant_id, delivery.user_id))
        life.check_wanted(delivery, in_hand.plan)
        writes.append(settle(delivery, found))
        return delivery

    def _edit(
        self, writes: Writes, found: Snapshot, group: int | None
    ) -> tuple[list[PlanCommitted], list[PlanEditor]]:
        """Applies the operations.

        Returns their results by plan, and the editors of the changed plans.
        """
        committed: list[PlanCommitted] = []
        changed: list[PlanEditor] = []
        if not self.commit.plans:
            return committed, changed
        size, is_blind = 0, self.commit.fence is not None
        states = found.part(PlansFound).states
        for part, editor in _editors(
            self.commit, states, found.moment, self._limits, self.cause, group
        ):
            if part.operations:
                editor.begin()
            results = []
            for operation in part.operations:
                text = editor.apply(operation)
                # A handler has seen its results before, and reads no others.
                if text is None or is_blind:
                    results.append(_NULL)
                    continue
                size += len(text)
                self._limits.check(
                    "result_bytes",
                    size,
                    "the results of the commit, in bytes (`blind` asks for none),",
                )
                results.append(msgspec.Raw(text.encode()))
            if editor.change.history or editor.change.puts:
                writes.append(editor.finished())
                changed.append(editor)
            committed.append(PlanCommitted(part.plan_id, editor.row.revision, results))
        return committed, changed

    def _remember(
        self, writes: Writes, found: Snapshot, settled: DeliveryRow | None
    ) -> list[MemoryDone]:
        """Applies the operations on memories; Conflict if a passage that was read has changed."""
        plan_id = None if settled is None else settled.plan_id
        remembering = memories.Remembering(
            self._memories,
            found,
            self.cause,
            plan_id,
            self._limits,
            by_handler=self.is_by_handler,
            user_id=self.scope.user_id,
        )
        remembering.check_reads(self.commit.memory_reads)
        done = remembering.decide()
        writes += remembering.writes()
        if self._stored_event is not None and (
            row := self._stored_event.row(self._memories, done, plan_id, found)
        ):
            writes.append(row)
        return done

    def _live_on(self, writes: Writes, editor: PlanEditor, found: Snapshot) -> None:
        """Publishes what follows from a plan's end, and stores what was registered for it."""
        endings.publish_endings(writes, editor, self.scope, found, self._limits)
        for timer in editor.deadlines:
            if timed := set_timer(
                timer, self.scope, found, self._limits, incarnation=editor.row.incarnation
            ):
                writes.append(timed)
        if editor.change.compensations:
            sagas.register(editor.change, found, self._limits)
        endings.undo(writes, editor, self.scope, found)

    def _cancel(self, writes: Writes, found: Snapshot) -> list[str]:
        """Cancels the timers that the commit's `cancels` name and that wait; returns their ids."""
        cancelled, timers = [], found.part(KnownIds).timers
        for event_id in self.commit.cancels:
            waiting = timers.get(event_id)
            if waiting is None or waiting.scope != self.scope:
                continue
            cancelled.append(event_id)
            del timers[event_id]
            if waiting.id is None:
                writes.remove(waiting)
            else:
                writes.append(TimerGone(waiting.id))
        return cancelled

    def _check_scope(self, of_event: Scope | None) -> None:
        if of_event is None:
            raise _fenced()
        if of_event != self.scope:
            raise Forbidden(
                "a delivery is settled in the scope of its event's tenant and user only"
            )


def _fenced() -> Fenced:
    return Fenced(
        "this delivery was given to another agent (its lease had run out), or was settled before: "
        "nothing of this attempt was changed or published"
    )


def _named(event: Envelope, new_id: Callable[[], str]) -> Envelope:
    event.id = event.id or new_id()
    return event


def check_reads(commit: Commit, plans: dict[str, LoadedPlan], limits: Limits) -> None:
    """Raises Conflict unless the plans are as the commit has read them.

    Only live entries of the plans are given.
    """
    _editors(commit, plans, Moment(0, 0, 0), limits, NOBODY)


def _editors(
    commit: Commit,
    plans: dict[str, LoadedPlan],
    moment: Moment,
    limits: Limits,
    cause: Cause,
    group: int | None = None,
) -> list[tuple[PlanCommit, PlanEditor]]:
    """Returns the parts of a commit, each with an editor of its plan.

    Raises Conflict, which names all stale keys, unless everything is as it was read.
    """
    found, conflicts = [], []
    for part in commit.plans:
        editor = PlanEditor(
            plans[part.plan_id], moment=moment, limits=limits, cause=cause, group_id=group
        )
        found.append((part, editor))
        try:
            if part.reads or part.expected_revision is not None:
                editor.check_reads(part.reads, part.expected_revision)
            if part.expected_status is not None:
                editor.check_status(part.expected_status)
        except Conflict as conflict:
            conflicts.append(conflict)
    if conflicts:
        conflicts[0].details["stale"] = [
            key for one in conflicts for key in one.details.get("stale", ())
        ]
        raise conflicts[0]
    return found


class PurgePlan:
    """The purge of a plan that ended before an uptime; it does nothing if the plan lives again."""

    def __init__(self, scope: Scope, plan_id: str, before: int, *, limits: Limits) -> None:
        self.scope = scope
        self._plan_id = plan_id
        self._before = before
        self._limits = limits

    def needs(self) -> list[Need]:
        return [PlansNeed({self._plan_id: set()}, closing={self._plan_id})]

    def decide(self, found: Snapshot) -> Decision[None]:
        state = found.part(PlansFound).states[self._plan_id]
        editor = PlanEditor(state, moment=found.moment, limits=self._limits, cause=SOORMA)
        editor.purge(self._before)
        return Decision(None, [editor.finished()] if editor.change.history else [])


class SweepExpired:
    """The sweep of a plan, or of keys of it, whose time to live is over.

    It does nothing if they were given a new one meanwhile, or while the wall clock is not settled:
    it may have jumped since the sweep was requested.
    """

    def __init__(self, scope: Scope, plan_id: str, keys: set[str], *, limits: Limits) -> None:
        self.scope = scope
        self._plan_id = plan_id
        self._keys = keys
        self._limits = limits

    def needs(self) -> list[Need]:
        return [PlansNeed({self._plan_id: self._keys})]

    def decide(self, found: Snapshot) -> Decision[None]:
        if not found.moment.is_settled:
            return Decision(None)
        state = found.part(PlansFound).states[self._plan_id]
        editor = PlanEditor(state, moment=found.moment, limits=self._limits, cause=SOORMA)
        editor.sweep(self._keys)
        return Decision(None, [editor.finished()] if editor.change.history else [])
