"""Requirements for a store when agents die: a death is no failure; only the culprit is given up."""

from __future__ import annotations

import pytest
from crew import Crew, Worker, standing
from record import LEASE, Record, event, ids, seen

from soorma_common.delivery import Subscription
from soorma_common.errors import Fenced
from soorma_common.names import All
from soorma_common.retry import RetryPolicy

WAYS = ["closed", "silent"]
QUICK = RetryPolicy(first_delay=0.1, jitter=0)


async def letters(record: Record) -> list[tuple[str, int, int, int]]:
    """Returns (event, attempts, failures, deaths) of each dead letter."""
    found = await record.dead_letters(All.TENANTS, None, 0, 99)
    return [(one.event_id, one.attempts, one.failures, one.deaths) for one in found]


async def fill(record: Record, count: int, first: int = 0) -> list[str]:
    """Publishes events of plans of their own."""
    made = [str(number).zfill(3) for number in range(first, first + count)]
    await record.commit(events=[event("e", f"plan {id_}", id=id_) for id_ in made])
    return made


async def end(worker: Worker, how: str, record: Record) -> None:
    """Ends a process, in one way or the other."""
    if how == "closed":
        await worker.die()
    else:
        worker.disappear()
        record.clock.advance(LEASE)
        await record.store.groups.seen([])  # the next transaction notices
    record.clock.advance(10)  # longer than any pause


class DeathsSuite:
    """Deliveries whose agents die."""

    @pytest.mark.behaviour("retries.deaths-apart")
    @pytest.mark.parametrize("how", WAYS)
    async def test_a_death_is_not_a_failure(self, record: Record, how: str) -> None:
        member = await record.subscribe(
            "g", Subscription("e", retry=RetryPolicy(max_attempts=2, jitter=0))
        )
        await fill(record, 1)
        for attempt in (1, 2):
            worker = await Worker(record, member, 1).start()
            await worker.take()
            assert [one.attempt for one in worker.in_hand.values()] == [attempt]
            await end(worker, how, record)
        worker = await Worker(record, member, 1).start()
        with standing(worker):
            await worker.take()
            await worker.fail("000")
            record.clock.advance(1)
            await worker.renew()
            await worker.take()
            await worker.fail("000", reason="no luck")
            assert await letters(record) == [("000", 4, 2, 2)]

    @pytest.mark.behaviour("retries.max-deaths", "deadletters.numbers")
    @pytest.mark.parametrize("most", [1, 2, 3, 5])
    @pytest.mark.parametrize("how", WAYS)
    async def test_what_kills_its_process_alone_is_given_up(
        self, record: Record, how: str, most: int
    ) -> None:
        member = await record.subscribe("g", Subscription("e", retry=RetryPolicy(max_deaths=most)))
        await fill(record, 1)
        for _ in range(most):
            worker = await Worker(record, member, 8).start()
            assert await worker.take() == ["000"]
            await end(worker, how, record)
        worker = await Worker(record, member, 8).start()
        with standing(worker):
            assert await worker.take() == []
            assert worker.given_up == ["000"]
            assert await letters(record) == [("000", most, 0, most)]
            (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
            what = "died" if how == "closed" else "gave no sign of life for a lease"
            who = "1 process" if most == 1 else f"{most} processes"
            assert letter.reason.startswith(f"{who} {what} while handling it, ")
            assert letter.reason.endswith("with nothing else in hand")

    @pytest.mark.behaviour("retries.max-deaths")
    async def test_the_reason_tells_deaths_from_silence(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 1)
        for how in ("closed", "silent", "closed"):
            worker = await Worker(record, member, 8).start()
            await worker.take()
            await end(worker, how, record)
        worker = await Worker(record, member, 8).start()
        with standing(worker):
            await worker.take()
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert letter.reason == (
            "3 processes ended while handling it (2 died, 1 gave no sign of life for a lease), the "
            "last one with "
            "nothing else in hand"
        )

    @pytest.mark.behaviour("retries.one-culprit")
    @pytest.mark.parametrize("culprit", ["000", "015", "031"])
    @pytest.mark.parametrize("size", [1, 3])
    @pytest.mark.parametrize("how", WAYS)
    async def test_of_32_in_flight_only_the_culprit_is_given_up(
        self, record: Record, how: str, size: int, culprit: str
    ) -> None:
        member = await record.subscribe("g", "e")
        everything = await fill(record, 32)
        crew = Crew(record, member, size, 32)
        with standing(crew):
            await crew.work(lambda id_: how if id_ == culprit else None, longest=60)
        assert [letter[0] for letter in await letters(record)] == [culprit]
        assert sorted(crew.handled) == [id_ for id_ in everything if id_ != culprit]
        assert crew.deaths <= 4

    @pytest.mark.behaviour("retries.one-culprit")
    async def test_two_culprits_are_found_and_nobody_else(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        everything = await fill(record, 40)
        culprits = {"003", "021"}
        crew = Crew(record, member, 1, 40)
        with standing(crew):
            await crew.work(lambda id_: "closed" if id_ in culprits else None, longest=90)
        assert {letter[0] for letter in await letters(record)} == culprits
        assert set(crew.handled) == set(everything) - culprits

    @pytest.mark.behaviour("retries.one-culprit")
    async def test_long_innocents_are_not_tested_one_by_one_once_the_culprit_is_found(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 9)
        crew = Crew(record, member, 1, 32)
        slow = {"008": 1.0}
        with standing(crew):
            took = await crew.work(lambda id_: "closed" if id_ in slow else None, 8.0, longest=80)
        assert [letter[0] for letter in await letters(record)] == ["008"]
        assert took < 45

    @pytest.mark.behaviour("retries.suspects-alone")
    async def test_a_suspect_is_alone_in_its_process(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 3)
        for _ in range(2):
            worker = await Worker(record, member, 8).start()
            assert await worker.take() == ["000", "001", "002"]
            await end(worker, "closed", record)
        await fill(record, 2, first=3)
        tester, other = [await Worker(record, member, 8).start() for _ in range(2)]
        with standing(tester, other):
            assert await tester.take() == ["002"], (
                "the newest first, and before all that is not suspected"
            )
            assert await tester.take() == []
            assert await other.take() == ["001"]
            await other.settle()
            await tester.settle()
            assert await other.take() == ["000"]
            assert await tester.take() == ["003", "004"]

    @pytest.mark.behaviour("retries.suspects-alone")
    async def test_agents_of_one_process_die_together(self, record: Record) -> None:
        members = [await record.subscribe(group, f"{group}.e") for group in ("g", "h")]
        await record.commit(events=[event("g.e", id="culprit"), event("h.e", id="innocent")])
        for number in range(6):
            both = [
                await Worker(record, member, 8, f"process {number}").start() for member in members
            ]
            with standing(*both):
                taken = [await worker.take() for worker in both]
                for worker in both:
                    await worker.die()
                record.clock.advance(10)
            if not taken[0]:
                break
        assert [letter[0] for letter in await letters(record)] == ["culprit"]

    @pytest.mark.behaviour("retries.suspects-alone")
    async def test_a_busy_replica_takes_nothing_new_for_a_lease_then_works_as_long(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await self._make_suspect(record, member, "000")
        await record.commit(
            events=[event("f", f"q{number}", id=f"w{number}") for number in range(9)]
        )
        busy = await self._busy_worker(record)
        with standing(busy):
            assert await busy.take() == [], "it waits until its hands are empty"
            record.clock.advance(LEASE - 1)
            await busy.renew()
            assert await busy.take() == []
            record.clock.advance(1)
            assert await busy.take() == ["w1"], "not for ever"
            await busy.renew()
            record.clock.advance(LEASE)
            await busy.renew()
            await busy.settle("w1")
            assert await busy.take() == [], "the suspect's turn again"
            await busy.settle()
            assert await busy.take() == ["000"]

    async def _make_suspect(self, record: Record, member: object, id_: str) -> None:
        await fill(record, 1, first=int(id_))
        for _ in range(2):
            worker = await Worker(record, member, 1).start()  # type: ignore[arg-type]
            assert await worker.take() == [id_]
            await end(worker, "closed", record)

    async def _busy_worker(self, record: Record) -> Worker:
        """Returns a worker with a delivery in hand, and room for another."""
        member = await record.subscribe("g", "f")
        worker = Worker(record, member, 2)
        every = worker.prefetch.subscription_ids
        worker.prefetch.subscription_ids = list(member.own)
        worker.prefetch.freed = 1
        await worker.start()
        assert await worker.take() == ["w0"]
        worker.prefetch.freed, worker.prefetch.subscription_ids = 2, every
        return worker

    @pytest.mark.behaviour("retries.suspects-alone")
    async def test_only_one_replica_of_a_group_waits_for_its_hands_to_be_empty(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await self._make_suspect(record, member, "000")
        await record.commit(
            events=[event("f", f"q{number}", id=f"w{number}") for number in range(9)]
        )
        first = await self._busy_worker(record)
        second = Worker(record, await record.subscribe("g", "e", "f"), 2)
        await second.start()
        with standing(first, second):
            assert await first.take() == []
            assert await second.take() == ["000"], "its hands are empty: it tests"
            await second.settle()
            assert await first.take() == ["w1"]
            assert await second.take() == ["w2", "w3"]

    @pytest.mark.behaviour("retries.exonerated")
    async def test_a_suspect_that_fails_alone_clears_the_others(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 4)
        for _ in range(2):
            worker = await Worker(record, member, 8).start()
            await worker.take()
            await end(worker, "closed", record)
        worker = await Worker(record, member, 8).start()
        with standing(worker):
            assert await worker.take() == ["003"]
            await worker.fail("003")
            assert await worker.take() == ["000", "001", "002"]

    # ends that are no deaths

    @pytest.mark.behaviour("leases.draining-costs-nothing")
    @pytest.mark.parametrize("how", WAYS)
    async def test_ten_deployments_cost_nothing(self, record: Record, how: str) -> None:
        member = await record.subscribe(
            "g", Subscription("e", retry=RetryPolicy(max_attempts=1, max_deaths=1))
        )
        await fill(record, 1)
        for _ in range(10):
            worker = await Worker(record, member, 8).start()
            assert await worker.take() == ["000"]
            await worker.drain()
            await end(worker, how, record)
        worker = await Worker(record, member, 8).start()
        with standing(worker):
            assert await worker.take() == ["000"]
            await worker.settle()
        assert await letters(record) == []

    @pytest.mark.behaviour("leases.reconnect", "retries.deaths-apart")
    async def test_a_connection_that_was_lost_is_no_death(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=RetryPolicy(max_deaths=1)))
        await fill(record, 1)
        worker = await Worker(record, member, 1).start()
        await worker.take()
        for _ in range(5):
            await worker.die()
            again = Worker(record, member, 1, worker.process)
            worker = await again.start(list(worker.in_hand))
            assert len(worker.in_hand) == worker.slots == 1
        await end(worker, "closed", record)
        last = await Worker(record, member, 1).start()
        with standing(last):
            await last.take()
            assert await letters(record) == [("000", 1, 0, 1)]

    @pytest.mark.behaviour("leases.lost-on-the-way")
    @pytest.mark.parametrize("noticed", [True, False])
    async def test_what_did_not_reach_an_agent_costs_it_nothing(
        self, record: Record, noticed: bool
    ) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 2)
        worker = await Worker(record, member, 2).start()
        await worker.take()
        kept = next(fence for fence, one in worker.in_hand.items() if ids([one]) == ["000"])
        if noticed:
            await worker.die()
        again = await Worker(record, member, 2, worker.process).start([kept])
        with standing(worker, again):
            assert await again.take() == ["001"]
            assert [one.attempt for one in again.in_hand.values()] == [1, 1]
            assert await worker.take() == [], "the connection that was lost takes nothing more"

    @pytest.mark.behaviour("leases.reconnect")
    async def test_what_an_earlier_connection_says_late_does_not_count(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 2)
        worker = await Worker(record, member, 2).start(number=2)
        await worker.take()
        late = Worker(record, member, 2, worker.process)
        with pytest.raises(Fenced):
            await late.start(number=1)
        with standing(worker):
            await worker.settle("000")
            await fill(record, 1, first=2)
            assert await worker.take() == ["002"], "it is heard of, and has what it had"
            await worker.settle()
        assert worker.slots == 2
        again = await Worker(record, member, 2, worker.process).start(number=3)
        with standing(again):
            assert again.slots == 2

    @pytest.mark.behaviour("retries.restart")
    async def test_what_was_in_hand_when_the_platform_ended_has_not_died(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", Subscription("e", retry=RetryPolicy(max_deaths=1)))
        await fill(record, 1)
        for attempt in range(1, 5):
            worker = await Worker(record, member, 1).start()
            assert await worker.take() == ["000"]
            assert [one.attempt for one in worker.in_hand.values()] == [attempt]
            worker.disappear()
            await record.reopen()
            assert await (await Worker(record, member, 1).start()).take() == [], "for a lease"
            record.clock.advance(LEASE)
        assert await letters(record) == []

    @pytest.mark.behaviour("leases.given-back")
    async def test_what_is_given_back_has_not_died(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=RetryPolicy(max_deaths=1)))
        await fill(record, 1)
        worker = await Worker(record, member, 1).start()
        await worker.take()
        await worker.die()
        await record.store.deliveries.release(list(worker.in_hand))
        after = await Worker(record, member, 1).start()
        with standing(after):
            assert await after.take() == ["000"]
            assert [one.attempt for one in after.in_hand.values()] == [1]

    # leases and slots

    @pytest.mark.behaviour("leases.slot-back")
    async def test_what_is_taken_from_a_silent_replica_gives_its_slots_back(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 3)
        frozen, other = [await Worker(record, member, 2).start() for _ in range(2)]
        with standing(frozen, other):
            assert await frozen.take() == ["000", "001"]
            assert await other.take() == ["002"]
            record.clock.advance(LEASE - 1)
            await other.renew()
            record.clock.advance(1)
            assert await other.take() == ["000"]
            assert sorted(frozen.prefetch.lost(frozen.in_hand)) == sorted(frozen.in_hand)
            assert await frozen.renew() == [], "neither what is another's, nor what is free"

    @pytest.mark.behaviour("leases.expired")
    async def test_all_that_a_silent_process_had_is_free_when_its_last_sign_of_life_is_a_lease_ago(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 1)
        silent = await Worker(record, member, 2).start()
        await silent.take()
        record.clock.advance(5)
        await fill(record, 1, first=1)
        assert await silent.take() == ["001"]
        record.clock.advance(LEASE - 5)
        after = await Worker(record, member, 8).start()
        with standing(silent, after):
            assert await after.take() == ["000", "001"]

    @pytest.mark.behaviour("leases.expired")
    async def test_a_lease_that_is_not_renewed_is_lost_alone(self, record: Record) -> None:
        """The agent lives on, and has forgotten this one."""
        member = await record.subscribe("g", "e")
        await fill(record, 2)
        worker = await Worker(record, member, 2).start()
        with standing(worker):
            await worker.take()
            kept = next(fence for fence, one in worker.in_hand.items() if ids([one]) == ["000"])
            assert await record.store.deliveries.renew(worker.name, list(worker.in_hand), LEASE)
            for _ in range(4):
                record.clock.advance(LEASE / 3)
                assert await record.store.deliveries.renew(worker.name, [kept], LEASE) == [kept]
            assert await worker.take() == [], "its slot comes back"
            assert worker.slots == 2
            assert await worker.take() == ["001"]
            assert worker.slots == 2
            assert sorted(one.attempt for one in worker.in_hand.values()) == [1, 2]

    @pytest.mark.behaviour("leases.shorter-after-silence")
    async def test_an_event_with_which_a_process_went_silent_has_a_shorter_lease(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 1)
        frozen = await Worker(record, member, 2).start()
        await frozen.take()
        await end(frozen, "silent", record)
        await fill(record, 1, first=1)
        second = await Worker(record, member, 2).start()
        assert await second.take() == ["000", "001"]
        assert {claimed.lease for claimed in second.in_hand.values()} == {LEASE, LEASE / 3}
        for _ in range(4):
            record.clock.advance(LEASE / 3 - 1)
            assert len(await second.renew()) == 2
        record.clock.advance(LEASE / 3 - 1)
        third = await Worker(record, member, 2).start()
        with standing(second, third):
            assert await third.take() == []
            record.clock.advance(1)
            assert await third.take() == [], "it is a suspect now, which has a pause"
            record.clock.advance(1)
            await third.renew()
            assert await third.take() == ["000"]
            assert second.hear() == ["000"]
            assert len(await second.renew()) == 1, "the other event has its whole lease"

    @pytest.mark.behaviour("leases.shorter-after-silence")
    async def test_who_comes_back_has_the_shorter_lease_again(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 1)
        frozen = await Worker(record, member, 1).start()
        await frozen.take()
        await end(frozen, "silent", record)
        cut_off = await Worker(record, member, 1).start()
        await cut_off.take()
        await cut_off.die()
        back = await Worker(record, member, 1, cut_off.process).start(list(cut_off.in_hand))
        await back.renew()
        record.clock.advance(LEASE / 3)
        other = await Worker(record, member, 1).start()
        with standing(back, other):
            await other.take()
            assert back.hear() == ["000"]

    @pytest.mark.behaviour("leases.fence")
    async def test_a_frozen_agents_answer_is_refused_once_another_has_the_event(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await fill(record, 1)
        frozen = await Worker(record, member, 1).start()
        await frozen.take()
        (late,) = frozen.in_hand.values()
        record.clock.advance(LEASE)
        other = await Worker(record, member, 1).start()
        with standing(frozen, other):
            assert await other.take() == ["000"]
            with pytest.raises(Fenced):
                await record.settle(late)
            await other.settle()

    # defer

    @pytest.mark.behaviour("retries.defer")
    async def test_deferring_costs_no_attempt(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=RetryPolicy(max_attempts=1)))
        await record.publish("e", "p", id="1")
        for _ in range(20):
            (one,) = await record.claim(member)
            assert one.attempt == 1
            await record.fail(one, "a limit of the provider", after=60.0, defer=True)
            assert await record.claim(member) == []
            record.clock.advance(60)
        (one,) = await record.claim(member)
        await record.fail(one, "really")
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert (letter.attempts, letter.failures, letter.deaths, letter.reason) == (
            1,
            1,
            0,
            "really",
        )
        assert seen(one).id == "1"
