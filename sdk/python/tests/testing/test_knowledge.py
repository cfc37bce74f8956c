"""Semantic memory as an author meets it: in handlers, in transactions, and from a client."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from soorma import HandlerContext, RetryPolicy, Worker, WorkflowState
from soorma.errors import (
    Forbidden,
    InvalidRequest,
    InvalidValue,
    KeyMissing,
    LimitExceeded,
    NotFound,
)
from soorma.testing import LocalPlatform, WordEmbedder

FACTS = "business-facts"
TRAIN = "The night train to Lund leaves from platform 4."
DOGS = "Dogs travel free of charge in all carriages."


@pytest.fixture
def worker() -> Worker:
    return Worker("writer", retry=RetryPolicy(max_attempts=3, first_delay=0))


@pytest.mark.behaviour("knowledge.found-at-once")
async def test_a_client_stores_finds_reads_changes_and_forgets(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    passage_id = await memory.store_knowledge(
        TRAIN,
        tags=["timetable"],
        metadata={"line": 4},
        source="handbook",
        aliases=["the sleeper"],
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
    )
    hits = await memory.search_knowledge("Where does the night train leave?", limit=3)
    assert [hit.id for hit in hits] == [passage_id]
    assert (hits.is_known, hits.mode, len(hits), hits[0].metadata) == (True, "text", 1, {"line": 4})
    passage = await memory.get_knowledge(passage_id)
    assert (passage.content, passage.aliases) == (TRAIN, ["the sleeper"])
    assert passage.valid_from == datetime(2026, 1, 1, tzinfo=UTC)
    await memory.update_knowledge(passage_id, tags=["night"], valid_from=None)
    passage = await memory.get_knowledge(passage_id)
    assert (passage.tags, passage.valid_from, passage.source) == (["night"], None, "handbook")
    assert [one.id async for one in memory.list_knowledge()] == [passage_id]
    assert await memory.delete_knowledge(passage_id) is True
    assert await memory.delete_knowledge(passage_id) is False
    with pytest.raises(NotFound, match="never stored, or forgotten"):
        await memory.get_knowledge(passage_id)


@pytest.mark.behaviour("knowledge.all-or-nothing", "knowledge.outcomes")
async def test_many_passages_are_stored_together(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    done = await memory.store_knowledge_batch(
        [TRAIN, {"content": DOGS, "external_id": "dogs"}, {"content": TRAIN}]
    )
    assert [one.outcome for one in done] == ["stored", "stored", "restated"]
    assert done[0].id == done[2].id
    (newer,) = await memory.store_knowledge_batch([{"content": "No dogs.", "external_id": "dogs"}])
    assert (newer.outcome, newer.closed) == ("stored", [done[1].id])
    assert await memory.store_knowledge_batch([]) == []
    with pytest.raises(InvalidRequest, match="no 'text'; it has aliases"):
        await memory.store_knowledge_batch(["One more", {"text": "x"}])
    with pytest.raises(NotFound):
        await memory.store_knowledge_batch(["One more", {"content": "x", "supersedes": "nothing"}])
    assert len([one async for one in memory.list_knowledge()]) == 2


@pytest.mark.behaviour("knowledge.of-a-handler")
async def test_a_handler_stores_when_it_returns_and_finds_its_own_before(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    seen: dict[str, Any] = {}

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        memory = context.memory
        assert list(await memory.search_knowledge("night train")) == []
        seen["id"] = await memory.store_knowledge(TRAIN, is_public=True)
        seen["found"] = [hit.id for hit in await memory.search_knowledge("night train")]
        seen["read"] = (await memory.get_knowledge(seen["id"])).content
        seen["outside"] = len(await context.immediate.memory.search_knowledge("night train"))
        await memory.update_knowledge(seen["id"], tags=["t"])
        seen["tags"] = (await memory.get_knowledge(seen["id"])).tags
        gone = await memory.store_knowledge(DOGS)
        await memory.delete_knowledge(gone)
        with pytest.raises(NotFound, match="forgotten in this transaction"):
            await memory.get_knowledge(gone)
        assert list(await memory.search_knowledge("dogs")) == []

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={}, plan_id="p")
    await soorma_platform.settle()
    memory = soorma_platform.context.memory
    (hit,) = await memory.search_knowledge("night train")
    assert seen["found"] == [seen["id"]] == [hit.id]
    assert (seen["read"], seen["outside"], seen["tags"]) == (TRAIN, 0, ["t"])
    assert (hit.trust, hit.plan_id, hit.cause.actor, hit.tags) == ("agent", "p", "writer", ["t"])
    assert hit.is_proposed
    assert not hit.is_public
    assert list(await memory.search_knowledge("dogs")) == []


@pytest.mark.behaviour("knowledge.of-a-handler")
async def test_a_handler_that_fails_has_remembered_nothing_and_later_once(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    ids: list[str] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        ids.append(await context.memory.store_knowledge(TRAIN))
        assert len(await soorma_platform.context.memory.search_knowledge("night train")) == 0
        if context.attempt < 3:
            raise ValueError("not yet")

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    (hit,) = await soorma_platform.context.memory.search_knowledge("night train")
    assert (len(ids), hit.id, hit.stated) == (3, ids[2], 1)


@pytest.mark.behaviour("knowledge.of-a-handler", "knowledge.periods")
async def test_a_handler_reads_what_it_replaces_as_its_commit_leaves_it(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    pair = {"subject": "dogs", "attribute": "fare"}
    summer, autumn = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)
    old = await memory.store_knowledge(DOGS, **pair)
    other = await memory.store_knowledge("Cats are free.", subject="cats", attribute="fare")
    doc = await memory.store_knowledge(TRAIN, external_id="doc")
    seen: list[dict[str, Any]] = []

    async def look(memory: Any, ids: list[str]) -> dict[str, Any]:
        passages = [await memory.get_knowledge(one) for one in ids]
        return {one.id: (one.valid_from, one.valid_until, one.closed_by) for one in passages}

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        mine = context.memory
        fare = await mine.store_knowledge("Dogs pay half.", valid_from=summer, **pair)
        later = await mine.store_knowledge("Dogs pay.", valid_from=autumn, supersedes=fare)
        again = await mine.store_knowledge("The night train is gone.", external_id="doc")
        seen.append(await look(mine, [old, other, doc, fare, later, again]))
        assert [hit.id for hit in await mine.search_knowledge("dogs", as_of=autumn)] == [later]

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    (told,) = seen
    old_fare, cats, _, fare, later, _ = told.values()
    names = [*told]
    assert (old_fare, cats) == ((None, summer, names[3]), (None, None, None))
    assert (fare, later) == ((summer, autumn, names[4]), (autumn, None, None))
    assert await look(memory, names) == told


@pytest.mark.behaviour("knowledge.by-name")
async def test_a_passage_is_read_by_its_names(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    pair = {"subject": "dogs", "attribute": "fare"}
    later = datetime(2126, 1, 1, tzinfo=UTC)
    fare = await memory.store_knowledge(DOGS, **pair)
    ahead = await memory.store_knowledge("Dogs pay half.", valid_from=later, **pair)
    public = await memory.store_knowledge(TRAIN, external_id="doc", is_public=True)
    assert (await memory.get_knowledge(**pair)).id == fare
    assert (await memory.get_knowledge(external_id="doc", user_id="bob")).id == public
    own = await memory.store_knowledge("Mine.", external_id="doc")
    assert (await memory.get_knowledge(external_id="doc")).id == own
    assert [one.id async for one in memory.list_knowledge(**pair)] == [fare, ahead]
    assert [one.id async for one in memory.list_knowledge(as_of=later, **pair)] == [ahead]
    for names in ({"external_id": "x"}, {"subject": "cats", "attribute": "fare"}):
        with pytest.raises(NotFound, match="that is true now"):
            await memory.get_knowledge(**names)
    for names in ({}, {"subject": "dogs"}, {"attribute": "fare", "external_id": "doc"},
                  {"external_id": "doc", **pair}):  # fmt: skip
        with pytest.raises(InvalidRequest, match="named by"):
            await memory.get_knowledge(**names)
    with pytest.raises(InvalidRequest, match="not by both"):
        await memory.get_knowledge(fare, external_id="doc")
    seen: list[str] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        mine = context.memory

        async def current() -> str:
            return (await mine.get_knowledge(**pair)).content

        seen.append(await current())
        await mine.store_knowledge("Dogs pay.", valid_from=later, **pair)
        seen.append(await current())
        now = await mine.store_knowledge("Dogs stay.", valid_from=datetime.now(UTC), **pair)
        seen.append(await current())
        await mine.store_knowledge("Dogs sleep.", supersedes=now, **pair)
        seen.append(await current())
        await mine.delete_knowledge((await mine.get_knowledge(**pair)).id)
        with pytest.raises(NotFound):
            await current()

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    assert seen == [DOGS, DOGS, "Dogs stay.", "Dogs sleep."]
    with pytest.raises(NotFound):
        await memory.get_knowledge(**pair)


@pytest.mark.behaviour("knowledge.reads-checked", "knowledge.by-name")
async def test_a_passage_read_by_its_name_is_checked_at_the_commit(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    await memory.store_knowledge(TRAIN, external_id="doc")
    read: list[str] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        read.append((await context.memory.get_knowledge(external_id="doc")).content)
        if len(read) == 1:
            await memory.store_knowledge(DOGS, external_id="doc")
        await context.memory.store_knowledge(f"It says: {read[-1]}")

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    assert read == [TRAIN, DOGS]


@pytest.mark.behaviour("knowledge.listed")
async def test_passages_are_listed_by_what_they_are_filtered_by(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    for number in range(4):
        await memory.store_knowledge(
            f"Passage {number}.",
            external_id=f"e{number}",
            source="web" if number % 2 else "mail",
            tags=["low"] if number < 2 else ["high", "low"],
            subject="s",
            attribute=f"a{number}",
            is_public=number == 3,
        )

    async def listed(**how: Any) -> list[str]:
        return [one.content.split()[1][0] async for one in memory.list_knowledge(**how)]

    assert await listed() == ["0", "1", "2"]
    assert await listed(source="mail") == ["0", "2"]
    assert await listed(source="web") == ["1"]
    assert await listed(tag="high") == ["2"]
    assert await listed(tag="low", source="mail") == ["0", "2"]
    assert await listed(external_id="e1") == ["1"]
    assert await listed(external_id="e1", source="mail") == []
    assert await listed(subject="s") == ["0", "1", "2"]
    assert await listed(subject="s", attribute="a2") == ["2"]
    assert await listed(is_public=True) == ["3"]
    assert await listed(is_public=True, user_id="bob") == ["3"]
    assert await listed(is_public=True, external_id="e3", tag="low") == ["3"]
    assert await listed(external_id="e3") == []
    assert await listed(user_id="bob") == []
    assert await listed(as_of=datetime(1999, 1, 1, tzinfo=UTC)) == ["0", "1", "2"]


@pytest.mark.behaviour("knowledge.equal-once")
async def test_the_id_that_a_handler_was_given_leads_to_the_equal_passage(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    first = await memory.store_knowledge(TRAIN)
    given: list[str] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        given.append(await context.memory.store_knowledge(TRAIN))

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    assert given[0] != first
    passage = await memory.get_knowledge(given[0])
    assert (passage.id, passage.stated) == (first, 2)


@pytest.mark.behaviour("knowledge.reads-checked")
@pytest.mark.parametrize("reads", ["get", "search"])
async def test_a_handler_runs_again_if_a_passage_that_it_read_has_changed(
    soorma_platform: LocalPlatform, worker: Worker, reads: str
) -> None:
    memory = soorma_platform.context.memory
    passage_id = await memory.store_knowledge("The fare is 4 crowns.", external_id="fare")
    runs: list[str] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        if reads == "get":
            said = (await context.memory.get_knowledge(passage_id)).closed_by or "open"
        else:
            said = (await context.memory.search_knowledge("fare"))[0].content
        runs.append(said)
        if len(runs) == 1:
            await memory.store_knowledge("The fare is 5 crowns.", external_id="fare")
        await context.memory.store_knowledge(f"The passenger was told: {said}")

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    assert len(runs) == (2 if reads == "get" else 1)
    hits = await memory.search_knowledge("what was the passenger told")
    assert len(hits) == 1, "what the first run stored is gone"


@pytest.mark.behaviour("knowledge.own-search")
async def test_a_transaction_outside_handlers_collects_memories(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    state = soorma_platform.state("p")
    async with state.transaction() as transaction:
        await transaction.set("done", value=True)
        await transaction.memory.store_knowledge(TRAIN)
        assert len(await transaction.memory.search_knowledge("night train")) == 1
        assert len(await memory.search_knowledge("night train")) == 0
    (hit,) = await memory.search_knowledge("night train")
    assert (hit.plan_id, hit.trust) == ("p", "application")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what fails
        async with state.transaction() as transaction:
            await transaction.memory.store_knowledge(DOGS)
            raise ZeroDivisionError
    assert list(await memory.search_knowledge("dogs")) == []


@pytest.mark.behaviour("knowledge.awaited")
async def test_a_call_without_await_fails_the_attempt(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        context.memory.store_knowledge(TRAIN)  # type: ignore[unused-coroutine]

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    (letter,) = await soorma_platform.dead_letters()
    assert "store_knowledge: called without `await`" in letter.reason


@pytest.mark.behaviour("knowledge.scope")
async def test_a_handler_remembers_for_the_user_of_its_event_only(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    refused: list[Exception] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        await context.memory.store_knowledge(TRAIN)
        for memory in (context.memory, context.immediate.memory):
            for call in (
                memory.store_knowledge("x", user_id="eve"),
                memory.search_knowledge("x", tenant_id="other"),
                memory.get_knowledge("x", user_id="eve"),
            ):
                try:
                    await call
                except Forbidden as error:
                    refused.append(error)

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={}, tenant_id="acme", user_id="ann")
    await soorma_platform.settle()
    assert len(refused) == 6
    memory = soorma_platform.context.memory
    assert len(await memory.search_knowledge("night train", tenant_id="acme", user_id="ann")) == 1
    assert len(await memory.search_knowledge("night train")) == 0


@pytest.mark.behaviour("knowledge.refused")
@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"content": ""}, InvalidValue, "empty"),
        ({"content": 7}, InvalidValue, "is text, not int"),
        ({"content": "x" * (1024**2 + 1)}, LimitExceeded, "passage_bytes"),
        ({"content": "x", "tags": "timetable"}, InvalidRequest, "a list of names, not 'timetable'"),
        ({"content": "x", "tags": None}, InvalidRequest, "a list of names"),
        ({"content": "x", "aliases": 5}, InvalidRequest, "a list of names"),
        ({"content": "x", "metadata": [1]}, InvalidValue, "metadata is a dict"),
        ({"content": "x", "metadata": "x"}, InvalidValue, "metadata is a dict"),
        ({"content": "x", "valid_from": 5}, InvalidRequest, "valid_from is a datetime"),
        ({"content": "a\ud800"}, InvalidValue, "lone surrogate"),
        ({"content": "x", "metadata": {"a": float("nan")}}, InvalidValue, "nan"),
        ({"content": "x", "valid_from": datetime(2026, 1, 1)}, InvalidRequest,  # noqa: DTZ001
         "RFC 3339 with a time zone"),
        ({"content": "x", "attribute": "a"}, InvalidRequest, "together"),
    ],
)  # fmt: skip
async def test_a_mistake_is_reported_where_it_is_made(
    soorma_platform: LocalPlatform, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await soorma_platform.context.memory.store_knowledge(**given)


@pytest.mark.behaviour("knowledge.refused")
@pytest.mark.parametrize(
    "given",
    [
        {"query": "a\ud800"}, {"query": "a\0b"}, {"query": 5}, {"query": " "}, {"limit": "x"},
        {"limit": True}, {"min_score": "high"}, {"wait": "long"}, {"wait": -1}, {"tags": 5},
        {"mode": "words"},
        {"metadata": 5}, {"since": 5},
    ],
)  # fmt: skip
async def test_a_search_that_cannot_be_made_says_so(
    soorma_platform: LocalPlatform, given: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        await soorma_platform.context.memory.search_knowledge(**{"query": "x", **given})


@pytest.mark.behaviour("knowledge.long")
async def test_large_passages_are_all_listed(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    for number in range(6):  # a page ends behind 4 MiB
        await memory.store_knowledge(f"{number} " + "word " * 200_000)
        await memory.log_interaction("a", "user", f"{number} " + "word " * 200_000)
    listed = [one.content.split()[0] async for one in memory.list_knowledge()]
    assert listed == [str(number) for number in range(6)]
    exported: list[str] = []
    before = None
    while True:
        page = await memory.get_recent_history("a", before=before)
        exported = [one.content.split()[0] for one in page.interactions] + exported
        before = page.next
        if before is None:
            break
    assert exported == listed


@pytest.mark.behaviour("knowledge.of-a-handler")
async def test_a_handler_changes_nothing_that_others_read(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    public = await memory.store_knowledge(TRAIN, is_public=True)

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        if event["data"] == "forget":
            await context.memory.delete_knowledge(public)
        elif event["data"] == "update":
            await context.memory.update_knowledge(public, tags=["mine"])
        else:
            await context.memory.store_knowledge(DOGS, supersedes=public)

    await soorma_platform.run(worker)
    for way in ("forget", "update", "supersede"):
        await soorma_platform.publish("note", topic=FACTS, data=way)
    await soorma_platform.settle()
    letters = await soorma_platform.dead_letters()
    assert len(letters) == 3
    assert all("is public, and a handler changes nothing" in one.reason for one in letters)
    assert (await memory.get_knowledge(public)).revision == 1


@pytest.mark.behaviour("knowledge.times")
async def test_times_may_be_datetimes_or_text(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    await memory.store_knowledge(TRAIN, valid_until=moment.isoformat())
    assert len(await memory.search_knowledge("night train", as_of=moment)) == 0
    assert len(await memory.search_knowledge("night train", as_of=moment - timedelta(days=1))) == 1


@pytest.mark.behaviour("knowledge.meaning", "testing.embedder")
async def test_meaning_can_be_tested_without_a_model() -> None:
    async with LocalPlatform(embedder=WordEmbedder({"poodle": "dog", "my pet": "dog"})) as platform:
        memory = platform.context.memory
        await memory.store_knowledge(DOGS)
        await memory.store_knowledge(TRAIN)
        hits = await memory.search_knowledge("may my pet travel", mode="vector", wait=10)
        assert [hit.content for hit in hits] == [DOGS]
        hits = await memory.search_knowledge("poodle travel")
        assert ([hit.content for hit in hits], hits.model) == ([DOGS], "words")


@pytest.mark.behaviour("knowledge.precise")
async def test_the_earlier_name_of_a_search_still_works(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    await memory.store_knowledge(TRAIN)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (hit,) = await memory.query_knowledge("night train", limit=1)
    assert hit.content == TRAIN
    assert [one.category for one in caught] == [DeprecationWarning]
    assert "search_knowledge" in str(caught[0].message)


@pytest.mark.behaviour("knowledge.published")
async def test_what_a_handler_proposes_is_public_once_an_application_says_so(
    worker: Worker,
) -> None:
    async with LocalPlatform(embedder=WordEmbedder({"sleeper": "night train"})) as platform:
        memory = platform.context.memory
        ids: list[str] = []
        old = await memory.store_knowledge(
            "The night train is cancelled.", external_id="train", is_public=True
        )

        @worker.on_event("note", topic=FACTS)
        async def note(event: dict[str, Any], context: HandlerContext) -> None:
            ids.append(
                await context.memory.store_knowledge(TRAIN, external_id="train", is_public=True)
            )
            with pytest.raises(Forbidden, match="a handler proposes"):
                await context.immediate.memory.publish_knowledge(ids[0])

        await platform.run(worker)
        await platform.publish("note", topic=FACTS, data={})
        await platform.settle()
        await memory.search_knowledge("night train", wait=10)
        assert [one.id async for one in memory.list_knowledge(proposed=True)] == ids
        hits = await memory.search_knowledge("night train platform", user_id="bob")
        assert [hit.id for hit in hits] == [old]

        assert await memory.publish_knowledge(ids[0]) == ids[0]
        assert await memory.publish_knowledge(ids[0]) == ids[0], "a second time changes nothing"
        assert [one async for one in memory.list_knowledge(proposed=True)] == []
        assert [one async for one in memory.list_knowledge()] == []
        for whose in ({}, {"user_id": "bob"}):
            for mode in ("text", "vector", "hybrid"):
                hits = await memory.search_knowledge("the sleeper", mode=mode, **whose)
                found = await memory.search_knowledge("night train platform", mode=mode, **whose)
                assert [hit.id for hit in found] == ids, (mode, whose)
                assert mode == "text" or [hit.id for hit in hits] == ids, (mode, whose)
        passage = await memory.get_knowledge(ids[0], user_id="bob")
        assert (passage.is_public, passage.is_proposed, passage.trust) == (True, False, "agent")
        assert (await memory.get_knowledge(old)).closed_by == ids[0]
        assert await memory.delete_knowledge(ids[0])
        assert list(await memory.search_knowledge("night train", user_id="bob")) == []


@pytest.mark.behaviour("knowledge.published")
async def test_a_proposal_that_is_public_already_counts_there(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    public = await memory.store_knowledge(TRAIN, is_public=True)
    own = await memory.store_knowledge(DOGS)
    ids: list[str] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        ids.append(await context.memory.store_knowledge(TRAIN, is_public=True))

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    assert await memory.publish_knowledge(ids[0]) == public
    passage = await memory.get_knowledge(ids[0])
    assert (passage.id, passage.stated) == (public, 2)
    with pytest.raises(InvalidRequest, match="nobody has proposed"):
        await memory.publish_knowledge(own)
    with pytest.raises(NotFound):
        await memory.publish_knowledge(own, user_id="bob")


@pytest.mark.behaviour("knowledge.everything")
async def test_a_filter_that_leaves_little_still_fills_a_page() -> None:
    async with LocalPlatform(embedder=WordEmbedder()) as platform:
        memory = platform.context.memory
        await memory.store_knowledge_batch(
            [{"content": f"Number {n} is {n * n}.", "tags": [f"t{n % 50}"]} for n in range(600)]
        )
        for mode in ("hybrid", "vector"):
            hits = await memory.search_knowledge(
                "nothing of all this", tags=["t7"], limit=10, min_score=0.0, mode=mode, wait=30
            )
            assert [hit.tags for hit in hits] == [["t7"]] * 10
            assert all(0.0 <= hit.score <= 1.0 for hit in hits)
            assert hits[0].score >= hits[-1].score
        assert len(await memory.search_knowledge("nothing of all this", tags=["t7"])) == 0


@pytest.mark.behaviour("knowledge.promoted")
async def test_a_value_is_promoted_to_what_outlives_its_plan(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory, state = soorma_platform.context.memory, soorma_platform.state("p")
    await state.set("lesson", "Ask for the invoice number first.")
    await state.set("facts", {"invoice": 7})
    ids: list[str] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        own = WorkflowState(context.memory, "p")
        ids.append(await own.promote("lesson", external_id="lesson", tags=["lesson"]))
        if len(ids) == 1:
            await state.set("lesson", "Ask for the order number first.")

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={}, plan_id="other")
    await soorma_platform.settle()
    assert len(ids) == 2, "the key had changed, so it ran again"
    (hit,) = await memory.search_knowledge("what number to ask for first", tags=["lesson"])
    assert (hit.content, hit.plan_id) == ("Ask for the order number first.", "p")
    facts = await memory.get_knowledge(await state.promote("facts"))
    assert facts.content == '{"invoice":7}'
    await state.cleanup()
    assert len(await memory.search_knowledge("order number", tags=["lesson"])) == 1
    with pytest.raises(KeyMissing):
        await state.promote("lesson")
    with pytest.raises(InvalidRequest, match="promoted to 'knowledge'"):
        await state.promote("lesson", to="wisdom")  # type: ignore[arg-type]
    await state.set("ask-first", "Ask for the invoice number first.")
    rule = await state.promote("ask-first", to="rule", agents=["clerk"])
    (found,) = await memory.get_rules("clerk")
    assert (found.id, found.name, found.plan_id) == (rule, "ask-first", "p")
    await state.promote("ask-first", to="skill", name="invoice", description="When to ask.")
    assert (await memory.get_procedure("invoice")).content == "Ask for the invoice number first."
