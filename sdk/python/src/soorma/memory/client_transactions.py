"""Transactions outside handlers: collected and checked as in one, committed in one request."""

from __future__ import annotations

import sys

import msgspec

from soorma.bus import BusClient, PlatformOutbox
from soorma.memory.client import MemoryClient
from soorma.memory.locks import Hold
from soorma.memory.memories import PlatformMemories
from soorma.memory.plan import BoundPlan
from soorma.memory.plans import PlatformPlans
from soorma.memory.transactions import Transaction
from soorma_common.errors import InvalidRequest
from soorma_common.events import Event
from soorma_common.limits import Limits

SOURCE = "soorma-client"
_UNKNOWN = Limits(**dict.fromkeys(Limits.__struct_fields__, sys.maxsize))
"""The platform's limits are unknown here; it checks them at the commit."""


class PlanTransaction:
    """A transaction begun on a plan: `memory` and `bus` collect, `commit` sends what they have.

    With a `hold`, it is committed only while that is held.
    """

    def __init__(self, plan: BoundPlan, hold: Hold | None = None) -> None:
        if plan.collects:
            raise InvalidRequest(
                "this is a transaction already, a handler's or one of its own: change the state as "
                "it is, or, in a handler, use context.immediate.memory"
            )
        self._plan = plan
        self._hold = hold
        caller = plan.caller
        self._transaction = Transaction(
            plan.checked(),
            snapshot=None,
            limits=_UNKNOWN,
            isolation="reads",
            plans=PlatformPlans(caller),
            memories=PlatformMemories(caller, plan_id=plan.id),
            outbox=PlatformOutbox(caller),
        )
        self.memory = MemoryClient.on(
            plan.config, caller, self._transaction, self._transaction.memories
        )
        of_plan = Event(plan_id=plan.id, tenant_id=plan.scope.tenant_id, user_id=plan.scope.user_id)
        self.bus = BusClient(plan.config, caller, SOURCE, self._transaction, of_plan)

    def rely_on(self, key: str, revision: int) -> None:
        """Makes the commit fail with Conflict unless the key is at this revision (0: missing)."""
        self._transaction.rely_on(self._plan.id, key, revision)

    def end(self) -> None:
        """Ends the transaction, committed or not."""
        self._transaction.end()

    async def commit(self) -> None:
        """Commits what was collected, if anything."""
        if self._transaction.is_empty:
            return
        if self._hold is None:
            await self._send()
            return
        async with self._hold.settled() as revision:
            self.rely_on(self._hold.key, revision)
            await self._send()

    async def _send(self) -> None:
        body = msgspec.json.encode(self._transaction.commit())
        await self._plan.caller.call(
            "memory", "POST", "/v1/memory/commit", scope=self._plan.scope, body=body
        )
