"""The platform's clock in a test: it stands still until it is moved."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from soorma_common.errors import InvalidRequest

_WITHIN = 0.25
"""Of a millisecond: so that whoever cuts and whoever rounds a float finds the same one."""


class Clock:
    """Seconds since 1970 UTC, when called."""

    def __init__(self, now: datetime | None = None) -> None:
        self.milliseconds = round(1000 * (time.time() if now is None else now.timestamp()))

    def __call__(self) -> float:
        return (self.milliseconds + _WITHIN) / 1000

    def milliseconds_in(self, seconds: float | timedelta) -> int:
        """The time so much later; InvalidRequest if that is no time, or before now."""
        later = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if type(later) not in (int, float):
            raise InvalidRequest(f"time is moved by a number of seconds, or a timedelta, not {seconds!r}")
        if later < 0:
            raise InvalidRequest(f"time goes forward only, not by {seconds} s")
        try:
            self.now + timedelta(seconds=later)
        except (OverflowError, ValueError) as error:
            raise InvalidRequest(f"time cannot be moved by {seconds} s: {error}") from error
        return self.milliseconds + round(1000 * later)

    @property
    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.fromtimestamp(self.milliseconds / 1000, UTC)
