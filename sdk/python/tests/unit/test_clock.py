"""The clock of a record: its readings, whatever happens to the machine's clocks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma_platform.clock import (
    JUMP_SECONDS,
    KEPT_SECONDS,
    REFERENCE_SECONDS,
    STANDSTILL_SECONDS,
    ClockRow,
    Jump,
    RecordTime,
)
from soorma_platform.engine.moments import SETTLING_SECONDS, Moment

HOUR, WEEK, MONTH = 3600.0, 7 * 86_400.0, 30 * 86_400.0
START = 1_800_000_000.0
SETTLING = round(1000 * SETTLING_SECONDS)


class Machine:
    """A machine whose clocks the test controls, and its platform, which reads them each second."""

    standstill = STANDSTILL_SECONDS

    def __init__(self) -> None:
        self.boot: str | None = "first"
        self.true = self.jumped = self.slept = self.off = self.booted = 0.0
        self.clock = RecordTime(self)

    def wall(self) -> float:
        return START + self.true + self.jumped

    def awake(self) -> float:
        return self.since_boot() - self.slept

    def since_boot(self) -> float:
        return self.true - self.booted

    @property
    def ran(self) -> float:
        """The seconds for which the platform ran."""
        return self.true - self.off

    def run(self, seconds: float) -> None:
        """Lets time pass, with a reading each second, or each minute for long times."""
        step = 1.0 if seconds <= SETTLING_SECONDS else STANDSTILL_SECONDS
        end = self.true + seconds
        while self.true < end:
            self.true = min(end, self.true + step)
            self.clock.look()

    def jump(self, seconds: float) -> None:
        self.jumped += seconds

    def sleep(self, seconds: float) -> None:
        self.true += seconds
        self.slept += seconds
        self.off += seconds

    def freeze(self, seconds: float) -> None:
        """Stops the process, but not the machine, for some time."""
        self.true += seconds
        self.off += max(0.0, seconds - STANDSTILL_SECONDS)
        self.clock.look()

    def restart(self, seconds: float, jump: float = 0.0, *, reboot: bool = False) -> None:
        """Restarts the platform after some time, in which the wall clock may have jumped."""
        kept = self.clock.kept(is_closed=True)
        self.true += seconds
        self.off += seconds
        self.jumped += jump
        if reboot:
            self.boot, self.booted, self.slept = f"after {self.boot}", self.true, 0.0
        self.clock = RecordTime(self, kept)

    def now(self) -> Moment:
        """Returns the time of the clock after a reading."""
        self.clock.look()
        return self.clock.read()


def _since_start(milliseconds: int) -> float:
    return milliseconds / 1000 - START


def test_without_anything_strange_the_three_clocks_are_one() -> None:
    machine = Machine()
    machine.run(HOUR)
    assert machine.clock.read() == (time := round(1000 * (START + HOUR)), time, time, True)
    assert machine.clock.noticed == []
    assert machine.clock.settles_in == 0


@pytest.mark.behaviour("clocks.waiting")
@pytest.mark.parametrize("direction", [-1, 1], ids=["back", "ahead"])
@pytest.mark.parametrize("size", [JUMP_SECONDS + 0.1, 60.0, HOUR, WEEK, MONTH, 50 * 365 * 86_400.0])
@pytest.mark.parametrize("lasts", [0.5, 8.0, None], ids=["half a second", "seconds", "for good"])
@pytest.mark.parametrize("how", ["running", "suspended", "restart", "reboot"])
def test_a_jump_moves_nothing_but_the_wall_clock(
    direction: int, size: float, lasts: float | None, how: str
) -> None:
    machine, by = Machine(), direction * size
    machine.run(100)
    jumps: dict[str, Callable[[], None]] = {
        "running": lambda: machine.jump(by),
        "suspended": lambda: (machine.sleep(500), machine.jump(by))[0],
        "restart": lambda: machine.restart(500, by),
        "reboot": lambda: machine.restart(500, by, reboot=True),
    }
    jumps[how]()
    away = machine.true - 100
    if lasts is not None:
        machine.run(lasts)
        machine.jump(-by)
    machine.run(20)
    now = machine.clock.read()
    assert _since_start(now.uptime) == pytest.approx(machine.ran, abs=0.01)
    assert now.wall == round(1000 * machine.wall())
    assert not now.is_settled
    told = [jump.what for jump in machine.clock.noticed]
    if how == "reboot":  # the wall clock is all there is to tell how long that took
        expected = max(0.0, away + by) - away
        assert _since_start(now.steady) == pytest.approx(machine.true + expected, abs=0.01)
        assert ("jumped" in told) is (lasts is not None or away + by < 0)
    else:
        assert _since_start(now.steady) == pytest.approx(machine.true, abs=0.01)
        assert told.count("jumped") == machine.clock.jumps >= 1


@pytest.mark.behaviour("clocks.sweeping-waits")
@pytest.mark.parametrize("by", [-MONTH, -HOUR, -3.0, 3.0, HOUR, MONTH])
def test_after_a_jump_the_clock_is_settled_when_it_has_gone_along_for_ten_minutes(
    by: float,
) -> None:
    machine = Machine()
    machine.run(5)
    machine.jump(by)
    assert not machine.clock.read().is_settled, "before anybody has looked"
    machine.run(SETTLING_SECONDS)
    assert not machine.clock.read().is_settled
    assert 0 < machine.clock.settles_in <= 1
    machine.run(2)
    assert machine.clock.read().is_settled
    assert machine.clock.settles_in == 0
    assert machine.clock.noticed == [Jump("jumped", by)]


@pytest.mark.behaviour("clocks.sweeping-waits")
def test_a_jump_back_to_the_right_time_begins_the_ten_minutes_anew() -> None:
    machine = Machine()
    machine.jump(WEEK)
    machine.run(400)
    machine.jump(-WEEK)
    machine.run(400)
    assert not machine.clock.read().is_settled
    machine.run(203)
    assert machine.clock.read().is_settled


@pytest.mark.behaviour("clocks.sweeping-waits")
def test_a_restart_on_the_same_boot_proves_that_the_clock_went_along() -> None:
    machine = Machine()
    machine.run(10)
    machine.restart(WEEK)
    assert machine.now().is_settled
    assert machine.clock.noticed == []
    machine.jump(HOUR)
    machine.run(300)
    machine.restart(10)
    assert not machine.now().is_settled, "it had jumped before"
    machine.run(302)
    assert machine.now().is_settled


@pytest.mark.behaviour("clocks.sweeping-waits")
@pytest.mark.parametrize("boot", ["first", None])
def test_a_boot_between_leaves_the_wall_clock_to_be_proven(boot: str | None) -> None:
    machine = Machine()
    machine.boot = boot
    machine.run(10)
    machine.restart(HOUR, reboot=boot is not None)
    assert not machine.now().is_settled
    machine.run(SETTLING_SECONDS + 1)
    assert machine.now().is_settled


@pytest.mark.behaviour("clocks.waiting")
def test_a_clock_that_is_slewed_does_not_jump() -> None:
    """NTP corrects a clock by up to 500 ppm."""
    machine = Machine()
    for second in range(1, 7200):
        machine.jumped = -second * 500e-6
        machine.run(1)
    assert machine.clock.noticed == []
    assert machine.clock.read().is_settled


@pytest.mark.behaviour("clocks.waiting")
def test_what_readings_differ_by_does_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, dice = Machine(), Random(1)
    since_boot = machine.since_boot
    monkeypatch.setattr(machine, "since_boot", lambda: since_boot() + dice.uniform(0, 0.04))
    machine.run(SETTLING_SECONDS)
    assert _since_start(machine.clock.read().steady) == pytest.approx(machine.true, abs=0.1)
    assert machine.clock.noticed == []


@pytest.mark.behaviour("clocks.waiting")
def test_what_comes_between_two_readings_is_no_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may be stopped at just that point."""
    machine = Machine()
    wall = machine.wall

    def stopped() -> float:
        monkeypatch.setattr(machine, "wall", wall)
        told = wall()
        machine.true += 5
        return told

    machine.run(1)
    machine.wall = stopped  # type: ignore[method-assign]
    machine.clock.look()
    assert machine.clock.noticed == []
    assert machine.clock.read().is_settled


@pytest.mark.behaviour("clocks.sweeping-waits")
def test_many_small_jumps_are_a_jump() -> None:
    machine = Machine()
    for _ in range(30):
        machine.jump(0.9 * JUMP_SECONDS)
        machine.run(1)
    assert machine.clock.jumps > 1
    assert not machine.clock.read().is_settled


@pytest.mark.behaviour("clocks.keeping")
def test_what_sleeps_or_stands_still_does_not_run() -> None:
    machine = Machine()
    machine.run(10)
    machine.sleep(8 * HOUR)
    assert not machine.clock.read().is_settled, "before anybody has looked"
    machine.run(1)
    machine.freeze(WEEK)
    machine.run(1)
    now = machine.clock.read()
    assert _since_start(now.uptime) == pytest.approx(machine.ran)
    assert _since_start(now.steady) == pytest.approx(machine.true)
    assert machine.clock.noticed == [
        Jump("slept", 8 * HOUR),
        Jump("stood still", WEEK - STANDSTILL_SECONDS),
    ]


@pytest.mark.behaviour("clocks.keeping")
def test_a_record_of_before_goes_on_where_it_was_left() -> None:
    machine = Machine()
    left = round(1000 * (START - WEEK))
    clock = RecordTime(machine, ClockRow(left, left, left, left, True))
    now = clock.read()
    assert (now.uptime, now.steady, now.wall) == (left, round(1000 * START), round(1000 * START))
    assert not now.is_settled


@pytest.mark.behaviour("clocks.waiting")
def test_a_platform_that_died_ran_on_since_its_clock_was_kept() -> None:
    """Otherwise the deliveries it had made ready, or leased, would lie in the future."""
    for ran, away in ((3, 0), (KEPT_SECONDS - 1, 100), (0, 100)):
        machine = Machine()
        kept = machine.clock.kept(is_closed=False)
        machine.run(ran)
        last = machine.clock.read()
        machine.true += away
        machine.clock = RecordTime(machine, kept)
        now = machine.clock.read()
        assert last.uptime <= now.uptime <= last.uptime + 1000 * KEPT_SECONDS
        assert _since_start(now.steady) == ran + away


HAPPENS = st.one_of(
    st.tuples(st.just("run"), st.floats(0, 2 * SETTLING_SECONDS)),
    st.tuples(st.just("jump"), st.floats(-MONTH, MONTH) | st.floats(-5, 5)),
    st.tuples(st.just("sleep"), st.floats(0, MONTH)),
    st.tuples(st.just("freeze"), st.floats(0, MONTH)),
    st.tuples(st.just("restart"), st.floats(0, MONTH), st.floats(-MONTH, MONTH)),
)


@pytest.mark.behaviour("clocks.waiting", "clocks.keeping", "clocks.sweeping-waits")
@given(st.lists(HAPPENS, max_size=12))
def test_whatever_happens(happenings: list[tuple[str, float]]) -> None:
    """Uptime is the time that the platform ran, and steady the time that passed.

    A settled clock is only seconds away from where it was of late, which the clock takes as right
    again every REFERENCE_SECONDS.
    """
    machine = Machine()
    before = machine.clock.read()
    slack, was = 0.1, [(0.0, 0.0)]
    """how long the machine had run, and how far its wall clock had jumped, after each happening"""
    for what, *how in happenings:
        getattr(machine, what)(*how)
        of_late = [jumped for ran, jumped in was if machine.ran - ran <= 2 * REFERENCE_SECONDS] or [
            was[-1][1]
        ]
        read = machine.clock.read()
        now = machine.now()
        for moment in (read, now):
            assert moment.uptime >= before.uptime
            assert moment.steady >= before.steady
            if moment.is_settled:
                assert (
                    min(abs(machine.jumped - jumped) for jumped in of_late) <= JUMP_SECONDS + 0.01
                )
        slack += 0.1 * (what == "restart")  # in each life, a nap of less does not count
        assert _since_start(now.uptime) == pytest.approx(machine.ran, abs=slack)
        assert _since_start(now.steady) == pytest.approx(machine.true, abs=slack)
        was.append((machine.ran, machine.jumped))
        before = now
