"""How long the event loop is held at a time: measured from inside, in processor time of its thread.

A timer is set again and again. Where it comes late, somebody has held the loop: for as long as the thread has worked
since the timer was last there, and no longer than it is late and half its period. What other threads and processes
take does not count.
"""

from __future__ import annotations

import asyncio
import time

from soorma_platform.logs import Log
from soorma_platform.metrics import Metrics

PERIOD = 0.02
"""Seconds between two looks. Each wakes the process: more of them would show in its processor time."""
LONG = 0.15
"""What the largest body may take."""

log = Log("soorma.loop")


class LoopSampler:
    """Notes in the metrics how long the loop was held each time that it was. Begin it on the loop; `stop` ends it."""

    def __init__(self, metrics: Metrics) -> None:
        self._held = metrics.loop_held
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + PERIOD
        self._worked = time.thread_time()
        self._handle = self._loop.call_at(self._due, self._look)

    def stop(self) -> None:
        """Looks no more."""
        self._handle.cancel()

    def _look(self) -> None:
        now, worked = self._loop.time(), time.thread_time()
        late = now - self._due
        if late > PERIOD:
            self._note(min(worked - self._worked, late + PERIOD / 2))
        self._worked, self._due = worked, now + PERIOD
        self._handle = self._loop.call_at(self._due, self._look)

    def _note(self, held: float) -> None:
        self._held.note(held)
        if held > LONG:
            log.warning("the event loop was held: all clients had to wait", seconds=round(held, 3))
