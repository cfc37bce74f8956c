"""Upkeep: sweeps what has expired, removes what is past its retention, reports stalled plans."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from uuid import uuid4

from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.times import rfc3339
from soorma_platform.engine.commits import PurgePlan, SweepExpired
from soorma_platform.engine.life import ReportStalled
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.retention import (
    KEPT_AUDIT,
    STEP,
    Fate,
    Retention,
    TrimHistory,
    fate,
    warn_before,
)
from soorma_platform.engine.rows.plan_memories import Outliving
from soorma_platform.engine.sessions import IDLE_SECONDS
from soorma_platform.logs import Log
from soorma_platform.stores.ports import Store
from soorma_platform.stores.ports.upkeep import StaleRow
from soorma_platform.work.memory_life import MemoryUpkeep

log = Log("soorma.upkeep")


class Upkeep:
    """The sweeping of the record, in bounded steps.

    It remembers how far it has read the log and the plans, and of what it has warned.
    """

    def __init__(
        self,
        store: Store,
        limits: Limits,
        retention: Retention,
        *,
        session_idle: float = IDLE_SECONDS,
        outliving: Outliving = "all",
    ) -> None:
        self._store = store
        self._rows = store.upkeep
        self._limits = limits
        self._retention = retention
        self._log_cursor = 0
        self._plan_cursor = 0
        self._warned: set[int] = set()
        self._memories = MemoryUpkeep(store, limits, retention, session_idle, outliving)

    async def step(self) -> bool:
        """Takes a bounded step of each kind of sweeping; returns True if more may be left."""
        self._store.health.look_at_clock()
        now = await self._rows.begin()
        uptime = now.uptime
        more = now.is_settled and await self._expire(now.wall)
        more |= await self._memories.step(now)
        more |= await self._purge(uptime - round(self._retention.plans * 1000))
        await self._report_stalled(uptime - self._limits.plan_idle_seconds * 1000)
        again = await asyncio.gather(  # concurrently, so that they share a commit
            self._do_chore(),
            self._rows.sweep_responses(STEP),
            self._sweep_log(uptime - round(self._retention.events * 1000)),
            self._sweep_subscriptions(uptime),
            self._sweep_audit(now),
        )
        # Last: it reads and writes the whole file, and if that fails, nothing else waits for it.
        await self._rows.erase()
        return more or any(again)

    async def _expire(self, wall: int) -> bool:
        due = await self._rows.expired(wall, STEP)
        by_plan: dict[tuple[Scope, str], set[str]] = defaultdict(set)
        for row in due:
            keys = by_plan[row.scope, row.plan_id]
            if row.key is not None:
                keys.add(row.key)
        for (scope, plan_id), keys in by_plan.items():
            sweep = SweepExpired(scope, plan_id, keys, limits=self._limits)
            await self._store.transact(sweep, aside=True)
        return len(due) >= STEP

    async def _purge(self, before: int) -> bool:
        ended = await self._rows.ended(before, STEP)
        more = len(ended) >= STEP
        for row in ended:
            if not await self._memories.forget_with(row.scope, row.plan_id, before):
                more = True
                continue
            await self._store.transact(
                PurgePlan(row.scope, row.plan_id, before, limits=self._limits), aside=True
            )
        return more

    async def _report_stalled(self, before: int) -> None:
        """Examines some plans in each step, and so all of them in turn."""
        cursor, self._plan_cursor = self._plan_cursor, self._plan_cursor + STEP
        for row in await self._rows.idle(cursor, self._plan_cursor, before):
            report = ReportStalled(
                row.scope, row.plan_id, row.revision, str(uuid4()), limits=self._limits
            )
            await self._store.transact(report, aside=True)
            log.warning(
                "plan stalled, nothing is in flight and it is not at its end",
                tenant_id=row.scope.tenant_id,
                user_id=row.scope.user_id,
                plan_id=row.plan_id,
                revision=row.revision,
            )
        if self._plan_cursor >= await self._rows.last_plan():
            self._plan_cursor = 0

    async def _do_chore(self) -> bool:
        chore = await self._rows.chore()
        if chore is None:
            return False
        trim = TrimHistory(chore.plan, chore.incarnation, limits=self._limits)
        if chore.kind != "trim" or await self._store.transact(trim, aside=True):
            await self._rows.sweep(chore, STEP)
        return True

    async def _sweep_log(self, before: int) -> bool:
        following = await self._rows.sweep_log(self._log_cursor, before, STEP)
        self._log_cursor = following or 0
        return following is not None

    async def _sweep_audit(self, now: Moment) -> bool:
        if not now.is_settled:  # a clock that is years ahead for a moment must remove nothing
            return False
        return await self._store.audit_log.remove_old(now.wall - KEPT_AUDIT, STEP)

    async def _sweep_subscriptions(self, now: int) -> bool:
        more = False
        for row in await self._rows.stale(warn_before(self._retention, now)):
            match fate(row.seen_uptime, self._retention, now):
                case Fate.WARNED_OF if row.id not in self._warned:
                    self._warned.add(row.id)
                    log.warning("subscription unused, soon to be removed", **_about(row))
                case Fate.REMOVED:
                    before = now - round(self._retention.groups * 1000)
                    if await self._rows.remove(row, before, STEP):
                        more = True
                    else:
                        log.warning(
                            "subscription removed, with all that waited for it", **_about(row)
                        )
        return more


def _about(row: StaleRow) -> dict[str, str | None]:
    return {
        "unseen_since": rfc3339(row.seen_at),
        "group": row.group,
        "tenant": row.tenant_id or None,
        "type": row.type,
        "topic": row.topic,
    }
