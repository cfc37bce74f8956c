"""A handler's transaction: what it changes and publishes, kept until it returns, then committed as one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeVar
from uuid import UUID, uuid5

import msgspec
from msgspec.structs import replace

from soorma.bus import PlatformOutbox, trace_of
from soorma.life import LOOKS, Life, may_apply, own_status, told
from soorma.memory.plans import Applied, PlatformPlans, Stored
from soorma_common.delivery import PlanSnapshot
from soorma_common.errors import Conflict, Forbidden, HandlerEnded, InvalidRequest, NotFound
from soorma_common.events import Envelope, Event, Timer, encode_envelope
from soorma_common.limits import Limits
from soorma_common.memory import Commit, PlanCommit
from soorma_common.names import Scope
from soorma_common.operations import (
    AnyKeyOperation,
    AnyOperation,
    Append,
    Cleanup,
    Compensate,
    Deadline,
    Ending,
    Extend,
    Fork,
    Join,
    KeyOperation,
    Merge,
    PlaceOperation,
    RecordAction,
    Set,
    apply,
    result,
)
from soorma_common.values import encode

T = TypeVar("T", bound=datetime | None)
Isolation = Literal["reads", "writes"]
_OVERHEAD = 100
"""Bytes that an operation counts for beside its value."""
UNCOMMITTED = 0
"""The revision of what the handler has changed and not committed yet."""

in_step: ContextVar[str | None] = ContextVar("soorma_in_step", default=None)
"""The step whose function this code belongs to, be it in a thread."""

_REQUESTS = UUID("0f2b7c1e-3a55-4f0e-8d39-6c8c2f1d7b40")


class _Seen(NamedTuple):
    """What the platform held when it was read: None and 0 where the key was missing.

    Times that came with the event are in milliseconds until somebody asks for them: most handlers do not.
    """

    text: str | None
    revision: int
    updated_at: datetime | int
    expires_at: datetime | int | None = None


class _Plan:
    """The handler's view of one plan: what it has seen of it, and what it would change."""

    def __init__(self, snapshot: PlanSnapshot | None) -> None:
        self.base: dict[str, _Seen] = {}
        self.complete = snapshot is not None
        self.changed: dict[str, str | None] = {}
        self.blind: dict[str, list[AnyKeyOperation]] = {}
        self.operations: list[AnyOperation] = []
        self.reads: dict[str, int] = {}
        self.cleared = False
        self.life = Life(snapshot.status if snapshot is not None else None)
        texts: list[bytes] = []
        for key, entry in (snapshot.entries if snapshot else {}).items():
            texts.append(text := bytes(entry.value))
            self.base[key] = _Seen(text.decode(), entry.revision, entry.updated_at, entry.expires_at)
        self.keys = len(self.base)
        self.size = sum(map(_bytes, self.base)) + sum(map(len, texts))

    def saved(self) -> dict[str, Any]:
        """The view as it is now, for `restore`."""
        state = dict(self.__dict__)
        for name in ("base", "changed", "operations", "reads"):
            state[name] = state[name].copy()
        state["blind"] = {key: list(pending) for key, pending in self.blind.items()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to what was saved, in place: other tasks of the handler hold this view while they read."""
        self.__dict__.update(state)

    def put(self, key: str, text: str | None) -> None:
        """The key's text from now on, None: missing."""
        self.keys, self.size = self.totals_with(key, text)
        self.changed[key] = text

    def totals_with(self, key: str, text: str | None) -> tuple[int, int]:
        """Count of keys and size in bytes if the key had that text."""
        seen = None if self.cleared else self.base.get(key)
        old = self.changed.get(key, seen.text if seen else None)
        keys, size = self.keys, self.size
        if old is not None:
            keys, size = keys - 1, size - _bytes(key) - _bytes(old)
        if text is not None:
            keys, size = keys + 1, size + _bytes(key) + _bytes(text)
        return keys, size

    def superseded(self, key: str) -> list[AnyOperation]:
        """What an earlier `set` gave the key, and was done to that since: another `set` makes it void.

        So a handler that writes a growing draft again and again commits the last, and sends no more than that.
        """
        if key not in self.changed:
            return []
        for place in range(len(self.operations) - 1, -1, -1):
            operation = self.operations[place]
            if isinstance(operation, Set) and operation.key == key:
                return [one for one in self.operations[place:] if isinstance(one, KeyOperation) and one.key == key]
            if not isinstance(operation, KeyOperation | RecordAction):
                return []  # what came before that may matter to it
        return []

    def append(self, operation: AnyOperation, void: list[AnyOperation]) -> None:
        """Adds an operation, and takes out those that it makes void."""
        if void:
            self.operations = [one for one in self.operations if not any(one is other for other in void)]
        self.operations.append(operation)

    def clear(self) -> None:
        """Nothing is there any more."""
        self.changed.clear()
        self.blind.clear()
        self.cleared = True
        self.keys = self.size = 0

    @property
    def totals_known(self) -> bool:
        """Whether `keys` and `size` (bytes) are those of the whole plan."""
        return self.complete or self.cleared

    def knows(self, key: str) -> bool:
        """Whether the key's value can be told without asking the platform."""
        return key in self.changed or self.cleared or self.complete or key in self.base

    def join(self, join: Join) -> str | None:
        """The result of a join, as it seems now. What was read for it is not noted: the commit checks the result."""
        seen = None if self.cleared else self.base.get(join.key)
        text = seen.text if seen else None
        for operation in self.blind.setdefault(join.key, []):
            text = apply(operation, text)
        answer = result(join, text, apply(join, text))
        join.assumed = answer == "true"
        self.blind[join.key].append(join)
        return answer

    def value(self, key: str) -> str | None:
        """The key's text as the handler sees it; notes that it was read. Only for keys that are known."""
        if key in self.changed:
            return self.changed[key]
        if self.cleared:
            text = None
        else:
            seen = self.base.get(key)
            text = seen.text if seen else None
            self.reads[key] = seen.revision if seen else 0
        for operation in self.blind.pop(key, ()):
            text = apply(operation, text)
            self.put(key, text)
        return text


class Transaction:
    """Collects changes and events of one tenant and user. As `Plans` and `Outbox` it stands in for the platform.

    Reads see its own changes and remember the revisions they saw; `commit()` is what it comes to.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        snapshot: PlanSnapshot | None,
        limits: Limits,
        isolation: Isolation,
        plans: PlatformPlans,
        outbox: PlatformOutbox,
    ) -> None:
        self.scope = scope
        self._snapshot = snapshot
        self._limits = limits
        self._isolation = isolation
        self._platform = plans
        self._outbox = outbox
        self._plans: dict[str, _Plan] = {}
        self._events: list[Envelope] = []
        self._timers: list[Timer] = []
        self._cancels: list[str] = []
        self._size = 0
        """bytes of the commit so far"""
        self._ended = False

    def end(self) -> None:
        """It is over, and must not be used any more."""
        self._ended = True

    def know(self, fresh: list[tuple[str, str, int, int, int | None, str | None]]) -> None:
        """Takes keys as they came with a conflict: plan, key, revision, times in ms, JSON text."""
        for plan_id, key, revision, updated_at, expires_at, text in fresh:
            self._plan(plan_id).base[key] = _Seen(text, revision, updated_at, expires_at)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was changed or published."""
        published = self._events or self._timers or self._cancels
        return not published and not any(plan.operations for plan in self._plans.values())

    def rely_on(self, plan_id: str, key: str, revision: int) -> None:
        """The commit is to be refused unless the key is at this revision then."""
        self._plan(plan_id).reads[key] = revision

    def commit(self) -> Commit:
        """The commit that it comes to."""
        parts = []
        if not self.is_empty:
            for plan_id, plan in self._plans.items():
                reads = plan.reads
                if self._isolation == "writes":
                    written = {op.key for op in plan.operations if isinstance(op, KeyOperation)}
                    reads = {key: revision for key, revision in reads.items() if key in written}
                status = plan.life.seen
                if self._isolation == "writes" and not any(isinstance(op, LOOKS) for op in plan.operations):
                    status = None
                if plan.operations or reads or status:
                    parts.append(PlanCommit(plan_id, plan.operations, reads, expected_status=status))
        return Commit(parts, self._events, timers=self._timers, cancels=self._cancels)

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
                "the commit is checked against all that was read before it; expected_revision= is not needed"
            )
        plan = self._plan(plan_id)
        asked: list[str] = []
        clears = looks = False
        for op in operations:
            if isinstance(op, KeyOperation):
                if _reads(op):
                    asked.append(op.key)
            elif isinstance(op, Cleanup):
                clears = True
            else:
                looks = looks or isinstance(op, LOOKS)
        if asked:
            await self._fetch(plan_id, plan, asked)
        if clears:
            await self._fetch(plan_id, plan, [*await self._all_keys(plan_id, plan), *plan.blind])
        if looks:
            await self._learn_life(plan_id, plan)
        pasts = [await self._past(op) for op in operations[:1] if isinstance(op, Fork)]
        self.check(scope)
        before, size = plan.saved() if len(operations) > 1 else None, self._size
        try:  # without an await: what is undone is of this call alone
            results: list[str | None] = [self._begin(plan, past) for past in pasts]
            results += [self._apply_one(plan_id, plan, self._arrival(op)) for op in operations[len(pasts) :]]
        except BaseException:
            if before is not None:
                plan.restore(before)  # all of them or none
                self._size = size
            raise
        return Applied(results, UNCOMMITTED, datetime.now(UTC))

    def _arrival(self, operation: AnyOperation) -> AnyOperation:
        """Who arrives at a join where nobody is named: in a handler, the event in hand."""
        return operation

    def _apply_one(self, plan_id: str, plan: _Plan, operation: AnyOperation) -> str | None:
        self._check_limits(operation)
        match operation:
            case KeyOperation():
                return self._apply_to_key(plan_id, plan, operation)
            case Cleanup():
                count = sum(plan.value(key) is not None for key in {*plan.base, *plan.changed, *plan.blind})
                plan.clear()
                plan.operations.append(operation)
                return str(count)
            case PlaceOperation(key=key):
                raise InvalidRequest(f"the place at {key!r} would be seen after the commit only: take it outside of it")
            case Ending():
                if not may_apply(plan_id, plan.operations, plan.life, operation):
                    return "false"
                plan.operations.append(operation)
                return "true"
            case Deadline() | Compensate():
                may_apply(plan_id, plan.operations, plan.life, operation)
            case Fork(plan_id=source):
                raise InvalidRequest(
                    f"plan {plan_id!r} begins with its fork of {source!r}: no operation goes before that"
                )
        plan.operations.append(operation)
        return None

    async def _learn_life(self, plan_id: str, plan: _Plan) -> None:
        """Learns how far the plan's life has come, unless that is known or its own operations say it."""
        if plan.life.known is None and own_status(plan.operations) is None:
            plan.life.learn(await self._row(plan_id))

    async def _row(self, plan_id: str) -> dict[str, Any] | None:
        try:
            return await self._platform.plan(self.scope, plan_id)
        except NotFound:
            return None

    async def _past(self, fork: Fork) -> tuple[Fork, dict[str, str]]:
        """A fork of just one revision, and what it begins with."""
        source, revision = fork.plan_id, fork.revision
        if revision is None:
            if source in self._plans and self._plans[source].operations:
                raise InvalidRequest(
                    f"plan {source!r} has changes here that are not committed yet, and a fork would not have them: "
                    "fork it before, or name a revision"
                )
            revision = await self._platform.revision(self.scope, source)
        return replace(fork, revision=revision), await self._platform.values_at(self.scope, source, revision)

    def _begin(self, plan: _Plan, past: tuple[Fork, dict[str, str]]) -> str:
        """The plan is a fork from now on; whether it may be one is checked at the commit."""
        fork, values = past
        if plan.operations:
            raise InvalidRequest(f"a plan begins with its fork of {fork.plan_id!r}: no operation goes before that")
        self._check_limits(fork)
        plan.clear()
        for key, text in values.items():
            plan.put(key, text)
        plan.operations.append(fork)
        return str(fork.revision)

    def _apply_to_key(self, plan_id: str, plan: _Plan, operation: AnyKeyOperation) -> str | None:
        key = operation.key
        if operation.expected_revision is not None:
            self._check_revision(plan_id, plan, operation)
        void = plan.superseded(key) if isinstance(operation, Set) else []
        size = self._size_with(operation, void)
        if isinstance(operation, Set):
            after = apply(operation, None)
            self._check_plan(plan, key, after)
            plan.blind.pop(key, None)
            plan.put(key, after)
            answer = None
        elif operation.blind and key not in plan.changed:
            plan.blind.setdefault(key, []).append(operation)
            answer = None
        elif isinstance(operation, Join) and key not in plan.changed and key not in plan.reads:
            answer = plan.join(operation)
        else:
            before = plan.value(key)
            after = apply(operation, before)
            self._check_size(key, _bytes(after))
            self._check_plan(plan, key, after)
            plan.put(key, after)
            answer = None if operation.blind else result(operation, before, after)
        plan.append(operation, void)
        self._size = size
        return answer

    @staticmethod
    def _check_revision(plan_id: str, plan: _Plan, operation: AnyKeyOperation) -> None:
        seen = plan.base.get(operation.key)
        plan.reads[operation.key] = current = seen.revision if seen and not plan.cleared else 0
        if current != operation.expected_revision:
            raise Conflict(
                f"key {operation.key!r} of plan {plan_id!r} is at revision {current}, "
                f"not {operation.expected_revision}",
                plan_id=plan_id,
                key=operation.key,
                expected_revision=operation.expected_revision,
                current_revision=current,
            )
        operation.expected_revision = None  # what was read is checked at the commit

    async def read(self, scope: Scope, plan_id: str, keys: list[str]) -> dict[str, Stored]:
        self.check(scope)
        plan = self._plan(plan_id)
        await self._fetch(plan_id, plan, keys)
        self.check(scope)
        found = {}
        for key in keys:
            if (text := plan.value(key)) is not None:
                seen = None if key in plan.changed else plan.base.get(key)
                found[key] = (
                    Stored(text, seen.revision, _moment(seen.updated_at), _moment(seen.expires_at))
                    if seen
                    else Stored(text, UNCOMMITTED, datetime.now(UTC))
                )
        return found

    async def keys(self, scope: Scope, plan_id: str, prefix: str) -> list[str]:
        self.check(scope)
        plan = self._plan(plan_id)
        names = {key for key in await self._all_keys(plan_id, plan) if key.startswith(prefix)}
        for key, text in plan.changed.items():
            if text is None:
                names.discard(key)
            elif key.startswith(prefix):
                names.add(key)
        names.update(key for key in plan.blind if key.startswith(prefix))
        return sorted(names)

    async def plan(self, scope: Scope, plan_id: str) -> dict[str, Any]:
        """Returns the plan, with the status that the transaction gives it; the commit relies on the one it had."""
        self.check(scope)
        plan = self._plan(plan_id)
        row = await self._row(plan_id)
        self.check(scope)
        if own_status(plan.operations) is None:
            plan.life.learn(row)
            plan.life.look()
        return told(plan_id, row, plan.operations)

    async def actions(self, scope: Scope, plan_id: str) -> list[dict[str, Any]]:
        self.check(scope)
        plan = self._plan(plan_id)
        rows = [] if plan.cleared else await self._platform.actions(scope, plan_id)
        since = max((i for i, op in enumerate(plan.operations) if isinstance(op, Cleanup)), default=-1)
        pending = [op.name for op in plan.operations[since + 1 :] if isinstance(op, RecordAction)]
        number = rows[-1]["number"] if rows else 0
        return rows + [{"number": number + i, "name": name} for i, name in enumerate(pending, 1)]

    # as Outbox

    async def send(self, events: list[Envelope]) -> None:
        self._check_may_change()
        for event in events:
            self.check(_scope_of(event))
            self._limits.check("event_bytes", len(encode_envelope(event).encode()), "event {!r}, in bytes,", event.type)
        self._limits.check("commit_events", len(self._events) + len(events), "the number of the transaction's events")
        for event in events:
            self._size = self._size_with(event)
        self._events += events

    async def set_timer(self, timer: Timer) -> None:
        self._check_may_change()
        event = timer.event
        self.check(_scope_of(event))
        self._limits.check("event_bytes", len(encode_envelope(event).encode()), "event {!r}, in bytes,", event.type)
        self._size = self._size_with(event)
        self._timers.append(timer)

    async def cancel_timer(self, scope: Scope, event_id: str) -> bool | None:
        """Takes a timer back; None where it is not one of this attempt: then nobody knows before the commit."""
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
        self._cancels.append(event_id)
        return None

    async def request(
        self,
        event: Envelope,
        response_of: Callable[[Envelope], Awaitable[Event]],  # noqa: ARG002 - nobody asks
    ) -> Event:
        raise InvalidRequest(
            f"request {event.type!r} would be published at once and waited for, inside a transaction that is not "
            "committed yet: ask before it begins"
        )

    # inside

    def check(self, scope: Scope) -> None:
        """Raises HandlerEnded once it is over, and Forbidden for a tenant or user other than its own."""
        if self._is_over:
            raise HandlerEnded(f"{self._what} has ended and cannot be used any more; await all that it starts before")
        if scope != self.scope:  # each call comes here: the sentence is made where there is something to say
            check_confined(self._what, self.scope, scope)

    @property
    def _is_over(self) -> bool:
        return self._ended

    def _check_may_change(self) -> None:
        """Raises InvalidRequest where what is changed would be lost."""

    @property
    def _what(self) -> str:
        return "this transaction"

    def _plan(self, plan_id: str) -> _Plan:
        if plan_id not in self._plans:
            snapshot = self._snapshot if self._snapshot and self._snapshot.plan_id == plan_id else None
            self._plans[plan_id] = _Plan(snapshot)
        return self._plans[plan_id]

    async def _fetch(self, plan_id: str, plan: _Plan, keys: list[str]) -> None:
        unknown = [key for key in keys if not plan.knows(key)]
        if not unknown:
            return
        found = await self._platform.read(self.scope, plan_id, unknown)
        missing = _Seen(None, 0, datetime.now(UTC))
        for key in unknown:
            stored = found.get(key)
            seen = _Seen(stored.text, stored.revision, stored.updated_at, stored.expires_at) if stored else missing
            plan.base.setdefault(key, seen)  # what was seen first stays, whatever else was read meanwhile

    async def _all_keys(self, plan_id: str, plan: _Plan) -> list[str]:
        if plan.cleared:
            return []
        if plan.complete:
            return [key for key, seen in plan.base.items() if seen.text is not None]
        return await self._platform.keys(self.scope, plan_id, "")

    def _size_with(self, more: Any, void: Iterable[Any] = ()) -> int:
        """Bytes of the commit with one more operation or event, without some; LimitExceeded where that is too much."""
        size = self._size + _weight(more) - sum(map(_weight, void))
        self._limits.check("commit_bytes", size, "the transaction's operations and events, in bytes,")
        return size

    def _check_limits(self, operation: AnyOperation) -> None:
        count = 1 + sum(len(plan.operations) for plan in self._plans.values())
        self._limits.check("commit_operations", count, "the number of the transaction's operations")
        match operation:
            case Set(key=key, value=value) | Append(key=key, value=value):
                self._check_size(key, len(bytes(value)))
            case Extend(key=key, value=value) | Merge(key=key, value=value):
                self._check_size(key, len(bytes(value)))

    def _check_plan(self, plan: _Plan, key: str, text: str | None) -> None:
        if text is None or not plan.totals_known:
            return  # what is not known here is checked at the commit
        keys, size = plan.totals_with(key, text)
        self._limits.check("plan_keys", keys, "the number of the plan's keys")
        self._limits.check("plan_bytes", size, "the plan's size in bytes")

    def _check_size(self, key: str, size: int) -> None:
        self._limits.check("value_bytes", size, "the value of {!r}, in bytes,", key)


class Results(Protocol):
    """The recorded results of a delivery's steps, as JSON text."""

    def find(self, name: str, occurrence: int) -> str | None:
        """The recorded one, None if there is none."""
        ...

    async def keep(self, name: str, occurrence: int, text: str) -> str:
        """Records one and returns it; it is durable then."""
        ...


class HandlerTransaction(Transaction):
    """One attempt of a handler, in the scope of its event: its commit answers the delivery."""

    def __init__(self, event: Event, fence: str, group: str, results: Results, **how: Any) -> None:
        super().__init__(Scope(event["tenant_id"], event["user_id"]), **how)
        self._results = results
        self._event = event
        self._fence = fence
        self._group = group
        self._asked: Counter[str] = Counter()
        self._has_returned = False

    def commit(self) -> Commit:
        """The commit that the attempt comes to, with the answer to its delivery."""
        return replace(super().commit(), fence=self._fence)

    async def request(self, event: Envelope, response_of: Callable[[Envelope], Awaitable[Event]]) -> Event:
        """Asks in a step of the handler, under an id that is derived from the delivery and the question.

        So tasks that ask side by side each get their own response, in whatever order they ask in a later attempt.
        """
        self.check(_scope_of(event))
        event.trace_id = self._event.trace_id or trace_of(str(self._event.id))
        event.id = event.correlation_id = ""
        content = hashlib.blake2b(encode_envelope(event).encode(), digest_size=16).hexdigest()
        content += in_step.get() or ""  # the function of a step asks again in each try, and is not run again later
        self._asked[content] += 1
        name = f"{self._group}\0{self._event.id}\0{self._asked[content]}\0{content}"
        event.id = event.correlation_id = str(uuid5(_REQUESTS, name))
        step = f"request {event.id}"
        text = self._results.find(step, 1)
        if text is None:
            response = await self._outbox.request(event, response_of)
            self.check(self.scope)
            text = await self._results.keep(step, 1, encode(dict(response)))
        return Event.from_json(text)

    def returned(self) -> None:
        """The handler has returned or failed: from now on only what a step's function does goes on, until `end`."""
        self._has_returned = True

    @property
    def _is_over(self) -> bool:
        return self._ended or (self._has_returned and in_step.get() is None)

    def _check_may_change(self) -> None:
        if (step := in_step.get()) is not None:
            raise InvalidRequest(
                f"step {step!r}: a step's function changes nothing through the handler's context, because "
                "a later attempt gets its result without running it; do it after the step, with what the step has "
                "returned, or at once, through context.immediate"
            )

    def _arrival(self, operation: AnyOperation) -> AnyOperation:
        if isinstance(operation, Join) and not operation.arrival:
            return replace(operation, arrival=str(self._event.id))
        return operation

    @property
    def _what(self) -> str:
        return f"the handler of event {self._event.get('type')!r}, with its context,"


def _scope_of(event: Envelope) -> Scope:
    return Scope(str(event.tenant_id), str(event.user_id))


def check_confined(what: str, own: Scope, other: Scope) -> None:
    """Raises Forbidden where something names another tenant or user than those it works for."""
    if other != own:
        raise Forbidden(
            f"{what} works for tenant {own.tenant_id!r} and user {own.user_id!r}, "
            f"and not for tenant {other.tenant_id!r} and user {other.user_id!r}"
        )


def _moment(time: T | int) -> T | datetime:
    return datetime.fromtimestamp(time / 1000, UTC) if isinstance(time, int) else time


def _bytes(text: str | None) -> int:
    return 0 if text is None else len(text) if text.isascii() else len(text.encode())


def _weight(sent: Any) -> int:
    """Bytes that an operation or event takes in a commit, near enough: those of its values, which may be large."""
    value = getattr(sent, "data" if isinstance(sent, Envelope) else "value", None)
    if isinstance(value, msgspec.Raw):
        return _OVERHEAD + len(bytes(value))
    return _OVERHEAD + len(msgspec.json.encode(sent))


def _reads(operation: AnyKeyOperation) -> bool:
    """Whether the handler learns something of the key's value by it."""
    if operation.expected_revision is not None:
        return True
    return not isinstance(operation, Set) and not operation.blind
