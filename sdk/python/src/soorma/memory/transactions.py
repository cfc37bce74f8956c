"""Transactions: changes and events, buffered until they are committed together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from soorma.bus import PlatformOutbox, scope_of
from soorma.memory.collected import CollectedMemories
from soorma.memory.memories import PlatformMemories
from soorma.memory.plans import Applied, PlatformPlans, Stored
from soorma.memory.read_write_set import LOOKS, UNCOMMITTED, PlanView, Seen
from soorma_common.delivery import PlanSnapshot
from soorma_common.errors import Forbidden, HandlerEnded, InvalidRequest, NotFound
from soorma_common.events import Envelope, Event, Timer, encode_envelope
from soorma_common.limits import Limits
from soorma_common.memory import Action, Commit, PlanInfo
from soorma_common.names import Scope
from soorma_common.operations import (
    AnyKeyOperation,
    AnyOperation,
    Cleanup,
    Deadline,
    Fork,
    KeyOperation,
    Set,
)
from soorma_common.plan_rules import check_argument, late_fork, missing_plan

T = TypeVar("T", bound=datetime | None)
Isolation = Literal["reads", "writes"]
_OVERHEAD = 100
"""Bytes that an operation counts for in addition to its value."""


class Transaction:
    """The changes and events of one tenant and user, collected for one commit.

    As `Plans` and `Outbox` it stands in for the platform. Reads see its own changes and remember
    the revisions they saw; `commit()` returns the result.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        snapshot: PlanSnapshot | None,
        limits: Limits,
        isolation: Isolation,
        plans: PlatformPlans,
        memories: PlatformMemories,
        outbox: PlatformOutbox,
        agent_id: str | None = None,
    ) -> None:
        self.scope = scope
        self._snapshot = snapshot
        self._limits = limits
        self._isolation = isolation
        self._platform = plans
        self._outbox = outbox
        self._plans: dict[str, PlanView] = {}
        self._events: list[Envelope] = []
        self._timers: list[Timer] = []
        self._cancels: list[str] = []
        self._size = 0
        """bytes of the commit so far"""
        self._ended = False
        self.memories = CollectedMemories(
            memories, limits, self.check, self._check_may_change, agent_id
        )

    def end(self) -> None:
        """Ends the transaction; using it afterwards raises HandlerEnded."""
        self._ended = True

    def know(self, fresh: list[tuple[str, str, int, int, int | None, str | None]]) -> None:
        """Takes keys that came with a conflict: plan, key, revision, times in ms, JSON text."""
        for plan_id, key, revision, updated_at, expires_at, text in fresh:
            self._plan(plan_id).base[key] = Seen(text, revision, updated_at, expires_at)

    @property
    def is_empty(self) -> bool:
        """True if nothing was changed or published."""
        published = self._events or self._timers or self._cancels or self.memories.changes
        return not published and not any(plan.operations for plan in self._plans.values())

    def rely_on(self, plan_id: str, key: str, revision: int) -> None:
        """Makes the commit fail with Conflict unless the key is at this revision then."""
        self._plan(plan_id).reads[key] = revision

    def commit(self) -> Commit:
        """Returns the commit of everything collected."""
        views = [] if self.is_empty else self._plans.values()
        parts = [
            part for view in views if (part := view.part(all_reads=self._isolation == "reads"))
        ]
        memories = self.memories
        relied_on = {} if self.is_empty or self._isolation != "reads" else memories.reads
        return Commit(
            parts,
            self._events,
            timers=self._timers,
            cancels=self._cancels,
            memories=memories.operations,
            memory_reads=relied_on,
        )

    # as Plans

    @property
    def collects(self) -> bool:
        return True

    async def apply(
        self,
        scope: Scope,
        plan_id: str,
        operations: list[AnyOperation],
        expected_revision: int | None = None,
    ) -> Applied:
        self.check(scope)
        self._check_may_change()
        if expected_revision is not None:
            raise InvalidRequest(
                "the commit is checked against all that was read before it; expected_revision= is "
                "not needed"
            )
        view = self._plan(plan_id)
        asked: list[str] = []
        clears = looks = False
        for op in operations:
            check_argument(op, self._limits)
            if isinstance(op, KeyOperation):
                if _reads(op):
                    asked.append(op.key)
            elif isinstance(op, Cleanup):
                clears = True
            elif isinstance(op, Fork) and (view.operations or op is not operations[0]):
                raise late_fork(plan_id)
            else:
                looks = looks or isinstance(op, LOOKS)
        if asked:
            await self._fetch(view, asked)
        if clears:
            await self._fetch(view, [*await self._all_keys(view), *view.blind])
        if looks and not (view.is_status_known or view.is_status_own):
            view.learn(await self._row(plan_id))
        past = (
            await self._past(operations[0])
            if operations and isinstance(operations[0], Fork)
            else None
        )
        self.check(scope)
        before, size = view.saved() if len(operations) > 1 else None, self._size
        try:  # without an await, so that only this call is undone
            results: list[str | None] = [] if past is None else [view.begin(*past, self._limits)]
            results += [
                self._apply_one(view, self._arrival(op)) for op in operations[len(results) :]
            ]
        except BaseException:
            if before is not None:
                view.restore(before)  # all of them or none
                self._size = size
            raise
        return Applied(results, UNCOMMITTED, datetime.now(UTC))

    def _arrival(self, operation: AnyOperation) -> AnyOperation:
        """Names the arrival of a join that names none: in a handler, the event in hand."""
        return operation

    def _apply_one(self, view: PlanView, operation: AnyOperation) -> str | None:
        count = 1 + sum(len(plan.operations) for plan in self._plans.values())
        self._limits.check("commit_operations", count, "the number of the commit's operations")
        if not isinstance(operation, KeyOperation):
            return view.apply(operation, self._limits)
        void = view.superseded(operation.key) if isinstance(operation, Set) else []
        size = self._size_with(operation, void)
        answer = view.apply_to_key(operation, void, self._limits)
        self._size = size
        return answer

    async def _row(self, plan_id: str) -> PlanInfo | None:
        try:
            return await self._platform.plan(self.scope, plan_id)
        except NotFound:
            return None

    async def _past(self, fork: Fork) -> tuple[Fork, dict[str, str]]:
        """Returns the fork with its revision resolved, and the values it begins with."""
        source, revision = fork.plan_id, fork.revision
        if revision is None:
            if source in self._plans and self._plans[source].operations:
                raise InvalidRequest(
                    f"plan {source!r} has changes here that are not committed yet, and a fork "
                    "would not have them: fork it before, or name a revision"
                )
            revision = (await self._platform.plan(self.scope, source)).revision
        elif revision == 0 and await self._platform.revision(self.scope, source) == 0:
            raise missing_plan(source)
        return replace(fork, revision=revision), await self._platform.values_at(
            self.scope, source, revision
        )

    async def read(self, scope: Scope, plan_id: str, keys: list[str]) -> dict[str, Stored]:
        self.check(scope)
        view = self._plan(plan_id)
        await self._fetch(view, keys)
        self.check(scope)
        found = {}
        for key in keys:
            if (text := view.value(key)) is not None:
                seen = view.seen(key)
                found[key] = (
                    Stored(text, seen.revision, _moment(seen.updated_at), _moment(seen.expires_at))
                    if seen
                    else Stored(text, UNCOMMITTED, datetime.now(UTC))
                )
        return found

    async def keys(self, scope: Scope, plan_id: str, prefix: str) -> list[str]:
        self.check(scope)
        view = self._plan(plan_id)
        return view.names(await self._all_keys(view), prefix)

    async def plan(self, scope: Scope, plan_id: str) -> PlanInfo:
        """Returns the plan with the status that it has in the transaction.

        The commit then relies on the status that the plan had before.
        """
        self.check(scope)
        view = self._plan(plan_id)
        row = await self._row(plan_id)
        self.check(scope)
        view.learn(row)
        view.look()
        return view.told(row)

    async def actions(self, scope: Scope, plan_id: str) -> list[Action]:
        self.check(scope)
        view = self._plan(plan_id)
        found = [] if view.is_cleared else await self._platform.actions(scope, plan_id)
        following = found[-1].number + 1 if found else 1
        return found + [
            Action(number, name) for number, name in enumerate(view.own_actions(), following)
        ]

    # as Outbox

    async def send(self, events: list[Envelope]) -> None:
        self._check_may_change()
        for event in events:
            self._check_event(event)
        self._check_room(len(events))
        for event in events:
            self._size = self._size_with(event)
        self._events += events

    async def set_timer(self, timer: Timer) -> None:
        self._check_may_change()
        self._check_event(timer.event)
        self._check_room(1)
        self._size = self._size_with(timer.event)
        self._timers.append(timer)

    async def cancel_timer(self, scope: Scope, event_id: str) -> bool | None:
        """Cancels a timer; None if it is not of this attempt: only the commit knows the outcome."""
        self.check(scope)
        self._check_may_change()
        own = [timer for timer in self._timers if timer.event.id == event_id]
        if own:
            self._timers.remove(own[0])
            return True
        for plan in self._plans.values():
            for operation in plan.operations:
                if isinstance(operation, Deadline) and operation.timer.event.id == event_id:
                    plan.operations.remove(operation)
                    return True
        self._check_room(1)
        self._cancels.append(event_id)
        return None

    async def request(
        self,
        event: Envelope,
        response_of: Callable[[Envelope], Awaitable[Event]],  # noqa: ARG002 - never awaited
    ) -> Event:
        raise InvalidRequest(
            f"request {event.type!r} would be published at once and waited for, inside a "
            "transaction that is not committed yet: ask before it begins"
        )

    # inside

    def check(self, scope: Scope) -> None:
        """Raises HandlerEnded once it has ended, and Forbidden for another tenant or user."""
        if self._is_over:
            raise HandlerEnded(
                f"{self._what} has ended and cannot be used any more; await all that it starts "
                "before"
            )
        if scope != self.scope:  # on every call: the message is built only when needed
            check_confined(self._what, self.scope, scope)

    @property
    def _is_over(self) -> bool:
        return self._ended

    def _check_may_change(self) -> None:
        """Raises InvalidRequest if a change would be lost."""

    @property
    def _what(self) -> str:
        return "this transaction"

    def _plan(self, plan_id: str) -> PlanView:
        if plan_id not in self._plans:
            snapshot = (
                self._snapshot if self._snapshot and self._snapshot.plan_id == plan_id else None
            )
            self._plans[plan_id] = PlanView(plan_id, snapshot)
        return self._plans[plan_id]

    async def _fetch(self, view: PlanView, keys: list[str]) -> None:
        unknown = [key for key in keys if not view.knows(key)]
        if not unknown:
            return
        found = await self._platform.read(self.scope, view.plan_id, unknown)
        missing = Seen(None, 0, datetime.now(UTC))
        for key in unknown:
            stored = found.get(key)
            seen = (
                Seen(stored.text, stored.revision, stored.updated_at, stored.expires_at)
                if stored
                else missing
            )
            # the first read counts, whatever else was read meanwhile
            view.base.setdefault(key, seen)

    async def _all_keys(self, view: PlanView) -> list[str]:
        if view.is_cleared:
            return []
        if view.is_complete:
            return [key for key, seen in view.base.items() if seen.text is not None]
        return await self._platform.keys(self.scope, view.plan_id, "")

    def _check_event(self, event: Envelope) -> None:
        self.check(scope_of(event))
        self._limits.check(
            "event_bytes", len(encode_envelope(event).encode()), "event {!r}, in bytes,", event.type
        )

    def _check_room(self, more: int) -> None:
        count = len(self._events) + len(self._timers) + len(self._cancels) + more
        self._limits.check("commit_events", count, "the number of the commit's events")

    def _size_with(self, more: Any, void: Iterable[Any] = ()) -> int:
        """Returns the commit's bytes with `more` and without `void`; LimitExceeded if too many."""
        size = self._size + _weight(more) - sum(map(_weight, void))
        self._limits.check(
            "commit_bytes", size, "the transaction's operations and events, in bytes,"
        )
        return size


def check_confined(what: str, own: Scope, other: Scope) -> None:
    """Raises Forbidden if `other` is not the tenant and user that `what` works for."""
    if other != own:
        raise Forbidden(
            f"{what} works for tenant {own.tenant_id!r} and user {own.user_id!r}, "
            f"and not for tenant {other.tenant_id!r} and user {other.user_id!r}"
        )


def _moment(time: T | int) -> T | datetime:
    return datetime.fromtimestamp(time / 1000, UTC) if isinstance(time, int) else time


def _weight(sent: Any) -> int:
    """Estimates the bytes of an operation or event in a commit, mostly those of its value."""
    value = getattr(sent, "data" if isinstance(sent, Envelope) else "value", None)
    if isinstance(value, msgspec.Raw):
        return _OVERHEAD + len(bytes(value))
    return _OVERHEAD + len(msgspec.json.encode(sent))


def _reads(operation: AnyKeyOperation) -> bool:
    """True if the operation reveals something of the key's value to the handler."""
    if operation.expected_revision is not None:
        return True
    return not isinstance(operation, Set) and not operation.blind
