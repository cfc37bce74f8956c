"""The memory service as a Python client: every call says whose plan it means, or takes the configured one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import msgspec

from soorma.awaits import awaited
from soorma.calls import Caller, caller_for, segment
from soorma.config import ClientConfig
from soorma.local import shown
from soorma.memory.endings import cancellation, completion, failure
from soorma.memory.plans import Plans, PlatformPlans, Stored
from soorma_common.errors import InvalidRequest, KeyMissing
from soorma_common.identity import entry_id
from soorma_common.json_text import decode
from soorma_common.names import Scope, check_name
from soorma_common.operations import LONGEST_TTL, AnyEnding, AnyOperation, Cleanup, Delete, Set
from soorma_common.values import encode


@dataclass(frozen=True)
class PlanState:
    """A key of a plan. `revision` is that of its last write, 0 where that is not committed yet.

    `updated_at` and `expires_at` have a time zone.
    """

    id: str
    tenant_id: str
    user_id: str
    plan_id: str
    key: str
    value: Any
    updated_at: datetime
    revision: int
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Change:
    """One operation of one commit, as history and watch tell it.

    `op` is set, delete, increment, append, extend, merge, join, record_action, ttl, complete, fail, cancel, deadline,
    compensate, fork, cleanup, expire or purge; `argument` is the value it was given. `actor` is the agent's name,
    `event_id` the event whose handler did it.
    """

    revision: int
    op: str
    at: datetime
    key: str | None = None
    argument: Any = None
    actor: str | None = None
    instance: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True)
class Action:
    """An entry of a plan's action history; `number` counts from 1."""

    number: int
    name: str
    at: datetime | None
    actor: str | None = None
    instance: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True)
class PlanInfo:
    """What the platform tells of a plan; `size_bytes` is that of its keys and values.

    `status` is active, completed, failed or cancelled; `result` or `reason` is what it ended with. `stalled`: it was
    reported as stalled, and has not moved since.
    """

    plan_id: str
    revision: int
    keys: int
    actions: int
    size_bytes: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    status: str = "active"
    ended_at: datetime | None = None
    result: Any = None
    reason: str | None = None
    stalled: bool = False


@awaited
class MemoryClient:
    """Client of the memory service.

    `MemoryClient()` finds the service through SOORMA_MEMORY_URL (default http://localhost:8083). Calls without
    `tenant_id` or `user_id` mean those of SOORMA_TENANT_ID and SOORMA_USER_ID, else the default ones. An outage
    raises Unavailable after `retry_seconds` of retries; a retry never makes a change twice. Close it, or use it
    as an asynchronous context manager.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        config: ClientConfig | None = None,
        retry_seconds: float | None = None,
    ) -> None:
        config = config or ClientConfig.from_env()
        if base_url is not None:
            config = replace(config, memory_url=base_url.rstrip("/"), origin="")
        if retry_seconds is not None:
            config = replace(config, retry_seconds=retry_seconds)
        self._connect(config, caller_for(config))

    @classmethod
    def on(cls, config: ClientConfig, caller: Caller, plans: Plans | None = None) -> MemoryClient:
        """A client on connections that somebody else owns, and perhaps on a handler's transaction."""
        client = cls.__new__(cls)
        client._connect(config, caller, plans)  # noqa: SLF001 - a constructor of its own class
        return client

    def _connect(self, config: ClientConfig, caller: Caller, plans: Plans | None = None) -> None:
        self._config = config
        self._caller = caller
        self._plans: Plans = plans or PlatformPlans(caller)

    def __repr__(self) -> str:
        return f"MemoryClient({shown(self._config.memory_url)})"

    async def close(self) -> None:
        """Closes the client's connections."""
        await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def collects(self) -> bool:
        """Whether this is a handler's or a transaction's: what is changed is committed later, as one."""
        return self._plans.collects

    def scope(self, tenant_id: str | None = None, user_id: str | None = None) -> Scope:
        """Whose plans a call with these ids means; in a handler, Forbidden for others than those of its event."""
        scope = self._config.scope(tenant_id, user_id)
        self._plans.check(scope)
        return scope

    async def set_plan_state(
        self,
        plan_id: str,
        key: str,
        value: Any,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        ttl: float | None = None,
        expected_revision: int | None = None,
    ) -> PlanState:
        """Gives a key a value, for `ttl` seconds if given.

        With `expected_revision` it is a compare-and-set: Conflict, with the current revision, unless the key
        is at that one (0: missing).
        """
        scope, text = self.scope(tenant_id, user_id), encode(value)
        operation = Set(
            key=check_name("key", key), value=raw(text), ttl=check_ttl(ttl), expected_revision=expected_revision
        )
        done = await self._plans.apply(scope, check_name("plan_id", plan_id), [operation])
        return _plan_state(scope, plan_id, key, Stored(text, done.revision, done.at))

    async def get_plan_state(
        self, plan_id: str, key: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> PlanState:
        """The key with its value; KeyMissing if there is none."""
        scope = self.scope(tenant_id, user_id)
        return _plan_state(scope, plan_id, key, await self._read(scope, plan_id, key))

    async def get_value(self, plan_id: str, key: str, tenant_id: str | None = None, user_id: str | None = None) -> Any:
        """The key's value alone; KeyMissing if there is none."""
        return decode((await self._read(self.scope(tenant_id, user_id), plan_id, key)).text)

    async def _read(self, scope: Scope, plan_id: str, key: str) -> Stored:
        found = await self._plans.read(scope, check_name("plan_id", plan_id), [check_name("key", key)])
        if key not in found:
            raise KeyMissing(f"plan {plan_id!r} has no key {key!r}", plan_id=plan_id, key=key)
        return found[key]

    async def get_plan_states(
        self, plan_id: str, keys: Iterable[str], tenant_id: str | None = None, user_id: str | None = None
    ) -> dict[str, PlanState]:
        """Those of the keys that exist, read together."""
        scope, wanted = self.scope(tenant_id, user_id), [check_name("key", key) for key in keys]
        found = await self._plans.read(scope, check_name("plan_id", plan_id), wanted) if wanted else {}
        return {key: _plan_state(scope, plan_id, key, entry) for key, entry in found.items()}

    async def get_committed(
        self, plan_id: str, key: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> PlanState | None:
        """The key as all others see it, None if it is missing: in a handler too, without its own changes."""
        scope = self.scope(tenant_id, user_id)
        found = await PlatformPlans(self._caller).read(scope, check_name("plan_id", plan_id), [check_name("key", key)])
        return _plan_state(scope, plan_id, key, found[key]) if key in found else None

    async def delete_plan_state(
        self,
        plan_id: str,
        key: str,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        expected_revision: int | None = None,
    ) -> bool:
        """Removes a key; tells whether there was one. Conflict if it is not at `expected_revision`, where given."""
        operation = Delete(key=check_name("key", key), expected_revision=expected_revision)
        results = await self.apply(plan_id, [operation], tenant_id, user_id)
        return bool(results[0])

    async def cleanup_plan(self, plan_id: str, tenant_id: str | None = None, user_id: str | None = None) -> int:
        """Removes everything of a plan; returns how many keys it had."""
        return int((await self.apply(plan_id, [Cleanup()], tenant_id, user_id))[0])

    async def complete_plan(
        self,
        plan_id: str,
        result: Any = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        if_active: bool = False,
    ) -> bool:
        """Ends a plan as completed; returns True. PlanEnded, or with `if_active` False, where it has ended before."""
        return await self._end(plan_id, completion(result, if_active=if_active), tenant_id, user_id)

    async def fail_plan(
        self,
        plan_id: str,
        reason: str,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        if_active: bool = False,
    ) -> bool:
        """Ends a plan as failed, like `complete_plan`; its compensations are published."""
        return await self._end(plan_id, failure(reason, if_active=if_active), tenant_id, user_id)

    async def cancel_plan(
        self,
        plan_id: str,
        reason: str = "",
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        if_active: bool = False,
    ) -> bool:
        """Ends a plan as cancelled, like `complete_plan`; what waits for its handlers is dropped."""
        return await self._end(plan_id, cancellation(reason, if_active=if_active), tenant_id, user_id)

    async def _end(self, plan_id: str, ending: AnyEnding, tenant_id: str | None, user_id: str | None) -> bool:
        return bool((await self.apply(plan_id, [ending], tenant_id, user_id))[0])

    async def list_keys(
        self, plan_id: str, prefix: str = "", tenant_id: str | None = None, user_id: str | None = None
    ) -> list[str]:
        """All keys of a plan that begin with `prefix`, in order."""
        return await self._plans.keys(self.scope(tenant_id, user_id), check_name("plan_id", plan_id), prefix)

    async def get_plan(self, plan_id: str, tenant_id: str | None = None, user_id: str | None = None) -> PlanInfo:
        """A plan's status, revision, sizes and times; NotFound where there is nothing of it."""
        scope = self.scope(tenant_id, user_id)
        return _plan_info(await self._plans.plan(scope, check_name("plan_id", plan_id)))

    async def list_plans(
        self,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        status: str | None = None,
        stalled: bool = False,
    ) -> AsyncGenerator[PlanInfo, None]:
        """The user's plans that hold anything or have ended, by id, fetched page by page; of one status or all.

        `stalled`: only those that were reported as such and have not moved since.
        """
        scope, after = self.scope(tenant_id, user_id), ""
        wanted: dict[str, Any] = {"limit": 1000, "status": status, "stalled": "true" if stalled else None}
        while after is not None:
            page = await self._caller.read("memory", "/v1/memory/working", scope, after=after, **wanted)
            for plan in page["plans"]:
                yield _plan_info(plan)
            after = page["next"]

    async def get_actions(self, plan_id: str, tenant_id: str | None = None, user_id: str | None = None) -> list[Action]:
        """The plan's action history, in order."""
        rows = await self._plans.actions(self.scope(tenant_id, user_id), check_name("plan_id", plan_id))
        return [_action(row) for row in rows]

    async def get_history(
        self,
        plan_id: str,
        key: str | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        after: int | None = None,
    ) -> list[Change]:
        """The plan's committed changes since revision `after` (default: all that is kept), of one key or of all."""
        path, scope, found = f"/v1/memory/history/{segment(plan_id)}", self.scope(tenant_id, user_id), []
        while True:
            page = await self._caller.read("memory", path, scope, key=key, after=after, limit=1000)
            found += [_change(row) for row in page["changes"]]
            after = page["next"]
            if after is None:
                return found

    async def get_value_at(
        self, plan_id: str, key: str, revision: int, tenant_id: str | None = None, user_id: str | None = None
    ) -> Any:
        """The key's value as of a revision of the plan; KeyMissing if there was none, HistoryGone if it is too old."""
        path = f"/v1/memory/working/{segment(plan_id)}/{segment(check_name('key', key))}"
        answer = await self._caller.read("memory", path, self.scope(tenant_id, user_id), revision=revision)
        return answer["value"]

    async def get_values_at(
        self,
        plan_id: str,
        revision: int,
        prefix: str = "",
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> dict[str, Any]:
        """All keys that begin with `prefix`, with their values, as of a revision of the plan; HistoryGone as above."""
        scope, plans = self.scope(tenant_id, user_id), PlatformPlans(self._caller)
        found = await plans.values_at(scope, check_name("plan_id", plan_id), revision, prefix)
        return {key: decode(text) for key, text in found.items()}

    async def list_keys_at(
        self,
        plan_id: str,
        revision: int,
        prefix: str = "",
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> list[str]:
        """All keys that begin with `prefix` as of a revision of the plan, in order; HistoryGone as above."""
        scope, plans = self.scope(tenant_id, user_id), PlatformPlans(self._caller)
        return await plans.keys(scope, check_name("plan_id", plan_id), prefix, revision)

    async def get_revision(self, plan_id: str, tenant_id: str | None = None, user_id: str | None = None) -> int:
        """The plan's committed revision, 0 where it was never written."""
        scope = self.scope(tenant_id, user_id)
        return await PlatformPlans(self._caller).revision(scope, check_name("plan_id", plan_id))

    async def watch_plan(
        self,
        plan_id: str,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        after: int | None = None,
    ) -> AsyncGenerator[list[Change], None]:
        """Commits as they happen, each as the list of its changes, from behind revision `after` (default: now).

        Begins with an empty list, as soon as nothing can be missed any more. Reconnects without a gap.
        """
        path, scope = f"/v1/memory/watch/{segment(plan_id)}", self.scope(tenant_id, user_id)
        if after is None:
            after = await self.get_revision(plan_id, tenant_id, user_id)
        async for kind, _, data in self._caller.follow("memory", path, scope, {"after": after}):
            if kind == "open":
                yield []
            elif kind == "commit":
                yield [_change(row) for row in decode(data)["changes"]]

    async def apply(
        self,
        plan_id: str,
        operations: list[AnyOperation],
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        expected_revision: int | None = None,
    ) -> list[Any]:
        """Applies operations of `soorma_common.operations` in one commit; returns their results."""
        scope = self.scope(tenant_id, user_id)
        done = await self._plans.apply(scope, check_name("plan_id", plan_id), operations, expected_revision)
        return [None if text is None else decode(text) for text in done.results]


def check_ttl(seconds: float | None) -> float | None:
    """A time to live, if it is a number of seconds more than 0; else InvalidRequest."""
    if seconds is not None and (type(seconds) not in (int, float) or not 0 < seconds <= LONGEST_TTL):
        raise InvalidRequest(f"ttl is a number of seconds more than 0, at most {LONGEST_TTL:.0f}, not {seconds!r}")
    return seconds


def raw(text: str) -> msgspec.Raw:
    """JSON text as an operation's argument."""
    return msgspec.Raw(text.encode())


def _plan_state(scope: Scope, plan_id: str, key: str, entry: Stored) -> PlanState:
    return PlanState(
        id=entry_id(scope, plan_id, key),
        tenant_id=scope.tenant_id,
        user_id=scope.user_id,
        plan_id=plan_id,
        key=key,
        value=decode(entry.text),
        updated_at=entry.updated_at,
        revision=entry.revision,
        expires_at=entry.expires_at,
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


_CAUSE = {"actor": "actor", "instance": "instance", "eventId": "event_id", "correlationId": "correlation_id",
          "traceId": "trace_id"}  # fmt: skip


def _cause(row: Mapping[str, Any]) -> dict[str, Any]:
    return {here: row.get(there) for there, here in _CAUSE.items()}


def _change(row: Mapping[str, Any]) -> Change:
    at = datetime.fromisoformat(row["at"])
    return Change(row["revision"], row["op"], at, row.get("key"), row.get("argument"), **_cause(row))


def _action(row: Mapping[str, Any]) -> Action:
    return Action(row["number"], row["name"], _time(row.get("at")), **_cause(row))


def _plan_info(row: Mapping[str, Any]) -> PlanInfo:
    return PlanInfo(
        plan_id=row["planId"],
        revision=row["revision"],
        keys=row["keys"],
        actions=row["actions"],
        size_bytes=row["sizeBytes"],
        created_at=datetime.fromisoformat(row["createdAt"]),
        updated_at=datetime.fromisoformat(row["updatedAt"]),
        expires_at=_time(row.get("expiresAt")),
        status=row.get("status", "active"),
        ended_at=_time(row.get("endedAt")),
        result=row.get("result"),
        reason=row.get("reason"),
        stalled=row.get("stalled", False),
    )


__all__ = ["Action", "Change", "MemoryClient", "PlanInfo", "PlanState"]
