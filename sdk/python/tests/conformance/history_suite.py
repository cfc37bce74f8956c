"""Requirements for the past in a store: history, values of any revision, actions, trimming."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from record import (
    ALICE,
    ALL,
    MISSING,
    Record,
    append,
    delete,
    extend,
    increment,
    merge,
    part,
    put,
)

from soorma_common.causes import Cause
from soorma_common.errors import HistoryGone
from soorma_common.json_text import decode
from soorma_common.operations import Cleanup, ExpirePlan, RecordAction

LIFE = [
    # operations of a commit, and the key's value after it
    ([put("k", [1])], [1]),
    ([append("k", {"a": 1}), append("k", 2)], [1, {"a": 1}, 2]),
    ([put("other", 1)], [1, {"a": 1}, 2]),
    ([extend("k", [None, "x"])], [1, {"a": 1}, 2, None, "x"]),
    ([delete("k")], MISSING),
    ([append("k", "again")], ["again"]),
    ([put("k", 2**70)], 2**70),
    ([increment("k", -1), RecordAction("counted")], 2**70 - 1),
    ([delete("k"), merge("k", {"a": 1})], {"a": 1}),
    ([merge("k", {"b": None}), merge("k", {"a": 2})], {"a": 2, "b": None}),
    ([put("k", None)], None),
]


async def _live(record: Record) -> None:
    for operations, _ in LIFE:
        await record.do("p", *operations)


async def _check_what_is_kept(
    record: Record, expected: Callable[[int], Any], key: str = "k"
) -> int:
    """Checks that each revision is rebuilt correctly or known to be gone; returns the oldest."""
    revision = await record.revision("p")
    gone: list[int] = []
    for asked in range(revision + 1):
        try:
            found = await record.at("p", key, asked)
        except HistoryGone as error:
            gone.append(error.details["horizon"] - asked)
        else:
            assert found == expected(asked), f"of revision {asked}"
    assert gone == list(range(len(gone), 0, -1)), "each is told the one horizon"
    return len(gone)


async def _pages_without_a_gap(record: Record) -> int:
    """Checks that a reader gets every revision after its start, or HistoryGone.

    Returns the oldest start that works.
    """
    revision = await record.revision("p")
    oldest = revision
    for after in range(revision, -1, -1):
        try:
            changes = await record.changes("p", after)
        except HistoryGone:
            continue
        assert sorted({change[0] for change in changes}) == list(range(after + 1, revision + 1)), (
            f"from {after}"
        )
        oldest = after
    return oldest


class HistorySuite:
    """A plan's past."""

    @pytest.mark.behaviour("history.every-operation")
    async def test_every_operation_leaves_a_row(self, record: Record) -> None:
        cause = Cause("worker", "worker-1", "event-1", "goal-1", "trace-1")
        await record.do(
            "p", put("k", {"ä": 1}), increment("n", 2.5), append("l", None), extend("l", [1]),
            merge("k", {"b": 2}), delete("n"), RecordAction("did it"), ExpirePlan(60),
            put("t", 1, ttl=5), cause=cause,
        )  # fmt: skip
        _, rows = await record.history(ALICE, "p", None, 0, None, ALL)
        told = [
            (row.seq, row.op, row.key, row.argument and decode(row.argument), row.action)
            for row in rows
        ]
        assert told == [
            (0, "set", "k", {"ä": 1}, None),
            (1, "increment", "n", 2.5, None),
            (2, "append", "l", None, None),
            (3, "extend", "l", [1], None),
            (4, "merge", "k", {"b": 2}, None),
            (5, "delete", "n", None, None),
            (6, "record_action", None, "did it", 1),
            (7, "ttl", None, 60, None),
            (8, "set", "t", 1, None),
        ]
        assert {row.revision for row in rows} == {1}
        assert {row.at for row in rows} == {round(record.clock.now * 1000)}
        assert all(row.cause == cause for row in rows)

    @pytest.mark.behaviour("history.every-operation")
    async def test_blind_operations_are_remembered_too(self, record: Record) -> None:
        await record.do("p", increment("n", blind=True), append("l", 1, blind=True))
        assert await record.changes("p", 0) == [(1, "increment", "n"), (1, "append", "l")]

    @pytest.mark.behaviour("history.every-operation")
    async def test_what_changed_nothing_is_not_remembered(self, record: Record) -> None:
        await record.do("p", put("k", 1))
        await record.do("p", delete("missing"))
        assert await record.changes("p", 0) == [(1, "set", "k")]

    @pytest.mark.behaviour("history.pages")
    async def test_paging_by_revision_key_and_end(self, record: Record) -> None:
        await _live(record)
        everything = await record.changes("p", 0)
        assert [change[0] for change in everything] == sorted(change[0] for change in everything)
        assert await record.changes("p", len(LIFE)) == []
        assert await record.changes("p", 8) == everything[10:]
        assert [change[0] for change in await record.changes("p", 2, "k")] == [
            4,
            5,
            6,
            7,
            8,
            9,
            9,
            10,
            10,
            11,
        ]
        plan, rows = await record.history(ALICE, "p", None, 3, 5, ALL)
        assert [row.revision for row in rows] == [4, 5]
        assert plan.revision == len(LIFE)

    @pytest.mark.behaviour("history.pages")
    async def test_a_page_holds_whole_revisions(self, record: Record) -> None:
        for _ in range(4):
            await record.do("p", *(put(f"k{number}", number) for number in range(3)))
        after, pages = 0, []
        while after < 4:
            _, rows = await record.history(ALICE, "p", None, after, None, 4)
            pages += [(row.revision, row.seq) for row in rows]
            after = rows[-1].revision
        assert pages == [(revision, seq) for revision in range(1, 5) for seq in range(3)]

    @pytest.mark.behaviour("memory.first-write")
    async def test_a_plan_never_written_has_no_past(self, record: Record) -> None:
        assert await record.changes("p", 0) == []
        assert await record.at("p", "k", 0) is MISSING
        assert await record.actions("p") == []

    @pytest.mark.behaviour("history.value-at")
    async def test_the_value_at_every_revision(self, record: Record) -> None:
        await _live(record)
        assert await record.at("p", "k", 0) is MISSING
        for revision, (_, value) in enumerate(LIFE, 1):
            assert await record.at("p", "k", revision) == value, f"of revision {revision}"
        assert await record.at("p", "other", 2) is MISSING
        assert await record.at("p", "other", 3) == 1

    @pytest.mark.behaviour("history.value-at")
    async def test_the_value_after_each_operation_of_a_commit(self, record: Record) -> None:
        await record.do("p", put("k", [0]))
        await record.do("p", append("k", 1), put("other", 1), append("k", 2))
        texts = [await record.value_at(ALICE, "p", "k", 2, seq) for seq in range(3)]
        assert [decode(text or "null") for text in texts] == [[0, 1], [0, 1], [0, 1, 2]]

    @pytest.mark.behaviour("history.value-at")
    @pytest.mark.parametrize("operation", [append("k", 2), increment("k", 5), merge("k", {"b": 1})])
    async def test_what_began_anew_after_its_time_to_live_is_rebuilt_so(
        self, record: Record, operation: Any
    ) -> None:
        start: dict[str, Any] = {"append": [1], "increment": 1, "merge": {"a": 1}}
        await record.do("p", put("k", start[str(operation.__struct_config__.tag)], ttl=5))
        record.clock.advance(6)  # and no sweep comes by
        await record.do("p", operation)
        await record.do("p", put("other", 1))
        value = await record.get("p", "k")
        assert value in ([2], 5, {"b": 1})
        assert [await record.at("p", "k", 2), await record.at("p", "k", 3)] == [value, value]

    @pytest.mark.behaviour("history.value-at")
    async def test_the_same_among_more_expired_keys_than_one_sweep_takes(
        self, record: Record
    ) -> None:
        for part_ in range(3):
            await record.do("p", *(put(f"{part_}.{number}", [1], ttl=1.0) for number in range(900)))
        record.clock.advance(1)
        late = [f"{part_}.{number}" for part_ in range(3) for number in (0, 899)]
        await record.do("p", *(append(key, 2) for key in late))
        assert await record.state("p") == {key: [2] for key in late}
        assert [await record.at("p", key, 4) for key in late] == [[2]] * len(late)

    # actions

    @pytest.mark.behaviour("history.actions")
    async def test_actions_in_order_and_by_page(self, record: Record) -> None:
        cause = Cause(actor="worker", event_id="e")
        for number in range(5):
            await record.do(
                "p",
                RecordAction(f"step {number}"),
                RecordAction("same"),
                put("k", number),
                cause=cause,
            )
        assert await record.actions("p") == [
            name for n in range(5) for name in (f"step {n}", "same")
        ]
        page = await record.store.plans.actions(ALICE, "p", 3, 2)
        assert [(row.action, row.revision) for row in page] == [(4, 2), (5, 3)]
        assert {row.cause for row in page} == {cause}

    @pytest.mark.behaviour("history.actions-outlive-the-horizon")
    async def test_actions_outlive_the_horizon(
        self, make_record: Callable[..., Awaitable[Record]]
    ) -> None:
        record = await make_record(history_bytes=20_000)
        for number in range(50):
            await record.do("p", put("k", "x" * 1000), RecordAction(f"step {number}"))
        await record.sweep()
        with pytest.raises(HistoryGone):
            await record.at("p", "k", 1)
        assert await record.actions("p") == [f"step {number}" for number in range(50)]
        await record.do("p", RecordAction("last"))
        assert (await record.actions("p"))[-1] == "last"

    # trimming

    @pytest.mark.behaviour("history.kept")
    async def test_trimming_by_revisions_keeps_at_least_the_limit(
        self, make_record: Callable[..., Awaitable[Record]]
    ) -> None:
        record = await make_record(history_revisions=20)
        await record.do("p", put("k", 0), put("idle", "as ever"))
        await asyncio.gather(*(record.do("p", increment("k", blind=True)) for _ in range(2_099)))
        await record.sweep()
        oldest = await _check_what_is_kept(
            record, lambda revision: revision - 1 if revision else MISSING
        )
        assert 1 <= oldest <= 2_100 - 20
        assert await record.at("p", "idle", 2_100) == await record.get("p", "idle") == "as ever"
        assert await record.get("p", "k") == 2_099

    @pytest.mark.behaviour("history.kept")
    async def test_trimming_by_size_keeps_at_least_the_limit(
        self, make_record: Callable[..., Awaitable[Record]]
    ) -> None:
        record = await make_record(history_bytes=100_000)
        for number in range(200):
            await record.do("p", put("k", f"{number:01000}"))
        await record.sweep()
        oldest = await _check_what_is_kept(record, lambda n: f"{n - 1:01000}" if n else MISSING)
        assert oldest >= 1, "nothing was trimmed"
        assert oldest <= 200 - 100_000 // 1200, "more was trimmed than the limit asks for"

    @pytest.mark.behaviour("history.gone")
    @pytest.mark.parametrize("extra", [0, 1])
    async def test_readers_of_a_trimmed_history_miss_nothing(
        self, make_record: Callable[..., Awaitable[Record]], extra: int
    ) -> None:
        record = await make_record(history_bytes=10_000)
        for _ in range(15 + extra):
            await record.do("p", put("filler", "x" * 1000))
        for _ in range(10):
            await record.do("p", put("short-lived", "x" * 1000, ttl=1))
            record.clock.advance(2)
            await record.sweep()
        assert await _pages_without_a_gap(record) >= 1

    @pytest.mark.behaviour("history.kept")
    @pytest.mark.parametrize("beginning", ["cleanup", "expiry"])
    async def test_what_was_set_as_a_plan_began_anew_survives_trimming(
        self, make_record: Callable[..., Awaitable[Record]], beginning: str
    ) -> None:
        record = await make_record(history_bytes=10_000)
        await record.do("p", put("old", 1), ExpirePlan(5))
        if beginning == "cleanup":
            await record.do("p", Cleanup(), put("k", "kept"))
        else:
            record.clock.advance(6)
            await record.do("p", put("k", "kept"))
        for _ in range(30):
            await record.do("p", put("filler", "x" * 1000))
        await record.sweep()
        revision = await record.revision("p")
        assert await record.get("p", "k") == "kept"
        assert await record.at("p", "k", revision) == "kept"

    @pytest.mark.behaviour("history.kept")
    async def test_a_trimmed_history_goes_on(
        self, make_record: Callable[..., Awaitable[Record]]
    ) -> None:
        record = await make_record(history_bytes=10_000)
        await record.do("p", put("list", [0]), put("n", 0), put("object", {"z": 0}), put("gone", 1))
        await record.do("p", delete("gone"))
        for number in range(1, 30):
            await record.do(
                "p",
                append("list", number),
                increment("n"),
                merge("object", {f"k{number}": "x" * 500}),
            )
        await record.sweep()
        with pytest.raises(HistoryGone):
            await record.changes("p", 0)
        revision = await record.revision("p")
        state = await record.state("p")
        assert {key: await record.at("p", key, revision) for key in state} == state
        assert await record.at("p", "gone", revision) is MISSING
        await record.do("p", append("list", "more"))
        assert await record.at("p", "list", revision + 1) == [*range(30), "more"]

    @pytest.mark.behaviour("history.kept")
    async def test_other_plans_keep_their_past(
        self, make_record: Callable[..., Awaitable[Record]]
    ) -> None:
        record = await make_record(history_bytes=10_000)
        await record.do("q", put("k", 1))
        await record.do("q", put("k", 2))
        for _ in range(30):
            await record.do("p", put("k", "x" * 1000))
        await record.sweep()
        assert await record.at("q", "k", 1) == 1

    @pytest.mark.behaviour("history.kept")
    async def test_a_commit_of_many_plans_counts_in_each(self, record: Record) -> None:
        await record.commit(part("p", put("k", 1)))
        await record.commit(part("p", put("k", 2)), part("q", put("k", 3)))
        assert [await record.at("p", "k", 2), await record.at("q", "k", 1)] == [2, 3]
