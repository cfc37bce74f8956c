"""The record's clock as a row of it, from which the next platform continues."""

from __future__ import annotations

import apsw

from soorma_platform.clock import KEPT_SECONDS, ClockRow, Readings, RecordTime
from soorma_platform.engine.moments import SETTLING_SECONDS
from soorma_platform.logs import Log
from soorma_platform.stores.sqlite.statements import Mutation, Select

log = Log("soorma.clock")
_kept = Select("clock", ClockRow)
_keep = Mutation("keep_clock", ClockRow)

_UNSETTLED = f"nothing that has expired is removed for {SETTLING_SECONDS / 60:.0f} minutes"
_MESSAGES = {
    ("jumped", True): (
        log.warning,
        f"the system clock jumped ahead: {_UNSETTLED}; leases and delays are not moved",
    ),
    ("jumped", False): (
        log.warning,
        f"the system clock jumped back: {_UNSETTLED}; leases and delays are not moved",
    ),
    ("slept", True): (log.info, f"the machine slept: {_UNSETTLED}"),
    ("stood still", True): (
        log.warning,
        "the platform stood still: leases and retention do not count that time",
    ),
}


class RecordClock(RecordTime):
    """The clock of an open record."""

    def __init__(self, connection: apsw.Connection, readings: Readings) -> None:
        """Continues from where the record was left, or begins its time."""
        super().__init__(readings, _kept.one(connection))
        self.is_old = True
        """true if the row should be written soon"""
        self._kept_at = 0
        self.keep(connection)
        self.report()

    def keep(self, connection: apsw.Connection, *, is_closed: bool = False) -> None:
        """Writes the row, inside the writer's transaction."""
        kept = self.kept(is_closed=is_closed)
        _keep.run(connection, kept)
        self._kept_at, self.is_old = kept.uptime, False

    def keep_if_old(self, connection: apsw.Connection) -> None:
        """Writes the row if it has become old."""
        if self.is_old or self.read().uptime - self._kept_at >= 1000 * KEPT_SECONDS:
            self.keep(connection)

    def report(self) -> bool:
        """Logs what was noticed since the last call; True if there was anything."""
        noticed, self.noticed = self.noticed, []
        for jump in noticed:
            write, message = _MESSAGES[jump.what, jump.seconds > 0]
            write(message, seconds=round(jump.seconds, 3))
        return bool(noticed)
