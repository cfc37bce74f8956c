"""Fan-in, claims and semaphores: exactly one completes, exactly one holds."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from soorma import HandlerContext, Worker, WorkflowState
from soorma.errors import Conflict, InvalidName, InvalidRequest, WrongType
from soorma.testing import LocalPlatform

TASKS = 20


@pytest.mark.behaviour("joins.exactly-once")
@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_fan_out_is_joined_exactly_once(
    soorma_platform: LocalPlatform, replicas: int
) -> None:
    """Unordered handlers on several replicas finish at once, in any order, and one goes on."""

    def make() -> Worker:
        worker = Worker("worker")

        @worker.on_event("start")
        async def fan_out(event: Any, context: HandlerContext) -> None:
            for number in range(TASKS):
                await context.bus.publish("task", "action-requests", number)

        @worker.on_event("task", ordered=False)
        async def handle(event: Any, context: HandlerContext) -> None:
            state = WorkflowState(context.memory, event.plan_id)
            await state.increment("sum", event.data, blind=True)
            if await state.join("tasks", expect=TASKS):
                await context.bus.publish("joined", "business-facts")

        return worker

    for _ in range(replicas):
        await soorma_platform.run(make())
    await soorma_platform.publish("start", "action-requests", plan_id="p")
    await soorma_platform.settle()
    await soorma_platform.advance(60)
    assert len(soorma_platform.published("joined")) == 1
    assert await soorma_platform.state("p").get("sum") == sum(range(TASKS))
    assert await soorma_platform.dead_letters() == []


@pytest.mark.behaviour("joins.names")
async def test_a_join_of_names(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    names = ["a", "b"]
    assert await state.join("both", expect=names, arrival="a") is False
    assert await state.join("both", expect=names, arrival="a") is False, "again is no second one"
    assert await state.join("both", expect=names, arrival="b") is True
    assert await state.join("both", expect=names, arrival="b") is False
    assert await state.get("both") == {"expect": names, "arrived": names}
    refused = [
        (InvalidRequest, {"expect": names, "arrival": "c"}),
        (InvalidRequest, {"expect": 3, "arrival": "a"}),
        (InvalidRequest, {"expect": 0, "arrival": "a"}),
        (InvalidRequest, {"expect": ["a", "a"], "arrival": "a"}),
        (InvalidName, {"expect": 2}),
    ]
    for error, given in refused:
        with pytest.raises(error):
            await state.join("new" if given["expect"] in (0, ["a", "a"]) else "both", **given)
    await state.set("number", 1)
    with pytest.raises(WrongType):
        await state.join("number", expect=1, arrival="a")


@pytest.mark.behaviour("joins.names")
@pytest.mark.parametrize(
    "expect", ["law", b"law", 0, -1, True, [], ["a", "a"], ["a", ""], [1], 1.5, None], ids=repr
)
async def test_what_is_not_expected_at_a_join(soorma_platform: LocalPlatform, expect: Any) -> None:
    state = soorma_platform.state("p")
    with pytest.raises(InvalidRequest):
        await state.join("k", expect=expect, arrival="a")
    assert not await state.has("k")


@pytest.mark.behaviour("joins.names")
async def test_a_set_of_names_is_the_same_everywhere(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    names = {f"name-{number}" for number in range(20)}
    assert await state.join("k", expect=names, arrival="name-1") is False
    assert (await state.get("k"))["expect"] == sorted(names)


@pytest.mark.behaviour("joins.redelivery")
async def test_a_redelivery_arrives_once(soorma_platform: LocalPlatform) -> None:
    worker, joined = Worker("worker"), []

    @worker.on_event("task")
    async def handle(event: Any, context: HandlerContext) -> None:
        done = await WorkflowState(context.memory, event.plan_id).join("tasks", expect=2)
        if context.attempt == 1:
            raise ValueError("after the join")
        joined.append(done)

    await soorma_platform.run(worker)
    for _ in range(2):
        await soorma_platform.publish("task", "action-requests", plan_id="p")
    await soorma_platform.advance(60)
    assert joined == [False, True]


@pytest.mark.behaviour("claims.one-holder")
async def test_a_claim_has_one_holder_until_it_is_over(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    first = await state.claim("lock", ttl=10)
    assert first is not None
    assert await state.claim("lock", ttl=10) is None
    await soorma_platform.advance(9)
    await first.renew()
    await soorma_platform.advance(9)
    assert await state.claim("lock") is None, "it was renewed"
    await soorma_platform.advance(2)
    second = await state.claim("lock")
    assert second is not None
    assert second.revision > first.revision
    with pytest.raises(Conflict):
        await first.renew()
    assert await first.release() is False
    assert await second.release() is True
    async with await state.claim("lock"):  # type: ignore[union-attr]
        assert await state.claim("lock") is None
    assert await state.has("lock") is False


@pytest.mark.behaviour("claims.fenced")
async def test_who_has_lost_a_claim_changes_nothing(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    claim = await state.claim("lock", ttl=10)
    assert claim is not None
    async with claim.transaction() as tx:
        await tx.set("k", "held")
    await soorma_platform.advance(11)
    late = claim.transaction()
    await late.set("k", "late")
    with pytest.raises(Conflict):
        await late.__aexit__(None, None, None)
    assert await state.get("k") == "held"


@pytest.mark.behaviour("claims.fenced")
async def test_a_claim_is_renewed_while_its_transaction_is_made(
    soorma_platform: LocalPlatform,
) -> None:
    """The claim must be held at the commit, which waits for a renewal that is under way."""
    state = soorma_platform.state("p")
    claim = await state.claim("lock", ttl=10)
    assert claim is not None
    async with claim.transaction() as tx:
        await tx.set("done", 1)
        await claim.renew()
    async with claim.transaction() as tx:
        await tx.set("done", 2)
        renewing = asyncio.create_task(claim.renew())
        await asyncio.sleep(0)
    await renewing
    assert await state.get("done") == 2
    with pytest.raises(Conflict):  # noqa: PT012 - raised at the end of the block
        async with claim.transaction() as tx:
            await tx.set("done", 3)
            await claim.release()
    assert await state.get("done") == 2


@pytest.mark.behaviour("claims.refused")
@pytest.mark.parametrize(
    "given",
    [
        *({"ttl": ttl} for ttl in (0, -1, math.nan, math.inf, None, "5", True)),
        *({"wait": wait} for wait in (-1, math.nan, "1", None)),
        *({"places": places} for places in (0, -1, True, 1.5, "2")),
    ],
    ids=str,
)
async def test_what_is_no_claim(soorma_platform: LocalPlatform, given: dict[str, Any]) -> None:
    state = soorma_platform.state("p")
    with pytest.raises(InvalidRequest, match=next(iter(given))):
        await state.semaphore("k", **{"places": 2, **given})
    assert await state.keys() == []


@pytest.mark.behaviour("claims.refused")
@pytest.mark.parametrize("ttl", [0, -1, math.nan, "5"])
async def test_a_claim_is_not_renewed_for_no_time(soorma_platform: LocalPlatform, ttl: Any) -> None:
    claim = await soorma_platform.state("p").claim("k")
    assert claim is not None
    with pytest.raises(InvalidRequest, match="ttl"):
        await claim.renew(ttl)


@pytest.mark.behaviour("claims.waiting")
async def test_waiting_for_a_claim(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    held = await state.claim("lock")
    assert held is not None
    waiting = asyncio.create_task(state.claim("lock", wait=5))
    await asyncio.sleep(0)
    await held.release()
    assert await waiting is not None
    assert await state.claim("lock", wait=0.01) is None


@pytest.mark.behaviour("claims.semaphore")
async def test_a_semaphore_has_its_places(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    taken = [await state.semaphore("slots", 3) for _ in range(4)]
    held = [claim for claim in taken if claim is not None]
    assert (len(held), taken[3]) == (3, None)
    assert {claim.key for claim in held} == {"slots", "slots/2", "slots/3"}
    await held[1].release()
    again = await state.semaphore("slots", 3)
    assert again is not None
    assert again.key == held[1].key


@pytest.mark.behaviour("claims.in-a-handler")
async def test_a_handler_claims_at_once_or_not_at_all(soorma_platform: LocalPlatform) -> None:
    worker, seen = Worker("worker"), []

    @worker.on_event("e")
    async def handle(event: Any, context: HandlerContext) -> None:
        with pytest.raises(InvalidRequest, match="immediate"):
            await WorkflowState(context.memory, "p").claim("lock")
        async with await WorkflowState(context.immediate.memory, "p").claim("lock") as claim:
            seen.append(claim.key)

    await soorma_platform.run(worker)
    await soorma_platform.publish("e", "business-facts")
    await soorma_platform.settle()
    assert seen == ["lock"]
