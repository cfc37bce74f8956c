"""The turns of suspects and ordinary work, as functions of plain values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma_common.retry import RetryPolicy
from soorma_platform.engine.deliveries import verdict
from soorma_platform.engine.rows.deliveries import DeliveryRow
from soorma_platform.engine.suspects import LONGEST_SPAN, Trial, TrialTurn

LEASE = 30_000
STEP = 1_000


def _row(**counts: int) -> DeliveryRow:
    policy = RetryPolicy(max_deaths=counts.pop("max_deaths"))
    row = DeliveryRow(1, 1, "g", 1, "e", 1, "t", "u", None, None, None, 9, policy, "{}", "e")
    for name, value in counts.items():
        setattr(row, name, value)
    return row


@pytest.mark.behaviour("retries.max-deaths")
@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 6), st.booleans())
def test_the_verdict(most: int, deaths: int, cleared: int, alone: bool) -> None:
    found = verdict(
        _row(max_deaths=most, deaths=deaths, cleared=min(cleared, deaths), died_alone=alone)
    )
    guilty = alone and deaths - min(cleared, deaths) >= most
    assert (found is not None) == guilty
    if found is not None:
        assert found.startswith(
            f"{deaths} process{'' if deaths == 1 else 'es'} died while handling it"
        )


@pytest.mark.behaviour("retries.suspects-alone")
@given(st.integers(1, 5), st.integers(1, 300), st.integers(0, 2**31))
def test_work_and_suspects_both_have_their_time(replicas: int, longest: int, start: int) -> None:
    """Replicas that are always busy handle each suspect in time, and other work as well.

    `longest` is the number of steps that a handler takes.
    """
    trial, names = Trial(), [f"r{number}" for number in range(replicas)]
    busy_until = {
        name: start + (1 + index * longest % (longest + 1)) * STEP
        for index, name in enumerate(names)
    }
    tested, worked, now = 0, 0, start
    turns = 0
    for _ in range(20 * longest + 400):
        now += STEP
        for name in names:
            idle = busy_until[name] <= now
            turn = trial.turn(name, now, LEASE, idle=idle, testing=(), standing=names)
            turns += 1
            if turn in (TrialTurn.WORK, TrialTurn.WORK_FIRST):
                busy_until[name] = now + longest * STEP
                worked += 1
            elif turn is TrialTurn.SUSPECT:
                assert idle
                trial.began()
                tested += 1
    assert tested > 0
    assert worked >= turns / 5
    assert longest * STEP < LONGEST_SPAN


@pytest.mark.behaviour("retries.suspects-alone")
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, LEASE)), max_size=60))
def test_one_replica_at_most_waits_for_its_hands_to_be_empty(
    steps: list[tuple[int, bool, int]],
) -> None:
    trial, names, now = Trial(), ["r0", "r1", "r2", "r3"], 0
    waits: set[str] = set()
    ends = 0
    for number, idle, later in steps:
        now += later
        if now >= ends:
            waits.clear()
        turn = trial.turn(names[number], now, LEASE, idle=idle, testing=(), standing=names)
        if turn is TrialTurn.NOTHING:
            waits.add(names[number])
            ends = trial._ends
        elif turn is TrialTurn.SUSPECT:
            trial.began()
            waits.clear()
        assert len(waits) <= 1


@pytest.mark.behaviour("retries.suspects-alone")
def test_who_tests_gets_nothing_else_and_the_others_work() -> None:
    trial = Trial()
    assert (
        trial.turn("a", 0, LEASE, idle=True, testing=(), standing=["a", "b"]) is TrialTurn.SUSPECT
    )
    trial.began()
    assert (
        trial.turn("a", 1, LEASE, idle=False, testing=["a"], standing=["a", "b"])
        is TrialTurn.NOTHING
    )
    assert (
        trial.turn("b", 1, LEASE, idle=False, testing=["a"], standing=["a", "b"]) is TrialTurn.WORK
    )


@pytest.mark.behaviour("retries.suspects-alone")
def test_who_waits_and_goes_away_is_followed_by_another() -> None:
    trial = Trial()
    assert (
        trial.turn("a", 0, LEASE, idle=False, testing=(), standing=["a", "b"]) is TrialTurn.NOTHING
    )
    assert trial.turn("b", 1, LEASE, idle=False, testing=(), standing=["a", "b"]) is TrialTurn.WORK
    assert trial.turn("b", 2, LEASE, idle=False, testing=(), standing=["b"]) is TrialTurn.NOTHING
