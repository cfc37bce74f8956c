"""Requirements for whole plans of the past in a store: read page by page, and forked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from record import (
    ALICE,
    ALL,
    BOB,
    MISSING,
    Record,
    append,
    delete,
    event,
    increment,
    merge,
    part,
    put,
)

from soorma_common.causes import Cause
from soorma_common.errors import HistoryGone, InvalidRequest, LimitExceeded, NotFound, PlanExists
from soorma_common.json_text import decode
from soorma_common.operations import Cleanup, Complete, ExpirePlan, Fork, RecordAction

LIFE: list[list[Any]] = [
    [put("a", 1), put("b", [1]), put("c/1", None)],
    [increment("a"), append("b", 2), put("c/2", {"x": 1})],
    [delete("c/1"), merge("c/2", {"y": None})],
    [put("c/1", "again"), delete("b")],
    [delete("a"), append("b", 3), RecordAction("done")],
]
PAST: list[dict[str, Any]] = [
    {},
    {"a": 1, "b": [1], "c/1": None},
    {"a": 2, "b": [1, 2], "c/1": None, "c/2": {"x": 1}},
    {"a": 2, "b": [1, 2], "c/2": {"x": 1, "y": None}},
    {"a": 2, "c/1": "again", "c/2": {"x": 1, "y": None}},
    {"b": [3], "c/1": "again", "c/2": {"x": 1, "y": None}},
]


async def live(record: Record) -> None:
    for operations in LIFE:
        await record.do("p", *operations)


async def at(
    record: Record, plan: str, revision: int, prefix: str = "", limit: int = ALL
) -> dict[str, Any]:
    """Returns all keys and values of a plan after a revision, page by page."""
    found: list[tuple[str, str]] = []
    after: str | None = ""
    while after is not None:
        page = await record.values_at(ALICE, plan, revision, prefix, after, limit)
        assert len(page.values) <= limit
        found, after = found + page.values, page.next
    assert [key for key, _ in found] == sorted({key for key, _ in found}), "in order, each once"
    return {key: decode(text) for key, text in found}


async def history(record: Record, plan: str) -> list[tuple[int, str, str | None, Any]]:
    """Returns the plan's kept history: revision, operation, key, argument."""
    _, rows = await record.history(ALICE, plan, None, None, None, ALL)
    return [(row.revision, row.op, row.key, decode(row.argument or "null")) for row in rows]


class TimeTravelSuite:
    """Plans as they were."""

    # looking back

    @pytest.mark.behaviour("time-travel.at")
    @pytest.mark.parametrize("limit", [1, 2, ALL])
    async def test_all_keys_of_every_revision(self, record: Record, limit: int) -> None:
        await live(record)
        for revision, values in enumerate(PAST):
            assert await at(record, "p", revision, limit=limit) == values, f"of revision {revision}"
            of_prefix = {key: value for key, value in values.items() if key.startswith("c/")}
            assert await at(record, "p", revision, "c/", limit) == of_prefix

    @pytest.mark.behaviour("time-travel.at")
    async def test_what_was_written_since_is_looked_over_in_bounded_pages(
        self, record: Record
    ) -> None:
        await record.do("p", put("z", 1))
        await record.do("p", *(put(f"late/{number:02}", 0) for number in range(30)))
        page = await record.values_at(ALICE, "p", 1, "", "", 10)
        assert (page.values, page.next) == ([], "late/09"), "nothing of these, and there is more"
        assert await at(record, "p", 1, limit=10) == {"z": 1}

    @pytest.mark.behaviour("time-travel.at")
    async def test_a_revision_to_come_or_gone_is_refused(
        self, make_record: Callable[..., Awaitable[Record]]
    ) -> None:
        record = await make_record(history_bytes=5_000)
        assert await at(record, "new", 0) == {}
        with pytest.raises(NotFound, match="revision 0"):
            await at(record, "new", 1)
        for number in range(30):
            await record.do("p", put("k", [number] * 100), put(f"k{number}", number))
        await record.sweep()
        horizon = (await record.store.plans.get(ALICE, "p", set())).row.horizon
        assert 0 < horizon < 30
        for revision in range(horizon, 31):
            expected = {
                "k": [revision - 1] * 100,
                **{f"k{number}": number for number in range(revision)},
            }
            assert await at(record, "p", revision) == expected
        with pytest.raises(HistoryGone) as gone:
            await at(record, "p", horizon - 1)
        assert gone.value.details["horizon"] == horizon
        await record.do("p", Cleanup())
        with pytest.raises(HistoryGone):
            await at(record, "p", 30)
        assert await at(record, "p", 31) == {}

    @pytest.mark.behaviour("time-travel.at")
    async def test_what_has_expired_was_there(self, record: Record) -> None:
        await record.do("p", put("k", 1, ttl=5), put("other", 1))
        record.clock.advance(6)
        await record.sweep()
        assert await at(record, "p", 1) == {"k": 1, "other": 1}
        assert await at(record, "p", 2) == {"other": 1}

    @pytest.mark.behaviour("history.pages")
    async def test_an_action_at_the_horizon_hides_no_change(
        self, make_record: Callable[..., Awaitable[Record]]
    ) -> None:
        """Actions outlive the horizon; a reader from before it must learn that changes are gone."""
        record = await make_record(history_bytes=3_000)
        for number in range(20):
            await record.do("p", RecordAction("a"), put("k", "x" * 500), put("n", number))
        await record.sweep()
        horizon = (await record.store.plans.get(ALICE, "p", set())).row.horizon
        assert horizon > 1
        with pytest.raises(HistoryGone):
            await record.changes("p", horizon - 1)

    # forks

    @pytest.mark.behaviour("time-travel.fork")
    @pytest.mark.parametrize("revision", [0, 1, 2, 3, 4, 5, None])
    async def test_a_fork_begins_with_what_was(self, record: Record, revision: int | None) -> None:
        await live(record)
        asked = 5 if revision is None else revision
        cause = Cause("planner", "planner-1")
        assert await record.do("new", Fork("p", revision), cause=cause) == [asked]
        assert await record.state("new") == await at(record, "new", 1) == PAST[asked]
        assert await record.actions("new") == []
        row = (await record.store.plans.get(ALICE, "new", set())).row
        wanted = sum(len(key) + len(text) for key, text in (await _texts(record, "new")).items())
        assert (row.revision, row.keys, row.size, row.live) == (
            1,
            len(PAST[asked]),
            wanted,
            bool(PAST[asked]),
        )
        assert await history(record, "new") == [
            (1, "fork", None, {"plan_id": "p", "revision": asked})
        ]
        assert await record.changes("new", 0) == [(1, "fork", None)], (
            "whoever watches it from the start sees it too"
        )
        assert await record.state("p") == PAST[5]
        assert await record.revision("p") == 5

    @pytest.mark.behaviour("time-travel.fork")
    async def test_a_fork_goes_its_own_way_and_has_a_past_of_its_own(self, record: Record) -> None:
        await live(record)
        await record.do("new", Fork("p", 2), increment("a"), RecordAction("begun"))
        await record.do("new", append("b", 9), delete("c/1"))
        await record.do("p", put("a", "elsewhere"), Cleanup())
        expected = [{**PAST[2], "a": 3}, {"a": 3, "b": [1, 2, 9], "c/2": {"x": 1}}]
        assert [await at(record, "new", revision) for revision in (1, 2)] == expected
        assert await record.at("new", "c/1", 1) is None
        assert await record.at("new", "c/1", 2) is MISSING
        assert [await record.value_at(ALICE, "new", "a", 1, seq) for seq in (0, 1)] == ["2", "3"]
        assert await record.actions("new") == ["begun"]
        with pytest.raises(HistoryGone):
            await at(record, "new", 0)
        await record.do("newer", Fork("new", 1))
        assert await record.state("newer") == expected[0]

    @pytest.mark.behaviour("time-travel.fork")
    async def test_the_past_of_a_fork_survives_restart_and_trimming(
        self, make_record: Callable[..., Awaitable[Record]]
    ) -> None:
        record = await make_record(history_bytes=4_000)
        await record.do("p", *(put(f"k{number}", [number]) for number in range(20)))
        await record.do("new", Fork("p"))
        await record.reopen()
        for number in range(20):
            await record.do("new", append(f"k{number}", "x" * 200), put("at", number))
        await record.sweep()
        horizon = (await record.store.plans.get(ALICE, "new", set())).row.horizon
        assert horizon > 1
        for revision in range(horizon, 22):
            expected: dict[str, Any] = {
                f"k{n}": [n, "x" * 200] if n < revision - 1 else [n] for n in range(20)
            }
            assert await at(record, "new", revision) == {**expected, "at": revision - 2}

    @pytest.mark.behaviour("time-travel.fork")
    async def test_a_fork_of_many_keys_is_one_commit(self, record: Record) -> None:
        for start in range(0, 3_000, 1_000):
            await record.do(
                "p", *(put(f"k{number:04}", number) for number in range(start, start + 1_000))
            )
        await record.do("p", *(increment(f"k{number:04}") for number in range(0, 3_000, 3)))
        await record.do("new", Fork("p", 3))
        assert await record.state("new") == {f"k{number:04}": number for number in range(3_000)}
        assert await record.revision("new") == 1

    @pytest.mark.behaviour("time-travel.fork-unused-only")
    async def test_only_an_unused_plan_begins_as_a_fork(self, record: Record) -> None:
        await live(record)
        await record.do("keys", put("k", 1))
        await record.do("emptied", put("k", 1))
        await record.do("emptied", delete("k"))
        await record.do("actions", RecordAction("a"))
        await record.do("ended", Complete())
        await record.do("timed", ExpirePlan(60))
        for plan in ("keys", "emptied", "actions", "ended", "timed", "p"):
            before = await record.revision(plan)
            with pytest.raises(PlanExists, match=plan):
                await record.do(plan, Fork("p"))
            assert await record.revision(plan) == before
        await record.do("once", Fork("p"))
        with pytest.raises(PlanExists):
            await record.do("once", Fork("p"))

    @pytest.mark.behaviour("time-travel.fork-unused-only")
    async def test_a_plan_that_was_cleaned_up_or_has_expired_is_unused(
        self, record: Record
    ) -> None:
        await live(record)
        await record.do("clean", put("k", 1), RecordAction("a"), Complete())
        await record.do("clean", Cleanup())
        await record.do("over", put("k", 1), ExpirePlan(5))
        record.clock.advance(6)  # and no sweep comes by
        for plan, revision in (("clean", 3), ("over", 2)):
            await record.do(plan, Fork("p", 3))
            assert await record.revision(plan) == revision
            assert await record.state(plan) == await at(record, plan, revision) == PAST[3]
            assert await record.actions(plan) == []
            assert (await record.store.plans.get(ALICE, plan, set())).row.status == "active"
            with pytest.raises(HistoryGone):
                await at(record, plan, revision - 1)
        await record.sweep()
        assert await at(record, "clean", 3) == PAST[3]

    @pytest.mark.behaviour("time-travel.fork")
    async def test_there_must_be_such_a_past(
        self, make_record: Callable[..., Awaitable[Record]]
    ) -> None:
        record = await make_record(history_bytes=2_000)
        for number in range(30):
            await record.do("p", put("k", [number] * 100))
        await record.sweep()
        await record.do("bobs", put("k", 1), scope=BOB)
        await record.do("gone", put("k", 1))
        await record.do("gone", Cleanup())
        await record.do("over", put("k", 1), ExpirePlan(5))
        record.clock.advance(6)  # and no sweep comes by
        refused = {"nothing": None, "bobs": None, "gone": None, "over": None, "new": 0, "p": 31}
        for source, revision in refused.items():
            with pytest.raises(NotFound):
                await record.do("new", Fork(source, revision))
        with pytest.raises(HistoryGone):
            await record.do("new", Fork("p", 1))
        assert await record.revision("new") == 0
        await record.do("new", Fork("over", 1))
        assert await record.state("new") == {"k": 1}, "its past is still there"

    @pytest.mark.behaviour("time-travel.fork")
    async def test_a_fork_goes_first_and_within_its_limits(
        self, make_record: Callable[..., Awaitable[Record]]
    ) -> None:
        record = await make_record(plan_keys=3)
        await record.do("p", put("a", 1), put("b", 1), put("c", 1))
        await record.do("p", delete("a"))
        for operations in (
            [put("d", 1), Fork("p")],
            [Fork("p"), Fork("p")],
            [Fork("p", -1)],
            [Fork("p", 1 << 62)],
        ):
            with pytest.raises(InvalidRequest):
                await record.do("new", *operations)
        with pytest.raises(LimitExceeded):
            await record.do("new", Fork("p", 1), put("d", 1))
        await record.do("new", Fork("p", 2), put("d", 1))
        assert await record.state("new") == {"b": 1, "c": 1, "d": 1}
        assert await record.do("other", Fork("p", 1), Cleanup()) == [1, 3]
        assert await record.state("other") == await at(record, "other", 1) == {}

    @pytest.mark.behaviour("time-travel.fork")
    async def test_a_fork_beside_a_change_of_its_source_has_it_as_it_was(
        self, record: Record
    ) -> None:
        await record.do("p", put("k", 1))
        await record.commit(part("p", put("k", 2)), part("new", Fork("p")))
        assert [await record.get(plan, "k") for plan in ("p", "new")] == [2, 1]

    @pytest.mark.behaviour("time-travel.fork")
    async def test_a_time_to_live_goes_along(self, record: Record) -> None:
        await record.do("p", put("lives", 1, ttl=10), put("dies", 1, ttl=5), put("stays", 1))
        record.clock.advance(6)
        await record.do("new", Fork("p", 1))
        assert await record.state("new") == {"lives": 1, "stays": 1}
        record.clock.advance(5)
        assert await record.state("new") == {"stays": 1}

    # stalled plans

    @pytest.mark.behaviour("plans.stalled-listed")
    async def test_stalled_plans_are_listed_until_they_move(self, record: Record) -> None:
        for plan in ("moves", "stays", "never"):
            await record.do(
                plan, put("k", 1), events=[] if plan == "never" else [event("begun", plan)]
            )
        record.clock.advance(record.limits.plan_idle_seconds + 1)
        await record.sweep()
        assert await _stalled(record) == ["moves", "stays"]
        await record.do("moves", put("k", 2))
        assert await _stalled(record) == ["stays"]
        await record.do("stays", Complete())
        assert await _stalled(record) == []


async def _stalled(record: Record) -> list[str]:
    return [row.plan_id for row in await record.store.plans.list(ALICE, "", ALL, stalled=True)]


async def _texts(record: Record, plan: str) -> dict[str, str]:
    _, rows = await record.store.plans.entries(ALICE, plan, "", "", ALL)
    return {row.key: row.value for row in rows}
