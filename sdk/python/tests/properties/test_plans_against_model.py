"""The engine on the embedded store, against plain dicts."""

from __future__ import annotations

import asyncio
import copy
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from empty_record import open_sqlite
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from plans_model import Change, Plan, sweep
from record import (
    ALICE,
    ALL,
    BOB,
    LEASE,
    STRANGER,
    Clock,
    Record,
    append,
    extend,
    increment,
    merge,
    part,
    put,
)

from soorma_common.errors import Conflict, HistoryGone, SoormaError, WrongType
from soorma_common.json_text import decode
from soorma_common.limits import Limits
from soorma_common.memory import PlanCommit
from soorma_common.names import Scope
from soorma_common.operations import Cleanup, Delete, ExpirePlan, RecordAction
from soorma_platform.stores.sqlite import SqliteStore, plans

pytestmark = pytest.mark.behaviour("proofs.model")

SCOPES = [ALICE, BOB, STRANGER, Scope("umbrella", "bob")]
WHOSE = st.sampled_from([ALICE] * 6 + SCOPES)
PLANS = st.sampled_from(["p", "p", "p", "q"])
KINDS: dict[str, list[Any]] = {
    "n": [1, 2**70, -2.5],
    "l": [[], [1], ["y" * 300]],
    "o": [{}, {"x": 1}],
    "z": [None, ""],
}
TTL = st.sampled_from([None, 1.0, 1.0, 3.0])


@st.composite
def operations(draw: st.DrawFn) -> Any:
    """Draws an operation that mostly fits its key, so that most commits are made."""
    key = draw(st.sampled_from("nnlloz"))
    kind = draw(st.sampled_from("nnnnnnloz")) if draw(st.integers(0, 15)) == 0 else key
    expected = draw(st.sampled_from([None] * 15 + [0, 1]))
    more = {"blind": draw(st.booleans()), "expected_revision": expected}
    value = draw(st.sampled_from(KINDS[kind]))
    setting = [
        put(key, draw(st.sampled_from(KINDS[key])), ttl=draw(TTL), expected_revision=expected)
    ]
    changes = {
        "n": [increment(key, 1, **more), increment(key, 0.5, **more)],
        "l": [append(key, value, **more), extend(key, [value, 1], **more)],
        "o": [merge(key, {"f": value}, **more)],
        "z": [
            RecordAction("a"),
            RecordAction("b"),
            Delete(key=draw(st.sampled_from("nlo")), **more),
        ],
    }
    return draw(st.sampled_from(setting + changes[kind]))


ANY = st.one_of(*[operations()] * 8, st.builds(ExpirePlan, TTL), st.just(Cleanup()))


@dataclass
class MadeCommit:
    """A drawn commit; `true_reads` get the model's revisions, `false_read` is one of the key n."""

    scope: Scope
    operations: dict[str, list[Any]]
    true_reads: set[str]
    false_read: int | None
    expected: int | None


COMMITS = st.builds(
    MadeCommit,
    scope=WHOSE,
    operations=st.dictionaries(
        PLANS, st.lists(ANY, min_size=1, max_size=3), min_size=1, max_size=2
    ),
    true_reads=st.sets(st.sampled_from("nlo")),
    false_read=st.sampled_from([None] * 15 + [0]),
    expected=st.sampled_from([None] * 15 + [2]),
)


class PlansMachine(RuleBasedStateMachine):
    """A machine of commits of two tenants with two users each, who all use the same names."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.model = {(scope, plan): Plan() for scope in SCOPES for plan in ("p", "q")}
        self.record = Record(self._opener, Limits(history_bytes=10_000), LEASE, Clock())
        self.run(self.record.open())

    async def _opener(self, on_commit: Callable[..., None], **given: Any) -> SqliteStore:
        return await open_sqlite(Path(self.folder.name) / "record.db", on_commit, **given)

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(call)

    @property
    def now(self) -> float:
        return self.record.clock.now

    @rule(
        commits=st.lists(COMMITS, min_size=1, max_size=5),
        pause=st.sampled_from([0.0, 0.0, 0.0, 1.0]),
    )
    def commit(self, commits: list[MadeCommit], pause: float) -> None:
        for made in commits:
            self._commit(made)
            self.record.clock.advance(pause)

    def _commit(self, made: MadeCommit) -> None:
        parts = [self._part(made, plan) for plan in made.operations]
        after = {plan: copy.deepcopy(self.model[made.scope, plan]) for plan in made.operations}
        wanted: Any
        try:
            # Conflicts of all plans are reported first: the operations were meant for other values.
            for one in parts:
                Change(copy.deepcopy(after[one.plan_id]), self.now).check(one)
            wanted = [Change(after[one.plan_id], self.now).run(one) for one in parts]
        except (Conflict, WrongType) as error:
            wanted = type(error)
        try:
            done = self.run(self.record.commit(*parts, scope=made.scope))
        except SoormaError as error:
            if type(error) is not wanted:
                raise
            return
        assert [[decode(bytes(text)) for text in plan.results] for plan in done.plans] == wanted
        assert [plan.revision for plan in done.plans] == [
            after[plan.plan_id].revision for plan in done.plans
        ]
        self.model.update({(made.scope, plan): changed for plan, changed in after.items()})

    def _part(self, made: MadeCommit, plan: str) -> PlanCommit:
        live = self.model[made.scope, plan].live(self.now)
        reads = {key: live[key].revision if key in live else 0 for key in made.true_reads}
        reads |= {} if made.false_read is None else {"n": made.false_read}
        return part(plan, *made.operations[plan], reads=reads, expected=made.expected)

    @rule(seconds=st.sampled_from([1.0, 3.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.record.clock.advance(seconds)

    @rule(first_restart=st.sampled_from([False, False, True]))
    def upkeep(self, first_restart: bool) -> None:
        if first_restart:
            self.run(self.record.reopen())
        self.run(self.record.sweep())
        for plan in self.model.values():
            sweep(plan, self.now)

    @invariant()
    def readers_see_the_model(self) -> None:
        self.run(self._compare_present())

    async def _compare_present(self) -> None:
        for (scope, name), plan in self.model.items():
            live = plan.live(self.now)
            row, entries = await self.record.store.plans.entries(scope, name, "", "", ALL)
            assert row.revision == plan.revision
            assert {one.key: (decode(one.value), one.revision) for one in entries} == {
                key: (kept.value, kept.revision) for key, kept in live.items()
            }
            assert await self.record.actions(name, scope) == (
                [] if plan.is_over(self.now) else plan.actions
            )

    @rule()
    def the_past_is_the_models(self) -> None:
        self.run(self._compare_past())

    async def _compare_past(self) -> None:
        for (scope, name), plan in self.model.items():
            horizon = (await self.record.store.plans.get(scope, name, set())).row.horizon
            for revision in range(plan.revision + 1):
                for key in "nloz":
                    await self._compare_value_at(scope, name, key, revision, horizon)
                if revision >= horizon:
                    page = await self.record.values_at(scope, name, revision, "", "", ALL)
                    assert {key: decode(text) for key, text in page.values} == plan.past[
                        revision
                    ], (name, revision)

    async def _compare_value_at(
        self, scope: Scope, name: str, key: str, revision: int, horizon: int
    ) -> None:
        plan = self.model[scope, name]
        try:
            text = await self.record.value_at(scope, name, key, revision, ALL)
        except HistoryGone:
            assert revision < horizon
            return
        assert revision in plan.past
        found = {} if text is None else {key: decode(text)}
        assert found == {
            name: value for name, value in plan.past[revision].items() if name == key
        }, (name, revision)

    @invariant()
    def histories_have_no_gap(self) -> None:
        self.run(self._check_histories())

    async def _check_histories(self) -> None:
        for (scope, name), plan in self.model.items():
            row, rows = await self.record.history(scope, name, None, plan.revision, None, ALL)
            assert rows == []
            _, rows = await self.record.history(scope, name, None, row.horizon, None, ALL)
            revisions = {one.revision for one in rows}
            assert revisions == set(range(row.horizon + 1, plan.revision + 1))

    def teardown(self) -> None:
        try:
            self.run(self._compare_past())
        finally:
            self.run(self.record.close())
            self.runner.close()
            self.folder.cleanup()


TestPlansAgainstModel = PlansMachine.TestCase
TestPlansAgainstModel.settings = settings(stateful_step_count=20)


# The machine shrinks well and walks short ways; these walks are long.


def _any_operation(dice: Random) -> Any:
    key = dice.choice("nnlloz")
    kind = dice.choice("nloz") if dice.random() < 0.05 else key
    expected = dice.choice([0, 1]) if dice.random() < 0.05 else None
    more = {"blind": dice.random() < 0.5, "expected_revision": expected}
    if dice.random() < 0.3:
        return put(
            key,
            dice.choice(KINDS[key]),
            ttl=dice.choice([None, 1.0, 1.0, 3.0]),
            expected_revision=expected,
        )
    if dice.random() < 0.04:
        return dice.choice([Cleanup(), ExpirePlan(dice.choice([None, 1.0, 3.0]))])
    changes = {
        "n": [increment(key, dice.choice([1, -2, 0.5]), **more)],
        "l": [append(key, dice.choice(["x", "y" * 300]), **more), extend(key, [[], 1], **more)],
        "o": [merge(key, {dice.choice("fg"): None}, **more)],
        "z": [RecordAction("a"), Delete(key=dice.choice("nlo"), **more)],
    }
    return dice.choice(changes[kind])


def _any_commit(dice: Random) -> MadeCommit:
    plans = dice.choice([["p"], ["p"], ["q"], ["p", "q"]])
    return MadeCommit(
        scope=dice.choice([ALICE, ALICE, ALICE, *SCOPES]),
        operations={
            plan: [_any_operation(dice) for _ in range(dice.choice([1, 1, 2, 4]))] for plan in plans
        },
        true_reads=set(dice.sample("nlo", dice.randint(0, 2))),
        false_read=0 if dice.random() < 0.05 else None,
        expected=2 if dice.random() < 0.05 else None,
    )


@settings(
    max_examples=max(5, settings.default.max_examples // 6), phases=[Phase.reuse, Phase.generate]
)  # a seed does not shrink
@pytest.mark.parametrize("large", [plans.LARGE, 100, 0])  # so that none, some or all values are
@given(seed=st.integers(0, 2**32))
def test_a_long_life_against_the_model(large: int, seed: int) -> None:
    dice, machine = Random(seed), PlansMachine()
    with patch.object(plans, "LARGE", large):
        _live(machine, dice)


def _live(machine: PlansMachine, dice: Random) -> None:
    try:
        for _ in range(120):
            machine.commit([_any_commit(dice)], pause=0.0)
            if dice.random() < 0.15:
                machine.let_time_pass(dice.choice([0.5, 1.0, 3.0]))
            if dice.random() < 0.1:
                machine.upkeep(first_restart=dice.random() < 0.2)
            if dice.random() < 0.1:
                machine.readers_see_the_model()
                machine.histories_have_no_gap()
                machine.the_past_is_the_models()
    finally:
        machine.teardown()
