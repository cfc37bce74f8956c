"""Forgetting: by what memories have in common, with a preview and a receipt, and from the files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from soorma import HandlerContext, RetryPolicy, Worker
from soorma.errors import Forbidden, InvalidRequest, NotFound
from soorma.testing import LocalPlatform, WordEmbedder

FACTS = "business-facts"
WORD = "zyxwordmark"


async def contents(memory: Any, **whose: Any) -> set[str]:
    return {one.content async for one in memory.list_knowledge(**whose)}


async def fill(memory: Any) -> None:
    await memory.store_knowledge("One of plan p.", plan_id="p", source="web")
    await memory.store_knowledge("Two of plan p.", plan_id="p", source="book")
    await memory.store_knowledge("Three of plan q.", plan_id="q", source="web", is_public=True)
    await memory.log_interaction("cook", "user", "Said in s.", session_id="s", plan_id="p")
    await memory.log_interaction("waiter", "user", "Said in t.", session_id="t")
    await memory.store_knowledge("Bob's own.", user_id="bob", plan_id="p", source="web")


@pytest.mark.behaviour("forgetting.by-filter")
@pytest.mark.parametrize(
    ("given", "passages", "interactions"),
    [
        ({"plan_id": "p"}, 2, 1),
        ({"plan_id": "p", "kind": "knowledge"}, 2, 0),
        ({"plan_id": "p", "kind": "interactions"}, 0, 1),
        ({"source": "web"}, 2, 0),
        ({"source": "web", "plan_id": "p"}, 1, 0),
        ({"session_id": "s"}, 0, 1),
        ({"agent_id": "waiter"}, 0, 1),
        ({"everything": True}, 3, 2),
        ({"plan_id": "unknown"}, 0, 0),
        ({"before": "2000-01-01T00:00:00Z"}, 0, 0),
        ({"before": "2999-01-01T00:00:00Z"}, 3, 2),
    ],
)
async def test_what_fits_is_counted_then_forgotten_and_nothing_else(
    soorma_platform: LocalPlatform, given: dict[str, Any], passages: int, interactions: int
) -> None:
    memory = soorma_platform.context.memory
    await fill(memory)
    before = await contents(memory)
    preview = await memory.forget(**given, preview=True)
    assert (preview.passages, preview.interactions) == (passages, interactions)
    assert (preview.is_preview, preview.erased_by) == (True, None)
    assert await contents(memory) == before, "a preview forgets nothing"
    receipt = await memory.forget(**given)
    assert (receipt.passages, receipt.interactions) == (passages, interactions)
    assert receipt.erased_by is not None
    assert receipt.erased_by - receipt.at <= timedelta(seconds=60)
    again = await memory.forget(**given)
    assert (again.passages, again.interactions) == (0, 0)
    left = await contents(memory)
    public = len(await memory.search_knowledge("three plan", min_score=0.0, source="web"))
    assert (
        len(before) - len(left)
        == passages - (0 if await memory.search_knowledge("three of plan q", min_score=0.5) else 1)
        or public
    )
    history = await memory.get_recent_history()
    assert len(history.interactions) == 2 - interactions
    assert await contents(memory, user_id="bob") == {"Bob's own."}


@pytest.mark.behaviour("forgetting.by-filter")
async def test_many_are_forgotten_in_bounded_commits(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    for start in range(0, 900, 450):
        await memory.store_knowledge_batch(
            [
                {"content": f"Passage {number}.", "source": "old" if number % 3 else "new"}
                for number in range(start, start + 450)
            ]
        )
    receipt = await memory.forget(source="old")
    assert receipt.passages == 600
    assert len(await contents(memory)) == 300
    assert len(await memory.search_knowledge("passage 7", min_score=0.0, source="old")) == 0


@pytest.mark.behaviour("forgetting.derived")
async def test_a_poisoned_source_takes_with_it_what_was_derived(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    bad = await memory.store_knowledge("The moon is made of cheese.", source="mail")
    derived = await memory.store_knowledge("So it can be eaten.", derived_from=[bad])
    good = await memory.store_knowledge("The sea is salty.", source="book")
    receipt = await memory.forget(source="mail")
    assert receipt.passages == 2
    for passage_id in (bad, derived):
        with pytest.raises(NotFound):
            await memory.get_knowledge(passage_id)
    assert (await memory.get_knowledge(good)).content == "The sea is salty."


@pytest.mark.behaviour("forgetting.derived")
async def test_what_was_derived_goes_wherever_it_is(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    source = await memory.store_knowledge("A.")
    await memory.store_knowledge("B of A, for all.", derived_from=[source], is_public=True)
    public = await memory.store_knowledge("C.", is_public=True)
    await memory.store_knowledge("D of C, my own.", derived_from=[public])
    (again,) = await memory.store_knowledge_batch([{"content": "A."}])
    assert (again.id, again.outcome) == (source, "restated")
    await memory.store_knowledge("Known before.")
    await memory.store_knowledge("Known before.", derived_from=[source], source="mail")
    assert await memory.delete_knowledge(source)
    assert list(await memory.search_knowledge("b of a for all", min_score=0.3)) == []
    assert await contents(memory) == {"D of C, my own."}
    assert await memory.delete_knowledge(public)
    assert await contents(memory) == set()


@pytest.mark.behaviour("forgetting.sessions")
async def test_a_session_is_forgotten_with_all_that_was_said(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    await fill(memory)
    receipt = await memory.delete_session("s")
    assert (receipt.passages, receipt.interactions) == (0, 1)
    with pytest.raises(NotFound):
        await memory.get_session("s")
    with pytest.raises(NotFound):
        await memory.delete_session("s")
    assert [one.session_id async for one in memory.list_sessions()] == ["t"]
    assert len(await memory.search_interactions("said")) == 1


@pytest.mark.behaviour("forgetting.derived")
async def test_with_what_was_said_goes_what_was_made_of_it(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    said = await memory.log_interaction("a", "user", "I am a vegetarian.", session_id="s")
    fact = await memory.store_knowledge("The user eats no meat.", derived_from=[said])
    await memory.store_knowledge("Soup suits the user.", derived_from=[fact])
    await memory.store_knowledge("The kitchen is open.")
    receipt = await memory.delete_session("s")
    assert (receipt.passages, receipt.interactions) == (2, 1)
    assert await contents(memory) == {"The kitchen is open."}


@pytest.mark.behaviour("forgetting.said")
async def test_it_has_to_be_said_what_is_forgotten(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    for given, says in (
        ({}, "say what is to be forgotten"),
        ({"kind": "knowledge"}, "say what is to be forgotten"),
        ({"everything": True, "plan_id": "p"}, "everything is more"),
        ({"before": "soon"}, "RFC 3339"),
    ):
        with pytest.raises(InvalidRequest, match=says):
            await memory.forget(**given)  # type: ignore[arg-type]


@pytest.mark.behaviour("forgetting.not-in-handlers")
async def test_a_handler_forgets_nothing_by_a_filter(soorma_platform: LocalPlatform) -> None:
    worker = Worker("w", retry=RetryPolicy(max_attempts=1))
    memory = soorma_platform.context.memory
    await fill(memory)
    refused: list[Exception] = []

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        for client in (context.memory, context.immediate.memory):
            try:
                await client.forget(everything=True)
            except (InvalidRequest, Forbidden) as error:
                refused.append(error)

    await soorma_platform.run(worker)
    await soorma_platform.publish("asked", topic=FACTS, data={})
    await soorma_platform.settle()
    assert len(refused) == 2
    assert len(await contents(memory)) == 2


@pytest.mark.behaviour("forgetting.erased")
async def test_what_was_forgotten_is_in_no_file(tmp_path: Path) -> None:
    """Each word is stored through another door; all are looked for in all files."""
    worker = Worker("w")
    async with LocalPlatform(embedder=WordEmbedder()) as platform:
        folder = Path(platform._platform.settings.database).parent
        memory = platform.context.memory

        @worker.on_event("asked", topic=FACTS)
        async def asked(event: dict[str, Any], context: HandlerContext) -> None:
            passage_id = await context.memory.store_knowledge(f"{WORD} by a handler")
            await context.memory.search_knowledge(f"{WORD} by a handler")
            await context.memory.update_knowledge(passage_id, tags=[f"{WORD}-tag"])
            await context.memory.log_interaction("w", "assistant", f"{WORD} said by a handler")
            await context.immediate.memory.store_knowledge(f"{WORD} at once")
            await context.memory.store_procedure(f"{WORD}-learned", f"{WORD} proposed")
            await context.memory.get_relevant_skills(f"{WORD}-agent", f"{WORD} is to be done")

        for number in range(60):
            long = " ".join(f"{WORD}{number}x{part}" for part in range(number * 12))
            kept = await memory.store_knowledge(f"Kept {number} " + "other words " * number)
            await memory.store_knowledge(
                f"{WORD} {long}",
                external_id=f"{WORD}-{number}",
                aliases=[f"{WORD} alias"],
                tags=[f"{WORD}-tag"],
                metadata={f"{WORD}": f"{WORD}"},
                source=f"{WORD}-source",
                subject=f"{WORD}-subject",
                attribute=f"{WORD}-{number}",
                derived_from=[kept] if number % 7 == 0 else [],
            )
            await memory.store_knowledge(f"{WORD} {number} again", external_id=f"{WORD}-{number}")
            await memory.log_interaction(
                f"{WORD}-agent", "user", f"{WORD} said {long}", session_id=f"{WORD}-session",
                metadata={"said": WORD},
            )  # fmt: skip
            await memory.store_procedure(
                f"{WORD}-skill",
                f"{WORD} is done {long}",
                description=f"{WORD} {number}",
                agents=[f"{WORD}-agent"],
                conditions={WORD: WORD},
                metadata={WORD: WORD},
                files={f"{WORD}/{number}": f"{WORD} in a file".encode()},
                is_public=number % 3 == 0,
            )
        await memory.name_session(f"{WORD}-session", f"{WORD} name")
        await memory.store_knowledge(f"{WORD} for all", is_public=True)
        await memory.search_knowledge(f"{WORD} for all", wait=20)
        await platform.run(worker)
        await platform.publish("asked", topic=FACTS, data={})
        await platform.settle()
        assert any(WORD.encode() in file.read_bytes() for file in folder.iterdir())
        hits = await memory.search_knowledge(WORD, limit=100, min_score=0.0, mode="text")
        assert len(hits) > 50
        for hit in hits:
            await memory.delete_knowledge(hit.id)
        await memory.forget(kind="interactions", everything=True)
        await memory.delete_procedure(f"{WORD}-skill")
        await memory.forget(kind="procedures", everything=True)
        async for one in memory.list_knowledge():
            if WORD in msgspec.json.encode(one).decode():
                await memory.delete_knowledge(one.id)
        kept_contents = await contents(memory)
        await platform.advance(60)
        left = {
            file.name: file.read_bytes().count(WORD.encode())
            for file in folder.iterdir()
            if WORD.encode() in file.read_bytes()
        }
        assert left == {}
        assert len(kept_contents) > 40


@pytest.mark.behaviour("forgetting.by-tenant")
async def test_what_anybody_of_a_tenant_has_stored_is_forgotten(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    await fill(memory)
    await memory.store_knowledge("Of another.", tenant_id="umbrella", source="web")
    preview = await memory.forget(source="web", all_users=True, preview=True)
    assert (preview.passages, preview.is_preview) == (3, True)
    receipt = await memory.forget(source="web", all_users=True)
    assert receipt.passages == 3
    assert await contents(memory) == {"Two of plan p."}
    assert await contents(memory, user_id="bob") == set()
    assert await contents(memory, tenant_id="umbrella") == {"Of another."}
    with pytest.raises(InvalidRequest, match="all users are more than user 'bob'"):
        await memory.forget(everything=True, all_users=True, user_id="bob")
    with pytest.raises(InvalidRequest, match="say what is to be forgotten"):
        await memory.forget(all_users=True)


@pytest.mark.behaviour("forgetting.by-tenant")
async def test_a_handler_forgets_nothing_of_other_users(soorma_platform: LocalPlatform) -> None:
    worker = Worker("w", retry=RetryPolicy(max_attempts=1))
    await fill(soorma_platform.context.memory)
    refused: list[Exception] = []

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        for client in (context.memory, context.immediate.memory):
            try:
                await client.forget(everything=True, all_users=True)
            except (InvalidRequest, Forbidden) as error:
                refused.append(error)

    await soorma_platform.run(worker)
    await soorma_platform.publish("asked", topic=FACTS, data={})
    await soorma_platform.settle()
    assert [type(error) for error in refused] == [InvalidRequest, Forbidden]
    assert await contents(soorma_platform.context.memory, user_id="bob") == {"Bob's own."}
