"""WorkflowState: the shared state of one plan, as an agent author uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload
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
from soorma_common.times import LONGEST_TIMEOUT, check_timeout
from soorma_common.topics import Topic, TopicLike, check_topic
from soorma_common.values import convert, encode

if TYPE_CHECKING:
    from typing_extensions import TypeForm

TRANSACT_SECONDS = 30.0
"""How long `transact` runs its work again: a bound for what can never be committed, not reached by
mere crowding."""
FIRST_WAIT, LONGEST_WAIT = 0.01, 0.5
"""Seconds that `transact` waits at most after its first conflict, which double with each, and
after any."""
T = TypeVar("T")
D = TypeVar("D")
_ANYTHING = object()


@awaited
class WorkflowState:
    """The state of one plan, shared by all agents that work on it.

    In a handler, make it on `context.memory`: what it changes is committed with the handler, or not
    at all, and tenant and user are those of the event in hand. Elsewhere each call is durable when
    it returns. Values are JSON; pydantic models and dataclasses are taken too, and `get(…,
    type=Model)` gives one back.
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
        self.tenant_id = scope.tenant_id
        self.user_id = scope.user_id

    @property
    def _plan(self) -> BoundPlan:
        return self.memory.plan(
            self.plan_id, self.tenant_id, self.user_id
        )  # an author may set these anew

    def __repr__(self) -> str:
        kind = " in a handler or transaction" if self.memory.collects else ""
        return (
            f"WorkflowState({self.plan_id!r}, tenant_id={self.tenant_id!r}, "
            f"user_id={self.user_id!r}){kind}"
        )

    async def set(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Gives a key a value, for `ttl` seconds if given (without, an earlier time to live ends)."""
        await self._apply(Set(key=_key(key), value=raw(encode(value)), ttl=check_ttl(ttl)))

    @overload
    async def get(self, key: str, default: Any = None, *, type: None = None) -> Any: ...
    @overload
    async def get(self, key: str, default: None = None, *, type: TypeForm[T]) -> T | None: ...
    @overload
    async def get(self, key: str, default: D, *, type: TypeForm[T]) -> T | D: ...
    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:  # noqa: A002 - reads best so
        """The value of a key; `default` only where the key is missing, a stored null is None.

        With `type`, an instance of that pydantic model, dataclass or type; InvalidValue if the
        value is none.
        """
        try:
            value = await self._plan.value(key)
        except KeyMissing:
            return default
        return value if type is None else convert(value, type)

    async def get_entry(self, key: str) -> PlanState:
        """The key with its value, revision and times; KeyMissing if there is none."""
        return await self._plan.entry(key)

    async def has(self, key: str) -> bool:
        """Whether there is such a key, be its value null."""
        return bool(await self.get_many([key]))

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of those of the keys that exist, read together."""
        found = await self._plan.entries(keys)
        return {key: entry.value for key, entry in found.items()}

    async def keys(self, prefix: str = "") -> list[str]:
        """All keys that begin with `prefix`, in order."""
        return await self._plan.keys(prefix)

    async def delete(self, key: str) -> bool:
        """Removes a key; tells whether there was one."""
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
        """Adds to a number (missing: 0) and returns the new one; WrongType if the key holds no number.

        `blind=True` returns nothing and reads nothing, so that concurrent handlers do not conflict
        over it.
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
        """Adds one item to a list (missing: an empty one) and returns the new list; WrongType if it is none."""
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
        """Adds items to a list (missing: an empty one) and returns the new list; WrongType if it is none."""
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
        """Sets fields of an object (missing: {}), nulls too, and returns the new object; WrongType if it is none."""
        return await self._apply(Merge(key=_key(key), value=raw(encode(dict(fields))), blind=blind))

    async def update(self, values: Mapping[str, Any]) -> None:
        """Sets many keys in one commit: others see all of them or none."""
        await self._apply(
            *(Set(key=_key(key), value=raw(encode(value))) for key, value in values.items())
        )

    async def compare_and_set(self, key: str, value: Any, *, expected_revision: int) -> int:
        """Sets the key if it is at that revision (0: missing) and returns the new one.

        Raises Conflict, with `current_revision`, if it is at another. `get_entry(key).revision`
        tells the revision. In a handler the new one is not known before its commit: 0.
        """
        put = Set(key=_key(key), value=raw(encode(value)), expected_revision=expected_revision)
        return (await self._plan.put(put)).revision

    async def join(self, key: str, *, expect: int | Iterable[str], arrival: str = "") -> bool:
        """Notes an arrival at the fan-in `key`; True for exactly one of them: the one that completes it.

        `expect` is how many different arrivals are waited for, or their names. In a handler the
        arrival is the event in hand, so that a redelivery is no second one; elsewhere, and where
        names are expected, say who arrives.
        """
        wanted = _expected(expect)
        if arrival or not self.memory.collects:
            check_name("arrival", arrival)
        return bool(await self._apply(Join(key=_key(key), arrival=arrival, expect=wanted)))

    async def claim(self, key: str, ttl: float = 30.0, *, wait: float = 0.0) -> Claim | None:
        """Holds a key for `ttl` seconds, renewable; None if another holds it for longer than `wait` seconds more.

        It is released too when this process dies, after 10 seconds. Whoever has waited longest gets
        it next.

        Not in a handler, where nothing is visible before its commit: there, with
        `context.immediate.memory`.
        """
        return await self.semaphore(key, 1, ttl, wait=wait)

    async def semaphore(
        self, key: str, places: int, ttl: float = 30.0, *, wait: float = 0.0
    ) -> Claim | None:
        """Takes one of `places` claims of a key (`key`, `key/2`, …); None if none is to be had in `wait` seconds.

        Whoever has waited longest gets the next.
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
        """Adds an action to the plan's action history; costs the same however long that is."""
        await self._apply(RecordAction(check_name("action", name)))

    async def get_action_history(self) -> list[str]:
        """The names of all recorded actions, in order."""
        return [action.name for action in await self.actions()]

    async def actions(self) -> list[Action]:
        """All recorded actions in order, with time, actor and event."""
        return await self._plan.actions()

    async def history(self, key: str | None = None, *, after: int | None = None) -> list[Change]:
        """Committed changes since revision `after` (default: all that is kept), of one key or of all."""
        return await self._plan.history(key, after)

    async def revision(self) -> int:
        """The plan's revision, which rises by one with each commit that changes it; 0 where it was never written."""
        return await self._plan.revision()

    def at(self, revision: int) -> StateAt:
        """The state as it was at a revision of the plan."""
        return StateAt(self._plan, revision)

    async def diff(self, a: int, b: int | None = None) -> list[Difference]:
        """The keys that the plan's revisions `a` and `b` (default: the present one) differ in, with both values."""
        return await difference(self.at(a), self.at(await self.revision() if b is None else b))

    async def restore(self, key: str, revision: int) -> bool:
        """Gives a key the value it had at a revision, or removes it if there was none; tells whether there was one.

        It is a change like any other: `history` tells it, and in a handler it is part of its
        commit. A time to live is not restored.
        """
        value = await self.at(revision).get(key, MISSING)
        await (self.delete(key) if value is MISSING else self.set(key, value))
        return value is not MISSING

    async def fork(self, plan_id: str, revision: int | None = None) -> WorkflowState:
        """Begins another plan of the same user with the keys of this one at a revision (default: now); its state.

        One commit, however many keys there are. Actions, history and the plan's end stay behind; so
        does what has expired. PlanExists unless the new plan was never used, or cleaned up.
        """
        fork = WorkflowState(self.memory, plan_id, self.tenant_id, self.user_id)
        await fork._apply(
            Fork(self.plan_id, None if revision is None else check_revision(revision))
        )
        return fork

    async def ttl(self, seconds: float | None) -> None:
        """Lets the whole plan expire that many seconds from now; None ends that."""
        await self._apply(ExpirePlan(check_ttl(seconds)))

    async def info(self) -> PlanInfo:
        """What the platform tells of the plan: status, revision, sizes, times, result or reason.

        NotFound: nothing.

        In a handler the status is checked at the commit, like a key that was read, and shows an end
        of its own. The rest is as it was last committed, and not checked.
        """
        return await self._plan.info()

    async def complete(self, result: Any = None, *, if_active: bool = False) -> bool:
        """Ends the plan: its goal is reached. `plan.completed` on plan-events tells so.

        Returns True. Where the plan has ended before, raises PlanEnded, or returns False with
        `if_active=True`. In a handler that is true at its commit: if another ends the plan until
        then, the handler runs again.
        """
        return bool(await self._apply(completion(result, if_active=if_active)))

    async def fail(self, reason: str, *, if_active: bool = False) -> bool:
        """Ends the plan, like `complete`: its goal will not be reached.

        `plan.failed` on plan-events tells so.

        What was registered with `compensate` is published then, the last first, each when the one
        before was handled.
        """
        return bool(await self._apply(failure(reason, if_active=if_active)))

    async def cancel(self, reason: str = "", *, if_active: bool = False) -> bool:
        """Ends the plan, like `complete`: it is not wanted any more.

        `plan.cancelled` on plan-events tells so.

        Events of the plan that wait for handlers, or for another attempt, are dropped. Handlers at
        work on it are told (`context.cancelled`), and their commits refused.
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
        """Publishes an event `delay` seconds from now, or `at` a time, unless the plan has ended by then.

        Returns the event's id, with which `bus.cancel` takes it back.
        """
        event = _event(event_type, topic, {"plan_id": self.plan_id} if data is None else data)
        await self._apply(Deadline(timer_of(event, delay, at)))
        return str(event.id)

    async def compensate(self, event_type: str, topic: TopicLike, data: Any = None) -> str:
        """Registers an event that undoes what is committed together with it, to be published if the plan fails.

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
        """Changes and events that are committed as one, when the block ends: `async with state.transaction() as tx`.

        Reads through `tx` see its own changes, and are checked at the commit: Conflict if one was
        changed meanwhile. `transact` runs the work again then.
        """
        return StateTransaction(self._plan)

    async def transact(self, work: Callable[[StateTransaction], Awaitable[T]]) -> T:
        """Runs `work` in a transaction and returns what it returns; on a conflict it is run again, for up to 30 s.

        It waits between the runs, longer each time, so that many at one key get their turns.
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
        """Changes as they are committed, from behind revision `after` (default: now), without a gap."""
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
        timeout: float | timedelta | None = 30.0,  # noqa: ASYNC109 - part of what is asked for
    ) -> Any:
        """Waits until the key has the value `expected`, or one for which it returns true, or (without it) any.

        Returns that value; TimedOut after `timeout` seconds (None: never). Sees committed values
        only.
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
                    except HistoryGone:  # cleaned up while we looked: look again from there
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

    `bus` publishes with the commit; an event that does not say otherwise is of this plan. Use it as
    a context manager: what was done is committed when the block ends, and nothing of it if the
    block raises.
    """

    def __init__(self, plan: BoundPlan, hold: Hold | None = None) -> None:
        self._made = made = PlanTransaction(plan, hold)
        super().__init__(made.memory, plan.id, plan.scope.tenant_id, plan.scope.user_id)
        self.bus = made.bus

    def rely_on(self, key: str, revision: int) -> None:
        """The commit is refused with Conflict unless the plan's key is at this revision (0: missing) then."""
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
    """A key of a plan that is held until it is released or its time to live (`ttl`, seconds) is over.

    It is free too when its holder's process has died, after 10 seconds. Whoever comes late is
    refused by the `revision`: `async with claim.transaction() as tx` commits only while the claim
    is held. Use it as a context manager, and it is released at the end.
    """

    def transaction(self) -> StateTransaction:
        """Changes and events that are committed only while the claim is held; Conflict otherwise.

        It is looked at when the block ends, and may be renewed before that.
        """
        return StateTransaction(self.plan, self)


def _expected(expect: int | Iterable[str]) -> int | list[str]:
    """Who is expected at a join; InvalidRequest where nobody could complete it."""
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
