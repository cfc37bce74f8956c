"""Requirements for limits: a store refuses what is too much, with nothing changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from record import ALICE, Record, append, delete, event, increment, merge, part, put

from soorma_common.errors import LimitExceeded
from soorma_common.operations import Cleanup, RecordAction

MakeRecord = Callable[..., Awaitable[Record]]

CROSSINGS: list[tuple[str, int, list[Any], list[Any]]] = [
    # a limit, its maximum, what just fits, what no longer does
    ("value_bytes", 10, [put("k", "x" * 8)], [put("l", "x" * 9)]),
    ("value_bytes", 10, [put("k", "ä" * 4)], [put("k", "ä" * 5)]),
    ("value_bytes", 10, [put("k", [1, 2, 3])], [append("k", 4), append("k", 55)]),
    ("value_bytes", 12, [merge("k", {"a": "123"})], [merge("k", {"bb": ""})]),
    ("value_bytes", 3, [increment("k", 999)], [increment("k")]),
    ("plan_bytes", 20, [put("key", "x" * 15)], [put("l", 1)]),
    ("plan_bytes", 20, [put("ä", "x" * 16)], [put("ä", "x" * 17)]),
    ("plan_keys", 2, [put("a", 1), put("b", 1)], [increment("c")]),
    ("plan_actions", 2, [RecordAction("a"), RecordAction("a")], [RecordAction("a")]),
    ("commit_operations", 3, [increment("a")] * 3, [increment("a")] * 4),
]


class LimitsSuite:
    """Limits, each refused with nothing changed."""

    @pytest.mark.behaviour("limits.named")
    @pytest.mark.parametrize(("limit", "maximum", "fits", "too_much"), CROSSINGS)
    async def test_a_limit_is_named_and_nothing_is_changed(
        self,
        make_record: MakeRecord,
        limit: str,
        maximum: int,
        fits: list[Any],
        too_much: list[Any],
    ) -> None:
        record = await make_record(**{limit: maximum})
        await record.do("p", *fits)
        before = await record.state("p"), await record.actions("p"), await record.changes("p", 0)
        with pytest.raises(LimitExceeded) as error:
            await record.commit(part("q", put("k", 1)), part("p", *too_much))
        assert error.value.details["limit"] == limit
        assert error.value.details["maximum"] == maximum
        assert error.value.details["actual"] > maximum
        assert (
            await record.state("p"),
            await record.actions("p"),
            await record.changes("p", 0),
        ) == before
        assert await record.revision("q") == 0

    @pytest.mark.behaviour("limits.room")
    async def test_what_makes_room_first_fits(self, make_record: MakeRecord) -> None:
        record = await make_record(plan_keys=2, plan_bytes=30, plan_actions=1)
        await record.do("p", put("a", "x" * 10), put("b", "x" * 10), RecordAction("x"))
        await record.do("p", delete("a"), put("c", "x" * 10))
        await record.do("p", put("c", 1), put("b", "x" * 20))
        await record.do("p", Cleanup(), put("d", 1), put("e", 2), RecordAction("y"))
        assert await record.state("p") == {"d": 1, "e": 2}
        assert await record.actions("p") == ["y"]

    @pytest.mark.behaviour("limits.named")
    async def test_a_commits_events(self, make_record: MakeRecord) -> None:
        record = await make_record(commit_events=2)
        await record.commit(events=[event("a"), event("b")])
        with pytest.raises(LimitExceeded) as error:
            await record.commit(part("p", put("k", 1)), events=[event("a")] * 3)
        assert error.value.details["limit"] == "commit_events"
        assert len(await record.log()) == 2
        assert await record.revision("p") == 0

    @pytest.mark.behaviour("limits.named")
    async def test_an_events_size(self, make_record: MakeRecord) -> None:
        record = await make_record(event_bytes=1_000)
        await record.publish("a", data="x" * 600)
        with pytest.raises(LimitExceeded) as error:
            await record.commit(
                part("p", put("k", 1)), events=[event("b"), event("a", data="ä" * 500)]
            )
        assert error.value.details["limit"] == "event_bytes"
        assert len(await record.log()) == 1
        assert await record.revision("p") == 0

    @pytest.mark.behaviour("limits.defaults")
    async def test_the_defaults_are_the_documented_ones(self, record: Record) -> None:
        mib = 2**20
        await record.do("p", put("k", "x" * (mib - 2)), *[increment("n", blind=True)] * 999)
        with pytest.raises(LimitExceeded):
            await record.do("p", put("k", "x" * (mib - 1)))
        with pytest.raises(LimitExceeded):
            await record.do("p", *[increment("n", blind=True)] * 1001)
        await record.commit(events=[event("e") for _ in range(1_000)])
        with pytest.raises(LimitExceeded):
            await record.commit(events=[event("e") for _ in range(1_001)])
        limits = record.limits
        assert (limits.plan_bytes, limits.plan_keys, limits.plan_actions) == (
            16 * mib,
            10_000,
            1_000_000,
        )
        assert (limits.event_bytes, limits.history_revisions, limits.history_bytes) == (
            mib // 2,
            10_000,
            64 * mib,
        )
        assert (await record.store.plans.get(ALICE, "p", set())).row.revision == 1
