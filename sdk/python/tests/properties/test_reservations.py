"""Turns at any keys in any order: one holder each, all or nothing, and nobody is stuck."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma_common.names import Scope
from soorma_platform.work.reservations import Lines, ReservedKey, Turn

KEYS = [ReservedKey(Scope("tenant", "user"), "plan", name) for name in "abcd"]
SETS = st.frozensets(st.sampled_from(KEYS), min_size=1)
Steps: TypeAlias = list[tuple[int, frozenset[ReservedKey] | None]]
STEPS = st.lists(st.tuples(st.integers(0, 7), st.none() | SETS), max_size=60)
"""Steps: whose turn it is (0 to 7), and the keys it requests, or None to give up its keys."""


def blockers(turn: Turn, turns: list[Turn]) -> list[Turn]:
    """Returns those with a right to one of its keys before it: holders, and elder turns."""
    others = [other for other in turns if other is not turn and other.keys & turn.keys]
    return [other for other in others if other.granted or other.age < turn.age]


def check(lines: Lines, turns: list[Turn]) -> None:
    granted = [turn for turn in turns if turn.granted]
    assert {key: turn.age for key, turn in lines.holders.items()} == {
        key: turn.age for turn in granted for key in turn.keys
    }, "a holder holds all of its keys, and nobody else holds one of them"
    assert sum(len(turn.keys) for turn in granted) == len(lines.holders)
    for turn in turns:
        # A holder may come before an elder: one that has given up its keys to wait for more.
        assert turn.granted or blockers(turn, turns), (
            "it waits only for holders and for those before it"
        )
    assert not turns or granted, "somebody can always go on"
    waiting = {key for turn in turns if not turn.granted for key in turn.keys}
    assert set(lines.lines) == waiting
    for line in lines.lines.values():
        assert [turn.age for turn in line] == sorted(turn.age for turn in line)


@pytest.mark.behaviour("handlers.turns")
@given(STEPS)
def test_turns_exclude_each_other_and_never_wait_in_a_circle(
    steps: list[tuple[int, frozenset[ReservedKey] | None]],
) -> None:
    lines, turns = Lines(), {}
    for age, (who, keys) in enumerate(steps):
        before = {turn.fence for turn in turns.values() if turn.granted}
        if keys is None:
            turn = turns.pop(who, None)
            told = lines.leave(turn) if turn is not None else []
        else:
            turn = turns.setdefault(who, Turn(str(who), "owner", age))
            told = lines.enter(turn, turn.keys | keys)
        check(lines, list(turns.values()))
        granted = {turn.fence for turn in turns.values() if turn.granted}
        assert granted - before <= {turn.fence for turn in told} <= granted


@pytest.mark.behaviour("handlers.turns")
@given(st.lists(SETS, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_everybody_gets_a_turn_and_at_one_key_the_first_comes_first(
    wanted: list[frozenset[ReservedKey]], draw: object
) -> None:
    lines = Lines()
    turns = [Turn(str(age), "owner", age) for age in range(len(wanted))]
    for turn, keys in zip(turns, wanted, strict=True):
        lines.enter(turn, keys)
    served: list[Turn] = []
    while left := [turn for turn in turns if turn not in served]:
        holder = draw.choice([turn for turn in left if turn.granted])
        served.append(holder)
        lines.leave(holder)
    for key in KEYS:
        ages = [turn.age for turn in served if key in wanted[turn.age]]
        assert ages == sorted(ages)
    assert (lines.holders, lines.lines) == ({}, {})
