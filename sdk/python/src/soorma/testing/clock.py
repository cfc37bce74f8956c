"""The platform's clocks in a test, which stand still until they are moved."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta

from soorma_common.errors import InvalidRequest

_WITHIN = 0.25
"""Part of a millisecond that is added, so that truncating and rounding give the same result."""


class Clock:
    """The machine's clocks for a test's platform, as `soorma_platform.clock.Readings`."""

    boot: str | None = "of a test"
    standstill = math.inf

    def __init__(self, now: datetime | None = None) -> None:
        self.milliseconds = round(1000 * (time.time() if now is None else now.timestamp()))
        """the time by the clock that never jumps"""
        self.jumped = 0
        """milliseconds that the wall clock is ahead of that"""

    def wall(self) -> float:
        """Seconds since 1970 UTC."""
        return (self.milliseconds + self.jumped + _WITHIN) / 1000

    def awake(self) -> float:
        """Seconds of a clock that never jumps."""
        return (self.milliseconds + _WITHIN) / 1000

    since_boot = awake

    def milliseconds_in(self, seconds: float | timedelta) -> int:
        """Returns the time (ms) `seconds` later; InvalidRequest if out of range or before now."""
        later = self._checked(seconds, "time is moved")
        if later < 0:
            raise InvalidRequest(
                f"time goes forward only, not by {seconds} s; `jump` sets the wall clock back"
            )
        return self.milliseconds + round(1000 * later)

    def jump(self, seconds: float | timedelta) -> None:
        """Sets the wall clock ahead or back; InvalidRequest if the result is out of range."""
        self.jumped += round(1000 * self._checked(seconds, "the wall clock jumps"))

    def _checked(self, seconds: float | timedelta, what: str) -> float:
        later = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if type(later) not in (int, float):
            raise InvalidRequest(f"{what} by a number of seconds, or a timedelta, not {seconds!r}")
        try:
            _ = self.now + timedelta(seconds=later)
        except (OverflowError, ValueError) as error:
            raise InvalidRequest(f"time cannot be moved by {seconds} s: {error}") from error
        return later

    @property
    def now(self) -> datetime:
        """The wall clock's time in UTC."""
        return datetime.fromtimestamp((self.milliseconds + self.jumped) / 1000, UTC)
