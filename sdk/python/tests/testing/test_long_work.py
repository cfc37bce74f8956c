"""Timers, lives of plans, compensations, and transactions outside handlers, as authors use them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from soorma import HandlerContext, Worker, WorkflowState
from soorma.errors import Conflict, HandlerEnded, InvalidRequest, NotFound, PlanEnded
from soorma.testing import LocalPlatform

FACTS = "business-facts"


@pytest.fixture
def worker() -> Worker:
    return Worker("worker")


@pytest.mark.behaviour("timers.once", "timers.cancel")
async def test_an_event_for_later_is_published_once_and_can_be_taken_back(
    soorma_platform: LocalPlatform,
) -> None:
    bus = soorma_platform.context.bus
    await bus.publish("in.a.minute", FACTS, {"n": 1}, delay=60, plan_id="p")
    await bus.publish("in.an.hour", FACTS, delay=timedelta(hours=1))
    at = soorma_platform.now + timedelta(minutes=2)
    dropped = await bus.publish("at.a.time", FACTS, at=at)
    assert await bus.cancel(dropped) is True
    assert await bus.cancel(dropped) is False
    await soorma_platform.advance(59)
    assert soorma_platform.published() == []
    await soorma_platform.advance(2)
    (event,) = soorma_platform.published()
    assert (event.type, event.data, event.plan_id) == ("in.a.minute", {"n": 1}, "p")
    await soorma_platform.advance(3600)
    assert [event.type for event in soorma_platform.published()] == ["in.a.minute", "in.an.hour"]


@pytest.mark.behaviour("timers.refused")
async def test_a_time_without_a_zone_is_refused(soorma_platform: LocalPlatform) -> None:
    bus = soorma_platform.context.bus
    for when in (
        {"at": datetime(2030, 1, 1)},  # noqa: DTZ001 - that is what is refused
        {"delay": -1},
        {"delay": 1, "at": datetime.now(UTC)},
    ):
        with pytest.raises(InvalidRequest):
            await bus.publish("e", FACTS, **when)


@pytest.mark.behaviour("timers.refused")
@pytest.mark.parametrize(
    "when", [{"at": "2030-01-01T00:00:00Z"}, {"at": 5}, {"delay": "5"}, {"delay": True}], ids=str
)
async def test_what_is_no_time_is_refused(
    soorma_platform: LocalPlatform, when: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(when))):
        await soorma_platform.context.bus.publish("e", FACTS, **when)
    with pytest.raises(InvalidRequest, match=next(iter(when))):
        await soorma_platform.state("p").deadline(**when)


@pytest.mark.behaviour("plans.end-once")
@pytest.mark.parametrize("how", ["fail", "cancel"])
@pytest.mark.parametrize("reason", ["\ud800", 5, None])
async def test_a_reason_that_is_no_text_is_refused(
    soorma_platform: LocalPlatform, how: str, reason: Any
) -> None:
    with pytest.raises(InvalidRequest):
        await getattr(soorma_platform.state("p"), how)(reason)


@pytest.mark.behaviour("timers.of-the-commit")
async def test_a_handlers_timers_are_of_its_commit(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    @worker.on_event("start")
    async def handle(event: Any, context: HandlerContext) -> None:
        await context.bus.publish(
            "later", FACTS, {"attempt": context.attempt}, delay=5, event_id=f"t{context.attempt}"
        )
        own = await context.bus.publish("never", FACTS, delay=5)
        assert await context.bus.cancel(own) is True
        if context.attempt == 1:
            raise ValueError("once")

    await soorma_platform.run(worker)
    await soorma_platform.publish("start", FACTS, plan_id="p")
    await soorma_platform.advance(60)
    assert [event.data for event in soorma_platform.published("later")] == [{"attempt": 2}]
    assert soorma_platform.published("never") == []


@pytest.mark.behaviour("timers.deadline")
async def test_a_deadline_wakes_who_waits_unless_the_plan_has_ended(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    @worker.on_event("plan.timed_out")
    async def late(event: Any, context: HandlerContext) -> None:
        await WorkflowState(context.memory, event.plan_id).fail("too late")

    await soorma_platform.run(worker)
    for plan in ("slow", "quick"):
        await soorma_platform.state(plan).deadline(30)
    await soorma_platform.state("quick").complete({"answer": 42})
    await soorma_platform.advance(31)
    slow, quick = [await soorma_platform.state(plan).info() for plan in ("slow", "quick")]
    assert (slow.status, slow.reason) == ("failed", "too late")
    assert (quick.status, quick.result) == ("completed", {"answer": 42})
    assert len(soorma_platform.published("plan.timed_out")) == 1


@pytest.mark.behaviour("plans.end-once")
async def test_a_plan_ends_once(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    with pytest.raises(NotFound):
        await state.info()
    await state.set("k", 1)
    assert (await state.info()).status == "active"
    await state.complete()
    with pytest.raises(PlanEnded, match="completed"):
        await state.fail("late")
    assert [plan.plan_id async for plan in state.memory.list_plans(status="completed")] == ["p"]
    assert [plan.plan_id async for plan in state.memory.list_plans(status="active")] == []
    (told,) = soorma_platform.published("plan.completed")
    assert (told.plan_id, told.topic) == ("p", "plan-events")


@pytest.mark.behaviour("plans.cancel")
async def test_cancelling_tells_handlers_and_drops_what_waits(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    begun, done = asyncio.Event(), []

    @worker.on_event("work")
    async def handle(event: Any, context: HandlerContext) -> None:
        begun.set()
        assert not context.cancelled
        await WorkflowState(context.memory, event.plan_id).set("k", event.data)
        await context.until_cancelled()
        done.append(context.cancelled)

    await soorma_platform.run(worker)
    for number in range(3):
        await soorma_platform.publish("work", FACTS, number, plan_id="p")
    await begun.wait()
    await soorma_platform.state("p").cancel("not wanted")
    await soorma_platform.settle()
    assert done == [True], "one was at work, the others never begin"
    assert await soorma_platform.state("p").keys() == []
    assert soorma_platform.waiting() == []


@pytest.mark.behaviour("plans.cancel")
async def test_an_agent_that_was_away_hears_of_a_cancel(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    begun, told = asyncio.Event(), asyncio.Event()

    @worker.on_event("start")
    async def handle(event: Any, context: HandlerContext) -> None:
        begun.set()
        await context.until_cancelled()
        told.set()

    await soorma_platform.run(worker)
    await soorma_platform.context.bus.publish("start", FACTS, plan_id="p")
    await begun.wait()
    soorma_platform.disconnect(worker)
    await WorkflowState(soorma_platform.context.memory, "p").cancel()
    async with asyncio.timeout(20):
        await told.wait()


@pytest.mark.behaviour("sagas.reverse-order")
async def test_a_failed_plan_is_undone_in_reverse_order(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    undone = []

    @worker.on_event("book")
    async def book(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        await state.set(event.data, "booked")
        await state.compensate("unbook", "action-requests", event.data)
        if event.data == "car":
            await state.fail("no car")

    @worker.on_event("unbook")
    async def unbook(event: Any, context: HandlerContext) -> None:
        undone.append(event.data)
        await WorkflowState(context.memory, event.plan_id).delete(event.data)
        if context.attempt == 1 and event.data == "hotel":
            raise ValueError("tried again, once is once")

    await soorma_platform.run(worker)
    for what in ("flight", "hotel", "car"):
        await soorma_platform.publish("book", FACTS, what, plan_id="trip")
    await soorma_platform.advance(10)
    assert undone == ["car", "hotel", "hotel", "flight"]
    assert await soorma_platform.state("trip").keys() == []
    assert len(soorma_platform.published("unbook")) == 3


@pytest.mark.behaviour("transactions.all-or-nothing")
async def test_a_transaction_outside_a_handler(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    await state.set("stock", 3)
    async with state.transaction() as tx:
        left = await tx.increment("stock", -1)
        await tx.append("sold", "tea")
        await WorkflowState(tx.memory, "other").set("seen", left)
        await tx.bus.publish("sold", FACTS, {"left": left})
        assert await state.get("stock") == 3, "not yet"
        assert soorma_platform.published() == []
    assert (await state.get("stock"), await state.get("sold")) == (2, ["tea"])
    assert [event.data for event in soorma_platform.published()] == [{"left": 2}]
    assert {change.revision for change in await state.history(after=1)} == {2}, "one commit"
    with pytest.raises(HandlerEnded):
        await tx.get("stock")


@pytest.mark.behaviour("transactions.all-or-nothing")
async def test_a_transaction_that_raises_leaves_nothing(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what is raised ends the block
        async with state.transaction() as tx:
            await tx.set("k", 1)
            await tx.bus.publish("e", FACTS)
            raise ZeroDivisionError
    assert (await state.keys(), soorma_platform.published()) == ([], [])


@pytest.mark.behaviour("transactions.conflict")
async def test_a_transaction_in_conflict_is_run_again(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    runs = []

    async def add(tx: Any) -> int:
        n = await tx.get("n", 0)
        runs.append(n)
        if len(runs) == 1:
            await state.set("n", 10)
        await tx.set("n", n + 1)
        return n + 1

    assert await state.transact(add) == 11
    assert (runs, await state.get("n")) == ([0, 10], 11)
    with pytest.raises(Conflict):  # noqa: PT012 - raised at the end of the block
        async with state.transaction() as tx:
            await tx.get("n")
            await state.set("n", 0)
            await tx.set("n", 1)


@pytest.mark.behaviour("transactions.conflict")
async def test_concurrent_transactions_lose_nothing(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")

    async def add(tx: Any) -> None:
        await tx.set("n", await tx.get("n", 0) + 1)

    await asyncio.gather(*(state.transact(add) for _ in range(20)))
    assert await state.get("n") == 20


@pytest.mark.behaviour("transactions.conflict")
async def test_a_transaction_that_can_never_be_committed_ends(
    soorma_platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soorma.workflow.TRANSACT_SECONDS", 0.2)
    state = soorma_platform.state("p")

    async def hinder(tx: Any) -> None:
        n = await tx.get("n", 0)
        await state.increment("n")
        await tx.set("n", n)

    with pytest.raises(Conflict):
        await state.transact(hinder)


@pytest.mark.behaviour("transactions.plan-of-events")
async def test_what_a_transaction_publishes_is_of_its_plan(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    async with state.transaction() as tx:
        await tx.bus.publish("own", FACTS)
        await tx.bus.publish("in.data", FACTS, {"plan_id": "q"})
        await tx.bus.publish("other", FACTS, plan_id="q")
        await tx.bus.publish("later", FACTS, delay=1)
    await soorma_platform.advance(2)
    found = {event.type: event.plan_id for event in soorma_platform.published()}
    assert found == {"own": "p", "in.data": "q", "other": "q", "later": "p"}
    own = soorma_platform.published()[0]
    assert (own.correlation_id, own.parent_event_id) == (own.id, None)


@pytest.mark.behaviour("transactions.plan-of-events")
async def test_a_transaction_of_another_user_publishes_for_that_user(
    soorma_platform: LocalPlatform,
) -> None:
    state = WorkflowState(soorma_platform.context.memory, "p", "acme", "ann")
    async with state.transaction() as tx:
        await tx.set("k", 1)
        await tx.bus.publish("own", FACTS)
    (event,) = soorma_platform.published()
    assert (event.tenant_id, event.user_id) == ("acme", "ann")


@pytest.mark.behaviour("plans.end-once")
@pytest.mark.parametrize("late", ["complete", "fail", "cancel", "deadline"])
async def test_a_second_ending_in_a_handler_is_refused_at_the_call(
    soorma_platform: LocalPlatform, worker: Worker, late: str
) -> None:
    refused = []

    @worker.on_event("e")
    async def handle(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, "p")
        await state.complete(1)
        arguments = {"complete": (), "fail": ("why",), "cancel": (), "deadline": (5,)}[late]
        with pytest.raises(PlanEnded) as told:
            await getattr(state, late)(*arguments)
        refused.append(str(told.value))
        await state.set("k", 1)

    await soorma_platform.run(worker)
    await soorma_platform.publish("e", FACTS)
    await soorma_platform.settle()
    assert refused == [
        f"plan 'p' was ended before in this transaction, it is completed: {late} too late"
    ]
    assert (await soorma_platform.state("p").info()).result == 1


@pytest.mark.behaviour("plans.end-once")
async def test_a_plan_that_was_cleaned_up_can_end_again_in_one_handler(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    @worker.on_event("e")
    async def handle(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, "p")
        await state.fail("first")
        await state.cleanup()
        await state.complete(2)

    await soorma_platform.run(worker)
    await soorma_platform.publish("e", FACTS)
    await soorma_platform.settle()
    assert (await soorma_platform.state("p").info()).result == 2


@pytest.mark.behaviour("plans.end-once")
async def test_an_ending_that_comes_too_late_gives_the_event_up_at_once(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    attempts = []

    @worker.on_event("e")
    async def handle(event: Any, context: HandlerContext) -> None:
        attempts.append(context.attempt)
        await WorkflowState(context.memory, "p").fail("too late")

    await soorma_platform.state("p").complete()
    await soorma_platform.run(worker)
    await soorma_platform.publish("e", FACTS)
    await soorma_platform.settle()
    assert attempts == [1]
    (letter,) = [
        event for event in soorma_platform.published() if event.type == "event.dead_lettered"
    ]
    assert letter.data["reason"].startswith("PlanEnded: plan 'p' has ended before")


@pytest.mark.behaviour("timers.cancel")
async def test_a_handler_takes_its_own_deadline_back(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    answers = []

    @worker.on_event("e")
    async def handle(event: Any, context: HandlerContext) -> None:
        deadline = await WorkflowState(context.memory, "p").deadline(5)
        answers.append(await context.bus.cancel(deadline))

    await soorma_platform.run(worker)
    await soorma_platform.publish("e", FACTS)
    await soorma_platform.advance(10)
    assert answers == [True]
    assert [event.type for event in soorma_platform.published()] == ["e"]


@pytest.mark.behaviour("transactions.not-in-a-handler")
async def test_a_handler_is_a_transaction_already(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    refused = []

    @worker.on_event("e")
    async def handle(event: Any, context: HandlerContext) -> None:
        try:
            WorkflowState(context.memory, "p").transaction()
        except InvalidRequest as error:
            refused.append(str(error))
        async with WorkflowState(context.immediate.memory, "p").transaction() as tx:
            await tx.set("k", 1)

    await soorma_platform.run(worker)
    await soorma_platform.publish("e", FACTS)
    await soorma_platform.settle()
    assert "this is a transaction already, a handler's or one of its own" in refused[0]
    assert await soorma_platform.state("p").get("k") == 1
