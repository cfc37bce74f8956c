"""Requirements for times to live and for cleanup in a store."""

from __future__ import annotations

from typing import Any

import pytest
from record import ALICE, ALL, BOB, MISSING, Record, append, delete, increment, part, put

from soorma_common.errors import Conflict, HistoryGone, InvalidRequest
from soorma_common.operations import Cleanup, ExpirePlan, RecordAction

STEP_BOUND = 500
"""Rows a step of upkeep may touch."""


class ExpirySuite:
    """Times to live, and the end of a plan."""

    @pytest.mark.behaviour("expiry.key")
    async def test_a_key_is_gone_at_its_time_exactly(self, record: Record) -> None:
        await record.do("p", put("k", 1, ttl=5), put("other", 2))
        record.clock.advance(4.999)
        assert await record.get("p", "k") == 1
        record.clock.advance(0.001)
        assert await record.get("p", "k") is MISSING
        assert await record.state("p") == {"other": 2}
        assert set((await record.store.plans.get(ALICE, "p", {"k", "other"})).entries) == {"other"}
        assert await record.revision("p") == 1, "a reader's clock changes nothing"

    @pytest.mark.behaviour("expiry.key")
    async def test_an_expired_key_counts_as_missing_in_a_commit(self, record: Record) -> None:
        await record.do(
            "p", put("a", [1], ttl=5), put("b", 5, ttl=5), put("c", 1, ttl=5), put("d", 1, ttl=5)
        )
        record.clock.advance(5)
        with pytest.raises(Conflict):
            await record.commit(part("p", reads={"d": 1}))
        await record.commit(part("p", reads={"d": 0}))
        results = await record.do(
            "p", append("a", 2), increment("b"), delete("c"), put("d", 2, expected_revision=0)
        )
        assert results == [[2], 1, False, None]

    @pytest.mark.behaviour("expiry.set-ends-it")
    async def test_changes_keep_a_time_to_live_and_a_set_ends_it(self, record: Record) -> None:
        await record.do("p", put("a", [1], ttl=5), put("b", 1, ttl=5), put("c", 1))
        await record.do("p", append("a", 2), put("b", 2), put("c", 1, ttl=9))
        record.clock.advance(5)
        assert await record.state("p") == {"b": 2, "c": 1}
        record.clock.advance(4)
        assert await record.state("p") == {"b": 2}

    @pytest.mark.behaviour("expiry.swept")
    async def test_expired_keys_are_swept_as_a_commit(self, record: Record) -> None:
        await record.do("p", put("a", 1, ttl=5), put("b", 1, ttl=5), put("c", 1))
        record.clock.advance(5)
        record.notices.clear()
        await record.sweep()
        assert await record.revision("p") == 2
        assert await record.changes("p", 1) == [(2, "expire", "a"), (2, "expire", "b")]
        assert [notice.plans for notice in record.notices if notice.plans] == [[(ALICE, "p")]]
        row = (await record.store.plans.get(ALICE, "p", set())).row
        assert (row.keys, row.size) == (1, 2)
        assert await record.at("p", "a", 1) == 1
        assert await record.at("p", "a", 2) is MISSING
        await record.sweep()
        assert await record.revision("p") == 2

    @pytest.mark.behaviour("expiry.swept")
    async def test_a_key_given_a_new_life_is_not_swept(self, record: Record) -> None:
        await record.do("p", put("k", 1, ttl=5))
        record.clock.advance(5)
        await record.do("p", put("k", 2))
        await record.sweep()
        assert await record.get("p", "k") == 2
        assert await record.revision("p") == 2

    @pytest.mark.behaviour("expiry.swept")
    async def test_many_expired_keys_are_swept_in_bounded_steps(self, record: Record) -> None:
        keys = [put(f"k{number}", 1, ttl=1) for number in range(1_000)]
        await record.do("p", *keys)
        await record.do(
            "p", *(put(f"l{number}", 1, ttl=1) for number in range(600)), put("stays", 1)
        )
        record.clock.advance(1)
        assert await record.sweep() >= 1_600 // STEP_BOUND
        assert await record.state("p") == {"stays": 1}
        assert (await record.store.plans.get(ALICE, "p", set())).row.keys == 1

    @pytest.mark.behaviour("expiry.plan")
    async def test_a_plan_is_gone_at_its_time_exactly(self, record: Record) -> None:
        await record.do("p", put("k", 1), RecordAction("a"), ExpirePlan(5))
        record.clock.advance(4.999)
        assert await record.state("p") == {"k": 1}
        record.clock.advance(0.001)
        assert await record.get("p", "k") is MISSING
        assert await record.state("p") == {}
        assert await record.actions("p") == []
        assert await record.store.plans.list(ALICE, "", ALL) == []
        assert (await record.store.plans.get(ALICE, "p", {"k"})).entries == {}

    @pytest.mark.behaviour("expiry.swept")
    async def test_an_expired_plan_is_swept_as_a_commit(self, record: Record) -> None:
        await record.do("p", put("k", 1), ExpirePlan(5))
        record.clock.advance(5)
        await record.sweep()
        assert await record.revision("p") == 2
        assert await record.changes("p", 1) == [(2, "expire", None)]
        with pytest.raises(HistoryGone):
            await record.at("p", "k", 1)
        assert await record.at("p", "k", 2) is MISSING
        await record.sweep()
        assert await record.revision("p") == 2

    @pytest.mark.behaviour("expiry.plan")
    async def test_a_commit_to_an_expired_plan_begins_anew(self, record: Record) -> None:
        await record.do("p", put("k", [1]), put("old", 1), RecordAction("a"), ExpirePlan(5))
        record.clock.advance(5)
        done = await record.commit(part("p", append("k", 2), RecordAction("b"), reads={"old": 0}))
        assert done.plans[0].revision == 2
        assert await record.state("p") == {"k": [2]}
        assert await record.actions("p") == ["b"]
        assert await record.changes("p", 1) == [
            (2, "expire", None),
            (2, "append", "k"),
            (2, "record_action", None),
        ]
        record.clock.advance(1000)
        await record.sweep()
        assert await record.state("p") == {"k": [2]}, "the new life has no end"

    @pytest.mark.behaviour("expiry.plan")
    async def test_a_plans_time_to_live_can_be_moved_and_ended(self, record: Record) -> None:
        await record.do("p", put("k", 1), ExpirePlan(5))
        await record.do("p", ExpirePlan(10))
        record.clock.advance(9)
        assert await record.get("p", "k") == 1
        await record.do("p", ExpirePlan(None))
        record.clock.advance(1_000_000)
        await record.sweep()
        assert await record.get("p", "k") == 1

    @pytest.mark.behaviour("expiry.refused")
    @pytest.mark.parametrize("ttl", [0, -1, 1e12, float("nan"), float("inf")])
    async def test_what_is_no_time_to_live_is_refused(self, record: Record, ttl: float) -> None:
        for operation in (put("k", 1, ttl=ttl), ExpirePlan(ttl)):
            with pytest.raises(InvalidRequest):
                await record.do("p", operation)
        assert await record.revision("p") == 0

    @pytest.mark.behaviour("expiry.makes-room")
    async def test_expired_keys_leave_room_for_others(self, make_record: Any) -> None:
        record = await make_record(plan_keys=2, plan_bytes=100)
        await record.do("p", put("a", "x" * 40, ttl=1), put("b", "x" * 40, ttl=1))
        record.clock.advance(1)  # and no sweep comes by: the limits are of current values
        await record.do("p", put("c", "x" * 40), put("d", "x" * 40))
        assert set(await record.state("p")) == {"c", "d"}

    # cleanup

    @pytest.mark.behaviour("expiry.cleanup")
    async def test_cleanup_removes_everything_and_counts_the_keys(self, record: Record) -> None:
        await record.do(
            "p",
            put("a", 1),
            put("b", None),
            put("short", 1, ttl=1),
            RecordAction("x"),
            ExpirePlan(90),
        )
        record.clock.advance(1)
        assert await record.do("p", Cleanup()) == [2]
        assert await record.state("p") == {}
        assert await record.actions("p") == []
        assert await record.store.plans.list(ALICE, "", ALL) == []
        row = (await record.store.plans.get(ALICE, "p", set())).row
        assert (row.revision, row.keys, row.size, row.actions, row.expires_at) == (2, 0, 0, 0, None)

    @pytest.mark.behaviour("expiry.cleanup", "history.gone")
    async def test_watchers_see_a_cleanup_and_the_past_is_gone(self, record: Record) -> None:
        await record.do("p", put("k", 1))
        await record.do("p", put("k", 2))
        await record.do("p", Cleanup())
        assert await record.changes("p", 2) == [(3, "cleanup", None)]
        assert await record.changes("p", 2, "k") == [(3, "cleanup", None)]
        with pytest.raises(HistoryGone) as gone:
            await record.changes("p", 1)
        assert gone.value.details["horizon"] == 3
        with pytest.raises(HistoryGone):
            await record.at("p", "k", 2)
        assert await record.at("p", "k", 3) is MISSING

    @pytest.mark.behaviour("expiry.revision-goes-on")
    async def test_revisions_go_on_after_a_cleanup(self, record: Record) -> None:
        for expected in (1, 3, 5):
            assert (await record.commit(part("p", put("k", expected)))).plans[
                0
            ].revision == expected
            assert (await record.commit(part("p", Cleanup()))).plans[0].revision == expected + 1
        with pytest.raises(Conflict) as conflict:
            await record.do("p", put("k", 1, expected_revision=5))
        assert conflict.value.details["current_revision"] == 0
        await record.sweep()
        assert await record.revision("p") == 6
        await record.do("p", put("k", 1, expected_revision=0))
        entry = await record.store.plans.entry(ALICE, "p", "k")
        assert entry is not None
        assert entry.revision == 7

    @pytest.mark.behaviour("operations.one-commit", "expiry.cleanup")
    async def test_operations_around_a_cleanup_in_one_commit(self, record: Record) -> None:
        await record.do("p", put("a", 1), RecordAction("old"))
        results = await record.do(
            "p", put("b", 1), delete("a"), Cleanup(), put("c", 1), RecordAction("new")
        )
        assert results == [None, True, 1, None, None]
        assert await record.state("p") == {"c": 1}
        assert await record.actions("p") == ["new"]
        assert await record.at("p", "c", 2) == 1
        assert await record.changes("p", 1) == [
            (2, "cleanup", None),
            (2, "set", "c"),
            (2, "record_action", None),
        ]

    @pytest.mark.behaviour("expiry.swept")
    async def test_a_new_life_before_the_sweep_is_untouched_by_it(self, record: Record) -> None:
        await record.do("p", *(put(f"k{number}", number) for number in range(1_000)))
        await record.do("p", *(RecordAction(f"a{number}") for number in range(1_000)))
        await record.do("p", Cleanup())
        await record.do("p", put("k1", "new"), RecordAction("new"))
        await record.do("q", put("k1", "other"))
        assert await record.sweep() >= 2_000 // STEP_BOUND
        assert await record.state("p") == {"k1": "new"}
        assert await record.actions("p") == ["new"]
        assert await record.at("p", "k1", 4) == "new"
        assert await record.changes("p", 3) == [(4, "set", "k1"), (4, "record_action", None)]
        assert await record.state("q") == {"k1": "other"}

    @pytest.mark.behaviour("expiry.cleanup")
    async def test_cleanup_of_an_expired_plan_counts_nothing(self, record: Record) -> None:
        await record.do("p", put("k", 1), ExpirePlan(5))
        record.clock.advance(5)
        assert await record.do("p", Cleanup()) == [0]

    @pytest.mark.behaviour("tenants.share-nothing")
    async def test_a_key_outlives_nothing_of_another_users_plan(self, record: Record) -> None:
        await record.do("p", put("k", 1, ttl=5))
        await record.do("p", put("k", 1), scope=BOB)
        record.clock.advance(5)
        await record.sweep()
        assert await record.get("p", "k", BOB) == 1
        assert await record.revision("p", BOB) == 1
