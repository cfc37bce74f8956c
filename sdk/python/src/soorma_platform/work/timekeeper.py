"""Firing of timers that are due.

It may run in every process: a timer fires once, whichever is first.
"""

from __future__ import annotations

import asyncio

from soorma_common.errors import SoormaError
from soorma_platform.buses.protocol import TIMER_BELL, Bus
from soorma_platform.engine.rows.timers import TimerRow
from soorma_platform.engine.timers import FireTimer
from soorma_platform.logs import Log
from soorma_platform.metrics import Metrics
from soorma_platform.stores.ports import Store

PAGE = 100
POLL_SECONDS = 1.0

log = Log("soorma.timers")


class Timekeeper:
    """The task that waits for the next timer and publishes its event; it also polls each second."""

    def __init__(self, store: Store, bus: Bus, metrics: Metrics) -> None:
        self._store = store
        self._bus = bus
        self._metrics = metrics

    async def run(self) -> None:
        """Runs until it is cancelled; failures are logged and retried."""
        with self._bus.bell(TIMER_BELL) as bell:
            while True:
                self._store.health.look_at_clock()
                try:
                    if await self._fire_some():
                        continue
                    left = await self._store.timers.next_due()
                except SoormaError as error:
                    log.error("timers wait, and are tried again", error=error.message)  # noqa: TRY400 - it says it all
                    left = POLL_SECONDS
                await bell.wait(
                    POLL_SECONDS if left is None else min(POLL_SECONDS, max(left, 0.001))
                )

    async def _fire_some(self) -> bool:
        due = await self._store.timers.due(PAGE)
        fired = await asyncio.gather(*(self._fire(timer) for timer in due), return_exceptions=True)
        if failures := [one for one in fired if isinstance(one, BaseException)]:
            raise failures[0]
        return bool(due)

    async def _fire(self, timer: TimerRow) -> None:
        try:
            topic = await self._store.transact(FireTimer(timer))
        except SoormaError as error:
            log.error(  # noqa: TRY400 - the message says it all
                "a timer cannot fire",
                event_id=timer.event_id,
                plan_id=timer.plan_id,
                error=error.message,
            )
            raise
        if topic is not None:
            self._metrics.commits.published.add(topic)
