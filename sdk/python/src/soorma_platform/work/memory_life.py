"""Upkeep of memories: reports idle sessions, forgets what is kept for a time only."""

from __future__ import annotations

from collections import defaultdict
from uuid import uuid4

from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_platform.engine.ageing import ForgetAged
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.purging import ForgetWithPlan
from soorma_platform.engine.retention import Retention
from soorma_platform.engine.rows.passages import EPISODIC, SEMANTIC
from soorma_platform.engine.rows.plan_memories import Outliving
from soorma_platform.engine.sessions import ReportIdle
from soorma_platform.logs import Log
from soorma_platform.stores.ports import Store
from soorma_platform.stores.ports.memory_life import Ages
from soorma_platform.work.forgetting import STEP as MOST_FORGOTTEN

STEP = 100
"""Sessions that one step reports, each in a commit of its own."""
COLLECTIONS = 500
"""Collections in which one step looks for what has aged: an index leads to it in each."""

log = Log("soorma.memories")


class MemoryUpkeep:
    """The life of memories: `session_idle` is after how many seconds a session is idle, 0 never.

    `outliving` are the memories that outlive a purged plan.
    """

    def __init__(
        self,
        store: Store,
        limits: Limits,
        retention: Retention,
        session_idle: float,
        outliving: Outliving,
    ) -> None:
        self._store = store
        self._rows = store.memories.life
        self._limits = limits
        self._session_idle = session_idle
        self._outliving = outliving
        # For how long memories are kept: by their kind, and whether they are closed.
        self._kept = {
            (EPISODIC, False): retention.interactions,
            (SEMANTIC, True): retention.closed_knowledge,
            (SEMANTIC, False): retention.knowledge,
        }
        self._cursors: dict[tuple[int, bool], int] = defaultdict(int)

    async def step(self, now: Moment) -> bool:
        """Takes a bounded step of each; returns True if more may be left."""
        more = bool(self._session_idle) and await self._report_idle(
            max(now.uptime - round(self._session_idle * 1000), -1)
        )
        for (kind, closed), seconds in self._kept.items():
            if seconds is not None and now.is_settled:
                before = max(now.wall - round(seconds * 1000), 0)
                more |= await self._forget_aged(Ages(kind, before, closed))
        return more

    async def forget_with(self, scope: Scope, plan_id: str, before: int) -> bool:
        """Forgets some of what does not outlive a plan that ended before an uptime.

        Returns True once nothing is left, so that the plan may be purged: only then, for a platform
        that dies in between finds the plan still due.
        """
        if self._outliving == "all":
            return True
        gone = await self._store.transact(
            ForgetWithPlan(scope, plan_id, before, self._outliving, MOST_FORGOTTEN), aside=True
        )
        if any(gone):
            log.info(
                "memories of a purged plan forgotten",
                tenant_id=scope.tenant_id,
                user_id=scope.user_id,
                plan_id=plan_id,
                passages=gone.passages,
                interactions=gone.interactions,
            )
        return sum(gone) < MOST_FORGOTTEN

    async def _report_idle(self, before: int) -> bool:
        rows = await self._rows.quiet(before, STEP)
        for row in rows:
            await self._store.transact(
                ReportIdle(row.scope, row.session_id, before, str(uuid4()), limits=self._limits),
                aside=True,
            )
        return len(rows) >= STEP

    async def _forget_aged(self, ages: Ages) -> bool:
        """Looks into some collections in each step, and so into all of them in turn."""
        cursor = self._cursors[ages.kind, ages.closed]
        until = cursor + COLLECTIONS
        rows = await self._rows.aged(ages, cursor, until, MOST_FORGOTTEN)
        by_scope: dict[Scope, list[int]] = defaultdict(list)
        for row in rows:
            by_scope[row.scope].append(row.number)
        for scope, numbers in by_scope.items():
            count = await self._store.transact(
                ForgetAged(scope, numbers, ages.before, closed=ages.closed), aside=True
            )
            _log_receipt(scope, ages, count)
        if len(rows) >= MOST_FORGOTTEN:
            return True
        is_last = until >= await self._rows.last_collection()
        self._cursors[ages.kind, ages.closed] = 0 if is_last else until
        return False  # the next ones are for the next step: nothing of them is pressing


def _log_receipt(scope: Scope, ages: Ages, count: int) -> None:
    if count:
        log.info(
            "memories past their retention forgotten",
            tenant_id=scope.tenant_id,
            user_id=scope.user_id,
            passages=count if ages.kind == SEMANTIC else 0,
            interactions=count if ages.kind == EPISODIC else 0,
        )
