"""The clock of a record: it goes on over restarts, and notices when the system's clock jumps.

Readings of the machine's clocks come in and `Moment`s go out, so that a test can hand in clocks of
its own. What the three times of a moment are for is said in `engine/moments.py`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple, Protocol

from soorma_platform.engine.moments import SETTLING_SECONDS, Moment

JUMP_SECONDS = 2.0
"""By how much the wall clock may stray from the others before that is a jump: more than NTP
corrects by slewing."""
REFERENCE_SECONDS = 60.0
"""Time after which the wall clock is taken as right again: one that is slewed strays less than
JUMP_SECONDS in it."""
STANDSTILL_SECONDS = 10.0
"""Between two looks, at most this much counts as uptime: a process that was frozen for longer did
not run."""
KEPT_SECONDS = 60.0
"""Time after which the clock is written to the record again: a process that dies has run on for as
long at most."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SETTLING = round(1000 * SETTLING_SECONDS)
_TOLERANCE = round(1000 * JUMP_SECONDS)
_REFERENCE = round(1000 * REFERENCE_SECONDS)
_KEPT = round(1000 * KEPT_SECONDS)
_ALWAYS = -(1 << 62)
"""An uptime since which the clocks of a new record count as settled."""
_LONG = 1e12
"""Seconds that stand for a standstill without a bound: infinity has no milliseconds."""
_NAP = 100
"""Milliseconds of sleep that are not counted: two clocks read one after the other differ by as
much."""
_BETWEEN_SECONDS, _TRIES = 0.05, 5
"""A reading of all clocks that takes longer, as the thread was not running, is made anew, so
often."""
_moment = tuple.__new__  # makes a moment without the keyword handling of its constructor
_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class Readings(Protocol):
    """The machine's clocks, in seconds."""

    boot: str | None
    """names the boot of the machine that `since_boot` counts from; None where that cannot be
    told"""
    standstill: float
    """how much of the time between two looks counts as uptime at most"""

    def wall(self) -> float:
        """Since 1970 UTC. It may jump."""
        ...

    def awake(self) -> float:
        """Since any point, without the time in which the machine slept. It never jumps."""
        ...

    def since_boot(self) -> float:
        """Since the machine was booted, with the time in which it slept. It never jumps."""
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
    """The clock as it is kept in the record: its times, and when that was by the machine's clocks.

    In milliseconds.
    """

    uptime: int
    steady: int
    wall: int
    unsettled: int
    """the uptime since which the clocks have agreed"""
    is_closed: bool
    """whether the platform ended then; one that died ran on for KEPT_SECONDS at most"""
    boot: str | None = None
    since_boot: int | None = None


class Jump(NamedTuple):
    """Something happened to the clocks: the wall clock `jumped`, the machine `slept`, or the process `stood still`.

    `seconds` is how far (less than 0: back) or how long.
    """

    what: str
    seconds: float


class _Look(NamedTuple):
    awake: int
    slept: int
    """how long the machine slept since its boot"""
    uptime: int
    steady: int
    offset: int
    """of the wall clock from `steady`, while they agree"""
    reference: int
    """the uptime at which `offset` was taken"""
    settled_from: int
    """the uptime at which they have agreed for long enough"""


class RecordTime:
    """Tells the time of a record.

    It has to be looked at about each second, by one thread; any may read it.
    """

    def __init__(self, readings: Readings, kept: ClockRow | None = None) -> None:
        """Begins a new record's time, or goes on with a record's that was `kept`."""
        self._readings, self._wall, self._awake = readings, readings.wall, readings.awake
        self.jumps = 0
        """how often the wall clock jumped while this process ran, or just before"""
        self.noticed: list[Jump] = []
        """jumps that were noticed and not logged yet; whoever logs them empties the list"""
        self._standstill = _ms(min(readings.standstill, _LONG))
        wall, awake, since_boot = self._readings_now()
        slept = since_boot - awake
        if kept is None:
            self._look = _Look(awake, slept, wall, wall, 0, wall, _ALWAYS)
            return
        # Since the same boot, a clock that never jumps says how long no platform ran; else the wall
        # clock has to.
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
        """The time now. Each commit asks, so this is written to be quick."""
        awake, _, uptime, steady, offset, _, settled_from = self._look
        gap = round(self._awake() * 1000) - awake
        wall = round(self._wall() * 1000)
        steady += gap
        uptime += gap if gap <= self._standstill else self._standstill  # noqa: FURB136 - quicker
        # It may have jumped since the last look: then it does not count as settled.
        agrees = -_TOLERANCE <= wall - steady - offset <= _TOLERANCE
        return _moment(Moment, (wall, uptime, steady, agrees and uptime >= settled_from))

    def wall(self) -> int:
        """The wall clock's time alone, for readers."""
        return _ms(self._wall())

    def look(self) -> None:
        """Sees what has become of the machine's clocks since the last look."""
        _, slept, uptime, steady, offset, reference, settled_from = look = self._look
        wall, awake, since_boot = self._readings_now()
        self._standstill = _ms(min(self._readings.standstill, _LONG))
        gap, asleep = awake - look.awake, since_boot - awake - slept
        if asleep < _NAP:
            asleep = 0  # what two readings differ by must not add up
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
        """Reads all clocks at once: anew, if something came between."""
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
        """Seconds for which nothing that has expired by the wall clock is removed; 0 where it is."""
        return max(0, self._look.settled_from - self.read().uptime) / 1000

    def kept(self, *, is_closed: bool) -> ClockRow:
        """The clock as it is to be kept in the record."""
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
