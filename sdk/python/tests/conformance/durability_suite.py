"""Requirements for a store: what it keeps through restarts, and under load."""

from __future__ import annotations

import asyncio
import re

import pytest
from record import ALICE, LEASE, ONCE, Record, append, event, ids, increment, merge, part, put

from soorma_common.delivery import Subscription
from soorma_common.errors import Conflict, EventIdConflict, Fenced, Unavailable, WrongType
from soorma_common.names import All
from soorma_common.operations import Cleanup, RecordAction
from soorma_platform.engine.commands import Decision, Need, Snapshot

CROWD = 200


class DurabilitySuite:
    """Restarts, and many changes at once."""

    @pytest.mark.behaviour("durability.restart")
    async def test_everything_is_there_after_a_restart(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=ONCE))
        await record.do("p", put("k", {"ä": 2**70}), RecordAction("a"))
        await record.do("p", append("l", 1))
        await record.do("gone", put("k", 1))
        await record.do("gone", Cleanup())
        for number in range(3):
            await record.publish("e", "p", id=str(number))
        (one,) = await record.claim(member)
        await record.fail(one)
        (answer,) = [await record.commit(part("q", increment("n")), key="key-1")]
        log = await record.log()
        await record.reopen()
        assert await record.state("p") == {"k": {"ä": 2**70}, "l": [1]}
        assert await record.actions("p") == ["a"]
        assert await record.at("p", "l", 1) is not None
        assert await record.revision("gone") == 2
        assert await record.log() == log
        assert [
            letter.event_id for letter in await record.dead_letters(All.TENANTS, None, 0, 9)
        ] == ["0"]
        assert await record.commit(part("q", increment("n")), key="key-1") == answer
        assert await record.get("q", "n") == 1
        assert await record.work_off(member) == ["1", "2"]

    @pytest.mark.behaviour("leases.platform-restart")
    async def test_a_restart_spares_the_leases_for_one_period(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.join(member.group_id, "r1", "host", 1)
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(member)
        record.clock.advance(LEASE - 1)
        await record.close()
        record.clock.advance(3600)
        await record.open()
        record.clock.advance(LEASE - 0.001)
        assert await record.claim(member, replica="r2") == []
        (kept,) = await record.store.deliveries.resume([one.fence], LEASE, "r2")
        assert kept.attempt == 1
        await record.settle(one, part("p", increment("n")))
        assert await record.get("p", "n") == 1

    @pytest.mark.behaviour("leases.platform-restart")
    async def test_a_replica_has_to_join_the_new_process(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.join(member.group_id, "r1", "host", 1)
        await record.publish("e")
        await record.reopen()
        prefetch = record.prefetch(member)
        await record.store.deliveries.claim(prefetch)
        assert prefetch.take() == []
        assert len(await record.claim(member)) == 1

    @pytest.mark.behaviour("leases.platform-restart")
    async def test_a_lease_that_nobody_comes_back_for_ends_one_period_after_a_restart(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(member)
        await record.reopen()
        record.clock.advance(LEASE)
        (heir,) = await record.claim(member)
        assert heir.attempt == 2
        with pytest.raises(Fenced):
            await record.settle(one)

    @pytest.mark.behaviour("retries.restart")
    async def test_a_restart_shortens_no_backoff(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(member)
        await record.fail(one, after=3.0)
        await record.reopen()
        assert await record.claim(member) == []
        record.clock.advance(3)
        assert ids(await record.claim(member)) == ["1"]

    @pytest.mark.behaviour("outage.store")
    async def test_a_closed_store_says_so(self, record: Record) -> None:
        await record.do("p", put("k", 1))
        await record.close()
        try:
            with pytest.raises(Unavailable):
                await record.do("p", put("k", 2))
            with pytest.raises(Unavailable):
                await record.get("p", "k")
            with pytest.raises(Unavailable):
                await record.store.health.check()
        finally:
            await record.open()
        assert await record.get("p", "k") == 1

    @pytest.mark.behaviour("http.health")
    async def test_an_open_store_is_well(self, record: Record) -> None:
        await record.store.health.check()

    # many at once

    @pytest.mark.behaviour("durability.crowd", "operations.concurrent")
    async def test_a_crowd_of_changes_counts_each(self, record: Record) -> None:
        changes = [
            operation
            for number in range(CROWD)
            for operation in (
                increment("n"),
                append("l", number),
                merge("o", {str(number): number}),
                RecordAction(f"action {number}"),
            )
        ]
        answers = await asyncio.gather(*(record.commit(part("p", change)) for change in changes))
        assert sorted(answer.plans[0].revision for answer in answers) == list(
            range(1, 4 * CROWD + 1)
        )
        state = await record.state("p")
        assert state["n"] == CROWD
        assert sorted(state["l"]) == list(range(CROWD))
        assert state["o"] == {str(number): number for number in range(CROWD)}
        assert sorted(await record.actions("p")) == sorted(
            f"action {number}" for number in range(CROWD)
        )
        results = sorted(int(bytes(answer.plans[0].results[0])) for answer in answers[::4])
        assert results == list(range(1, CROWD + 1))

    @pytest.mark.behaviour("conditions.one-winner")
    async def test_a_crowd_of_compare_and_sets_has_one_winner_a_revision(
        self, record: Record
    ) -> None:
        outcomes = await asyncio.gather(
            *(record.do("p", put("k", number, expected_revision=0)) for number in range(CROWD)),
            return_exceptions=True,
        )
        winners = [number for number, outcome in enumerate(outcomes) if outcome == [None]]
        assert len(winners) == 1
        losers = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
        assert len(losers) == CROWD - 1
        assert {loser.details["current_revision"] for loser in losers} == {1}
        assert await record.get("p", "k") == winners[0]

    @pytest.mark.behaviour("durability.crowd")
    async def test_those_refused_in_a_crowd_harm_nobody(self, record: Record) -> None:
        await record.do("p", put("text", "x"))
        attempts = [increment("n") if number % 3 else increment("text") for number in range(CROWD)]
        outcomes = await asyncio.gather(
            *(record.do("p", attempt) for attempt in attempts), return_exceptions=True
        )
        refused = [isinstance(outcome, WrongType) for outcome in outcomes]
        assert refused == [number % 3 == 0 for number in range(CROWD)]
        assert await record.get("p", "n") == refused.count(False)
        assert await record.revision("p") == 1 + refused.count(False)

    @pytest.mark.behaviour("durability.crowd")
    async def test_a_fault_in_one_decision_harms_nobody(self, record: Record) -> None:
        class Faulty:
            scope = ALICE

            def needs(self) -> list[Need]:
                return []

            def decide(self, found: Snapshot) -> Decision[None]:
                raise ZeroDivisionError

        async def publish(number: int) -> str:
            return await record.publish("e", "p", id=str(number))

        crowd = [
            record.store.transact(Faulty()) if number % 50 == 25 else publish(number)
            for number in range(CROWD)
        ]
        outcomes = await asyncio.gather(*crowd, return_exceptions=True)
        assert sum(isinstance(outcome, ZeroDivisionError) for outcome in outcomes) == 4
        published = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert len(published) == CROWD - 4
        assert [await record.publish("e", "p", id=id_) for id_ in published] == published, (
            "still the same events"
        )

    @pytest.mark.behaviour("events.id-once")
    async def test_a_crowd_that_publishes_one_event_publishes_it_once(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        outcomes = await asyncio.gather(
            *(record.publish("e", "p", id="1", data=number % 2) for number in range(CROWD)),
            return_exceptions=True,
        )
        assert sum(outcome == "1" for outcome in outcomes) == CROWD // 2
        assert sum(isinstance(outcome, EventIdConflict) for outcome in outcomes) == CROWD // 2
        assert await record.work_off(member) == ["1"]

    @pytest.mark.behaviour("events.in-order")
    async def test_log_positions_have_the_order_of_notices_in_a_crowd(self, record: Record) -> None:
        await asyncio.gather(
            *(
                record.commit(part(f"p{n % 7}", increment("n")), events=[event("e"), event("e")])
                for n in range(CROWD)
            )
        )
        told = [entry.position for notice in record.notices for entry in notice.entries]
        assert told == [entry.position for entry in await record.log()]
        assert told == sorted(set(told))
        assert len(told) == 2 * CROWD

    @pytest.mark.behaviour("durability.crowd")
    async def test_a_cancelled_caller_leaves_a_whole_commit_or_none(self, record: Record) -> None:
        calls = [
            asyncio.create_task(record.do("p", increment("n"), RecordAction("a")))
            for _ in range(CROWD)
        ]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError | list) for outcome in outcomes)
        await record.do("q", put("k", 1))
        count = await record.get("p", "n")
        assert CROWD // 2 <= count <= CROWD
        assert await record.revision("p") == count == len(await record.actions("p"))

    @pytest.mark.behaviour("security.fences")
    async def test_fences_cannot_be_guessed(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.commit(events=[event("e") for _ in range(50)])
        fences = {one.fence for one in await record.claim(member)}
        assert len(fences) == 50
        assert all(re.fullmatch(r"[\w-]{22,}", fence) for fence in fences), (
            "at least 128 bits of text"
        )
