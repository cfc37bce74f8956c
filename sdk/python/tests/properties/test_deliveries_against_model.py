"""Deliveries on the embedded store, against a plain model of lanes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from empty_record import open_sqlite
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from record import ALICE, BOB, LEASE, STRANGER, Clock, Record, event, ids, part

from soorma_common.delivery import Subscription
from soorma_common.errors import Fenced
from soorma_common.limits import Limits
from soorma_common.names import All, Scope
from soorma_common.operations import RecordAction
from soorma_common.retry import RetryPolicy
from soorma_platform.engine.deliveries import verdict
from soorma_platform.services.groups import Membership
from soorma_platform.stores.ports.deliveries import Claimed
from soorma_platform.stores.sqlite import SqliteStore

pytestmark = pytest.mark.behaviour("proofs.deliveries-model")

SCOPES = [ALICE, BOB, STRANGER]
TWICE = RetryPolicy(max_attempts=2, first_delay=1, longest_delay=1)
FORMER = "former"
SUBSCRIPTIONS = {
    "all": [Subscription("*", retry=TWICE)],
    "both": [Subscription("a", retry=TWICE), Subscription("b", ordered=False, retry=TWICE)],
    "first": [Subscription("a", retry=TWICE)],
}


def condemned(claimed: Claimed) -> bool:
    """True if a delivery is to be given up because of the processes that died of it."""
    return claimed.suspect is not None and verdict(claimed.suspect) is not None


@dataclass
class Waiting:
    """An event that a group has yet to handle: `free_at` is the end of its lease, backoff or pause.

    `holder` is the run of the replica that is handling it, FORMER after a restart of the platform,
    None if there is none.
    """

    id: str
    lane: Any
    attempt: int = 0
    free_at: float = 0.0
    fence: str = ""
    holder: str | None = None
    failures: int = 0
    deaths: int = 0
    cleared: int = 0
    died: bool = False
    silences: int = 0
    was_silent: bool = False
    alone: bool = False
    cohort: str | None = None
    process: str = ""
    suspect: bool = False

    @property
    def is_condemned(self) -> bool:
        return self.suspect and self.alone and self.deaths - self.cleared >= TWICE.max_deaths

    def free(self, now: float) -> None:
        self.holder, self.free_at = None, min(self.free_at, now)

    @property
    def lease(self) -> float:
        return LEASE / 3 if self.silences else LEASE

    def die(self, now: float, alone: bool, process: str, silent: bool) -> None:
        charged = self.deaths - self.cleared
        self.holder, self.died, self.alone = None, True, alone
        self.silences, self.was_silent = self.silences + silent, silent
        self.free_at = now + (min(250 << (charged - 1), 5000) / 1000 if charged else 0)
        self.cohort = self.cohort if alone else process
        self.deaths += 1
        self.suspect = charged + 1 >= 2

    def live(self) -> None:
        if self.died:
            self.suspect &= self.deaths - 1 - self.cleared >= 2
            self.deaths, self.died, self.alone = self.deaths - 1, False, False
            self.cleared = min(self.cleared, self.deaths)
            self.silences -= self.was_silent


class DeliveriesMachine(RuleBasedStateMachine):
    """Three groups, three users, two plans; agents that work, fail, freeze, leave and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.waiting: dict[str, list[Waiting]] = {group: [] for group in SUBSCRIPTIONS}
        self.published: dict[str, set[str]] = {group: set() for group in SUBSCRIPTIONS}
        self.settled: dict[str, list[str]] = {group: [] for group in SUBSCRIPTIONS}
        self.given_up: dict[str, list[str]] = {group: [] for group in SUBSCRIPTIONS}
        self.claims: list[tuple[str, Claimed]] = []
        self.heard: dict[str, float] = {}
        """the time when a replica, by its group's name, was last heard of; none that has left"""
        self.count = 0
        self.numbers: dict[tuple[str, str], tuple[int, int, int]] = {}
        """attempts, failures and deaths of the events that were given up"""
        self.record = Record(self._opener, Limits(), LEASE, Clock())

    async def _opener(self, on_commit: Callable[..., None], **given: Any) -> SqliteStore:
        return await open_sqlite(Path(self.folder.name) / "record.db", on_commit, **given)

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(call)

    @property
    def now(self) -> float:
        return self.record.clock.now

    @initialize()
    def subscribe(self) -> None:
        self.run(self.record.open())
        self.members: dict[str, Membership] = {
            group: self.run(self.record.subscribe(group, *wanted))
            for group, wanted in SUBSCRIPTIONS.items()
        }

    def _add(self, id_: str, kind: str, scope: Scope, plan: str | None) -> None:
        for group, wanted in SUBSCRIPTIONS.items():
            fits = [one for one in wanted if one.type in (kind, "*")]
            if fits:
                in_line = plan is not None and fits[0].ordered
                lane = (scope, plan) if in_line else id_
                self.waiting[group].append(Waiting(id_, lane))
                self.published[group].add(id_)

    @rule(
        kinds=st.lists(st.sampled_from("aab"), min_size=1, max_size=3),
        scope=st.sampled_from(SCOPES),
        plan=st.sampled_from(["p", "q", None]),
    )
    def publish(self, kinds: list[str], scope: Scope, plan: str | None) -> None:
        events = []
        for kind in kinds:
            self.count += 1
            events.append(event(kind, plan, id=str(self.count)))
            self._add(str(self.count), kind, scope, plan)
        self.run(self.record.commit(events=events, scope=scope))

    def _claimable(self, group: str) -> list[Waiting]:
        heads: dict[Any, Waiting] = {}
        for one in self.waiting[group]:
            heads.setdefault(one.lane, one)
        return [one for one in heads.values() if one.free_at <= self.now]

    @rule(group=st.sampled_from(list(SUBSCRIPTIONS)), limit=st.integers(1, 4))
    def claim(self, group: str, limit: int) -> None:
        claimable = {one.id: one for one in self._claimable(group)}
        claimed = self.run(self.record.claim(self.members[group], limit, replica=group))
        assert set(ids(claimed)) <= set(claimable), (
            "one that is not first of its lane, or in another's hands"
        )
        assert len(claimed) == min(limit, len(claimable))
        for one, id_ in zip(claimed, ids(claimed), strict=True):
            row = claimable[id_]
            row.attempt += 1
            row.fence, row.free_at, row.holder, row.died = (
                one.fence,
                self.now + row.lease,
                group,
                False,
            )
            assert (one.attempt, one.lease) == (row.attempt, row.lease)
            assert (condemned(one), one.is_suspect) == (row.is_condemned, row.suspect)
            self.claims.append((group, one))
        self.heard[group] = self.now
        for _, one in [claim for claim in self.claims if condemned(claim[1])]:
            self._end(group, one, reject=True, unbegun=True)

    def _row(self, group: str, claimed: Claimed) -> Waiting | None:
        return next((one for one in self.waiting[group] if one.fence == claimed.fence), None)

    @rule(pick=st.integers(0, 50), follow_up=st.booleans())
    def settle(self, pick: int, follow_up: bool) -> None:
        if not self.claims:
            return
        group, claimed = self.claims[pick % len(self.claims)]
        row = self._row(group, claimed)
        (id_,) = ids([claimed])
        self.count += 1
        new = [event("a", id=str(self.count))] if follow_up else []
        call = self.record.settle(
            claimed, part("handled", RecordAction(f"{group} {id_}")), events=new
        )
        if row is None:
            with pytest.raises(Fenced):
                self.run(call)
            return
        self.run(call)
        self.waiting[group].remove(row)
        self.settled[group].append(id_)
        self.claims = [kept for kept in self.claims if kept[1] is not claimed]
        if follow_up:
            self._add(
                str(self.count), "a", Scope(claimed.tenant_id, claimed.user_id), claimed.plan_id
            )

    @rule(pick=st.integers(0, 50), reject=st.booleans())
    def fail(self, pick: int, reject: bool) -> None:
        if not self.claims:
            return
        self._end(*self.claims[pick % len(self.claims)], reject=reject)

    def _end(self, group: str, claimed: Claimed, *, reject: bool, unbegun: bool = False) -> None:
        row = self._row(group, claimed)
        self.count += 1
        call = self.record.fail(claimed, reject=reject, unbegun=unbegun, notice=str(self.count))
        if row is None:
            with pytest.raises(Fenced):
                self.run(call)
            return
        self.run(call)
        if row.suspect and row.cohort is not None:
            self._clear(group, row)
        row.live()
        row.attempt -= unbegun
        row.failures += not unbegun
        if not reject and row.failures < TWICE.max_attempts:
            row.fence, row.holder, row.free_at = "", None, self.now + 1
            return
        self.waiting[group].remove(row)
        self.given_up[group].append(row.id)
        self.claims = [kept for kept in self.claims if kept[1] is not claimed]
        self.numbers[group, row.id] = (row.attempt, row.failures, row.deaths)
        if "event.dead_lettered" not in claimed.envelope:
            scope = Scope(claimed.tenant_id, claimed.user_id)
            self._add(str(self.count), "event.dead_lettered", scope, claimed.plan_id)

    def _clear(self, group: str, culprit: Waiting) -> None:
        for row in self.waiting[group]:
            if row is not culprit and row.suspect and row.cohort == culprit.cohort:
                row.suspect, row.cleared = False, row.deaths

    @rule(pick=st.integers(0, 50))
    def defer(self, pick: int) -> None:
        if not self.claims:
            return
        group, claimed = self.claims[pick % len(self.claims)]
        if (row := self._row(group, claimed)) is not None:
            self.run(self.record.fail(claimed, after=1.0, defer=True))
            row.live()
            row.attempt, row.fence, row.holder, row.free_at = (
                row.attempt - 1,
                "",
                None,
                self.now + 1,
            )

    @rule(seconds=st.sampled_from([0.5, 1.0, LEASE / 3, LEASE]))
    def let_time_pass(self, seconds: float) -> None:
        self.record.clock.advance(seconds)
        self.run(
            self.record.store.groups.seen([])
        )  # the next transaction notices what leases have run out
        for group, rows in self.waiting.items():
            lapsed = [row for row in rows if row.holder is not None and row.free_at <= self.now]
            for row in [row for row in lapsed if row.holder == FORMER]:
                row.free(self.now)
            if any(row.holder for row in lapsed):
                self._silence(group, lapsed)

    def _silence(self, group: str, lapsed: list[Waiting]) -> None:
        heard = self.heard.get(group)
        if heard is not None and heard <= self.now - LEASE:
            self._die(group, self._in_hand(group), silent=True)
        elif heard is not None:
            self._die(group, [row for row in lapsed if row.holder == group], silent=True)
        else:
            for row in lapsed:
                row.free(self.now)

    def _in_hand(self, group: str) -> list[Waiting]:
        return [row for row in self.waiting[group] if row.holder == group]

    def _die(self, group: str, rows: list[Waiting], *, silent: bool) -> None:
        before = [row for row in self.waiting[group] if row.died and row.process == group]
        alone = len(self._in_hand(group)) + len(before) == 1
        for row in rows:
            row.die(self.now, alone, group, silent)
            row.process = group

    @rule(group=st.sampled_from(list(SUBSCRIPTIONS)))
    def leave(self, group: str) -> None:
        self.run(self.record.store.groups.leave(group))
        if self.heard.pop(group, None) is not None:
            self._die(group, self._in_hand(group), silent=False)
        else:
            for row in self._in_hand(group):
                row.free(self.now)

    @rule(group=st.sampled_from(list(SUBSCRIPTIONS)))
    def come_back(self, group: str) -> None:
        fences = [claimed.fence for its, claimed in self.claims if its == group]
        kept = self.run(self.record.store.deliveries.resume(fences, LEASE, group))
        mine = [row for row in self.waiting[group] if row.fence in fences]
        assert {one.fence for one in kept} == {row.fence for row in mine}
        for row in mine:
            row.live()
            row.free_at, row.holder = self.now + LEASE, group

    @rule(group=st.sampled_from(list(SUBSCRIPTIONS)))
    def give_back(self, group: str) -> None:
        mine = [row for row in self.waiting[group] if row.fence]
        self.run(self.record.store.deliveries.release([row.fence for row in mine]))
        for row in mine:
            row.live()
            row.attempt, row.fence, row.holder, row.free_at = row.attempt - 1, "", None, self.now

    @rule()
    def restart(self) -> None:
        self.run(self.record.reopen())
        for row in (row for rows in self.waiting.values() for row in rows):
            if row.holder is not None:
                row.free_at, row.holder = max(row.free_at, self.now + LEASE), FORMER
        self.heard.clear()

    @invariant()
    def each_event_is_waiting_or_ended_once(self) -> None:
        for group, published in self.published.items():
            everywhere = (
                [row.id for row in self.waiting[group]] + self.settled[group] + self.given_up[group]
            )
            assert sorted(everywhere) == sorted(published)

    async def _work_off(self, group: str) -> None:
        while claimed := await self.record.claim(self.members[group]):
            for one in claimed:
                row = next(row for row in self.waiting[group] if row.id == ids([one])[0])
                assert (condemned(one)) == row.is_condemned
                await self.record.settle(one, part("handled", RecordAction(f"{group} {row.id}")))
                first = next(other for other in self.waiting[group] if other.lane == row.lane)
                assert first is row, "out of order"
                self.waiting[group].remove(row)
                self.settled[group].append(row.id)

    async def _check_the_end(self) -> None:
        letters = await self.record.dead_letters(All.TENANTS, None, 0, 1_000_000)
        for group, settled in self.settled.items():
            assert self.waiting[group] == []
            actions = [
                name for scope in SCOPES for name in await self.record.actions("handled", scope)
            ]
            assert sorted(name for name in actions if name.startswith(f"{group} ")) == sorted(
                f"{group} {id_}" for id_ in settled
            )
            given_up = [letter for letter in letters if letter.group == group]
            assert sorted(letter.event_id for letter in given_up) == sorted(self.given_up[group])
            for letter in given_up:
                found = (letter.attempts, letter.failures, letter.deaths)
                assert found == self.numbers[group, letter.event_id]
        for scope in SCOPES:
            actions = await self.record.actions("handled", scope)
            assert await self.record.revision("handled", scope) == len(actions)

    def teardown(self) -> None:
        if not hasattr(self.record, "store"):
            return
        try:
            self.let_time_pass(LEASE)
            self.record.clock.advance(LEASE)
            for group in SUBSCRIPTIONS:
                self.run(self._work_off(group))
            self.run(self._check_the_end())
        finally:
            self.run(self.record.close())
            self.runner.close()
            self.folder.cleanup()


TestDeliveriesAgainstModel = DeliveriesMachine.TestCase
TestDeliveriesAgainstModel.settings = settings(stateful_step_count=40)


# The machine shrinks well and walks short ways; these walks are long.

GROUPS = list(SUBSCRIPTIONS)
STEPS: list[tuple[int, Callable[[DeliveriesMachine, Random], None]]] = [
    (6, lambda it, dice: it.publish(dice.choices("aab", k=dice.randint(1, 3)), dice.choice(SCOPES),
                                    dice.choice(["p", "p", "q", None]))),
    (8, lambda it, dice: it.claim(dice.choice(GROUPS), dice.randint(1, 4))),
    (8, lambda it, dice: it.settle(dice.randint(0, 50), follow_up=dice.random() < 0.2)),
    (4, lambda it, dice: it.fail(dice.randint(0, 50), reject=dice.random() < 0.2)),
    (4, lambda it, dice: it.let_time_pass(dice.choice([0.5, 1.0, 1.0, LEASE / 3, LEASE]))),
    (2, lambda it, dice: it.leave(dice.choice(GROUPS))),
    (1, lambda it, dice: it.defer(dice.randint(0, 50))),
    (1, lambda it, dice: it.come_back(dice.choice(GROUPS))),
    (1, lambda it, dice: it.give_back(dice.choice(GROUPS))),
    (1, lambda it, _: it.restart()),
]  # fmt: skip


DEADLY: list[tuple[int, Callable[[DeliveriesMachine, Random], None]]] = [
    (2, lambda it, dice: it.publish(["a"], ALICE, dice.choice(["p", "q", None]))),
    (8, lambda it, dice: it.claim("first", dice.choice([1, 1, 3]))),
    (5, lambda it, _: it.leave("first")),
    (5, lambda it, dice: it.let_time_pass(dice.choice([1.0, 1.0, LEASE / 3, LEASE]))),
    (2, lambda it, dice: it.fail(dice.randint(0, 50), reject=False)),
    (1, lambda it, _: it.come_back("first")),
    (1, lambda it, dice: it.settle(dice.randint(0, 50), follow_up=False)),
]  # fmt: skip
"""Steps with few events, whose agents die: suspects, culprits, and innocents that are cleared."""


@settings(
    max_examples=max(5, settings.default.max_examples // 6), phases=[Phase.reuse, Phase.generate]
)  # a seed does not shrink
@pytest.mark.parametrize("steps", [STEPS, DEADLY], ids=["of all kinds", "deadly"])
@given(seed=st.integers(0, 2**32))
def test_a_long_work_against_the_model(steps: Any, seed: int) -> None:
    dice, machine = Random(seed), DeliveriesMachine()
    machine.subscribe()
    try:
        for _, step in dice.choices(steps, [weight for weight, _ in steps], k=200):
            step(machine, dice)
            machine.each_event_is_waiting_or_ended_once()
    finally:
        machine.teardown()
