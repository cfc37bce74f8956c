"""The time of a decision, by three clocks of the record, each with its own purpose.

`wall` is the system's clock, which may jump. It is what users see, and what times to live and `at=`
refer to. `uptime` counts the time during which a platform ran on the record. Leases, backoff and
retention go by it, so neither a jump nor a time without a platform makes anything older. `steady`
also counts the time without a platform and the machine's sleep; delays go by it.
"""

from __future__ import annotations

from typing import NamedTuple

SETTLING_SECONDS = 600.0
"""Seconds for which the clocks must agree before anything expired is removed."""


class Moment(NamedTuple):
    """A time by all three clocks, in milliseconds.

    `is_settled` is false for SETTLING_SECONDS after the wall clock jumped, the machine slept or the
    platform started. Meanwhile, what has expired by the wall clock is hidden from readers but not
    removed.
    """

    wall: int
    uptime: int
    steady: int
    is_settled: bool = True

    def to_wall(self, uptime: int) -> int:
        """Returns the wall clock's time at an uptime.

        It is exact unless the wall clock jumps, or no platform runs, in between.
        """
        return self.wall + uptime - self.uptime
