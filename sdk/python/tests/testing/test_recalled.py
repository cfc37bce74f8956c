"""The recall loop: what a handler has recalled and stores again is no new statement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from soorma import HandlerContext, RetryPolicy, Worker
from soorma.errors import NotFound
from soorma.testing import LocalPlatform

FACTS = "business-facts"
SEATS = "The user prefers seats at the window."
Handler = Callable[[HandlerContext], Awaitable[None]]


async def in_handler(platform: LocalPlatform, handle: Handler) -> None:
    worker = Worker("w", retry=RetryPolicy(max_attempts=1))

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        await handle(context)

    await platform.run(worker)
    await platform.publish("asked", topic=FACTS, data={})
    await platform.settle()
    assert await platform.dead_letters() == []
    await platform.stop(worker)


@pytest.mark.behaviour("knowledge.recalled")
@pytest.mark.parametrize("text", [SEATS, "I remember that the user prefers seats at the window"])
@pytest.mark.parametrize("how", ["search", "get"])
async def test_what_was_recalled_is_no_new_statement(
    soorma_platform: LocalPlatform, text: str, how: str
) -> None:
    memory = soorma_platform.context.memory
    first = await memory.store_knowledge(SEATS)
    ids: list[str] = []

    async def handle(context: HandlerContext) -> None:
        if how == "search":
            assert len(await context.memory.search_knowledge("which seats does the user like")) == 1
        else:
            await context.memory.get_knowledge(first)
        ids.append(await context.memory.store_knowledge(text, tags=["again"]))

    await in_handler(soorma_platform, handle)
    stored = await memory.get_knowledge(ids[0])
    original = await memory.get_knowledge(first)
    assert original.stated == 1
    assert not original.is_recalled
    assert "again" in stored.tags
    if text == SEATS:
        assert stored.id == first
        assert stored.derived_from == []
    else:
        assert (stored.content, stored.stated, stored.is_recalled) == (text, 0, True)
        assert stored.derived_from == [first]
    counts = soorma_platform._platform.metrics.memories.stored.values()
    assert counts["recalled",] == 1
    await memory.delete_knowledge(first)
    with pytest.raises(NotFound):
        await memory.get_knowledge(ids[0])


@pytest.mark.behaviour("knowledge.recalled")
async def test_what_was_said_may_be_recalled_too(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    said = [await memory.log_interaction("w", "user", f"I want {one}.") for one in ("tea", "rice")]

    async def handle(context: HandlerContext) -> None:
        await context.memory.get_recent_history()
        await context.memory.store_knowledge("I want tea.")
        await context.memory.search_interactions("rice")
        await context.memory.store_knowledge("I want rice")
        await context.memory.store_knowledge("The user is hungry.")

    await in_handler(soorma_platform, handle)
    found = [
        (one.content, one.derived_from, one.is_recalled) async for one in memory.list_knowledge()
    ]
    assert found == [
        ("I want tea.", [said[0]], True),
        ("I want rice", [said[1]], True),
        ("The user is hungry.", [], False),
    ]


@pytest.mark.behaviour("knowledge.recalled")
async def test_a_statement_of_its_own_makes_it_one(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    await memory.log_interaction("w", "user", SEATS)

    async def handle(context: HandlerContext) -> None:
        await context.memory.get_recent_history()
        await context.memory.store_knowledge(SEATS)

    await in_handler(soorma_platform, handle)
    (before,) = [one async for one in memory.list_knowledge()]
    assert (before.stated, before.is_recalled) == (0, True)
    assert await memory.store_knowledge(SEATS) == before.id
    after = await memory.get_knowledge(before.id)
    assert (after.stated, after.is_recalled) == (1, False)
    await in_handler(soorma_platform, handle)
    again = await memory.get_knowledge(before.id)
    assert (again.stated, again.is_recalled) == (1, False)


@pytest.mark.behaviour("knowledge.recalled")
async def test_what_replaces_says_what_it_says(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    plain = await memory.store_knowledge(SEATS)
    await memory.store_knowledge("The door is red.", subject="door", attribute="colour")
    await memory.store_knowledge("Open at nine.", external_id="hours")

    async def handle(context: HandlerContext) -> None:
        mine = context.memory
        await mine.search_knowledge("seats door red open nine", min_score=0.0)
        await mine.store_knowledge("the user prefers seats at the window", supersedes=plain)
        await mine.store_knowledge("the door is red", subject="door", attribute="colour")
        await mine.store_knowledge("open at nine", external_id="hours")
        await mine.store_knowledge(SEATS, valid_from="2026-01-01T00:00:00Z")

    await in_handler(soorma_platform, handle)
    stored = [one async for one in memory.list_knowledge()]
    assert len(stored) == 4
    assert [one.content for one in stored if one.is_recalled or one.derived_from] == []


@pytest.mark.behaviour("knowledge.recalled")
async def test_what_is_stored_in_the_place_of_what_is_forgotten_stays(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    old = await memory.store_knowledge(SEATS)
    ids: list[str] = []

    async def handle(context: HandlerContext) -> None:
        (hit,) = await context.memory.search_knowledge("seats at the window")
        ids.append(await context.memory.store_knowledge("the user prefers seats at the window"))
        await context.memory.delete_knowledge(hit.id)

    await in_handler(soorma_platform, handle)
    stored = await memory.get_knowledge(ids[0])
    assert (stored.derived_from, stored.is_recalled, stored.stated) == ([], False, 1)
    with pytest.raises(NotFound):
        await memory.get_knowledge(old)


@pytest.mark.behaviour("knowledge.recalled")
async def test_what_was_not_recalled_in_the_transaction_counts(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    first = await memory.store_knowledge(SEATS)

    async def handle(context: HandlerContext) -> None:
        await context.memory.store_knowledge(SEATS)

    await in_handler(soorma_platform, handle)
    assert (await memory.get_knowledge(first)).stated == 2
