"""The platform's clock in a test: it stands still until it is moved."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_WITHIN = 0.25
"""Of a millisecond: so that whoever cuts and whoever rounds a float finds the same one."""


class Clock:
    """Seconds since 1970 UTC, when called."""

    def __init__(self, now: datetime | None = None) -> None:
        self.milliseconds = round(1000 * (time.time() if now is None else now.timestamp()))

    def __call__(self) -> float:
        return (self.milliseconds + _WITHIN) / 1000

    @property
    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.fromtimestamp(self.milliseconds / 1000, UTC)
