"""Ends of plans as an author meets them: late ends, events after an end, giving up with one."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from soorma import HandlerContext, Reject, RetryPolicy, Worker, WorkflowState
from soorma.errors import InvalidRequest, NotFound, PlanEnded
from soorma.testing import LocalPlatform

FACTS = "business-facts"
ENDS: dict[str, tuple[Any, ...]] = {"complete": ({"pages": 3},), "fail": ("no",), "cancel": ("no",)}
STATUS = {"complete": "completed", "fail": "failed", "cancel": "cancelled"}
every_end = pytest.mark.parametrize("end", ENDS)


@pytest.fixture
def worker() -> Worker:
    return Worker("worker", retry=RetryPolicy(max_attempts=3, first_delay=0))


async def end_it(state: WorkflowState, how: str, **more: Any) -> bool:
    outcome = await getattr(state, how)(*ENDS[how], **more)
    assert isinstance(outcome, bool)
    return outcome


@pytest.mark.behaviour("plans.if-active")
@every_end
async def test_an_end_says_whether_it_was_one(soorma_platform: LocalPlatform, end: str) -> None:
    state = soorma_platform.state("p")
    assert await end_it(state, end, if_active=True) is True
    assert await end_it(state, end, if_active=True) is False
    with pytest.raises(PlanEnded):
        await end_it(state, end)
    memory = soorma_platform.context.memory
    assert (
        await getattr(memory, f"{end}_plan")("q", *ENDS[end], "acme", "ann", if_active=True) is True
    )
    assert (
        await getattr(memory, f"{end}_plan")("q", *ENDS[end], "acme", "ann", if_active=True)
        is False
    )
    assert (await memory.get_plan("q", "acme", "ann")).status == STATUS[end]
    with pytest.raises(InvalidRequest, match="if_active"):
        await end_it(state, end, if_active="yes")


@pytest.mark.behaviour("plans.if-active")
@every_end
@pytest.mark.parametrize("how", ["if_active", "PlanEnded", "info"])
async def test_a_cascade_meets_a_plan_that_ends_meanwhile(
    soorma_platform: LocalPlatform, worker: Worker, end: str, how: str
) -> None:
    """Whichever call it uses, what the handler learned holds at its commit, which succeeds."""
    told: list[list[bool]] = []

    async def ended(state: WorkflowState) -> bool:
        if how == "if_active":
            return await end_it(state, end, if_active=True)
        if how == "info" and (await state.info()).status != "active":
            return False
        try:
            return await end_it(state, end)
        except PlanEnded:
            return False

    @worker.on_event("cascade")
    async def cascade(event: Any, context: HandlerContext) -> None:
        outcomes = [await ended(WorkflowState(context.memory, child)) for child in "abc"]
        if not told:
            await soorma_platform.state("b").complete()
        told.append(outcomes)
        await WorkflowState(context.memory, "p").set("ended", outcomes)

    for child in "abc":
        await soorma_platform.state(child).set("k", 1)
    await soorma_platform.run(worker)
    await soorma_platform.publish("cascade", FACTS, plan_id="p")
    await soorma_platform.settle()
    assert told == [[True, True, True], [True, False, True]]
    assert await soorma_platform.state("p").get("ended") == told[-1]
    found = [(await soorma_platform.state(child).info()).status for child in "abc"]
    assert found == [STATUS[end], "completed", STATUS[end]]
    assert await soorma_platform.dead_letters() == []


@pytest.mark.behaviour("plans.if-active")
async def test_many_cancel_one_plan_and_one_of_them_did(soorma_platform: LocalPlatform) -> None:
    workers = [Worker(f"w{number}") for number in range(5)]

    async def cancel(event: Any, context: HandlerContext) -> None:
        if await WorkflowState(context.memory, "shared").cancel("enough", if_active=True):
            await context.bus.publish("did", FACTS)

    for one in workers:
        one.on_event("stop")(cancel)
    await soorma_platform.state("shared").set("k", 1)
    await soorma_platform.run(*workers)
    await soorma_platform.publish("stop", FACTS)
    await soorma_platform.settle()
    assert len(soorma_platform.published("did")) == 1
    assert await soorma_platform.dead_letters() == []


@pytest.mark.behaviour("plans.status-read")
@pytest.mark.parametrize("isolation", ["reads", "writes"])
async def test_a_handler_that_looked_at_a_status_runs_again_if_that_changes(
    soorma_platform: LocalPlatform, worker: Worker, isolation: Any
) -> None:
    seen = []

    @worker.on_event("look", isolation=isolation)
    async def look(event: Any, context: HandlerContext) -> None:
        try:
            status = (await WorkflowState(context.memory, "other").info()).status
        except NotFound:
            status = "missing"
        seen.append(status)
        outside = soorma_platform.state("other")
        await (
            outside.fail("x") if len(seen) == 2 else outside.set("k", len(seen))
        )  # the last changes no status
        await WorkflowState(context.memory, "own").set("seen", status)

    await soorma_platform.run(worker)
    await soorma_platform.publish("look", FACTS)
    await soorma_platform.settle()
    expected = ["missing", "active", "failed"] if isolation == "reads" else ["missing"]
    assert seen == expected
    assert await soorma_platform.state("own").get("seen") == expected[-1]


@pytest.mark.behaviour("plans.status-read")
async def test_a_handler_sees_the_end_that_it_has_given(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    seen = []

    @worker.on_event("e")
    async def handle(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, "new")
        with pytest.raises(NotFound):
            await state.info()
        await state.set("k", 1)
        seen.append((await state.info()).status)
        await state.complete({"pages": 3})
        info = await state.info()
        seen.append((info.status, info.result, info.reason, info.ended_at is not None))
        await state.cleanup()
        seen.append((await state.info()).status)
        await state.fail("no")
        info = await state.info()
        seen.append((info.status, info.result, info.reason))

    await soorma_platform.run(worker)
    await soorma_platform.publish("e", FACTS)
    await soorma_platform.settle()
    assert seen == [
        "active",
        ("completed", {"pages": 3}, None, True),
        "active",
        ("failed", None, "no"),
    ]
    assert (await soorma_platform.state("new").info()).status == "failed"


@pytest.mark.behaviour("plans.end-once")
@every_end
@pytest.mark.parametrize("late", [*ENDS, "deadline", "compensate"])
async def test_a_late_end_in_a_handler_is_refused_at_the_call(
    soorma_platform: LocalPlatform, worker: Worker, end: str, late: str
) -> None:
    """The handler can thus go on without it. A failed plan still accepts compensations."""
    refused = []

    @worker.on_event("e")
    async def handle(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, "p")
        arguments = {**ENDS, "deadline": (5,), "compensate": ("undo", FACTS)}[late]
        try:
            await getattr(state, late)(*arguments)
        except PlanEnded as error:
            refused.append(error.plan_status)
        await state.set("went on", True)

    await end_it(soorma_platform.state("p"), end)
    await soorma_platform.run(worker)
    await soorma_platform.publish("e", FACTS)
    await soorma_platform.settle()
    assert refused == ([] if (end, late) == ("fail", "compensate") else [STATUS[end]])
    assert await soorma_platform.state("p").get("went on") is True


@pytest.mark.behaviour("plans.if-active", "transactions.conflict")
async def test_an_end_in_a_transaction_outside_handlers(soorma_platform: LocalPlatform) -> None:
    state, runs = soorma_platform.state("p"), []
    await state.set("k", 1)

    async def end(tx: Any) -> bool:
        ended = await tx.cancel(if_active=True)
        if not runs:
            await state.complete()
        runs.append(ended)
        await tx.set("k", 2)
        return bool(ended)

    assert await state.transact(end) is False
    assert (runs, await state.get("k")) == ([True, False], 2)


# events of plans that have ended


@pytest.mark.behaviour("plans.late-events")
@every_end
async def test_an_event_of_a_plan_that_has_ended_is_dropped_unless_it_is_wanted(
    soorma_platform: LocalPlatform, worker: Worker, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen, other = [], Worker("other")

    async def handle(event: Any, context: HandlerContext) -> None:
        seen.append((event.type, event.data))
        await WorkflowState(context.memory, event.plan_id).set("late", True)

    worker.on_event("late")(handle)
    worker.on_event(f"plan.{STATUS[end]}")(handle)
    other.on_event("*", topic="task-events", ended_plans=True)(handle)
    await soorma_platform.run(worker)
    await end_it(soorma_platform.state("p"), end)
    with caplog.at_level(logging.INFO):
        await soorma_platform.publish("late", FACTS, 1, plan_id="p")
        await soorma_platform.publish("late", FACTS, 2, plan_id="q")
        await soorma_platform.settle()
    assert [kind for kind, _ in seen] == [f"plan.{STATUS[end]}", "late"]
    assert seen[-1] == ("late", 2)
    assert "event dropped, its plan has ended" in caplog.text
    assert (soorma_platform.waiting(), await soorma_platform.dead_letters()) == ([], [])
    await soorma_platform.run(other)
    await soorma_platform.publish("wanted", "task-events", 3, plan_id="p")
    await soorma_platform.settle()
    assert seen[-1] == ("wanted", 3)


@pytest.mark.behaviour("plans.late-events")
async def test_what_a_plans_end_leads_to_is_handled(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    """No event of a chain that begins with the end of the plan is late."""
    seen, other = [], Worker("other")

    @worker.on_event("last")
    async def last(event: Any, context: HandlerContext) -> None:
        await context.bus.publish("report.ready", FACTS)
        await context.bus.publish("feedback.due", FACTS, delay=60)
        await WorkflowState(context.memory, event.plan_id).complete()

    @worker.on_event("plan.completed")
    async def completed(event: Any, context: HandlerContext) -> None:
        await context.bus.publish("mail.wanted", FACTS)

    @other.on_event("*", topic=FACTS)
    async def handle(event: Any, context: HandlerContext) -> None:
        seen.append(event.type)
        if event.type == "mail.wanted":
            answer = await context.bus.request("address", response_event="address.told", timeout=5)
            seen.append(answer.data)

    @worker.on_event("address", topic="action-requests")
    async def address(event: Any, context: HandlerContext) -> None:
        await context.bus.respond(event, "ann@example.org")

    await soorma_platform.run(worker, other)
    await soorma_platform.publish("last", FACTS, plan_id="p")
    await soorma_platform.advance(120)
    assert sorted(seen) == sorted(
        ["last", "report.ready", "mail.wanted", "ann@example.org", "feedback.due"]
    )
    assert await soorma_platform.dead_letters() == []


@pytest.mark.behaviour("plans.late-events")
async def test_who_completes_a_plan_is_through_with_it(soorma_platform: LocalPlatform) -> None:
    """The first offer wins.

    Another agent that looks at all offers misses none, however slow it is.
    """
    chooser, auditor = Worker("chooser"), Worker("auditor")
    chosen, audited, go = [], [], asyncio.Event()

    @chooser.on_event("offer")
    async def choose(event: Any, context: HandlerContext) -> None:
        chosen.append(event.data)
        await WorkflowState(context.memory, event.plan_id).complete(event.data)

    @auditor.on_event("offer")
    async def audit(event: Any, context: HandlerContext) -> None:
        await go.wait()
        audited.append(event.data)

    @chooser.on_event("plan.completed")
    async def completed(event: Any, context: HandlerContext) -> None:
        go.set()

    await soorma_platform.run(chooser, auditor)
    offers = [
        {"event_type": "offer", "topic": FACTS, "data": number, "plan_id": "p"}
        for number in range(3)
    ]
    await soorma_platform.context.bus.publish_many(offers)
    await soorma_platform.settle()
    assert (chosen, audited) == ([0], [0, 1, 2])
    assert await soorma_platform.dead_letters() == []


# giving up


@pytest.mark.behaviour("plans.fail-and-give-up")
async def test_a_handler_gives_up_and_fails_its_plan(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    seen = []

    @worker.on_event("book")
    async def book(event: Any, context: HandlerContext) -> None:
        seen.append(event.data)
        state = WorkflowState(context.memory, event.plan_id)
        await state.set(event.data, "booked")
        if event.data == "hotel":
            raise Reject(ValueError("no room"), fail_plan=True)
        await state.compensate("unbook", "action-requests", event.data)

    @worker.on_event("unbook")
    async def unbook(event: Any, context: HandlerContext) -> None:
        seen.append(f"not {event.data}")

    await soorma_platform.run(worker)
    for what in ("flight", "hotel", "car"):
        await soorma_platform.publish("book", FACTS, what, plan_id="trip")
    await soorma_platform.settle()
    assert seen == ["flight", "hotel", "not flight"], (
        "nobody books a car for a trip that has failed"
    )
    info = await soorma_platform.state("trip").info()
    assert (info.status, info.reason) == ("failed", "ValueError: no room")
    assert await soorma_platform.state("trip").keys() == ["flight"], (
        "nothing of the attempt is kept"
    )
    (letter,) = await soorma_platform.dead_letters()
    assert (letter.reason, letter.attempts) == ("ValueError: no room", 1)
    (told,) = soorma_platform.published("plan.failed")
    assert (told.plan_id, told.source, told.correlation_id) == (
        "trip",
        "worker",
        letter_of(soorma_platform),
    )


def letter_of(platform: LocalPlatform) -> Any:
    """Returns the correlation id of the dead letter's event."""
    return platform.published("event.dead_lettered")[0].correlation_id


@pytest.mark.behaviour("plans.fail-and-give-up")
@pytest.mark.parametrize("plan", [None, "ended"])
async def test_without_a_plan_to_fail_the_event_is_given_up(
    soorma_platform: LocalPlatform, worker: Worker, plan: str | None
) -> None:
    @worker.on_event("e", ended_plans=True)
    async def handle(event: Any, context: HandlerContext) -> None:
        raise Reject("no", fail_plan=True)

    await soorma_platform.state("ended").complete()
    await soorma_platform.run(worker)
    await soorma_platform.publish("e", FACTS, plan_id=plan)
    await soorma_platform.settle()
    (letter,) = await soorma_platform.dead_letters()
    assert letter.reason == (
        "no" if plan else "no (fail_plan=True: the event belongs to no plan that could fail)"
    )
    assert soorma_platform.published("plan.failed") == []
