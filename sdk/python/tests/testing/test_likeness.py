"""Passages that seem to state the same name each other, and minimal pairs do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest
from depth import at_depth

from soorma import HandlerContext, Worker
from soorma.errors import AlreadyKnown, InvalidRequest, InvalidValue
from soorma.memory.client import MemoryClient
from soorma.testing import LocalPlatform, WordEmbedder
from soorma_platform.engine.retrieval.likeness import may_restate

TRAIN = "The night train to Lund leaves from platform 4."
AGAIN = "From platform 4 the night train to Lund leaves."


@pytest.fixture
async def memory() -> AsyncIterator[MemoryClient]:
    async with LocalPlatform(embedder=WordEmbedder()) as platform:
        yield platform.context.memory


async def embedded(memory: MemoryClient) -> None:
    """Waits until all that is stored is embedded, and compared."""
    await memory.search_knowledge("anything", mode="vector", wait=30)


async def alike(memory: MemoryClient, passage_id: str, count: int = 0) -> list[str]:
    """Returns what is alike to a passage, once it is so many."""
    found: list[str] = []
    for _ in range(1_000):
        found = (await memory.get_knowledge(passage_id)).alike
        if len(found) >= count:
            break
        await asyncio.sleep(0.01)
    return found


@pytest.mark.behaviour("knowledge.alike")
async def test_passages_that_state_the_same_name_each_other(memory: MemoryClient) -> None:
    first = await memory.store_knowledge(TRAIN)
    await memory.store_knowledge("Dogs travel free of charge in all carriages.")
    second = await memory.store_knowledge(AGAIN)
    other = await memory.store_knowledge(AGAIN, user_id="other")
    assert await alike(memory, second, 1) == [first]
    assert await alike(memory, first, 1) == [second]
    await memory.search_knowledge("anything", mode="vector", wait=30, user_id="other")
    assert (await memory.get_knowledge(other, user_id="other")).alike == []
    assert len(await memory.search_knowledge("night train")) == 2, "nothing was merged"
    await memory.store_knowledge("It is cancelled.", supersedes=first)
    assert await alike(memory, second) == []
    await memory.delete_knowledge(second)
    assert (await memory.get_knowledge(first)).alike == []


PAIRS = [
    ("The ticket costs 11.00 crowns.", "The ticket costs 11.80 crowns."),
    ("Bramble may lie on the sofa.", "Bramble may not lie on the sofa."),
    ("The meeting is on Monday.", "The meeting is on Tuesday."),
    ("Ask Anna for the key.", "Ask Berta for the key."),
    ("It was agreed on 3 May 2026.", "It was agreed on 3 June 2026."),
    ("The shop is open on Sundays.", "The shop is never open on Sundays."),
    ("Platform 12 has steps.", "Platform 12 has steps, platform 13 none."),
    ("Switch 12A failed to lock.", "Switch 12B failed to lock."),
    ("Bicycles go free.", "Bicycles don't go free."),
    ("Call the ward.", "Call the WARD."),
]


@pytest.mark.behaviour("knowledge.alike")
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_tells_facts_apart_is_no_restatement(one: str, other: str) -> None:
    assert not may_restate(one, other)
    assert may_restate(one, f"  {one[0].lower()}{one[1:]} ") or one[0].isupper()


@pytest.mark.behaviour("knowledge.alike")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TRAIN, AGAIN),
        ("Cab keys go back in the safe.", "The cab key goes back into the safe."),
        ("Since 2028 the branch is closed.", "The branch was closed in 2028."),
        ("Costs: 1,000 euros.", "It costs 1000 euros."),
    ],
)
def test_the_same_in_other_words_may_be_one(one: str, other: str) -> None:
    assert may_restate(one, other)


@pytest.mark.proof
@pytest.mark.behaviour("knowledge.equal-once", "knowledge.alike")
async def test_of_many_stores_only_equal_ones_are_merged(memory: MemoryClient) -> None:
    """Half of all stores restate an earlier one; all others are minimal pairs of another."""
    dice, count = Random(7), at_depth(1_000, 10_000)
    days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    kinds: list[Callable[[int], str]] = [
        lambda n: f"Ticket {n} costs {n * 7} crowns.",
        lambda n: f"Gate {n // 2} {'must not' if n % 2 else 'must'} be locked.",
        lambda n: f"Room {n // 7} is free on {days[n % 7]}.",
        lambda n: f"Order {n // 26} goes to M{chr(97 + n % 26)}ra.",
    ]
    distinct = [kinds[n % 4](n // 4) for n in range(count // 2)]
    texts = distinct + distinct
    dice.shuffle(texts)
    ids: dict[str, str] = {}
    for start in range(0, count, 500):
        batch = texts[start : start + 500]
        for text, done in zip(batch, await memory.store_knowledge_batch(batch), strict=True):
            assert ids.setdefault(text, _id(done)) == _id(done)
    assert len({*ids.values()}) == len(distinct)
    stored = {one.content: one.stated async for one in memory.list_knowledge()}
    assert stored == dict.fromkeys(distinct, 2)
    await embedded(memory)
    for passage_id in dice.sample(sorted(ids.values()), 100):
        assert (await memory.get_knowledge(passage_id)).alike == []


def _id(done: object) -> str:
    return str(getattr(done, "id", done))


@pytest.mark.behaviour("knowledge.unless-alike")
async def test_what_is_known_is_not_stored_again(memory: MemoryClient) -> None:
    first = await memory.store_knowledge(TRAIN, unless_alike=True)
    with pytest.raises(AlreadyKnown, match="seems to state the same") as known:
        await memory.store_knowledge(AGAIN, unless_alike=True)
    assert known.value.passages == [first]
    assert [one.id async for one in memory.list_knowledge()] == [first]
    (found,) = await memory.find_alike(AGAIN)
    assert (found.id, found.content, found.is_public) == (first, TRAIN, False)
    assert found.cosine > 0.95
    five = await memory.store_knowledge(TRAIN.replace("4", "5"), unless_alike=True)
    again = await memory.store_knowledge(AGAIN, unless_alike=True, supersedes=first)
    assert {one.id async for one in memory.list_knowledge()} == {five, again}
    assert await memory.find_alike(AGAIN, user_id="other") == []
    assert await memory.find_alike("word " * 2_000) == []
    await memory.store_knowledge(TRAIN.replace("Lund", "Rome"), is_public=True)
    with pytest.raises(AlreadyKnown):
        await memory.store_knowledge(AGAIN.replace("Lund", "Rome"), unless_alike=True)


@pytest.mark.behaviour("knowledge.unless-alike")
async def test_without_a_model_nothing_can_be_compared(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    for attempt in (memory.find_alike(TRAIN), memory.store_knowledge(TRAIN, unless_alike=True)):
        with pytest.raises(InvalidRequest, match="no embedding model is in use"):
            await attempt
    with pytest.raises(InvalidRequest, match="wait is 0 to"):
        await memory.find_alike(TRAIN, wait=61)
    with pytest.raises(InvalidValue, match="empty"):
        await memory.find_alike(" ")


@pytest.mark.behaviour("knowledge.unless-alike")
async def test_a_handler_finds_out_where_it_stores() -> None:
    worker, raised = Worker("w"), list[str]()

    @worker.on_event("note", topic="business-facts")
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        try:
            await context.memory.store_knowledge(AGAIN, unless_alike=True)
        except AlreadyKnown as known:
            raised.extend(known.passages)
        await context.memory.store_knowledge("Something else.", unless_alike=True)

    async with LocalPlatform(embedder=WordEmbedder()) as platform:
        memory = platform.context.memory
        first = await memory.store_knowledge(TRAIN)
        await platform.run(worker)
        await platform.publish("note", topic="business-facts", data={}, plan_id="p")
        await platform.settle()
        assert raised == [first]
        contents = {one.content async for one in memory.list_knowledge()}
        assert contents == {TRAIN, "Something else."}
