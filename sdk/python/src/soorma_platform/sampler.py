"""Sampling of the event loop: how long it is held at a time, in processor time of its thread.

A timer is set again and again. If it fires late, something has held the loop: for as long as the
thread has worked since the timer last fired, and no longer than it is late plus half its period.
The time of other threads and processes does not count. The timer is set only while clients send
something: on an idle machine each wake-up of a process costs 0.1 ms, and fifty a second would be
most of what an idle platform costs.
"""

from __future__ import annotations

import asyncio
import time

from soorma_platform.logs import Log
from soorma_platform.metrics import Metrics

PERIOD = 0.02
"""Seconds between two looks. Each wakes the process: more would show in its processor time."""
LOOKS = 50
"""Number of looks after the last incoming data, to see all the work that it causes."""
LONG = 0.15
"""Seconds that the largest body may take."""

log = Log("soorma.loop")


class LoopSampler:
    """A sampler that records in the metrics how long the loop was held each time.

    Create it on the loop; the code that receives data of clients calls `touch`. `stop` ends it.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._held = metrics.loop_held
        self._loop = asyncio.get_running_loop()
        self._due = self._worked = 0.0
        self._left = 0
        self._handle: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def touch(self) -> None:
        """Notes incoming data: looks from now on, for a second."""
        self._left = LOOKS
        if self._handle is None and not self._is_stopped:
            self._set(self._loop.time(), time.thread_time())

    def stop(self) -> None:
        """Stops looking."""
        self._is_stopped = True
        if self._handle is not None:
            self._handle.cancel()

    def _set(self, now: float, worked: float) -> None:
        self._worked, self._due = worked, now + PERIOD
        self._handle = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        now, worked = self._loop.time(), time.thread_time()
        late = now - self._due
        if late > PERIOD:
            self._note(min(worked - self._worked, late + PERIOD / 2))
        self._left -= 1
        if self._left:
            self._set(now, worked)
        else:
            self._handle = None

    def _note(self, held: float) -> None:
        self._held.note(held)
        if held > LONG:
            log.warning("the event loop was held: all clients had to wait", seconds=round(held, 3))
