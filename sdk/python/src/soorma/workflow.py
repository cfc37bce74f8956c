"""WorkflowState: the shared state of one plan, as agent authors use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, overload
from uuid import uuid4

import msgspec

from soorma.awaits import awaited
from soorma.bus import timer_of
from soorma.callables import call, check_callable
from soorma.memory.client import MemoryClient
from soorma.memory.client_transactions import PlanTransaction
from soorma.memory.endings import cancellation, completion, failure
from soorma.memory.history import MISSING, Difference, StateAt, check_revision, difference
from soorma.memory.locks import Hold, take
from soorma.memory.models import PlanState
from soorma.memory.plan import BoundPlan, check_ttl, raw
from soorma.transport.pauses import Backoff
from soorma_common.errors import Conflict, HistoryGone, InvalidRequest, KeyMissing, TimedOut
from soorma_common.events import Envelope, check_envelope
from soorma_common.json_text import decode
from soorma_common.memory import Action, Change, PlanInfo
from soorma_common.names import check_name
from soorma_common.operations import (
    Append,
    Cleanup,
    Compensate,
    Deadline,
    Delete,
    ExpirePlan,
    Extend,
    Fork,
    Increment,
    Join,
    Merge,
    RecordAction,
    Set,
)
from soorma_common.procedural import KINDS
from soorma_common.times import LONGEST_TIMEOUT, check_timeout
from soorma_common.topics import Topic, TopicLike, check_topic
from soorma_common.values import convert, encode

if TYPE_CHECKING:
    from typing_extensions import TypeForm

TRANSACT_SECONDS = 30.0
"""Seconds for which `transact` reruns work.

This is a bound for work that can never be committed; contention alone does not reach it.
"""
FIRST_WAIT, LONGEST_WAIT = 0.01, 0.5
"""The longest waits of `transact` (seconds), after the first conflict and after any.

They double with each conflict.
"""
PromotedTo: TypeAlias = Literal["knowledge", "skill", "prompt", "rule"]
T = TypeVar("T")
D = TypeVar("D")
_ANYTHING = object()


@awaited
class WorkflowState:
    """The state of one plan, shared by all agents that work on it.

    In a handler, make it on `context.memory`: its changes are committed with the handler or not at
    all, and tenant and user are those of the event in hand. Elsewhere each call is durable when it
    returns. Values are JSON; pydantic models and dataclasses are accepted too, and `get(…,
    type=Model)` returns one.
    """

    def __init__(
        self,
        memory: MemoryClient,
        plan_id: str | None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> None:
        scope = memory.scope(tenant_id, user_id)
        self.memory = memory
        self.plan_id = check_name("plan_id", plan_id)
        self._scope = scope

    @property
    def tenant_id(self) -> str:
        """The tenant of the plan; the default one if a key decides."""
        return str(self._scope.tenant_id)

    @tenant_id.setter
    def tenant_id(self, tenant_id: str) -> None:
        self._scope = self.memory.scope(tenant_id, self._scope.user_id)

    @property
    def user_id(self) -> str:
        """The user of the plan; the default one if a key decides."""
        return str(self._scope.user_id)

    @user_id.setter
    def user_id(self, user_id: str) -> None:
        self._scope = self.memory.scope(self._scope.tenant_id, user_id)

    @property
    def _plan(self) -> BoundPlan:
        # not kept: an author may change these
        return self.memory.plan(self.plan_id, self._scope.tenant_id, self._scope.user_id)

    def __repr__(self) -> str:
        kind = " in a handler or transaction" if self.memory.collects else ""
        return (
            f"WorkflowState({self.plan_id!r}, tenant_id={self.tenant_id!r}, "
            f"user_id={self.user_id!r}){kind}"
        )

    async def set(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Sets a key, for `ttl` seconds if given; without, an earlier time to live ends."""
        await self._apply(Set(key=_key(key), value=raw(encode(value)), ttl=check_ttl(ttl)))

    @overload
    async def get(self, key: str, default: Any = None, *, type: None = None) -> Any: ...
    @overload
    async def get(self, key: str, default: None = None, *, type: TypeForm[T]) -> T | None: ...
    @overload
    async def get(self, key: str, default: D, *, type: TypeForm[T]) -> T | D: ...
    async def get(
        self,
        key: str,
        default: Any = None,
        *,
        type: Any = None,  # noqa: A002 - reads best so
    ) -> Any:
        """The value of a key; `default` only if the key is missing: a stored null is None.

        With `type`, an instance of that pydantic model, dataclass or type; InvalidValue if the
        value does not fit it.
        """
        try:
            value = await self._plan.value(key)
        except KeyMissing:
            return default
        return value if type is None else convert(value, type)

    async def promote(self, key: str, *, to: PromotedTo = "knowledge", **how: Any) -> str:
        """Stores the value of a key where it outlives the plan; returns the id of what it becomes.

        That is a passage, or a version of a skill, prompt or rule, whose name is that of the key
        unless `name` is given. A text is stored as it is, any other value as JSON text. `how` are
        arguments of `store_knowledge` or `store_procedure`; it comes from this plan. In a handler
        it is stored with the commit, which fails if the key has changed meanwhile, and a version is
        a proposal. Raises KeyMissing if there is no such key.
        """
        if to not in ("knowledge", *KINDS):
            raise InvalidRequest(
                f"a value is promoted to 'knowledge', or to {', '.join(map(repr, KINDS))}, not to "
                f"{to!r:.40}"
            )
        value = await self._plan.value(key)
        text = value if isinstance(value, str) else encode(value)
        of: dict[str, Any] = {
            "plan_id": self.plan_id,
            "tenant_id": self._scope.tenant_id,
            "user_id": self._scope.user_id,
        }
        if to == "knowledge":
            return await self.memory.store_knowledge(text, **{"outlives_plan": True, **of, **how})
        name = how.pop("name", key)
        return (await self.memory.store_procedure(name, text, kind=to, **of, **how)).id

    async def get_entry(self, key: str) -> PlanState:
        """The key with its value, revision and times; KeyMissing if there is none."""
        return await self._plan.entry(key)

    async def has(self, key: str) -> bool:
        """True if the key exists, even with the value null."""
        return bool(await self.get_many([key]))

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of the keys that exist, read together."""
        found = await self._plan.entries(keys)
        return {key: entry.value for key, entry in found.items()}

    async def keys(self, prefix: str = "") -> list[str]:
        """All keys that begin with `prefix`, in order."""
        return await self._plan.keys(prefix)

    async def delete(self, key: str) -> bool:
        """Removes a key; returns True if there was one."""
        return bool(await self._apply(Delete(key=_key(key))))

    @overload
    async def increment(self, key: str, by: int = 1, *, blind: Literal[False] = False) -> int: ...
    @overload
    async def increment(self, key: str, by: float, *, blind: Literal[False] = False) -> float: ...
    @overload
    async def increment(self, key: str, by: float = 1, *, blind: Literal[True]) -> None: ...
    @overload
    async def increment(self, key: str, by: float = 1, *, blind: bool) -> int | float | None: ...
    async def increment(self, key: str, by: float = 1, *, blind: bool = False) -> Any:
        """Adds to a number (missing: 0) and returns the new one; WrongType if it is no number.

        `blind=True` returns nothing and reads nothing, so that concurrent handlers do not conflict
        over the key.
        """
        if isinstance(by, bool) or not isinstance(by, int | float):
            raise InvalidRequest(f"increment adds a number, not {by!r}")
        encode(by)
        return await self._apply(Increment(key=_key(key), by=by, blind=blind))

    @overload
    async def append(self, key: str, value: Any, *, blind: Literal[False] = False) -> list[Any]: ...
    @overload
    async def append(self, key: str, value: Any, *, blind: Literal[True]) -> None: ...
    @overload
    async def append(self, key: str, value: Any, *, blind: bool) -> list[Any] | None: ...
    async def append(self, key: str, value: Any, *, blind: bool = False) -> Any:
        """Appends an item to a list (missing: []) and returns the new list.

        Raises WrongType if the value is no list.
        """
        return await self._apply(Append(key=_key(key), value=raw(encode(value)), blind=blind))

    @overload
    async def extend(
        self, key: str, values: Iterable[Any], *, blind: Literal[False] = False
    ) -> list[Any]: ...
    @overload
    async def extend(self, key: str, values: Iterable[Any], *, blind: Literal[True]) -> None: ...
    @overload
    async def extend(self, key: str, values: Iterable[Any], *, blind: bool) -> list[Any] | None: ...
    async def extend(self, key: str, values: Iterable[Any], *, blind: bool = False) -> Any:
        """Appends items to a list (missing: []) and returns the new list.

        Raises WrongType if the value is no list.
        """
        return await self._apply(
            Extend(key=_key(key), value=raw(encode(list(values))), blind=blind)
        )

    @overload
    async def update_dict(
        self, key: str, fields: Mapping[str, Any], *, blind: Literal[False] = False
    ) -> dict[str, Any]: ...
    @overload
    async def update_dict(
        self, key: str, fields: Mapping[str, Any], *, blind: Literal[True]
    ) -> None: ...
    @overload
    async def update_dict(
        self, key: str, fields: Mapping[str, Any], *, blind: bool
    ) -> dict[str, Any] | None: ...
    async def update_dict(self, key: str, fields: Mapping[str, Any], *, blind: bool = False) -> Any:
        """Sets fields of an object (missing: {}), nulls too, and returns the new object.

        Raises WrongType if the value is no object.
        """
        return await self._apply(Merge(key=_key(key), value=raw(encode(dict(fields))), blind=blind))

    async def update(self, values: Mapping[str, Any]) -> None:
        """Sets many keys in one commit: others see all of them or none."""
        await self._apply(
            *(Set(key=_key(key), value=raw(encode(value))) for key, value in values.items())
        )

    async def compare_and_set(self, key: str, value: Any, *, expected_revision: int) -> int:
        """Sets the key if it is at that revision (0: missing) and returns the new revision.

        Raises Conflict, with `current_revision`, if it is at another; `get_entry(key).revision` is
        the current one. In a handler the new one is not known before its commit: 0.
        """
        put = Set(key=_key(key), value=raw(encode(value)), expected_revision=expected_revision)
        return (await self._plan.put(put)).revision

    async def join(self, key: str, *, expect: int | Iterable[str], arrival: str = "") -> bool:
        """Records an arrival at the fan-in `key`; True only for the one that completes it.

        `expect` is the number of different arrivals to wait for, or their names. In a handler the
        arrival is the event in hand, so that a redelivery does not count twice; elsewhere, and if
        names are expected, pass `arrival`.
        """
        wanted = _expected(expect)
        if arrival or not self.memory.collects:
            check_name("arrival", arrival)
        return bool(await self._apply(Join(key=_key(key), arrival=arrival, expect=wanted)))

    async def claim(self, key: str, ttl: float = 30.0, *, wait: float = 0.0) -> Claim | None:
        """Claims a key for `ttl` seconds, renewable; None if it is not free within `wait` seconds.

        If this process dies, the claim is released after 10 seconds. Whoever has waited longest
        gets it next.

        In a handler, where nothing is visible before the commit, use `context.immediate.memory`.
        """
        return await self.semaphore(key, 1, ttl, wait=wait)

    async def semaphore(
        self, key: str, places: int, ttl: float = 30.0, *, wait: float = 0.0
    ) -> Claim | None:
        """Takes one of the `places` of a key (`key`, `key/2`, …); None if none is free in time.

        It waits up to `wait` seconds; whoever has waited longest gets the next place.
        """
        if self.memory.collects:
            raise InvalidRequest(
                "a claim must be seen at once: in a handler, use context.immediate.memory"
            )
        if type(wait) not in (int, float) or not 0 <= wait <= LONGEST_TIMEOUT:
            raise InvalidRequest(
                f"wait is a number of seconds from 0 to {LONGEST_TIMEOUT:.0f}, not {wait!r}"
            )
        return await take(Claim, self._plan, _key(key), places, ttl, wait)

    async def record_action(self, name: str) -> None:
        """Adds an action to the plan's action history, at the same cost however long that is."""
        await self._apply(RecordAction(check_name("action", name)))

    async def get_action_history(self) -> list[str]:
        """The names of all recorded actions, in order."""
        return [action.name for action in await self.actions()]

    async def actions(self) -> list[Action]:
        """All recorded actions in order, with time, actor and event."""
        return await self._plan.actions()

    async def history(self, key: str | None = None, *, after: int | None = None) -> list[Change]:
        """The committed changes since revision `after` (default: all kept), of one key or all."""
        return await self._plan.history(key, after)

    async def revision(self) -> int:
        """The plan's committed revision, which rises by one with each commit that changes it.

        It is 0 if the plan was never written.
        """
        return await self._plan.revision()

    def at(self, revision: int) -> StateAt:
        """The state as of a revision of the plan."""
        return StateAt(self._plan, revision)

    async def diff(self, a: int, b: int | None = None) -> list[Difference]:
        """The keys that differ between revisions `a` and `b` (default: now), with both values."""
        return await difference(self.at(a), self.at(await self.revision() if b is None else b))

    async def restore(self, key: str, revision: int) -> bool:
        """Sets a key to its value at a revision, or removes it if there was none.

        Returns True if there was one. It is a change like any other: it appears in `history`, and
        in a handler it is part of the commit. A time to live is not restored.
        """
        value = await self.at(revision).get(key, MISSING)
        await (self.delete(key) if value is MISSING else self.set(key, value))
        return value is not MISSING

    async def fork(self, plan_id: str, revision: int | None = None) -> WorkflowState:
        """Forks this plan, as of a revision (default: now), to a new plan of the same user.

        Returns the new plan's state. It is one commit, however many keys there are. Actions,
        history, the plan's end and expired keys are not copied. Raises PlanExists unless the new
        plan was never used, or was cleaned up.
        """
        fork = WorkflowState(self.memory, plan_id, self._scope.tenant_id, self._scope.user_id)
        await fork._apply(
            Fork(self.plan_id, None if revision is None else check_revision(revision))
        )
        return fork

    async def ttl(self, seconds: float | None) -> None:
        """Lets the whole plan expire that many seconds from now; None ends that."""
        await self._apply(ExpirePlan(check_ttl(seconds)))

    async def info(self) -> PlanInfo:
        """The plan's status, revision, sizes, times, and result or reason.

        Raises NotFound if nothing of the plan is stored.

        In a handler the status is checked at the commit, like a key that was read, and includes an
        end by the handler itself. The rest is as last committed, and not checked.
        """
        return await self._plan.info()

    async def complete(self, result: Any = None, *, if_active: bool = False) -> bool:
        """Ends the plan as completed; `plan.completed` is published on plan-events.

        Returns True. If the plan has ended before, raises PlanEnded, or returns False with
        `if_active=True`. In a handler this holds at the commit: if the plan is ended elsewhere
        before that, the handler runs again.
        """
        return bool(await self._apply(completion(result, if_active=if_active)))

    async def fail(self, reason: str, *, if_active: bool = False) -> bool:
        """Ends the plan as failed, like `complete`; `plan.failed` is published on plan-events.

        Events registered with `compensate` are then published, the last first, each when the one
        before has been handled.
        """
        return bool(await self._apply(failure(reason, if_active=if_active)))

    async def cancel(self, reason: str = "", *, if_active: bool = False) -> bool:
        """Ends the plan as cancelled, like `complete`.

        `plan.cancelled` is published on plan-events. The plan's events that wait for handlers or
        for a retry are discarded. Running handlers are told (`context.cancelled`), and their
        commits are rejected.
        """
        return bool(await self._apply(cancellation(reason, if_active=if_active)))

    async def deadline(
        self,
        delay: float | timedelta | None = None,
        *,
        at: datetime | None = None,
        event_type: str = "plan.timed_out",
        topic: TopicLike = Topic.PLAN_EVENTS,
        data: Any = None,
    ) -> str:
        """Publishes an event after `delay` seconds, or `at` a time, unless the plan ends before.

        Returns the event's id, by which `bus.cancel` cancels it.
        """
        event = _event(event_type, topic, {"plan_id": self.plan_id} if data is None else data)
        await self._apply(Deadline(timer_of(event, delay, at)))
        return str(event.id)

    async def compensate(self, event_type: str, topic: TopicLike, data: Any = None) -> str:
        """Registers an event that undoes the work committed with it, published if the plan fails.

        Compensations are published in reverse order, each when all handlers of the one before have
        ended. Returns the event's id.
        """
        event = _event(event_type, topic, data)
        await self._apply(Compensate(event))
        return str(event.id)

    async def cleanup(self) -> int:
        """Removes everything of the plan in one commit: keys, actions, history.

        Returns how many keys there were.
        """
        return int(await self._apply(Cleanup()))

    def transaction(self) -> StateTransaction:
        """Changes and events that are committed together when the block ends.

        Use it as `async with state.transaction() as tx`. Reads through `tx` see its own changes and
        are checked at the commit: Conflict if one has changed meanwhile. `transact` then runs the
        work again.
        """
        return StateTransaction(self._plan)

    async def transact(self, work: Callable[[StateTransaction], Awaitable[T]]) -> T:
        """Runs `work` in a transaction and returns its result; on a conflict, runs it again.

        It does so for up to 30 s, and waits longer each time, so that all who contend for a key get
        their turns.
        """
        check_callable(work, "the work of a transaction", "tx")
        loop = asyncio.get_running_loop()
        deadline, backoff = (
            loop.time() + TRANSACT_SECONDS,
            Backoff(FIRST_WAIT, LONGEST_WAIT, least=0.0),
        )
        while True:
            try:
                async with self.transaction() as tx:
                    outcome: T = await call(work, tx)
            except Conflict:
                if loop.time() >= deadline:
                    raise
            else:
                return outcome
            await asyncio.sleep(backoff.pause())

    async def watch(self, *, after: int | None = None) -> AsyncGenerator[Change, None]:
        """Yields changes as they are committed, from after revision `after` (default: now).

        There are no gaps.
        """
        stream = self._plan.watch(after)
        async with aclosing(stream):
            async for commit in stream:
                for change in commit:
                    yield change

    async def wait_for(
        self,
        key: str,
        expected: Any | Callable[[Any], bool] = _ANYTHING,
        *,
        timeout: float | timedelta | None = 30.0,  # noqa: ASYNC109 - part of the interface
    ) -> Any:
        """Waits until the key has the value `expected` (default: any) and returns that value.

        `expected` may be a function that returns true for the value. Raises TimedOut after
        `timeout` seconds (None: never). Sees only committed values.
        """
        _key(key)
        if callable(expected):
            check_callable(expected, "what wait_for expects", "value")
        wait = check_timeout("timeout", timeout)
        try:
            async with asyncio.timeout(wait):
                while True:
                    try:
                        return await self._wait_once(key, expected)
                    except HistoryGone:  # cleaned up meanwhile: start over
                        continue
        except TimeoutError as error:
            if isinstance(error, TimedOut):
                raise
            raise TimedOut(
                f"key {key!r} of plan {self.plan_id!r} did not get there in {timeout} s", key=key
            ) from None

    async def _wait_once(self, key: str, expected: Any) -> Any:
        stream = self._plan.watch(None)
        async with aclosing(stream):
            async for commit in stream:
                if commit and not any(change.key in (key, None) for change in commit):
                    continue
                found = await self._plan.committed(key)
                if found is not None and await _fits(found.value, expected):
                    return found.value
        raise AssertionError("a watch ends only by an error")

    async def _apply(self, *operations: Any) -> Any:
        results = await self._plan.apply(list(operations))
        return results[0] if results else None


class StateTransaction(WorkflowState):
    """A plan's state inside a transaction.

    Other plans of the user: `WorkflowState(tx.memory, "other")`.

    `bus` publishes with the commit; events belong to this plan by default. Use it as a context
    manager: everything is committed when the block ends, nothing if it raises an error.
    """

    def __init__(self, plan: BoundPlan, hold: Hold | None = None) -> None:
        self._made = made = PlanTransaction(plan, hold)
        super().__init__(made.memory, plan.id, plan.scope.tenant_id, plan.scope.user_id)
        self.bus = made.bus

    def rely_on(self, key: str, revision: int) -> None:
        """Makes the commit fail with Conflict unless the key is at this revision (0: missing)."""
        self._made.rely_on(key, revision)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._made.end()
        if error is None:
            await self._made.commit()


class Claim(Hold):
    """A key of a plan, held until it is released or its time to live (`ttl`, seconds) is over.

    If its holder's process dies, it is released after 10 seconds. Its `revision` is a fencing
    token: `async with claim.transaction() as tx` commits only while the claim is held. Used as a
    context manager, it is released at the end.
    """

    def transaction(self) -> StateTransaction:
        """Changes and events that are committed only while the claim is held; Conflict otherwise.

        This is checked when the block ends; the claim may be renewed before that.
        """
        return StateTransaction(self.plan, self)


def _expected(expect: int | Iterable[str]) -> int | list[str]:
    """Returns a join's valid `expect`; InvalidRequest if the join could never be completed."""
    if isinstance(expect, str | bytes) or not isinstance(expect, int | Iterable):
        raise InvalidRequest(
            f"expect is how many arrivals are waited for, or a list of their names, not {expect!r}"
        )
    if isinstance(expect, int):
        if isinstance(expect, bool) or expect < 1:
            raise InvalidRequest(
                f"expect is a whole number from 1, not {expect!r}: nobody would complete the join"
            )
        return expect
    names = [check_name("arrival", name) for name in expect]
    if not names or len(set(names)) < len(names):
        raise InvalidRequest(f"expect names who is waited for, each once, and not {names!r}")
    return sorted(names) if isinstance(expect, AbstractSet) else names


def _event(event_type: str, topic: TopicLike, data: Any) -> Envelope:
    content = msgspec.UNSET if data is None else raw(encode(data))
    return check_envelope(Envelope(event_type, check_topic(topic), str(uuid4()), data=content))


async def _fits(value: Any, expected: Any) -> bool:
    if expected is _ANYTHING:
        return True
    if callable(expected):
        return bool(await call(expected, value))
    return bool(value == decode(encode(expected)))


def _key(key: str) -> str:
    return check_name("key", key)


__all__ = ["MISSING", "Claim", "Difference", "StateAt", "StateTransaction", "WorkflowState"]
