"""Watchers of a plan: cursors that follow its commits from any retained revision, without a gap."""

from __future__ import annotations

import asyncio
from itertools import groupby
from typing import Self

from soorma_common.names import Scope
from soorma_platform.buses.protocol import Bus, plan_bell
from soorma_platform.engine.rows.plans import HistoryRow
from soorma_platform.stores.ports.plans import PlanStore
from soorma_platform.work.history import history_of

PAGE = 100


class PlanReader:
    """A cursor over a plan's commits. Use it as a context manager; `position` is its revision."""

    def __init__(self, plans: PlanStore, bus: Bus, scope: Scope, plan_id: str, after: int) -> None:
        self.position = after
        self._plans = plans
        self._scope = scope
        self._plan_id = plan_id
        self._bell = bus.bell(plan_bell(scope, plan_id))

    def __enter__(self) -> Self:
        self._bell.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._bell.__exit__(*failure)

    async def next(self, timeout: float) -> list[tuple[int, list[HistoryRow]]]:  # noqa: ASYNC109 - a poll
        """Returns the next revisions with their changes; none if `timeout` seconds bring none.

        Raises HistoryGone if the history no longer reaches back to the cursor.
        """
        await asyncio.sleep(0)  # others get a turn before each page
        while not (commits := await self._page()):
            if not await self._bell.wait(timeout):
                return []
        self.position = commits[-1][0]
        return commits

    async def _page(self) -> list[tuple[int, list[HistoryRow]]]:
        after = self.position
        _, rows = await history_of(self._plans, self._scope, self._plan_id, None, after, PAGE)
        by_revision = groupby(rows, key=lambda row: row.revision)
        return [(revision, list(changes)) for revision, changes in by_revision]
