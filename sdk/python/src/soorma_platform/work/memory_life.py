"""Upkeep of memories: reports idle sessions, in bounded steps."""

from __future__ import annotations

from uuid import uuid4

from soorma_common.limits import Limits
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.sessions import ReportIdle
from soorma_platform.stores.ports import Store

STEP = 100
"""Sessions that one step reports, each in a commit of its own."""


class MemoryUpkeep:
    """The life of memories: `session_idle` is after how many seconds a session is idle, 0 never."""

    def __init__(self, store: Store, limits: Limits, session_idle: float) -> None:
        self._store = store
        self._limits = limits
        self._session_idle = session_idle

    async def step(self, now: Moment) -> bool:
        """Takes a bounded step; returns True if more may be left."""
        return bool(self._session_idle) and await self._report_idle(
            now.uptime - round(self._session_idle * 1000)
        )

    async def _report_idle(self, before: int) -> bool:
        rows = await self._store.memories.life.quiet(before, STEP)
        for row in rows:
            await self._store.transact(
                ReportIdle(row.scope, row.session_id, before, str(uuid4()), limits=self._limits)
            )
        return len(rows) >= STEP
