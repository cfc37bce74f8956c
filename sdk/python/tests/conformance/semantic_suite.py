"""Requirements for semantic memory in a store: passages, and what a search returns of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any
from uuid import uuid4

import pytest
from record import ALICE, BOB, STRANGER, Record, part, put, raw

from soorma_common.causes import Cause
from soorma_common.errors import (
    Conflict,
    Fenced,
    InvalidName,
    InvalidRequest,
    InvalidValue,
    LimitExceeded,
    NotFound,
    SoormaError,
)
from soorma_common.memory import Commit
from soorma_common.names import Scope
from soorma_common.semantic import (
    ForgetKnowledge,
    MemoryDone,
    SearchBody,
    StoreKnowledge,
    UpdateKnowledge,
)
from soorma_platform.engine.retrieval.index import CollectionIndex
from soorma_platform.engine.rows.passages import KEPT_CHANGES
from soorma_platform.metrics import Metrics
from soorma_platform.stores.ports import Store
from soorma_platform.work.recall import Recall

TRAIN = "The night train to Lund leaves from platform 4."
DOGS = "Dogs travel free of charge in all carriages."
REFUND = "A ticket is refunded within 14 days of the journey."
TABLES = ("passages", "passage_parts", "restatements", "passage_sources")
LONG = "\n\n".join(
    f"Section {number} of the handbook says how item number {number} of the depot is kept: in a "
    f"dry place, away from the doors, and counted every {number + 2} days by whoever is on duty "
    "there at the time. Nobody may borrow it without a note in the book that lies on the desk."
    for number in range(20)
)


class SemanticSuite(ABC):
    @abstractmethod
    async def count_rows(self, store: Store, table: str) -> int:
        """Returns how many rows of a table the store holds."""

    @pytest.mark.behaviour("knowledge.found-at-once")
    async def test_a_passage_is_found_by_its_words(self, record: Record) -> None:
        passage_id = await record.know(TRAIN, tags=["timetable"], source="handbook")
        await record.know(DOGS)
        (hit,) = await record.search("Where does the night train to Lund leave?")
        assert (hit.id, hit.content, hit.tags) == (passage_id, TRAIN, ["timetable"])
        assert (hit.source, hit.trust, hit.stated) == ("handbook", "application", 1)
        assert 0.5 < hit.score <= 1
        assert (hit.place.part, hit.place.start, hit.place.end) == (0, 0, len(TRAIN))

    @pytest.mark.behaviour("knowledge.found-at-once")
    async def test_it_is_found_after_a_restart_and_by_an_index_that_was_there(
        self, record: Record
    ) -> None:
        await record.know(TRAIN)
        assert await record.found("night train") == [TRAIN]
        await record.know(DOGS)
        assert await record.found("dogs") == [DOGS]
        await record.reopen()
        assert await record.found("night train") == [TRAIN]
        assert await record.found("dogs") == [DOGS]

    @pytest.mark.behaviour("knowledge.many-collections")
    async def test_the_indexes_of_many_users_stay_within_their_bound(
        self, record: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        users = [Scope("acme", f"user-{number}") for number in range(60)]
        for number, scope in enumerate(users):
            await record.know(f"{TRAIN} Its number is {number}.", scope=scope)
        metrics, weighed = Metrics(), list[int]()
        nbytes = CollectionIndex.nbytes.fget
        assert nbytes is not None

        def weigh(index: CollectionIndex) -> int:
            weighed.append(nbytes(index))
            return weighed[-1]

        monkeypatch.setattr(CollectionIndex, "nbytes", property(weigh))
        recall = Recall(record.store.memories, record.limits, 1 << 30, None, metrics)
        for scope in users:
            (hit,) = (await recall.knowledge(scope, SearchBody(query="night train"))).hits
            assert hit.content.endswith(f"Its number is {users.index(scope)}.")
        assert metrics.memories.index_bytes == sum(weighed)
        assert len(weighed) == len(users), "a search weighs what it has used, not all there is"

        least = max(weighed)
        small = Recall(record.store.memories, record.limits, 10 * least, None, metrics)
        for scope in [*users, *users]:
            assert (await small.knowledge(scope, SearchBody(query="night train"))).hits
            assert metrics.memories.index_bytes <= 10 * least
        assert sum(metrics.memories.indexes_dropped.values().values()) >= len(users)

    @pytest.mark.behaviour("knowledge.nothing")
    async def test_nothing_found_is_not_nothing_stored(self, record: Record) -> None:
        await record.know(TRAIN)
        known = await record.search("the price of apples in Malmo")
        unknown = await record.search("night train", scope=STRANGER)
        assert (list(known), known.is_known) == ([], True)
        assert (list(unknown), unknown.is_known) == ([], False)

    @pytest.mark.behaviour("knowledge.precise")
    async def test_only_what_is_nearly_as_good_as_the_best_is_returned(
        self, record: Record
    ) -> None:
        await record.know(TRAIN)
        await record.know("A train needs a driver.")
        await record.know("Each platform has a clock.")
        assert await record.found("night train Lund platform") == [TRAIN]
        everything = await record.found("night train Lund platform", min_score=0.0)
        assert everything[0] == TRAIN
        assert len(everything) == 3

    @pytest.mark.behaviour("knowledge.equal-once")
    async def test_an_equal_passage_is_stored_once(self, record: Record) -> None:
        first = await record.know(TRAIN, tags=["a"], metadata=raw({"x": 1}))
        again, other = await record.remember(
            StoreKnowledge(content=f"  {TRAIN}\n", tags=["b"], metadata=raw({"y": 2})),
            StoreKnowledge(content=TRAIN, id="mine", aliases=["the sleeper"]),
        )
        assert again == MemoryDone(first, "restated")
        assert other == MemoryDone(first, "restated")
        (hit,) = await record.search("night train")
        assert (hit.stated, hit.tags, hit.metadata) == (3, ["a", "b"], {"x": 1, "y": 2})
        assert await record.found("the sleeper", tags=["b"]) == [TRAIN]
        named = await record.passage("mine")
        assert named is not None
        assert named.id == first

    @pytest.mark.behaviour("knowledge.equal-once")
    async def test_a_document_that_comes_again_is_as_it_comes(self, record: Record) -> None:
        first = await record.know(TRAIN, external_id="e", tags=["a"], source="f", aliases=["x"])
        again = await record.know(TRAIN, external_id="e", tags=["b"], source="g")
        assert again == first
        (hit,) = await record.search("night train", tags=["b"], source="g")
        assert (hit.tags, hit.source, hit.aliases, hit.stated) == (["b"], "g", [], 2)
        assert await record.found("night train", tags=["a"]) == []

    @pytest.mark.behaviour("knowledge.equal-once")
    async def test_what_differs_is_not_merged(self, record: Record) -> None:
        for text in (
            "Unit 412 may run on the coast line.",
            "Unit 421 may run on the coast line.",
            "Unit 412 may not run on the coast line.",
            "Unit 412 may run on the coast line from 1 May.",
        ):
            (done,) = await record.remember(StoreKnowledge(content=text))
            assert done.outcome == "stored"
        for names in ({"external_id": "e"}, {"subject": "s", "attribute": "a"},
                      {"valid_from": "2026-01-01T00:00:00Z"}, {"is_public": True}):  # fmt: skip
            operation = StoreKnowledge(content="Unit 412 may run on the coast line.", **names)
            (done,) = await record.remember(operation)
            assert done.outcome == "stored", names

    @pytest.mark.behaviour("knowledge.equal-once")
    async def test_equal_passages_of_one_commit_are_one(self, record: Record) -> None:
        one, two = await record.remember(
            StoreKnowledge(content=TRAIN, id="one", tags=["a"]),
            StoreKnowledge(content=TRAIN, id="two", tags=["b"]),
        )
        assert (one.outcome, two.outcome, two.id) == ("stored", "restated", "one")
        for passage_id in ("one", "two"):
            passage = await record.passage(passage_id)
            assert passage is not None
            assert (passage.stated, passage.tags) == (2, ["a", "b"])
        assert await record.found("night train", tags=["a", "b"]) == [TRAIN]

    @pytest.mark.behaviour("knowledge.replaced")
    async def test_an_external_id_is_replaced_and_not_duplicated(self, record: Record) -> None:
        old = await record.know(REFUND, external_id="faq-7")
        newer = REFUND.replace("14", "30")
        (done,) = await record.remember(StoreKnowledge(content=newer, external_id="faq-7"))
        assert done.closed == [old]
        assert await record.found("refund of a ticket") == [newer]
        closed = await record.passage(old)
        assert closed is not None
        assert closed.closed_by == done.id
        assert closed.closed_at is not None

    @pytest.mark.behaviour("knowledge.replaced")
    async def test_one_passage_supersedes_another(self, record: Record) -> None:
        old = await record.know(REFUND)
        await record.know("Refunds take 30 days.", supersedes=old)
        assert await record.found("refunds") == ["Refunds take 30 days."]
        with pytest.raises(NotFound, match="supersede"):
            await record.know("Refunds take 60 days.", supersedes="nothing")
        assert await record.found("refunds") == ["Refunds take 30 days."]

    @pytest.mark.behaviour("knowledge.replaced")
    async def test_an_attribute_has_one_current_value(self, record: Record) -> None:
        pair = {"subject": "dogs", "attribute": "fare"}
        await record.know(DOGS, **pair)
        await record.know("Dogs pay half the fare.", **pair)
        await record.know("Cats need a cage.", subject="cats", attribute="fare")
        assert await record.found("dogs fare") == ["Dogs pay half the fare."]
        first, second = await record.remember(
            StoreKnowledge(content="Dogs pay the full fare.", **pair),
            StoreKnowledge(content="Dogs pay nothing again.", **pair),
        )
        assert second.closed == [first.id]
        assert await record.found("dogs") == ["Dogs pay nothing again."]

    @pytest.mark.behaviour("knowledge.replaced")
    async def test_what_was_replaced_can_be_stored_again(self, record: Record) -> None:
        for days in ("14", "30", "14"):
            await record.know(REFUND.replace("14", days), external_id="faq-7")
        assert await record.found("refund") == [REFUND]
        (hit,) = await record.search("refund")
        assert hit.stated == 1

    @pytest.mark.behaviour("knowledge.times")
    async def test_a_search_asks_for_what_was_true_or_known_at_a_time(self, record: Record) -> None:
        await record.know(REFUND, valid_until="2026-06-01T00:00:00Z", external_id="a")
        await record.know("A ticket is refunded within 30 days.", valid_from="2026-06-01T00:00:00Z")
        assert await record.found("ticket refunded", as_of="2026-05-31T23:59:59Z") == [REFUND]
        assert await record.found("ticket refunded", as_of="2026-06-01T00:00:00Z") == [
            "A ticket is refunded within 30 days."
        ]
        await record.know(DOGS, subject="dogs", attribute="fare")
        before = await record.search("dogs")
        record.clock.advance(3600)
        await record.know("Dogs pay half.", subject="dogs", attribute="fare")
        known_at = before[0].created_at.isoformat()
        assert await record.found("dogs", known_at=known_at) == [DOGS]
        assert await record.found("dogs") == ["Dogs pay half."]

    @pytest.mark.behaviour("knowledge.times")
    async def test_a_clock_that_jumped_hides_nothing(self, record: Record) -> None:
        await record.know(TRAIN)
        record.clock.jump(-7 * 86_400)
        assert await record.found("night train") == [TRAIN]
        await record.know(DOGS)
        record.clock.jump(14 * 86_400)
        assert await record.found("dogs travel") == [DOGS]

    @pytest.mark.behaviour("knowledge.filters")
    async def test_a_search_is_limited_by_tags_source_fields_and_time(self, record: Record) -> None:
        for number in range(30):
            await record.know(
                f"Train number {number} leaves daily.",
                tags=["odd" if number % 2 else "even", f"t{number}"],
                source="plan" if number < 20 else "note",
                metadata=raw({"line": number % 3, "of": {"b": 1, "a": [number]}}),
            )

        async def numbers(**filters: Any) -> set[int]:
            hits = await record.search("train leaves daily", min_score=0.0, limit=100, **filters)
            return {int(hit.content.split()[2]) for hit in hits}

        assert await numbers(tags=["odd"]) == set(range(1, 30, 2))
        assert await numbers(tags=["odd", "t7"]) == {7}
        assert await numbers(tags=["odd", "t8"]) == set()
        assert await numbers(source="note") == set(range(20, 30))
        assert await numbers(metadata=raw({"line": 2}), source="note") == {20, 23, 26, 29}
        assert await numbers(metadata=raw({"of": {"a": [4], "b": 1}})) == {4}
        assert await numbers(tags=["ODD"]) == set()
        middle = (await record.search("train", tags=["t3"], min_score=0.0))[0].created_at
        record.clock.advance(60)
        await record.know("Train number 99 leaves daily.")
        assert await numbers(since=middle.isoformat(), source="plan") == set(range(20))
        assert await numbers(until=middle.isoformat()) == set()

    @pytest.mark.behaviour("knowledge.filters")
    async def test_a_rare_filter_still_fills_the_limit(self, record: Record) -> None:
        operations = [
            StoreKnowledge(
                content=f"Item {n} is in the store.", tags=["rare"] if n % 50 == 7 else []
            )
            for n in range(600)
        ]
        await record.remember(*operations)
        hits = await record.search("item in the store", tags=["rare"], min_score=0.0, limit=10)
        assert len(hits) == 10
        assert all(hit.tags == ["rare"] for hit in hits)

    @pytest.mark.behaviour("knowledge.bounds")
    async def test_limit_tokens_and_score_bound_what_is_returned(self, record: Record) -> None:
        for number in range(9):
            await record.know(f"Lamp {number} on the platform is broken.")
        assert len(await record.search("lamp platform broken", limit=4)) == 4
        hits = await record.search("lamp platform broken", max_tokens=20)
        assert sum(len(hit.content) for hit in hits) <= 80
        assert len(hits) == 2
        assert len(await record.search("lamp platform broken", max_tokens=1)) == 0
        assert len(await record.search("lamp platform fixed", min_score=0.99)) == 0

    @pytest.mark.behaviour("knowledge.names")
    async def test_a_passage_is_found_by_its_other_names(self, record: Record) -> None:
        passage_id = await record.know(TRAIN, aliases=["the Sleeper", "NJ 401"])
        await record.know("The sleeper agent of the film was a spy in Moscow and Prague.")
        assert (await record.found("when does NJ 401 go"))[0] == TRAIN
        assert TRAIN in await record.found("the sleeper")
        await record.remember(UpdateKnowledge(id=passage_id, aliases=["Owl"]))
        assert await record.found("NJ 401") == []
        assert await record.found("owl") == [TRAIN]

    @pytest.mark.behaviour("knowledge.languages")
    @pytest.mark.parametrize(
        ("text", "query"),
        [
            ("Die Züge fahren über Göttingen.", "zuge gottingen"),
            ("Le café ferme à minuit.", "CAFE minuit"),
            ("東京タワーは港区にあります。", "東京タワー"),
            ("서울역은 용산구에 있다.", "서울역"),
            ("สถานีรถไฟอยู่ที่นี่", "สถานี"),
            ("Поезд отправляется в полночь.", "ПОЕЗД полночь"),
            ("रेलगाड़ी आधी रात को चलती है", "रेलगाड़ी"),
            ("يغادر القطار عند منتصف الليل", "القطار"),
            ("The fare is 1,250.50 crowns.", "1250.50"),
        ],
    )
    async def test_words_of_any_language_are_found(
        self, record: Record, text: str, query: str
    ) -> None:
        await record.know("Something else is written here.")
        await record.know(text)
        assert await record.found(query) == [text]

    @pytest.mark.behaviour("knowledge.long")
    async def test_a_long_text_is_found_by_its_parts(self, record: Record) -> None:
        await record.know(TRAIN)
        passage_id = await record.know(LONG, aliases=["depot rules"], tags=["depot"])
        (hit,) = await record.search("how is item number 13 of the depot kept", limit=1)
        assert hit.id == passage_id
        assert "Section 13" in hit.content
        assert hit.content == LONG[hit.place.start : hit.place.end]
        assert len(hit.content) <= 1000
        assert hit.place.part > 0
        whole = await record.passage(passage_id)
        assert whole is not None
        assert whole.content == LONG
        hits = await record.search("section of the handbook", min_score=0.0, tags=["depot"])
        assert [hit.id for hit in hits] == [passage_id], "one hit for each passage"

    @pytest.mark.behaviour("knowledge.scope")
    async def test_nothing_of_another_user_or_tenant_is_found(self, record: Record) -> None:
        mine = await record.know(TRAIN, external_id="e", subject="s", attribute="a")
        score = (await record.search("night train lund platform"))[0].score
        for scope in (BOB, STRANGER):
            for number in range(20):
                await record.know(
                    f"{TRAIN} {number}", scope=scope, external_id="e", subject="s", attribute="a"
                )
            await record.know(TRAIN, scope=scope)
            assert await record.passage(mine, scope) is None
            with pytest.raises(NotFound):
                await record.know("x y", scope=scope, supersedes=mine)
            with pytest.raises(NotFound):
                await record.remember(UpdateKnowledge(id=mine, tags=["theirs"]), scope=scope)
            (done,) = await record.remember(ForgetKnowledge(id=mine), scope=scope)
            assert done.outcome == "missing"
        (hit,) = await record.search("night train lund platform")
        assert (hit.id, hit.score, hit.stated, hit.revision) == (mine, score, 1, 1)

    @pytest.mark.behaviour("knowledge.public")
    async def test_what_is_public_is_found_by_all_users_of_the_tenant(self, record: Record) -> None:
        public = await record.know(TRAIN, is_public=True)
        await record.know(DOGS)
        (hit,) = await record.search("night train", scope=BOB)
        assert (hit.id, hit.is_public) == (public, True)
        assert await record.found("night train", scope=BOB, include_public=False) == []
        assert await record.found("night train", scope=STRANGER) == []
        assert await record.found("dogs", scope=BOB) == []
        again = await record.know(TRAIN, is_public=True, scope=BOB)
        assert again == public

    @pytest.mark.behaviour("knowledge.updated")
    async def test_an_update_changes_what_is_given(self, record: Record) -> None:
        passage_id = await record.know(
            LONG, tags=["a"], source="s", metadata=raw({"k": 1}), aliases=["manual"]
        )
        (done,) = await record.remember(UpdateKnowledge(id=passage_id, tags=["b"]))
        assert done == MemoryDone(passage_id, "updated")
        query = "section of the handbook"
        assert len(await record.search(query, tags=["a"], min_score=0.0)) == 0
        (hit,) = await record.search(query, tags=["b"], source="s", metadata=raw({"k": 1}),
                                     min_score=0.0)  # fmt: skip
        assert (hit.revision, hit.aliases) == (2, ["manual"])
        await record.remember(
            UpdateKnowledge(id=passage_id, source=None, metadata=raw(None),
                            valid_until="2000-01-01T00:00:00Z"),
        )  # fmt: skip
        assert await record.found(query, min_score=0.0) == []
        (hit,) = await record.search(query, as_of="1999-01-01T00:00:00Z", min_score=0.0)
        assert (hit.source, hit.metadata) == (None, None)
        with pytest.raises(InvalidRequest, match="valid"):
            await record.remember(UpdateKnowledge(id=passage_id, valid_from="2001-01-01T00:00:00Z"))
        with pytest.raises(NotFound, match="updated"):
            await record.remember(UpdateKnowledge(id="nothing", tags=[]))

    @pytest.mark.behaviour("knowledge.forgotten")
    async def test_forgetting_removes_what_was_replaced_and_derived(self, record: Record) -> None:
        first = await record.know("The code word is hedgehog.", external_id="code")
        second = await record.know("The code word is porcupine.", external_id="code")
        await record.know("The code word is porcupine.", external_id="code", id="again")
        derived = await record.know("Porcupine opens the door.", derived_from=[second])
        further = await record.know("So the door is open.", derived_from=[derived])
        kept = await record.know(TRAIN)
        (done,) = await record.remember(ForgetKnowledge(id=second))
        assert (done.id, done.outcome) == (second, "forgotten")
        assert set(done.closed) == {first, derived, further}
        for passage_id in (first, second, "again", derived, further):
            assert await record.passage(passage_id) is None
        for query in ("code word", "porcupine", "hedgehog", "door"):
            assert await record.found(query) == []
            assert await record.found(query, known_at="2100-01-01T00:00:00Z") == []
        assert await record.found("night train") == [TRAIN]
        assert await record.passage(kept) is not None
        assert await self.count_rows(record.store, "passages") == 1
        assert await self.count_rows(record.store, "restatements") == 0
        assert await self.count_rows(record.store, "passage_sources") == 0
        (done,) = await record.remember(ForgetKnowledge(id=second))
        assert done.outcome == "missing"

    @pytest.mark.behaviour("knowledge.forgotten")
    async def test_what_a_commit_stores_and_forgets_was_never_there(self, record: Record) -> None:
        done = await record.remember(
            StoreKnowledge(content=TRAIN, id="one"),
            StoreKnowledge(content=DOGS, id="two", derived_from=["one"]),
            StoreKnowledge(content=REFUND, id="three"),
            ForgetKnowledge(id="one"),
        )
        assert [one.outcome for one in done] == ["stored", "stored", "stored", "forgotten"]
        assert done[3].closed == ["two"]
        assert await self.count_rows(record.store, "passages") == 1
        assert await record.found("ticket") == [REFUND]

    @pytest.mark.behaviour("knowledge.all-or-nothing")
    async def test_a_commit_changes_plans_and_memories_or_nothing(self, record: Record) -> None:
        commit = Commit(
            [part("p", put("k", 1))], memories=[StoreKnowledge(content=TRAIN, id="mine")]
        )
        await record.apply(commit)
        assert await record.get("p", "k") == 1
        assert await record.found("night train") == [TRAIN]
        refused = Commit(
            [part("p", put("k", 2), reads={"k": 77})],
            memories=[StoreKnowledge(content=DOGS), ForgetKnowledge(id="mine")],
        )
        with pytest.raises(Conflict):
            await record.apply(refused)
        failed = Commit(
            [part("p", put("k", 3))],
            memories=[StoreKnowledge(content=DOGS), UpdateKnowledge(id="nothing", tags=[])],
        )
        with pytest.raises(NotFound):
            await record.apply(failed)
        assert await record.get("p", "k") == 1
        assert await record.found("dogs") == []
        assert await record.found("night train") == [TRAIN]

    @pytest.mark.behaviour("knowledge.all-or-nothing")
    async def test_the_same_request_again_stores_nothing_again(self, record: Record) -> None:
        commit = Commit(memories=[StoreKnowledge(content=TRAIN)])
        first = await record.apply(commit, key="k")
        again = await record.apply(Commit(memories=[StoreKnowledge(content=TRAIN)]), key="k")
        assert again.memories == first.memories
        (hit,) = await record.search("night train")
        assert hit.stated == 1

    @pytest.mark.behaviour("knowledge.of-a-handler")
    async def test_a_handlers_passage_comes_with_its_delivery(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        event_id = await record.publish("e", "p")
        (claimed,) = await record.claim(member)
        cause = Cause(actor="writer", event_id=event_id)
        operations = [StoreKnowledge(content=TRAIN), StoreKnowledge(content=DOGS, is_public=True)]
        await record.apply(Commit(memories=operations, fence=claimed.fence), cause=cause)
        (hit,) = await record.search("night train")
        assert (hit.trust, hit.plan_id, hit.cause) == ("agent", "p", cause)
        (mine,) = await record.search("dogs")
        assert (mine.is_public, mine.is_proposed) == (False, True)
        assert await record.found("dogs", scope=BOB) == [], "a proposal is nobody else's"
        with pytest.raises(Fenced):
            await record.apply(
                Commit(memories=[StoreKnowledge(content=REFUND)], fence=claimed.fence),
                cause=cause,
            )
        assert await record.found("ticket") == []

    @pytest.mark.behaviour("knowledge.reads-checked")
    async def test_a_passage_that_was_read_is_checked_at_the_commit(self, record: Record) -> None:
        passage_id = await record.know(REFUND, external_id="faq")
        store = StoreKnowledge(content="Refunds are quick.", derived_from=[passage_id])
        await record.know(REFUND.replace("14", "30"), external_id="faq")
        with pytest.raises(Conflict, match="read it again") as caught:
            await record.remember(store, reads={passage_id: 1})
        assert caught.value.current_revision == 2
        with pytest.raises(Conflict):
            await record.remember(store, reads={"missing": 1})
        await record.remember(store, reads={passage_id: 2, "missing": 0})
        assert await record.found("refunds quick") == ["Refunds are quick."]

    @pytest.mark.behaviour("knowledge.own-search")
    async def test_a_search_takes_what_a_transaction_has_not_committed_yet(
        self, record: Record
    ) -> None:
        old = await record.know(REFUND, external_id="faq")
        gone = await record.know(DOGS)
        tagged = await record.know(TRAIN)
        newer = REFUND.replace("14", "30")
        own = [
            StoreKnowledge(content=newer, external_id="faq", id="mine"),
            ForgetKnowledge(id=gone),
            UpdateKnowledge(id=tagged, tags=["seen"]),
        ]
        (hit,) = await record.search("ticket refund", own=own)
        assert (hit.id, hit.content) == ("mine", newer)
        assert await record.found("dogs travel", own=own) == []
        assert await record.found("night train", own=own, tags=["seen"]) == [TRAIN]
        assert [hit.id for hit in await record.search("ticket refund")] == [old]
        assert await record.found("night train", tags=["seen"]) == []

    @pytest.mark.behaviour("knowledge.refused")
    @pytest.mark.parametrize(
        ("operation", "error", "says"),
        [
            (StoreKnowledge(content=""), InvalidValue, "empty"),
            (StoreKnowledge(content=" \n\t"), InvalidValue, "empty"),
            (StoreKnowledge(content="a\0b"), InvalidValue, "content holds NUL at character 1"),
            (StoreKnowledge(content="a\ud800"), InvalidValue, "surrogate at character 1"),
            (StoreKnowledge(content="x" * 1024**2 + "y"), LimitExceeded, "passage_bytes"),
            (StoreKnowledge(content="x", tags=["t"] * 65), InvalidRequest, "tags are 64 at most"),
            (StoreKnowledge(content="x", tags=[""]), InvalidName, "tags"),
            (StoreKnowledge(content="x", aliases=["a" * 256]), InvalidName, "aliases"),
            (StoreKnowledge(content="x", metadata=raw([1])), InvalidValue, "object"),
            (StoreKnowledge(content="x", metadata=raw({"a": "b" * 20_000})), InvalidValue, "bytes"),
            (StoreKnowledge(content="x", subject="s"), InvalidRequest, "together"),
            (StoreKnowledge(content="x", valid_from="yesterday"), InvalidRequest, "RFC 3339"),
            (StoreKnowledge(content="x", valid_from="2026-02-30T00:00:00Z"), InvalidRequest,
             "RFC 3339"),
            (StoreKnowledge(content="x", valid_from="2026-02-02T00:00:00Z",
                            valid_until="2026-02-02T00:00:00Z"), InvalidRequest, "later"),
            (StoreKnowledge(content="x", external_id="."), InvalidName, "external_id"),
            (ForgetKnowledge(id=""), InvalidName, "id"),
            (UpdateKnowledge(id="x", tags=["t"] * 65), InvalidRequest, "tags"),
        ],
    )  # fmt: skip
    async def test_what_cannot_be_stored_is_refused(
        self, record: Record, operation: Any, error: type[SoormaError], says: str
    ) -> None:
        with pytest.raises(error, match=says):
            await record.apply(Commit(memories=[StoreKnowledge(content=TRAIN), operation]), b"x")
        assert await self.count_rows(record.store, "passages") == 0

    @pytest.mark.behaviour("knowledge.refused")
    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (SearchBody(query="  "), "query is empty"),
            (SearchBody(query="x" * 9000), "at most 8,192 characters"),
            (SearchBody(query="x", limit=0), "limit is 1 to 100"),
            (SearchBody(query="x", limit=101), "limit is 1 to 100"),
            (SearchBody(query="x", max_tokens=0), "max_tokens"),
            (SearchBody(query="x", min_score=1.5), "min_score"),
            (SearchBody(query="x", min_score=float("nan")), "min_score"),
            (SearchBody(query="x", as_of="now"), "as_of"),
            (SearchBody(query="x", tags=["t"] * 65), "tags"),
        ],
    )
    async def test_a_search_that_cannot_be_made_is_refused(
        self, record: Record, body: SearchBody, says: str
    ) -> None:
        given = {name: getattr(body, name) for name in SearchBody.__struct_fields__}
        with pytest.raises(InvalidRequest, match=says):
            await record.search(given.pop("query"), **given)

    @pytest.mark.behaviour("knowledge.refused")
    @pytest.mark.parametrize(
        "query",
        ['"', "a OR b", "NEAR(a b)", "a*", "-a", "a AND", "(", "col:a", "%", "' OR 1=1 --", "^",
         "\u200b", "!!!", "a" * 8000, " ".join(str(uuid4()) for _ in range(200))],
    )  # fmt: skip
    async def test_a_query_has_no_syntax(self, record: Record, query: str) -> None:
        await record.know(TRAIN)
        assert await record.found(query) == []

    @pytest.mark.behaviour("knowledge.removals")
    async def test_what_says_that_passages_are_gone_is_bounded(self, record: Record) -> None:
        ghosts = [await record.know(f"A ghost in coach {number}.") for number in range(3)]
        behind = await record.search("ghost in coach", min_score=0.0)
        assert {hit.id for hit in behind} == set(ghosts)
        await record.remember(*(ForgetKnowledge(id=one) for one in ghosts))
        await record.know("The ghost train has one coach in summer, and no ghost in it at all.")
        for _ in range(2):
            ids = [f"old{number}" for number in range(1_000)]
            await record.remember(*(StoreKnowledge(content=f"Old {one}.", id=one) for one in ids))
            await record.remember(*(ForgetKnowledge(id=one) for one in ids))
        assert await self.count_rows(record.store, "passage_parts") <= KEPT_CHANGES + 1
        (hit,) = await record.search("ghost in coach", limit=1, min_score=0.0)
        assert hit.content.startswith("The ghost train")
        following = await record.found("ghost old", min_score=0.0)
        await record.reopen()
        assert await record.found("ghost old", min_score=0.0) == following

    @pytest.mark.behaviour("knowledge.limits")
    async def test_a_collection_has_a_limit_of_parts(self, make_record: Any) -> None:
        record = await make_record(memory_parts=3, memory_bytes=200, memory_operations=4)
        first, second, _ = [await record.know(f"Passage {number}") for number in range(3)]
        with pytest.raises(LimitExceeded, match="memory_parts"):
            await record.know("One more")
        await record.remember(ForgetKnowledge(id=first))
        await record.know("One more")
        await record.know("Theirs", scope=BOB)
        with pytest.raises(LimitExceeded, match="memory_bytes"):
            await record.remember(
                *(StoreKnowledge(content=f"{number}" * 90) for number in range(3)), scope=BOB
            )
        with pytest.raises(LimitExceeded, match="memory_operations"):
            await record.remember(*(ForgetKnowledge(id=second) for _ in range(5)))
        assert ALICE != BOB
