"""WorkflowState: the shared state of one plan, as an agent author uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from soorma.memory.client import Action, Change, MemoryClient, PlanState, check_ttl, raw
from soorma_common.errors import HistoryGone, InvalidRequest, KeyMissing, TimedOut
from soorma_common.names import check_name
from soorma_common.operations import (
    Append,
    Cleanup,
    Delete,
    ExpirePlan,
    Extend,
    Increment,
    Merge,
    RecordAction,
    Set,
)
from soorma_common.values import convert, decode, encode

_ANYTHING = object()


class WorkflowState:
    """The state of one plan, shared by all agents that work on it.

    In a handler, make it on `context.memory`: what it changes is committed with the handler, or not at all,
    and tenant and user are those of the event in hand. Elsewhere each call is durable when it returns.
    Values are JSON; pydantic models and dataclasses are taken too, and `get(…, type=Model)` gives one back.
    """

    def __init__(
        self, memory: MemoryClient, plan_id: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> None:
        scope = memory.scope(tenant_id, user_id)
        self.memory = memory
        self.plan_id = check_name("plan_id", plan_id)
        self.tenant_id = scope.tenant_id
        self.user_id = scope.user_id

    async def set(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Gives a key a value, for `ttl` seconds if given (without, an earlier time to live ends)."""
        await self._apply(Set(key=_key(key), value=raw(encode(value)), ttl=check_ttl(ttl)))

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:  # noqa: A002 - reads best so
        """The value of a key; `default` only where the key is missing, a stored null is None.

        With `type`, an instance of that pydantic model, dataclass or type; InvalidValue if the value is none.
        """
        try:
            value = (await self.get_entry(key)).value
        except KeyMissing:
            return default
        return value if type is None else convert(value, type)

    async def get_entry(self, key: str) -> PlanState:
        """The key with its value, revision and times; KeyMissing if there is none."""
        return await self.memory.get_plan_state(self.plan_id, key, self.tenant_id, self.user_id)

    async def has(self, key: str) -> bool:
        """Whether there is such a key, be its value null."""
        return bool(await self.get_many([key]))

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of those of the keys that exist, read together."""
        found = await self.memory.get_plan_states(self.plan_id, keys, self.tenant_id, self.user_id)
        return {key: entry.value for key, entry in found.items()}

    async def keys(self, prefix: str = "") -> list[str]:
        """All keys that begin with `prefix`, in order."""
        return await self.memory.list_keys(self.plan_id, prefix, self.tenant_id, self.user_id)

    async def delete(self, key: str) -> bool:
        """Removes a key; tells whether there was one."""
        return bool(await self._apply(Delete(key=_key(key))))

    async def increment(self, key: str, by: float = 1, *, blind: bool = False) -> Any:
        """Adds to a number (missing: 0) and returns the new one; WrongType if the key holds no number.

        `blind=True` returns nothing and reads nothing, so that concurrent handlers do not conflict over it.
        """
        if isinstance(by, bool) or not isinstance(by, int | float):
            raise InvalidRequest(f"increment adds a number, not {by!r}")
        encode(by)
        return await self._apply(Increment(key=_key(key), by=by, blind=blind))

    async def append(self, key: str, value: Any, *, blind: bool = False) -> Any:
        """Adds one item to a list (missing: an empty one) and returns the new list; WrongType if it is none."""
        return await self._apply(Append(key=_key(key), value=raw(encode(value)), blind=blind))

    async def extend(self, key: str, values: Iterable[Any], *, blind: bool = False) -> Any:
        """Adds items to a list (missing: an empty one) and returns the new list; WrongType if it is none."""
        return await self._apply(Extend(key=_key(key), value=raw(encode(list(values))), blind=blind))

    async def update_dict(self, key: str, fields: Mapping[str, Any], *, blind: bool = False) -> Any:
        """Sets fields of an object (missing: {}), nulls too, and returns the new object; WrongType if it is none."""
        return await self._apply(Merge(key=_key(key), value=raw(encode(dict(fields))), blind=blind))

    async def update(self, values: Mapping[str, Any]) -> None:
        """Sets many keys in one commit: others see all of them or none."""
        await self._apply(*(Set(key=_key(key), value=raw(encode(value))) for key, value in values.items()))

    async def compare_and_set(self, key: str, value: Any, *, expected_revision: int) -> int:
        """Sets the key if it is at that revision (0: missing) and returns the new one.

        Raises Conflict, with `current_revision`, if it is at another. `get_entry(key).revision` tells the revision.
        In a handler the new one is not known before its commit: 0.
        """
        done = await self.memory.set_plan_state(
            self.plan_id, key, value, self.tenant_id, self.user_id, expected_revision=expected_revision
        )
        return done.revision

    async def record_action(self, name: str) -> None:
        """Adds an action to the plan's action history; costs the same however long that is."""
        await self._apply(RecordAction(check_name("action", name)))

    async def get_action_history(self) -> list[str]:
        """The names of all recorded actions, in order."""
        return [action.name for action in await self.actions()]

    async def actions(self) -> list[Action]:
        """All recorded actions in order, with time, actor and event."""
        return await self.memory.get_actions(self.plan_id, self.tenant_id, self.user_id)

    async def history(self, key: str | None = None, *, after: int | None = None) -> list[Change]:
        """Committed changes since revision `after` (default: all that is kept), of one key or of all."""
        return await self.memory.get_history(self.plan_id, key, self.tenant_id, self.user_id, after=after)

    def at(self, revision: int) -> StateAt:
        """The state as it was at a revision of the plan."""
        return StateAt(self, revision)

    async def ttl(self, seconds: float | None) -> None:
        """Lets the whole plan expire that many seconds from now; None ends that."""
        await self._apply(ExpirePlan(check_ttl(seconds)))

    async def cleanup(self) -> int:
        """Removes everything of the plan in one commit: keys, actions, history. Returns how many keys there were."""
        return int(await self._apply(Cleanup()))

    async def watch(self, *, after: int | None = None) -> AsyncGenerator[Change, None]:
        """Changes as they are committed, from behind revision `after` (default: now), without a gap."""
        stream = self.memory.watch_plan(self.plan_id, self.tenant_id, self.user_id, after=after)
        async with aclosing(stream):
            async for commit in stream:
                for change in commit:
                    yield change

    async def wait_for(
        self,
        key: str,
        expected: Any | Callable[[Any], bool] = _ANYTHING,
        *,
        timeout: float | None = 30.0,  # noqa: ASYNC109 - part of what is asked for
    ) -> Any:
        """Waits until the key has the value `expected`, or one for which it returns true, or (without it) any.

        Returns that value; TimedOut after `timeout` seconds (None: never). Sees committed values only.
        """
        _key(key)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        return await self._wait_once(key, expected)
                    except HistoryGone:  # cleaned up while we looked: look again from there
                        continue
        except TimeoutError as error:
            if isinstance(error, TimedOut):
                raise
            raise TimedOut(f"key {key!r} of plan {self.plan_id!r} did not get there in {timeout} s", key=key) from None

    async def _wait_once(self, key: str, expected: Any) -> Any:
        stream = self.memory.watch_plan(self.plan_id, self.tenant_id, self.user_id)
        async with aclosing(stream):
            async for commit in stream:
                if commit and not any(change.key in (key, None) for change in commit):
                    continue
                found = await self.memory.get_committed(self.plan_id, key, self.tenant_id, self.user_id)
                if found is not None and _fits(found.value, expected):
                    return found.value
        raise AssertionError("a watch ends only by an error")

    async def _apply(self, *operations: Any) -> Any:
        results = await self.memory.apply(self.plan_id, list(operations), self.tenant_id, self.user_id)
        return results[0] if results else None


class StateAt:
    """A plan's state as it was at a revision: read only."""

    def __init__(self, state: WorkflowState, revision: int) -> None:
        self.state = state
        self.revision = revision

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:  # noqa: A002
        """The value the key had; `default` where it was missing. HistoryGone if the revision is no longer kept."""
        state = self.state
        try:
            value = await state.memory.get_value_at(state.plan_id, key, self.revision, state.tenant_id, state.user_id)
        except KeyMissing:
            return default
        return value if type is None else convert(value, type)

    async def has(self, key: str) -> bool:
        """Whether there was such a key."""
        return await self.get(key, _ANYTHING) is not _ANYTHING


def _fits(value: Any, expected: Any) -> bool:
    if expected is _ANYTHING:
        return True
    if callable(expected):
        return bool(expected(value))
    return bool(value == decode(encode(expected)))


def _key(key: str) -> str:
    return check_name("key", key)


__all__ = ["StateAt", "WorkflowState"]
