"""Requirements for passages that are replaced from a time on."""

from __future__ import annotations

import pytest
from record import ALICE, BOB, Record

from soorma_common.causes import Cause
from soorma_common.errors import Forbidden, InvalidRequest
from soorma_common.memory import Commit
from soorma_common.semantic import (
    ForgetKnowledge,
    MemoryDone,
    PublishKnowledge,
    StoreKnowledge,
    UpdateKnowledge,
)
from soorma_common.times import time_of
from soorma_platform.engine.rows.passages import MOST_REPLACEMENTS, MemoriesNeed

DOG = {"subject": "dogs", "attribute": "fare"}
FREE, HALF, FULL = "Dogs travel free.", "Dogs pay half the fare.", "Dogs pay the full fare."


def day(number: int) -> str:
    """Returns a day of 2030, which the clock of a test has not reached."""
    return f"2030-01-{number:02}T00:00:00Z"


async def fares(record: Record, *days: int, known_at: str | None = None) -> list[list[str]]:
    """Returns what is true on each of these days."""
    return [
        await record.found("dogs fare", as_of=day(number), known_at=known_at, min_score=0.0)
        for number in days
    ]


class PeriodsSuite:
    @pytest.mark.behaviour("knowledge.periods")
    @pytest.mark.parametrize("by", ["supersedes", "external_id", "subject"])
    async def test_a_passage_counts_until_what_replaces_it_begins(
        self, record: Record, by: str
    ) -> None:
        names = {"external_id": "e"} if by == "external_id" else DOG if by == "subject" else {}
        old = await record.know(FREE, **names)
        before = await record.passage(old)
        assert before is not None
        record.clock.advance(60)
        more = {"supersedes": old} if by == "supersedes" else names
        (done,) = await record.remember(StoreKnowledge(content=HALF, valid_from=day(10), **more))
        assert done.closed == [old]
        assert await fares(record, 9, 10, 11) == [[FREE], [HALF], [HALF]]
        assert await record.found("dogs", min_score=0.0) == [FREE], "it lies ahead"
        known_at = before.created_at.isoformat()
        assert await fares(record, 9, 10, known_at=known_at) == [[FREE], [FREE]]
        ended = await record.passage(old)
        assert ended is not None
        assert ended.valid_until is not None
        assert ended.valid_until.isoformat() == "2030-01-10T00:00:00+00:00"
        assert (ended.closed_at, ended.closed_by, ended.revision) == (None, done.id, 2)

    @pytest.mark.behaviour("knowledge.periods")
    async def test_what_had_ended_already_stays_as_it_was(self, record: Record) -> None:
        old = await record.know(FREE, valid_from=day(1), valid_until=day(10))
        newer = await record.know(HALF, valid_from=day(10), supersedes=old)
        assert await fares(record, 5, 10) == [[FREE], [HALF]]
        passage = await record.passage(old)
        assert passage is not None
        assert passage.closed_by == newer
        await record.remember(ForgetKnowledge(id=newer))
        assert await record.passage(old) is None, "what it has replaced goes with it"

    @pytest.mark.behaviour("knowledge.periods")
    async def test_a_chain_has_one_value_at_a_time_in_whatever_order_it_comes(
        self, record: Record
    ) -> None:
        first = await record.know(FREE, valid_from=day(1), **DOG)
        last = await record.know(FULL, valid_from=day(20), **DOG)
        (done,) = await record.remember(StoreKnowledge(content=HALF, valid_from=day(10), **DOG))
        assert done.closed == [first]
        assert await fares(record, 1, 9, 10, 19, 20, 25) == [
            [FREE], [FREE], [HALF], [HALF], [FULL], [FULL]
        ]  # fmt: skip
        middle = await record.passage(done.id)
        assert middle is not None
        assert middle.closed_by == last
        (again,) = await record.remember(StoreKnowledge(content=HALF, valid_from=day(10), **DOG))
        assert again == MemoryDone(done.id, "restated")
        await record.remember(ForgetKnowledge(id=last))
        assert await fares(record, 1, 10, 20) == [[], [], []]

    @pytest.mark.behaviour("knowledge.periods")
    async def test_a_correction_of_one_passage_ends_where_it_was_replaced(
        self, record: Record
    ) -> None:
        first = await record.know(FREE)
        await record.know(FULL, valid_from=day(20), supersedes=first)
        await record.know(HALF, valid_from=day(10), supersedes=first)
        assert await fares(record, 9, 10, 19, 20) == [[FREE], [HALF], [HALF], [FULL]]

    @pytest.mark.behaviour("knowledge.periods")
    async def test_one_without_a_start_replaces_all_and_may_return(self, record: Record) -> None:
        first = await record.know(FREE, **DOG)
        second = await record.know(HALF, valid_from=day(10), **DOG)
        (done,) = await record.remember(StoreKnowledge(content=FREE, **DOG))
        assert (done.outcome, set(done.closed)) == ("stored", {first, second})
        assert await fares(record, 9, 10) == [[FREE], [FREE]]
        (hit,) = await record.search("dogs")
        assert (hit.id, hit.stated) == (done.id, 1)

    @pytest.mark.behaviour("knowledge.periods")
    async def test_periods_that_do_not_meet_leave_each_other_alone(self, record: Record) -> None:
        later = await record.know(HALF, valid_from=day(10), **DOG)
        (done,) = await record.remember(StoreKnowledge(content=FREE, valid_until=day(10), **DOG))
        assert (done.outcome, done.closed) == ("stored", [])
        assert await fares(record, 9, 10) == [[FREE], [HALF]]
        (done,) = await record.remember(StoreKnowledge(content=FULL, valid_from=day(10), **DOG))
        assert done.closed == [later], "both begin on the same day"
        assert await fares(record, 9, 10) == [[FREE], [FULL]]

    @pytest.mark.behaviour("knowledge.periods")
    async def test_what_is_public_is_replaced_and_published_like_that(self, record: Record) -> None:
        old = await record.know(FREE, is_public=True, **DOG)
        await record.know(FULL, is_public=True, valid_from=day(20), scope=BOB, **DOG)
        member = await record.subscribe("g", "e")
        cause = Cause(actor="g", event_id=await record.publish("e", "p"))
        (claimed,) = await record.claim(member)
        proposal = StoreKnowledge(content=HALF, id="new", is_public=True, valid_from=day(10), **DOG)
        await record.apply(Commit(memories=[proposal], fence=claimed.fence), cause=cause)
        assert await record.found("dogs", scope=BOB, as_of=day(10)) == [FREE]
        (done,) = await record.remember(PublishKnowledge(id="new"))
        assert done.closed == [old]
        for scope in (ALICE, BOB):
            found = [
                await record.found("dogs fare", scope=scope, as_of=day(n), min_score=0.0)
                for n in (9, 10, 19, 20)
            ]
            assert found == [[FREE], [HALF], [HALF], [FULL]]

    @pytest.mark.behaviour("knowledge.periods")
    async def test_one_commit_may_store_a_whole_chain(self, record: Record) -> None:
        done = await record.remember(
            StoreKnowledge(content=FREE, valid_from=day(1), **DOG),
            StoreKnowledge(content=HALF, valid_from=day(10), **DOG),
            StoreKnowledge(content=FULL, valid_from=day(20), **DOG),
        )
        assert [len(one.closed) for one in done] == [0, 1, 1]
        assert await fares(record, 9, 10, 20) == [[FREE], [HALF], [FULL]]

    @pytest.mark.behaviour("knowledge.periods")
    async def test_an_updated_period_is_the_one_that_ends(self, record: Record) -> None:
        old = await record.know(FREE, **DOG)
        await record.remember(UpdateKnowledge(id=old, valid_from=day(15)))
        await record.know(HALF, valid_from=day(10), **DOG)
        assert await fares(record, 9, 10, 15) == [[], [HALF], [FREE]]

    @pytest.mark.behaviour("knowledge.periods")
    async def test_many_corrections_keep_the_ends_of_a_passage_bounded(
        self, record: Record
    ) -> None:
        await record.know(FREE, **DOG)
        times = []
        for number in range(40):
            times.append((await record.store.memories.semantic.collections(ALICE)).now)
            record.clock.advance(60)
            start = f"2030-02-{28 - number // 2:02}T{12 * (1 - number % 2):02}:00:00Z"
            await record.know(f"Dogs pay {number} crowns.", valid_from=start, **DOG)
        need = MemoriesNeed(pairs={("dogs", "fare"): 0})
        known = await record.store.memories.semantic.known(ALICE, need)
        (kept,) = [one for one in known.own.passages.values() if one.valid_from == 0]
        assert len(kept.until_before or b"") == 32 * 16
        found = await record.found(
            "dogs", as_of="2030-03-01T00:00:00Z", known_at=time_of(times[0]).isoformat()
        )
        assert found == [FREE]

    @pytest.mark.behaviour("knowledge.follows")
    async def test_superseding_what_was_superseded_replaces_what_is_in_its_place(
        self, record: Record
    ) -> None:
        first = await record.know(FREE)
        second = await record.know(HALF, supersedes=first)
        (done,) = await record.remember(StoreKnowledge(content=FULL, supersedes=first))
        assert (done.outcome, done.closed) == ("stored", [second])
        assert await record.found("dogs", min_score=0.0) == [FULL]
        (again,) = await record.remember(StoreKnowledge(content=FULL, supersedes=first))
        assert again == MemoryDone(done.id, "restated"), "it came again"
        (later,) = await record.remember(
            StoreKnowledge(content=HALF, valid_from=day(10), supersedes=first)
        )
        assert later.closed == [done.id]
        assert await fares(record, 9, 10) == [[FULL], [HALF]]
        (all_of_it,) = await record.remember(StoreKnowledge(content=FREE, supersedes=first))
        assert set(all_of_it.closed) == {done.id, later.id}
        assert await fares(record, 9, 10) == [[FREE], [FREE]]

    @pytest.mark.behaviour("knowledge.follows")
    async def test_a_handler_replaces_nothing_public_that_way(self, record: Record) -> None:
        mine = await record.know(FREE)
        await record.know(HALF, supersedes=mine, is_public=True)
        member = await record.subscribe("g", "e")
        cause = Cause(actor="g", event_id=await record.publish("e", "p"))
        (claimed,) = await record.claim(member)
        newer = StoreKnowledge(content=FULL, supersedes=mine)
        with pytest.raises(Forbidden, match="public"):
            await record.apply(Commit(memories=[newer], fence=claimed.fence), cause=cause)

    @pytest.mark.behaviour("knowledge.follows")
    async def test_only_so_many_replacements_are_followed(self, record: Record) -> None:
        chain = [
            StoreKnowledge(content=f"Fare {n}.", id=f"p{n}", supersedes=f"p{n - 1}" if n else None)
            for n in range(MOST_REPLACEMENTS + 2)
        ]
        for start in range(0, len(chain), 500):
            await record.remember(*chain[start : start + 500])
        with pytest.raises(InvalidRequest, match="more than 1,000 times"):
            await record.know("The last fare.", supersedes="p0")
        await record.know("The last fare.", supersedes="p1")
        assert await record.found("fare", min_score=0.0) == ["The last fare."]
