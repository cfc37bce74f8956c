"""The client of the memory service; calls name a tenant and user or use the configured ones."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import msgspec

from soorma.awaits import awaited
from soorma.config import ClientConfig
from soorma.local import shown
from soorma.memory.audit import AuditCalls
from soorma.memory.endings import cancellation, completion, failure
from soorma.memory.memories import Memories, PlatformMemories
from soorma.memory.models import PlanState
from soorma.memory.plan import BoundPlan, check_ttl, raw
from soorma.memory.plans import PAGE, Plans, PlatformPlans
from soorma.memory.procedural import ProceduralCalls
from soorma.memory.quarantine import QuarantineCalls
from soorma.transport.calls import Caller, caller_for
from soorma_common.memory import Action, Change, PlanInfo, PlanPage
from soorma_common.names import check_name
from soorma_common.operations import AnyOperation, Cleanup, Delete, Set
from soorma_common.values import encode

_plan_page = msgspec.json.Decoder(PlanPage)


@awaited
class MemoryClient(ProceduralCalls, AuditCalls, QuarantineCalls):
    """Client of the memory service.

    `MemoryClient()` finds the service through SOORMA_MEMORY_URL (default http://localhost:8083).
    Calls without `tenant_id` or `user_id` use SOORMA_TENANT_ID and SOORMA_USER_ID, else the
    default ones. An outage raises Unavailable after `retry_seconds` of retries; a retry never makes
    a change twice. Close it, or use it as an asynchronous context manager.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        config: ClientConfig | None = None,
        retry_seconds: float | None = None,
        api_key: str | Callable[[], str] | None = None,
    ) -> None:
        config = config or ClientConfig.from_env()
        if api_key is not None:
            config = replace(config, api_key=api_key)
        if base_url is not None:
            config = replace(config, memory_url=base_url.rstrip("/"), origin="")
        if retry_seconds is not None:
            config = replace(config, retry_seconds=retry_seconds)
        self._config = config
        self._caller = caller_for(config)
        self._plans: Plans = PlatformPlans(self._caller)
        self._memories: Memories = PlatformMemories(self._caller)

    @staticmethod
    def on(
        config: ClientConfig,
        caller: Caller,
        plans: Plans | None = None,
        memories: Memories | None = None,
    ) -> MemoryClient:
        """Returns a client on the connections of `caller`, which it does not own.

        `plans` and `memories` may be those of a handler's transaction.
        """
        return _BorrowedClient(
            config, caller, plans or PlatformPlans(caller), memories or PlatformMemories(caller)
        )

    def __repr__(self) -> str:
        return f"MemoryClient({shown(self._config.memory_url)})"

    async def close(self) -> None:
        """Closes the client's connections."""
        await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def plan(
        self, plan_id: str | None, tenant_id: str | None = None, user_id: str | None = None
    ) -> BoundPlan:
        """Returns the plan that calls with these ids mean, on this client's connections.

        Its scope is checked when it is used.
        """
        scope = self._config.scope(tenant_id, user_id)
        return BoundPlan(
            self._config, self._caller, self._plans, scope, check_name("plan_id", plan_id)
        )

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
        """Sets a key, for `ttl` seconds if given.

        With `expected_revision` it is a compare-and-set: raises Conflict, with the current
        revision, unless the key is at that one (0: missing).
        """
        text = encode(value)
        operation = Set(
            key=check_name("key", key),
            value=raw(text),
            ttl=check_ttl(ttl),
            expected_revision=expected_revision,
        )
        return await self.plan(plan_id, tenant_id, user_id).put(operation)

    async def get_plan_state(
        self, plan_id: str, key: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> PlanState:
        """The key with its value; KeyMissing if there is none."""
        return await self.plan(plan_id, tenant_id, user_id).entry(key)

    async def get_value(
        self, plan_id: str, key: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> Any:
        """The key's value alone; KeyMissing if there is none."""
        return await self.plan(plan_id, tenant_id, user_id).value(key)

    async def get_plan_states(
        self,
        plan_id: str,
        keys: Iterable[str],
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> dict[str, PlanState]:
        """Those of the keys that exist, read together."""
        return await self.plan(plan_id, tenant_id, user_id).entries(keys)

    async def get_committed(
        self, plan_id: str, key: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> PlanState | None:
        """The key as others see it, without a handler's own changes; None if it is missing."""
        return await self.plan(plan_id, tenant_id, user_id).committed(key)

    async def delete_plan_state(
        self,
        plan_id: str,
        key: str,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        expected_revision: int | None = None,
    ) -> bool:
        """Removes a key; returns True if there was one.

        Raises Conflict if it is not at `expected_revision`, if given.
        """
        operation = Delete(key=check_name("key", key), expected_revision=expected_revision)
        return bool(await self.plan(plan_id, tenant_id, user_id).do(operation))

    async def cleanup_plan(
        self, plan_id: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> int:
        """Removes everything of a plan; returns how many keys it had."""
        return int(await self.plan(plan_id, tenant_id, user_id).do(Cleanup()))

    async def complete_plan(
        self,
        plan_id: str,
        result: Any = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        if_active: bool = False,
    ) -> bool:
        """Ends a plan as completed; returns True.

        If it has ended before, raises PlanEnded, or returns False with `if_active`.
        """
        return bool(
            await self.plan(plan_id, tenant_id, user_id).do(completion(result, if_active=if_active))
        )

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
        return bool(
            await self.plan(plan_id, tenant_id, user_id).do(failure(reason, if_active=if_active))
        )

    async def cancel_plan(
        self,
        plan_id: str,
        reason: str = "",
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        if_active: bool = False,
    ) -> bool:
        """Ends a plan as cancelled, like `complete_plan`; its waiting events are discarded."""
        return bool(
            await self.plan(plan_id, tenant_id, user_id).do(
                cancellation(reason, if_active=if_active)
            )
        )

    async def list_keys(
        self,
        plan_id: str,
        prefix: str = "",
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> list[str]:
        """All keys of a plan that begin with `prefix`, in order."""
        return await self.plan(plan_id, tenant_id, user_id).keys(prefix)

    async def get_plan(
        self, plan_id: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> PlanInfo:
        """A plan's status, revision, sizes and times; NotFound if nothing of it is stored."""
        return await self.plan(plan_id, tenant_id, user_id).info()

    async def list_plans(
        self,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        status: str | None = None,
        stalled: bool = False,
    ) -> AsyncGenerator[PlanInfo, None]:
        """Yields the user's plans that hold anything or have ended, by id, of one status or all.

        They are fetched page by page. `stalled`: only those that were reported as such and have not
        moved since.
        """
        scope = self.scope(tenant_id, user_id)
        wanted: dict[str, Any] = {
            "limit": PAGE,
            "status": status,
            "stalled": "true" if stalled else None,
        }
        async with aclosing(
            self._caller.pages("memory", "/v1/memory/working", scope, _plan_page, **wanted)
        ) as pages:
            async for page in pages:
                for plan in page.plans:
                    yield plan

    async def get_actions(
        self, plan_id: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> list[Action]:
        """The plan's action history, in order."""
        return await self.plan(plan_id, tenant_id, user_id).actions()

    async def get_history(
        self,
        plan_id: str,
        key: str | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        after: int | None = None,
    ) -> list[Change]:
        """The committed changes since revision `after` (default: all kept), of one key or all."""
        return await self.plan(plan_id, tenant_id, user_id).history(key, after)

    async def get_value_at(
        self,
        plan_id: str,
        key: str,
        revision: int,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> Any:
        """The key's value as of a revision of the plan.

        Raises KeyMissing if there was none, HistoryGone if the revision is too old.
        """
        return await self.plan(plan_id, tenant_id, user_id).value_at(key, revision)

    async def get_values_at(
        self,
        plan_id: str,
        revision: int,
        prefix: str = "",
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> dict[str, Any]:
        """All keys that begin with `prefix`, with their values, as of a revision of the plan.

        Raises HistoryGone if the revision is too old.
        """
        return await self.plan(plan_id, tenant_id, user_id).values_at(revision, prefix)

    async def list_keys_at(
        self,
        plan_id: str,
        revision: int,
        prefix: str = "",
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> list[str]:
        """All keys that begin with `prefix` as of a revision of the plan, in order.

        Raises HistoryGone if the revision is too old.
        """
        return await self.plan(plan_id, tenant_id, user_id).keys_at(revision, prefix)

    async def get_revision(
        self, plan_id: str, tenant_id: str | None = None, user_id: str | None = None
    ) -> int:
        """The plan's committed revision, 0 if it was never written."""
        return await self.plan(plan_id, tenant_id, user_id).revision()

    async def watch_plan(
        self,
        plan_id: str,
        tenant_id: str | None = None,
        user_id: str | None = None,
        *,
        after: int | None = None,
    ) -> AsyncGenerator[list[Change], None]:
        """Yields the changes of each commit after revision `after` (default: now), as they happen.

        Begins with an empty list, once no commit can be missed. Reconnects without a gap.
        """
        async with aclosing(self.plan(plan_id, tenant_id, user_id).watch(after)) as commits:
            async for commit in commits:
                yield commit

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
        return await self.plan(plan_id, tenant_id, user_id).apply(operations, expected_revision)


class _BorrowedClient(MemoryClient):
    """A client on connections that it does not own."""

    def __init__(
        self, config: ClientConfig, caller: Caller, plans: Plans, memories: Memories
    ) -> None:
        self._config = config
        self._caller = caller
        self._plans = plans
        self._memories = memories


__all__ = ["Action", "Change", "MemoryClient", "PlanInfo", "PlanState"]
