"""Quarantine as applications, handlers and people meet it."""

from __future__ import annotations

from typing import Any

import pytest

from soorma import HandlerContext, MemoryClient, RetryPolicy, Worker
from soorma.errors import Forbidden, InvalidRequest, InvalidValue, NotFound
from soorma.testing import LocalPlatform, WordEmbedder

FACTS = "business-facts"
MOON = "The moon is made of cheese."


@pytest.mark.behaviour("quarantine.seen")
async def test_whoever_reads_it_is_told_why_it_is_not_there(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    passage_id = await memory.store_knowledge(MOON, source="mail", external_id="moon")
    await memory.store_procedure("eat", "Eat the moon.", derived_from=[passage_id])
    said = await memory.log_interaction("reader", "assistant", "I read it.")
    begun = await memory.quarantine(source="mail", reason="instructions in its signature")
    assert (begun.source, begun.agent_id, begun.all_users) == ("mail", None, False)
    await memory.quarantine(agent_id="reader")
    for read in (
        memory.get_knowledge(passage_id),
        memory.get_knowledge(external_id="moon"),
        memory.get_procedure("eat"),
        memory.get_interaction(said),
    ):
        with pytest.raises(NotFound):
            await read
    with pytest.raises(NotFound, match="is in quarantine, because it comes from source 'mail'"):
        await memory.get_knowledge(passage_id)
    with pytest.raises(NotFound, match="'eat' is in quarantine, because it comes from source"):
        await memory.get_procedure("eat")
    with pytest.raises(NotFound, match="is in quarantine, because it comes from agent 'reader'"):
        await memory.get_interaction(said)
    assert [one.content async for one in memory.list_knowledge()] == []
    assert [one.content async for one in memory.list_knowledge(quarantined=True)] == [MOON]
    (stored,) = await memory.store_knowledge_batch([{"content": "More.", "source": "mail"}])
    assert stored.outcome == "quarantined"
    seen = await memory.list_quarantines()
    assert {(one.source, one.agent_id, one.reason) for one in seen} == {
        ("mail", None, "instructions in its signature"),
        (None, "reader", None),
    }
    ended = await memory.release(source="mail")
    assert ended.reason == "instructions in its signature"
    assert (await memory.get_knowledge(passage_id)).content == MOON
    assert (await memory.get_procedure("eat")).content == "Eat the moon."
    with pytest.raises(NotFound, match="source 'mail' is in no quarantine"):
        await memory.release(source="mail")


@pytest.mark.behaviour("quarantine.nothing-counts")
async def test_what_a_handler_of_the_agent_stores_is_hidden(
    soorma_platform: LocalPlatform,
) -> None:
    worker = Worker("reader")
    memory = soorma_platform.context.memory
    outcomes: list[str] = []

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        await context.memory.store_knowledge(f"{MOON} It was said {event['data']['times']} times.")
        await context.memory.log_interaction(None, "assistant", "I have read that.")
        outcomes.append("asked")

    await soorma_platform.run(worker)
    await soorma_platform.publish("asked", topic=FACTS, data={"times": 1})
    await soorma_platform.settle()
    assert len(await memory.search_knowledge("moon cheese")) == 1
    await memory.quarantine(agent_id="reader")
    await soorma_platform.publish("asked", topic=FACTS, data={"times": 2})
    await soorma_platform.settle()
    assert outcomes == ["asked", "asked"], "it works on, and nothing of it counts"
    assert list(await memory.search_knowledge("moon cheese", min_score=0.0)) == []
    assert (await memory.get_recent_history()).interactions == []
    assert len([one async for one in memory.list_knowledge(quarantined=True)]) == 2
    await memory.release(agent_id="reader")
    assert len(await memory.search_knowledge("moon cheese", min_score=0.0)) == 2
    assert len((await memory.get_recent_history()).interactions) == 2


@pytest.mark.behaviour("quarantine.from-outside")
async def test_a_handler_neither_hides_nor_frees(soorma_platform: LocalPlatform) -> None:
    worker = Worker("w", retry=RetryPolicy(max_attempts=1))
    memory = soorma_platform.context.memory
    await memory.quarantine(source="mail")
    refused: list[Exception] = []

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        for client in (context.memory, context.immediate.memory):
            for call in (
                client.quarantine(source="book"),
                client.quarantine(source="book", all_users=True),
                client.release(source="mail"),
                client.release(source="mail", all_users=True),
            ):
                try:
                    await call
                except (InvalidRequest, Forbidden) as error:
                    refused.append(error)
        assert [one.source for one in await context.memory.list_quarantines()] == ["mail"]

    await soorma_platform.run(worker)
    await soorma_platform.publish("asked", topic=FACTS, data={})
    await soorma_platform.settle()
    assert len(refused) == 8
    assert [one.source for one in await memory.list_quarantines()] == ["mail"]
    assert await memory.list_quarantines(all_users=True) == []


@pytest.mark.behaviour("quarantine.whose")
async def test_a_tenant_s_quarantine_holds_for_each_of_its_users(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory

    async def counts(**whose: str) -> int:
        return len(await memory.search_knowledge("moon", min_score=0.0, **whose))

    users: list[dict[str, str]] = [{}, {"user_id": "bob"}, {"tenant_id": "umbrella"}]
    for whose in users:
        await memory.store_knowledge(MOON, source="mail", **whose)
    begun = await memory.quarantine(source="mail", all_users=True)
    assert begun.all_users
    assert [await counts(**whose) for whose in users] == [0, 0, 1]
    assert [one.all_users for one in await memory.list_quarantines(user_id="bob")] == [True]
    with pytest.raises(NotFound, match="of this user"):
        await memory.release(source="mail")
    await memory.release(source="mail", all_users=True)
    assert [await counts(**whose) for whose in users] == [1, 1, 1]


@pytest.mark.behaviour("quarantine.nothing-counts")
async def test_it_is_hidden_by_meaning_too() -> None:
    async with LocalPlatform(embedder=WordEmbedder()) as platform:
        memory = platform.context.memory
        await memory.store_knowledge(MOON, source="mail")
        await memory.store_knowledge("The sea is salty.", source="book")
        for mode in ("vector", "hybrid"):
            hits = await memory.search_knowledge("the moon", mode=mode, min_score=0.0, wait=10)
            assert {hit.source for hit in hits} == {"mail", "book"}
        await memory.quarantine(source="mail")
        for mode in ("vector", "hybrid"):
            hits = await memory.search_knowledge("the moon", mode=mode, min_score=0.0, wait=10)
            assert {hit.source for hit in hits} == {"book"}


@pytest.mark.behaviour("quarantine.nothing-counts")
async def test_what_is_hidden_keeps_nothing_from_being_stored() -> None:
    async with LocalPlatform(embedder=WordEmbedder()) as platform:
        memory = platform.context.memory
        bad = await memory.store_knowledge(MOON, source="mail")
        assert [one.id for one in await memory.find_alike(MOON)] == [bad]
        await memory.quarantine(source="mail")
        assert await memory.find_alike(MOON) == []
        good = await memory.store_knowledge("Of cheese the moon is made.", unless_alike=True)
        assert [one.id for one in await memory.find_alike(MOON)] == [good]


@pytest.mark.behaviour("quarantine.seen")
@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, InvalidRequest),
        ({"source": "a", "agent_id": "b"}, InvalidRequest),
        ({"source": ""}, InvalidRequest),
        ({"source": "x" * 256}, InvalidRequest),
        ({"agent_id": "a\0b"}, InvalidRequest),
        ({"source": "a", "reason": ""}, InvalidValue),
        ({"source": "a", "reason": "  "}, InvalidValue),
        ({"source": "a", "reason": "x" * 1_025}, InvalidValue),
        ({"source": "a", "reason": "\0"}, InvalidValue),
    ],
)
async def test_what_is_wrong_is_said_at_the_call(given: dict[str, Any], error: type) -> None:
    memory = MemoryClient("http://localhost:1", retry_seconds=0)
    with pytest.raises(error):
        await memory.quarantine(**given)
    await memory.close()
