"""The audit of memories: what it counts, of whom, and what it does not say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from soorma import HandlerContext, Worker
from soorma.errors import InvalidRequest
from soorma.testing import LocalPlatform, WordEmbedder
from soorma_platform.services import memory_audit

FACTS = "business-facts"
KEY = "AKIA" + "IOSFODNN7EXAMPLE"


async def fill(platform: LocalPlatform) -> None:
    """Stores some of everything, of which each count is another number."""
    memory = platform.context.memory
    worker = Worker("w")

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        await context.memory.search_knowledge("dogs", min_score=0.0)
        await context.memory.store_knowledge("I remember that dogs travel free.")
        await context.memory.store_knowledge("dogs travel free")
        await context.memory.store_knowledge("Dogs travel free.", is_public=True)
        await context.memory.store_procedure("greet", "Say hello.")

    await memory.store_knowledge("Dogs travel free.", source="web")
    for number in range(5):
        await memory.store_knowledge("Cats pay half.", source="web")
        await memory.store_knowledge(f"There are {number} seats.", external_id="seats")
        await memory.log_interaction("a", "user", f"Said {number}.", session_id=f"s{number % 2}")
    await memory.store_knowledge("The sea is salty.", source="book", is_public=True)
    await memory.store_procedure("knock", "Knock twice.")
    await memory.store_procedure("knock", "Knock three times.")
    await memory.store_knowledge(f"The key is {KEY}.")
    await memory.store_knowledge("Bob's own.", user_id="bob", source="bob's diary")
    await memory.store_knowledge("Of another tenant.", tenant_id="other", source="theirs")
    await platform.run(worker)
    await platform.publish("asked", topic=FACTS, data={})
    await platform.settle()


@pytest.mark.behaviour("knowledge.audited")
async def test_it_counts_what_a_user_has_stored() -> None:
    async with LocalPlatform() as platform:
        await fill(platform)
        found = await platform.context.memory.audit()
        assert (found.passages, found.closed) == (8, 4)
        # 1 dogs, 5 cats, 5 seats, 1 sea, 1 key; and three said again, one of them a proposal.
        assert (found.statements, found.restated, found.recalled) == (16, 4, 3)
        assert found.restated_share == 0.25
        assert found.recalled_share == 0.1875
        assert found.closed_share == 0.3333
        assert (found.derived, found.public, found.proposed) == (3, 1, 1)
        assert found.by_trust == {"agent": 3, "application": 5}
        assert [(one.source, one.passages) for one in found.by_source] == [("web", 2), ("book", 1)]
        assert (found.sessions, found.interactions) == (2, 5)
        assert (found.procedures, found.versions, found.active) == (2, 3, 1)
        assert found.proposed_versions == 1
        assert (found.redacted, found.refused) == (1, 0)
        assert found.parts == found.unembedded == 19
        assert found.bytes > 300
        assert found.oldest is not None
        assert found.newest is not None
        assert found.oldest <= found.newest
        assert found.is_whole


@pytest.mark.behaviour("knowledge.audited")
async def test_it_counts_of_all_users_of_a_tenant_without_names() -> None:
    async with LocalPlatform() as platform:
        await fill(platform)
        memory = platform.context.memory
        mine, everybody = await memory.audit(), await memory.audit(everybody=True)
        bobs = await memory.audit(user_id="bob")
        assert (bobs.passages, bobs.redacted, bobs.public) == (1, 0, 0)
        assert [one.source for one in bobs.by_source] == ["bob's diary"]
        assert everybody.passages == mine.passages + bobs.passages
        assert everybody.redacted == 1
        assert everybody.by_source == []
        text = msgspec.json.encode(everybody).decode()
        assert "web" not in text
        assert "diary" not in text
        other = await memory.audit(everybody=True, tenant_id="other")
        assert (other.passages, other.redacted) == (1, 0)
        nobody = await memory.audit(user_id="nobody")
        assert (nobody.passages, nobody.oldest, nobody.restated_share) == (0, None, 0.0)


@pytest.mark.behaviour("knowledge.audited")
async def test_all_tenants_are_counted_for_an_operator() -> None:
    async with LocalPlatform() as platform:
        await fill(platform)
        found = await platform.context.memory._caller.call("memory", "GET", "/v1/memory/audit")
        read = msgspec.json.decode(found)
        assert read["passages"] == 10
        assert read["by_source"] == []


@pytest.mark.behaviour("knowledge.audited")
async def test_what_is_embedded_and_alike_is_counted() -> None:
    async with LocalPlatform(embedder=WordEmbedder()) as platform:
        memory = platform.context.memory
        await memory.store_knowledge("The night train to Lund leaves from platform four.")
        second = await memory.store_knowledge("The night train to Lund leaves from platform four")
        await memory.store_knowledge("Dogs travel free.")
        await memory.search_knowledge("train", wait=20)
        await platform.settle()
        found = await memory.audit()
        assert (found.parts, found.unembedded) == (3, 0)
        assert found.alike == 2 * len((await memory.get_knowledge(second)).alike)


@pytest.mark.behaviour("knowledge.audited")
async def test_a_handler_audits_its_user_alone(soorma_platform: LocalPlatform) -> None:
    worker = Worker("w")
    seen: list[Any] = []

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        seen.append((await context.memory.audit()).passages)
        with pytest.raises(InvalidRequest, match="acts for one user"):
            await context.memory.audit(everybody=True)
        seen.append("refused")

    await soorma_platform.context.memory.store_knowledge("Dogs travel free.")
    await soorma_platform.run(worker)
    await soorma_platform.publish("asked", topic=FACTS, data={})
    await soorma_platform.settle()
    assert seen == [1, "refused"]


@pytest.mark.behaviour("knowledge.audited")
async def test_what_is_not_looked_at_is_said(
    soorma_platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_audit, "MOST_AUDITED", 20)
    memory = soorma_platform.context.memory
    await memory.store_knowledge_batch([f"Passage {number}." for number in range(19)])
    assert (await memory.audit()).is_whole
    await memory.store_knowledge_batch([f"Another {number}." for number in range(19)])
    found = await memory.audit()
    assert (found.passages, found.is_whole) == (20, False)
