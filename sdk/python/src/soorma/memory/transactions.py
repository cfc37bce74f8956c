"""Transactions outside handlers: the same collection and checks as a handler has, committed in one request."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

import msgspec

from soorma.bus import BusClient, PlatformOutbox
from soorma.memory.claims import Claim
from soorma.memory.client import MemoryClient
from soorma.memory.plans import PlatformPlans
from soorma.transaction import Transaction
from soorma.workflow import WorkflowState
from soorma_common.errors import InvalidRequest
from soorma_common.events import Event
from soorma_common.limits import Limits

SOURCE = "soorma-client"
_UNKNOWN = Limits(**dict.fromkeys(Limits.__struct_fields__, sys.maxsize))
"""The platform's limits are its own; it checks them at the commit."""


class StateTransaction(WorkflowState):
    """A plan's state inside a transaction. Other plans of the user: `WorkflowState(tx.memory, "other")`.

    `bus` publishes with the commit; an event that does not say otherwise is of this plan. Use it as a context
    manager: what was done is committed when the block ends, and nothing of it if the block raises.
    """

    def __init__(self, state: WorkflowState) -> None:
        memory = state.memory
        config, caller = memory._config, memory._caller  # noqa: SLF001 - of the same package
        if memory.collects:
            raise InvalidRequest(
                "this is a transaction already, a handler's or one of its own: change the state as it is, or, in a "
                "handler, use context.immediate.memory"
            )
        scope = memory.scope(state.tenant_id, state.user_id)
        self._caller = caller
        self._claim: Claim | None = None
        """the commit is refused unless it is held then"""
        self._transaction = Transaction(
            scope,
            snapshot=None,
            limits=_UNKNOWN,
            isolation="reads",
            plans=PlatformPlans(caller),
            outbox=PlatformOutbox(caller),
        )
        inside = MemoryClient.on(config, caller, self._transaction)
        super().__init__(inside, state.plan_id, state.tenant_id, state.user_id)
        of_plan = Event(plan_id=state.plan_id, tenant_id=scope.tenant_id, user_id=scope.user_id)
        self.bus = BusClient(config, caller, SOURCE, self._transaction, of_plan)

    def rely_on(self, key: str, revision: int) -> None:
        """The commit is refused with Conflict unless the plan's key is at this revision (0: missing) then."""
        self._transaction.rely_on(self.plan_id, key, revision)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transaction.end()
        if error is not None or self._transaction.is_empty:
            return
        if self._claim is None:
            await self._commit()
            return
        async with self._claim._settled() as revision:  # noqa: SLF001 - of the same package
            self.rely_on(self._claim.key, revision)
            await self._commit()

    async def _commit(self) -> None:
        body = msgspec.json.encode(self._transaction.commit())
        await self._caller.call("memory", "POST", "/v1/memory/commit", scope=self._transaction.scope, body=body)
