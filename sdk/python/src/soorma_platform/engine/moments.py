"""The time, as a decision is handed it: by three clocks of the record, each for what it is fit for.

`wall` is the system's clock. It is what users see, and what times to live and `at=` mean; it may
jump. `uptime` counts the time in which a platform ran on the record: leases, backoff and retention
go by it, so that neither a jump nor a time without a platform makes anything older. `steady` counts
the time without a platform, and that in which the machine slept, too: delays go by it.
"""

from __future__ import annotations

from typing import NamedTuple

SETTLING_SECONDS = 600.0
"""Seconds for which the wall clock has to agree with the others before what has expired is
removed."""


class Moment(NamedTuple):
    """A time by all three clocks, in milliseconds.

    `is_settled` is false for SETTLING_SECONDS after the wall clock jumped, the machine slept or the
    platform started: what has expired by the wall clock is hidden from readers then, and not
    removed.
    """

    wall: int
    uptime: int
    steady: int
    is_settled: bool = True

    def to_wall(self, uptime: int) -> int:
        """The wall clock's time at an uptime: exact unless the wall clock jumps, or no platform runs, between."""
        return self.wall + uptime - self.uptime
