"""The clock of a record: it continues over restarts, and notices when the system's clock jumps.

Readings of the machine's clocks come in and `Moment`s go out, so that a test can pass clocks of its
own. `engine/moments.py` explains the three times of a moment.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple, Protocol

from soorma_platform.engine.moments import SETTLING_SECONDS, Moment

JUMP_SECONDS = 2.0
"""Seconds by which the wall clock must stray to have jumped: more than NTP corrects by slewing."""
REFERENCE_SECONDS = 60.0
"""Seconds after which the wall clock is taken as right again.

A clock that is slewed strays less than JUMP_SECONDS in that time.
"""
STANDSTILL_SECONDS = 10.0
"""Maximum seconds between two looks that count as uptime.

A process that was frozen for longer did not run.
"""
KEPT_SECONDS = 60.0
"""Seconds after which the clock is stored in the record again.

A process that dies has run on for at most as long.
"""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SETTLING = round(1000 * SETTLING_SECONDS)
_TOLERANCE = round(1000 * JUMP_SECONDS)
_REFERENCE = round(1000 * REFERENCE_SECONDS)
_KEPT = round(1000 * KEPT_SECONDS)
_ALWAYS = -(1 << 62)
"""An uptime since which the clocks of a new record count as settled."""
_LONG = 1e12
"""Seconds that stand for an unbounded standstill: infinity has no milliseconds."""
_NAP = 100
"""Milliseconds of sleep that do not count: two clocks read in sequence differ by as much."""
_BETWEEN_SECONDS, _TRIES = 0.05, 5
"""Seconds beyond which a reading of all clocks is repeated, and the maximum of readings.

It takes longer if the thread was not running.
"""
_moment = tuple.__new__  # makes a moment without the keyword handling of its constructor
_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class Readings(Protocol):
    """The machine's clocks, in seconds."""

    boot: str | None
    """identifies the boot that `since_boot` counts from; None if that is unknown"""
    standstill: float
    """maximum time between two looks that counts as uptime"""

    def wall(self) -> float:
        """Returns the seconds since 1970 UTC. They may jump."""
        ...

    def awake(self) -> float:
        """Returns the seconds since any point, without the machine's sleep. They never jump."""
        ...

    def since_boot(self) -> float:
        """Returns the seconds since the boot, with the machine's sleep. They never jump."""
        ...


class SystemClocks:
    """The clocks of this machine."""

    standstill = STANDSTILL_SECONDS
    wall = staticmethod(time.time)
    awake = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.boot = _boot_id() if _BOOT_CLOCK is not None else None

    def since_boot(self) -> float:
        return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text("ascii").strip() or None
    except OSError:
        return None


class ClockRow(NamedTuple):
    """The clock as stored in the record: its times and the machine's clocks then.

    All in milliseconds.
    """

    uptime: int
    steady: int
    wall: int
    unsettled: int
    """the uptime since which the clocks have agreed"""
    is_closed: bool
    """true if the platform ended then; one that died ran on for KEPT_SECONDS at most"""
    boot: str | None = None
    since_boot: int | None = None


class Jump(NamedTuple):
    """An irregularity of the clocks.

    The wall clock `jumped`, the machine `slept`, or the process `stood still`; `seconds` is how far
    (less than 0: back) or how long.
    """

    what: str
    seconds: float


class _Look(NamedTuple):
    awake: int
    slept: int
    """time that the machine slept since its boot"""
    uptime: int
    steady: int
    offset: int
    """of the wall clock from `steady`, while they agree"""
    reference: int
    """the uptime at which `offset` was taken"""
    settled_from: int
    """the uptime at which they have agreed for long enough"""


class RecordTime:
    """The time of a record.

    One thread has to call `look` about each second; any may read the time.
    """

    def __init__(self, readings: Readings, kept: ClockRow | None = None) -> None:
        """Starts a new record's time, or continues that of a record whose clock was `kept`."""
        self._readings, self._wall, self._awake = readings, readings.wall, readings.awake
        self.jumps = 0
        """number of jumps of the wall clock while this process ran, or just before"""
        self.noticed: list[Jump] = []
        """jumps that were noticed and not logged yet; the one who logs them empties the list"""
        self._standstill = _ms(min(readings.standstill, _LONG))
        wall, awake, since_boot = self._readings_now()
        slept = since_boot - awake
        if kept is None:
            self._look = _Look(awake, slept, wall, wall, 0, wall, _ALWAYS)
            return
        # Within one boot, a clock that never jumps says how long no platform ran; across boots, the
        # wall clock has to.
        is_same_boot = kept.boot is not None and kept.boot == readings.boot
        away = max(0, since_boot - (kept.since_boot or 0) if is_same_boot else wall - kept.wall)
        has_jumped = self._notice("jumped", wall - kept.wall - away)
        ran_on = 0 if kept.is_closed else min(away, _KEPT)
        uptime, steady = kept.uptime + ran_on, kept.steady + away
        unsettled = kept.unsettled if is_same_boot and not has_jumped else uptime
        self._look = _Look(
            awake, slept, uptime, steady, wall - steady, uptime, unsettled + _SETTLING
        )

    def read(self) -> Moment:
        """Returns the time now. It is written for speed, as each commit calls it."""
        awake, _, uptime, steady, offset, _, settled_from = self._look
        # `int` takes a third of the time of `round`; above 0 only ties differ.
        gap = int(self._awake() * 1000 + 0.5) - awake
        wall = int(self._wall() * 1000 + 0.5)
        steady += gap
        uptime += gap if gap <= self._standstill else self._standstill  # noqa: FURB136 - quicker
        # If it has jumped since the last look, it does not count as settled.
        agrees = -_TOLERANCE <= wall - steady - offset <= _TOLERANCE
        return _moment(Moment, (wall, uptime, steady, agrees and uptime >= settled_from))

    def wall(self) -> int:
        """Returns the wall clock's time alone, for readers."""
        return _ms(self._wall())

    def look(self) -> None:
        """Follows the machine's clocks since the last look, and notices their jumps."""
        _, slept, uptime, steady, offset, reference, settled_from = look = self._look
        wall, awake, since_boot = self._readings_now()
        self._standstill = _ms(min(self._readings.standstill, _LONG))
        gap, asleep = awake - look.awake, since_boot - awake - slept
        if asleep < _NAP:
            asleep = 0  # the difference of two readings must not add up
        ran = min(gap, self._standstill)
        uptime, steady = uptime + ran, steady + gap + asleep
        has_jumped = self._notice("jumped", wall - steady - offset)
        has_slept = self._notice("slept", asleep)
        self._notice("stood still", gap - ran)
        if has_jumped or has_slept:
            settled_from = uptime + _SETTLING
        if has_jumped or has_slept or uptime - reference >= _REFERENCE:
            offset, reference = wall - steady, uptime
        self._look = _Look(awake, slept + asleep, uptime, steady, offset, reference, settled_from)

    def _readings_now(self) -> tuple[int, int, int]:
        """Reads all clocks at once; repeats that if something came between."""
        readings = self._readings
        left = _TRIES
        while True:
            before = readings.awake()
            wall, awake, since_boot = readings.wall(), readings.awake(), readings.since_boot()
            left -= 1
            if readings.awake() - before < _BETWEEN_SECONDS or not left:
                return _ms(wall), _ms(awake), _ms(since_boot)

    def _notice(self, what: str, milliseconds: int) -> bool:
        if abs(milliseconds) <= _TOLERANCE:
            return False
        self.jumps += what == "jumped"
        self.noticed.append(Jump(what, milliseconds / 1000))
        return True

    @property
    def settles_in(self) -> float:
        """Seconds for which nothing that has expired by the wall clock is removed; else 0."""
        return max(0, self._look.settled_from - self.read().uptime) / 1000

    def kept(self, *, is_closed: bool) -> ClockRow:
        """Returns the clock as it is to be stored in the record."""
        now, boot = self.read(), self._readings.boot
        since_boot = None if boot is None else _ms(self._readings.since_boot())
        return ClockRow(
            now.uptime,
            now.steady,
            now.wall,
            self._look.settled_from - _SETTLING,
            is_closed,
            boot,
            since_boot,
        )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
