"""The event that tells of what was stored: ids only, for others only, once for each commit."""

from __future__ import annotations

from typing import Any

import pytest

from soorma import HandlerContext, Worker
from soorma.testing import LocalPlatform

FACTS, SYSTEM = "business-facts", "system-events"


def listener(name: str, heard: list[Any], *, stores: bool = False) -> Worker:
    worker = Worker(name)

    @worker.on_event("memory.stored", topic=SYSTEM)
    async def stored(event: Any, context: HandlerContext) -> None:
        heard.append(event)
        if stores:
            await context.memory.store_knowledge(f"Heard of {event.data['knowledge']}.")

    return worker


@pytest.mark.behaviour("knowledge.announced")
async def test_a_commit_tells_once_what_it_has_stored(soorma_platform: LocalPlatform) -> None:
    heard: list[Any] = []
    await soorma_platform.run(listener("librarian", heard))
    memory = soorma_platform.context.memory
    done = await memory.store_knowledge_batch(["One.", "Two."], tenant_id="acme", user_id="ann")
    ids = [one.id for one in done]
    said = await memory.log_interaction("a", "user", "Hello.", session_id="s")
    await memory.update_knowledge(ids[0], tags=["t"], tenant_id="acme", user_id="ann")
    await memory.delete_knowledge(ids[0], tenant_id="acme", user_id="ann")
    await soorma_platform.settle()
    skill = await memory.store_procedure("greet", "Say hello.")
    await soorma_platform.settle()
    nothing = {"interactions": [], "procedures": [], "sessions": [], "plan_id": None}
    first, second, third = sorted(
        heard, key=lambda event: (len(event.data["procedures"]), len(event.data["interactions"]))
    )
    assert first.data == {**nothing, "knowledge": ids}
    assert (first.tenant_id, first.user_id, first.topic) == ("acme", "ann", SYSTEM)
    assert second.data == {
        **nothing, "knowledge": [], "interactions": [said], "sessions": ["s"],
    }  # fmt: skip
    assert third.data == {**nothing, "knowledge": [], "procedures": [skill.id]}


@pytest.mark.behaviour("knowledge.announced")
async def test_nobody_hears_of_what_its_own_handler_has_stored(
    soorma_platform: LocalPlatform,
) -> None:
    own: list[Any] = []
    other: list[Any] = []
    librarian = listener("librarian", own, stores=True)

    @librarian.on_event("note", topic=FACTS)
    async def note(event: Any, context: HandlerContext) -> None:
        await context.memory.store_knowledge("From a handler.")
        await context.immediate.memory.store_knowledge("At once.")

    await soorma_platform.run(librarian, listener("other", other))
    await soorma_platform.publish("note", topic=FACTS, data={}, plan_id="p")
    await soorma_platform.settle()
    assert own == []
    assert sorted(event.data["plan_id"] or "" for event in other) == ["", "p"]
    assert {event.source for event in other} == {"librarian"}
    await soorma_platform.context.memory.store_knowledge("From outside.")
    await soorma_platform.settle()
    assert len(own) == 1
    assert len(other) == 4, "what the librarian stored then is news to the other"


@pytest.mark.behaviour("knowledge.announced")
async def test_without_a_subscriber_no_event_is_published(soorma_platform: LocalPlatform) -> None:
    await soorma_platform.context.memory.store_knowledge("One.")
    assert soorma_platform.published("memory.stored") == []
    quiet = Worker("quiet")

    @quiet.on_event("note", topic=FACTS)
    async def note(event: Any, context: HandlerContext) -> None:
        raise ZeroDivisionError

    await soorma_platform.run(quiet)
    await soorma_platform.context.memory.store_knowledge("Two.")
    assert soorma_platform.published("memory.stored") == []
