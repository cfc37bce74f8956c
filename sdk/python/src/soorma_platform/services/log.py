"""Readers of the log: cursors that follow it from any retained position, without a gap.

A reader that has caught up receives new entries as they are committed. One that falls behind,
because its consumer is slow, reads from the store again, so what waits in memory is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

import msgspec

from soorma_common.names import All, Owner
from soorma_platform.buses.protocol import Bus
from soorma_platform.engine.rows.events import LogEntry
from soorma_platform.stores.ports.log import LogStore
from soorma_platform.wakeup import Wakeup
from soorma_platform.work.history import log_from

PAGE = 500
MOST_NEWS = 100
"""The most events of a commit that each reader filters at once, before others get a turn."""
LARGEST_QUEUE = 4 * 1024 * 1024
"""Bytes of events that may wait in memory for one reader."""


class Filter(msgspec.Struct, frozen=True):
    """The events that a reader wants; None, or All.TENANTS, means any."""

    owner: Owner = All.TENANTS
    user_id: str | None = None
    topics: frozenset[str] | None = None
    types: frozenset[str] | None = None
    correlation_id: str | None = None

    def takes(self, entry: LogEntry) -> bool:
        """Returns True if the reader wants the event."""
        return (
            (self.topics is None or entry.topic in self.topics)
            and (self.types is None or entry.type in self.types)
            and self.owner in (All.TENANTS, entry.tenant_id)
            and self.user_id in (None, entry.user_id)
            and self.correlation_id in (None, entry.correlation_id)
        )


class LogReader:
    """A cursor over the log. Use it as a context manager; `position` is how far it has read.

    Readers that share `turns` read from the store one at a time.
    """

    def __init__(
        self,
        log: LogStore,
        bus: Bus,
        filter_: Filter,
        after: int,
        turns: asyncio.Lock | None = None,
    ) -> None:
        self.position = after
        self._turns = turns or asyncio.Lock()
        self._log = log
        self._bus = bus
        self._filter = filter_
        self._queue: deque[LogEntry] = deque()
        self._queued_bytes = 0
        self._heard = after
        self._live = False
        self._woken = Wakeup()

    def __enter__(self) -> Self:
        self._stop = self._bus.subscribe(self._receive)
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop()

    async def next(self, timeout: float) -> list[LogEntry]:  # noqa: ASYNC109 - a poll, not a cancellation
        """Returns the next wanted events, in order; none if `timeout` seconds bring none.

        Raises HistoryGone if the log no longer reaches back to the cursor.
        """
        if self._queue:
            return self._drain()
        if not self._live and (found := await self._catch_up()):
            return found
        if not self._queue:
            self._woken.clear()
            if not await self._woken.wait(timeout):
                self._fall_behind()  # a bus may lose news: read the store before waiting again
                return []
        return self._drain()

    async def _catch_up(self) -> list[LogEntry]:
        """Returns wanted events of the store; none once the cursor is at the end, and so live."""
        while page := await self._page():
            self.position = page[-1].position
            if found := [entry for entry in page if self._filter.takes(entry)]:
                return found
        self._heard = self.position
        self._live = True
        return []

    async def _page(self) -> list[LogEntry]:
        """Returns the next page.

        However many readers are behind, one of them reads in each turn of the event loop.
        """
        async with self._turns:
            page = await log_from(self._log, self.position, PAGE)
            await asyncio.sleep(0)
            return page

    def _drain(self) -> list[LogEntry]:
        entries = list(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        if self._live:
            self.position = self._heard
        elif entries:
            self.position = entries[-1].position
        return entries

    def _fall_behind(self) -> None:
        """Reads from the store from here on, but not again what was heard and not wanted."""
        if not self._queue:
            self.position = self._heard
        self._live = False

    def _receive(self, entries: list[LogEntry]) -> None:
        if not self._live:
            return
        is_much = len(entries) > MOST_NEWS or self._queued_bytes > LARGEST_QUEUE
        if is_much or entries[0].position != self._heard + 1:
            # News was lost, is too much for one turn, or waits for a slow consumer: read the store.
            self._live = False
            self._woken.set()
            return
        self._heard = entries[-1].position
        for entry in entries:
            if self._filter.takes(entry):
                self._queue.append(entry)
                self._queued_bytes += len(entry.envelope)
        if self._queue:
            self._woken.set()
