"""Procedural memory as an author meets it: skills, prompts and rules, and how they succeed."""

from __future__ import annotations

from typing import Any

import pytest

from soorma import HandlerContext, RetryPolicy, Worker, WorkflowState
from soorma.errors import Forbidden, InvalidRequest, InvalidValue, LimitExceeded, NotFound
from soorma.memory.client import MemoryClient
from soorma.testing import LocalPlatform, WordEmbedder

FACTS = "business-facts"
REFUND = "Up to 50 EUR: refund at once. Above that, ask the team lead first."
ABOUT = "How a customer gets money back for an order."
BAD_PATHS = ["../x", "/x", "a//b", "a/../b", "c:\\x", "SKILL.md", ".", ".hidden", "a/.b", " a",
             "a\nb", "a\n", "x" * 256, ""]  # fmt: skip
CONTEXT = "The customer wants her money back for the order."


@pytest.fixture
def worker() -> Worker:
    return Worker("support", retry=RetryPolicy(max_attempts=3, first_delay=0))


async def versions(memory: MemoryClient, name: str, **more: Any) -> list[tuple[int, bool]]:
    """Returns the versions of a procedure, each with whether it is active."""
    return [(one.version, one.is_active) async for one in memory.list_versions(name, **more)]


@pytest.mark.behaviour("procedures.versions", "procedures.rollback")
async def test_a_skill_is_stored_in_versions_activated_rolled_back_and_retired(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    first = await memory.store_procedure("refund", REFUND, description=ABOUT, tags=["money"])
    assert (first.outcome, first.version) == ("stored", 1)
    second = await memory.store_procedure("refund", "Refund everything.", description=ABOUT)
    assert second.version == 2
    draft = await memory.store_procedure("refund", "Refund nothing.", activate=False)
    assert draft.version == 3
    assert await versions(memory, "refund") == [(3, False), (2, True), (1, False)]
    active = await memory.get_procedure("refund")
    assert (active.id, active.content) == (second.id, "Refund everything.")
    assert (active.description, active.trust) == (ABOUT, "application")
    old = await memory.get_procedure("refund", 1)
    assert (old.content, old.tags, old.is_active) == (REFUND, ["money"], False)

    rolled = await memory.roll_back_procedure("refund")
    assert (rolled.id, rolled.version) == (first.id, 1)
    assert (await memory.get_procedure("refund")).version == 1
    assert (await memory.activate_procedure("refund")).version == 3
    assert (await memory.retire_procedure("refund")).outcome == "retired"
    with pytest.raises(NotFound, match="no version of skill 'refund' is active; its newest is 3"):
        await memory.get_procedure("refund")
    assert (await memory.roll_back_procedure("refund")).version == 3
    assert (await memory.roll_back_procedure("refund")).version == 1
    assert (await memory.roll_back_procedure("refund")).outcome == "retired"
    with pytest.raises(InvalidRequest, match="all that was active is rolled back"):
        await memory.roll_back_procedure("refund")


@pytest.mark.behaviour("procedures.versions")
async def test_an_equal_version_is_neither_stored_nor_activated_again(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    first = await memory.store_procedure("refund", REFUND, conditions={"tier": ["gold", "silver"]})
    await memory.store_procedure("refund", "Another way.")
    again = await memory.store_procedure("refund", REFUND, conditions={"tier": ["gold", "silver"]})
    assert (again.id, again.outcome, again.version) == (first.id, "restated", 1)
    assert await versions(memory, "refund") == [(2, True), (1, False)]
    other = await memory.store_procedure("refund", REFUND, conditions={"tier": "gold"})
    assert (other.outcome, other.version) == ("stored", 3)


@pytest.mark.behaviour("procedures.relevant")
async def test_active_skills_are_found_by_what_they_are_for(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    await memory.store_procedure("refund", REFUND, description=ABOUT)
    await memory.store_procedure("ship", "Ask the carrier.", description="Where a parcel is now.")
    await memory.store_procedure("draft", REFUND, description=ABOUT, activate=False)
    await memory.store_procedure("greeting", REFUND, description=ABOUT, kind="prompt")
    hits = await memory.get_relevant_skills("support", CONTEXT)
    assert [hit.name for hit in hits] == ["refund"]
    assert hits[0].content == REFUND
    assert hits.applying == 2
    assert 0 < (hits[0].score or 0) <= 1
    assert len(await memory.get_relevant_skills("support", "An astronaut's lunch")) == 0
    prompts = await memory.get_relevant_skills("support", CONTEXT, kind="prompt")
    assert [hit.name for hit in prompts] == ["greeting"]
    # What it says is not what it is for, as soon as a description says that.
    assert len(await memory.get_relevant_skills("support", "the team lead")) == 0
    await memory.store_procedure("lead", "Call the team lead on 4711.")
    (found,) = await memory.get_relevant_skills("support", "the team lead")
    assert found.name == "lead"
    (by_name,) = await memory.get_relevant_skills("support", "ship it")
    assert by_name.name == "ship"


@pytest.mark.behaviour("procedures.apply")
async def test_procedures_apply_to_agents_and_facts(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    await memory.store_procedure("all", "Be polite.", kind="rule")
    await memory.store_procedure("one", "Sign with your name.", kind="rule", agents=["support"])
    await memory.store_procedure(
        "gold", "Refund twice.", kind="rule", conditions={"tier": ["gold", 1], "vip": True}
    )

    async def rules(agent_id: str | None, **facts: Any) -> list[str]:
        return [one.name for one in await memory.get_rules(agent_id, facts=facts)]

    assert await rules("support") == ["all", "one"]
    assert await rules(None) == ["all"]
    assert await rules("other", tier="gold", vip=True, more="x") == ["all", "gold"]
    assert await rules("other", tier=1, vip=True) == ["all", "gold"]
    assert await rules("other", tier=True, vip=True) == ["all"]
    assert await rules("other", tier="gold", vip=1) == ["all"]
    assert await rules("other", tier="gold") == ["all"]
    limited = await memory.get_rules("support", limit=1)
    assert (len(limited), limited.applying) == (1, 2)


@pytest.mark.behaviour("procedures.public")
async def test_the_tenants_serve_all_its_users_and_a_users_own_come_first(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    await memory.store_procedure("refund", REFUND, description=ABOUT, is_public=True)
    theirs = await memory.get_relevant_skills("support", CONTEXT, user_id="other")
    assert [(hit.name, hit.is_public) for hit in theirs] == [("refund", True)]
    assert not await memory.get_relevant_skills("support", CONTEXT, tenant_id="elsewhere")
    await memory.store_procedure("refund", "Mine.", description=ABOUT, user_id="other")
    (own,) = await memory.get_relevant_skills("support", CONTEXT, user_id="other")
    assert own.content == "Mine."
    assert (await memory.get_procedure("refund", user_id="other")).content == "Mine."
    public = await memory.get_procedure("refund", whose="public", user_id="other")
    assert public.content == REFUND
    assert [hit.content for hit in await memory.get_relevant_skills("support", CONTEXT)] == [REFUND]
    with pytest.raises(NotFound):
        await memory.get_procedure("refund", whose="own")
    with pytest.raises(NotFound):
        await memory.delete_procedure("refund")
    listed = [one async for one in memory.list_procedures(user_id="other")]
    assert sorted((one.name, one.is_public, one.active) for one in listed) == [
        ("refund", False, 1),
        ("refund", True, 1),
    ]


@pytest.mark.behaviour("procedures.proposals")
async def test_a_handler_proposes_and_an_application_activates(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    refused: list[str] = []

    @worker.on_event("learn", topic=FACTS)
    async def learn(event: dict[str, Any], context: HandlerContext) -> None:
        memory = context.memory
        for is_public in (False, True):
            done = await memory.store_procedure(
                "refund", REFUND, description=ABOUT, is_public=is_public
            )
            assert (done.outcome, done.version) == ("stored", 0)
        assert not await memory.get_relevant_skills("support", CONTEXT)

    @worker.on_event("seize", topic=FACTS)
    async def seize(event: dict[str, Any], context: HandlerContext) -> None:
        memory = context.immediate.memory
        for attempt in (
            memory.activate_procedure("refund"),
            memory.roll_back_procedure("refund"),
            memory.retire_procedure("refund"),
            memory.count_outcome("refund", 1, succeeded=True),
            memory.delete_procedure("refund"),
        ):
            with pytest.raises(Forbidden) as error:
                await attempt
            refused.append(str(error.value))

    await soorma_platform.run(worker)
    await soorma_platform.publish("learn", topic=FACTS, data={}, plan_id="p")
    await soorma_platform.settle()
    memory = soorma_platform.context.memory
    assert not await memory.get_relevant_skills("support", CONTEXT)
    proposed = [one async for one in memory.list_procedures(proposed=True)]
    assert [(one.name, one.active, one.proposed) for one in proposed] == [("refund", None, 1)] * 2
    (version,) = [one async for one in memory.list_versions("refund", whose="public")]
    assert (version.is_proposed, version.trust, version.plan_id) == (True, "agent", "p")
    assert version.cause.actor == "support"
    # Until it is active, a proposal for the tenant is its author's.
    assert not [one async for one in memory.list_procedures(user_id="other")]
    for wanted in (None, 1):
        with pytest.raises(NotFound, match="there is no skill 'refund'"):
            await memory.get_procedure("refund", wanted, user_id="other")
    await soorma_platform.publish("seize", topic=FACTS, data={}, plan_id="p")
    await soorma_platform.settle()
    assert len(refused) == 5

    await memory.activate_procedure("refund", is_public=True)
    (hit,) = await memory.get_relevant_skills("support", CONTEXT, user_id="other")
    assert (hit.content, hit.is_proposed, hit.trust) == (REFUND, False, "agent")


@pytest.mark.behaviour("procedures.of-a-handler")
async def test_a_handler_that_fails_has_proposed_nothing_and_later_once(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    attempts: list[int] = []

    @worker.on_event("learn", topic=FACTS)
    async def learn(event: dict[str, Any], context: HandlerContext) -> None:
        attempts.append(len([one async for one in context.immediate.memory.list_procedures()]))
        await context.memory.store_procedure("refund", REFUND, description=ABOUT)
        if len(attempts) < 3:
            raise RuntimeError("not yet")

    await soorma_platform.run(worker)
    await soorma_platform.publish("learn", topic=FACTS, data={}, plan_id="p")
    await soorma_platform.settle()
    assert attempts == [0, 0, 0]
    assert await versions(soorma_platform.context.memory, "refund") == [(1, False)]


@pytest.mark.behaviour("procedures.outcomes")
async def test_how_plans_end_is_counted_for_what_they_have_used(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    await memory.store_procedure("refund", REFUND, description=ABOUT)
    await memory.store_procedure("other", "Send a card.", description="What birthdays are for.")

    @worker.on_event("work", topic=FACTS)
    async def work(event: dict[str, Any], context: HandlerContext) -> None:
        assert len(await context.memory.get_relevant_skills("support", CONTEXT)) == 1
        await context.memory.get_procedure("refund")
        plan = WorkflowState(context.memory, event["plan_id"])
        await plan.set("done", 1)

    @worker.on_event("end", topic=FACTS)
    async def end(event: dict[str, Any], context: HandlerContext) -> None:
        plan = WorkflowState(context.memory, event["plan_id"])
        how = event["data"]["how"]
        await (plan.complete() if how == "complete" else getattr(plan, how)("for a reason"))

    await soorma_platform.run(worker)
    for number, how in enumerate(["complete", "complete", "fail", "cancel", "complete"]):
        plan_id = f"plan-{number}"
        await soorma_platform.publish("work", topic=FACTS, data={}, plan_id=plan_id)
        await soorma_platform.settle()
        await soorma_platform.publish("end", topic=FACTS, data={"how": how}, plan_id=plan_id)
        await soorma_platform.settle()
    used = await memory.get_procedure("refund")
    assert (used.succeeded, used.failed) == (3, 1)
    assert used.success == pytest.approx(0.3006, abs=1e-4)
    unused = await memory.get_procedure("other")
    assert (unused.succeeded, unused.failed, unused.success) == (0, 0, 0.0)
    listed = {one.name: one async for one in memory.list_procedures()}
    told = [(one.succeeded, one.failed, one.success) for _, one in sorted(listed.items())]
    assert told == [(0, 0, 0.0), (3, 1, used.success)]
    await memory.retire_procedure("refund")
    (retired,) = [one async for one in memory.list_procedures() if one.name == "refund"]
    assert (retired.succeeded, retired.failed, retired.success) == (0, 0, 0.0)
    await memory.roll_back_procedure("refund")
    counted = await memory.count_outcome("refund", 1, succeeded=False)
    assert counted.version == 1
    assert (await memory.get_procedure("refund")).failed == 2


@pytest.mark.behaviour("procedures.outcomes")
async def test_a_plan_that_begins_anew_has_used_nothing(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    await memory.store_procedure("refund", REFUND, description=ABOUT)

    @worker.on_event("work", topic=FACTS)
    async def work(event: dict[str, Any], context: HandlerContext) -> None:
        await context.memory.get_procedure("refund")
        await WorkflowState(context.memory, event["plan_id"]).set("done", 1)

    await soorma_platform.run(worker)
    await soorma_platform.publish("work", topic=FACTS, data={}, plan_id="p")
    await soorma_platform.settle()
    plan = WorkflowState(memory, "p")
    await plan.cleanup()
    await plan.set("done", 2)
    await plan.complete()
    used = await memory.get_procedure("refund")
    assert (used.succeeded, used.failed) == (0, 0)


@pytest.mark.behaviour("procedures.ranking")
async def test_what_has_succeeded_often_comes_before_what_was_tried_once(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    tried = {"once": (1, 0), "often": (9, 1), "never": (0, 0), "failed": (0, 3)}
    for name, (succeeded, failed) in tried.items():
        await memory.store_procedure(name, f"{REFUND} {name}", description=ABOUT)
        for number in range(succeeded + failed):
            await memory.count_outcome(name, 1, succeeded=number < succeeded)
    hits = await memory.get_relevant_skills("support", CONTEXT)
    assert [hit.name for hit in hits] == ["often", "once", "never", "failed"]
    assert [hit.name for hit in await memory.get_relevant_skills("support", CONTEXT, 2)] == [
        "often",
        "once",
    ]


@pytest.mark.behaviour("procedures.forgotten")
async def test_a_procedure_is_forgotten_with_its_versions_and_with_its_sources(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    source = await memory.store_knowledge("Refunds above 50 EUR went wrong twice.")
    await memory.store_procedure("refund", REFUND, description=ABOUT)
    derived = await memory.store_procedure("refund", "Never.", derived_from=[source])
    assert derived.version == 2
    await memory.delete_knowledge(source)
    assert await versions(memory, "refund") == [(1, False)]
    assert (await memory.roll_back_procedure("refund")).version == 1
    receipt = await memory.delete_procedure("refund")
    assert (receipt.procedures, receipt.passages) == (1, 0)
    for gone in (memory.get_procedure("refund"), memory.delete_procedure("refund")):
        with pytest.raises(NotFound, match="never stored, or forgotten"):
            await gone
    assert not await memory.get_relevant_skills("support", CONTEXT)
    again = await memory.store_procedure("refund", REFUND)
    assert again.version == 1
    receipt = await memory.forget(everything=True, kind="procedures", preview=True)
    assert (receipt.procedures, receipt.is_preview) == (1, True)
    receipt = await memory.forget(everything=True)
    assert receipt.procedures == 1


@pytest.mark.behaviour("procedures.files")
async def test_a_skill_has_files(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    files = {"references/limits.md": b"# Limits\n", "scripts/check.py": b"\x00\xff"}
    await memory.store_procedure("refund", REFUND, files=files)
    skill = await memory.get_procedure("refund")
    assert skill.files == {path: len(content) for path, content in files.items()}
    for path, content in files.items():
        assert await memory.get_procedure_file("refund", path) == content
    with pytest.raises(NotFound, match="has no file 'other' in version 1"):
        await memory.get_procedure_file("refund", "other")
    for path in BAD_PATHS:
        with pytest.raises(InvalidRequest):
            await memory.store_procedure("bad", REFUND, files={path: b""})
    with pytest.raises(LimitExceeded, match="skill with its files"):
        await memory.store_procedure("bad", REFUND, files={"large": bytes(1024 * 1024)})


@pytest.mark.behaviour("procedures.meaning")
async def test_skills_are_found_by_meaning_too() -> None:
    async with LocalPlatform(embedder=WordEmbedder()) as platform:
        memory = platform.context.memory
        await memory.store_procedure("refund", REFUND, description=ABOUT)
        hits = await memory.get_relevant_skills("support", CONTEXT, mode="vector", wait=10)
        assert [(hit.name, hits.mode) for hit in hits] == [("refund", "vector")]
        await memory.store_procedure("refund", "Another.", description="Something else entirely.")
        hits = await memory.get_relevant_skills("support", CONTEXT, mode="vector", wait=10)
        assert not hits
        await memory.roll_back_procedure("refund")
        hits = await memory.get_relevant_skills("support", CONTEXT, mode="vector", wait=10)
        assert [hit.name for hit in hits] == ["refund"]


@pytest.mark.behaviour("procedures.refusals")
@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"name": ""}, InvalidRequest, "name"),
        ({"name": 3}, InvalidValue, "name of a procedure is text"),
        ({"content": " "}, InvalidValue, "empty"),
        ({"kind": "spell"}, InvalidRequest, "kind is one of"),
        ({"description": " "}, InvalidValue, "description is empty"),
        ({"description": "x" * 1025}, InvalidRequest, "at most 1,024"),
        ({"agents": "support"}, InvalidRequest, "agents is a list"),
        ({"agents": ["a"] * 33}, InvalidRequest, "agents are 32"),
        ({"conditions": {"a": {}}}, InvalidRequest, "condition 'a'"),
        ({"conditions": {"a": []}}, InvalidRequest, "condition 'a'"),
        ({"conditions": [1]}, InvalidValue, "conditions is a dict"),
        ({"content": "a\0b"}, InvalidValue, "NUL"),
        ({"files": [b"x"]}, InvalidRequest, "files is a dict"),
        ({"files": {"x": "text"}}, InvalidRequest, "is bytes"),
    ],
)
async def test_what_is_no_procedure_is_refused(
    soorma_platform: LocalPlatform, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    memory = soorma_platform.context.memory
    whole = {"name": "refund", "content": REFUND, **given}
    with pytest.raises(error, match=says):
        await memory.store_procedure(**whole)
    assert not [one async for one in memory.list_procedures()]


@pytest.mark.behaviour("procedures.refusals")
async def test_what_is_not_there_cannot_be_activated(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    for attempt in (
        memory.activate_procedure("refund"),
        memory.roll_back_procedure("refund"),
        memory.retire_procedure("refund"),
        memory.count_outcome("refund", 1, succeeded=True),
    ):
        with pytest.raises(NotFound, match="there is no skill 'refund'"):
            await attempt
    await memory.store_procedure("refund", REFUND, activate=False)
    with pytest.raises(NotFound, match="has no version 2; its newest is 1"):
        await memory.activate_procedure("refund", 2)
    with pytest.raises(InvalidRequest, match="versions count from 1"):
        await memory.activate_procedure("refund", 0)
    with pytest.raises(InvalidRequest, match="never active"):
        await memory.roll_back_procedure("refund")
    with pytest.raises(InvalidRequest, match="context is empty"):
        await memory.get_relevant_skills("support", " ")
    with pytest.raises(InvalidRequest, match="fact 'a'"):
        await memory.get_relevant_skills("support", "x", facts={"a": [1]})
