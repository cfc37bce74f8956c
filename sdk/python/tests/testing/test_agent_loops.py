"""Loops of an agent with models and other agents: requests, checks, waiting, mistakes."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from soorma import Defer, HandlerContext, Reject, Retry, RetryPolicy, Worker, WorkflowState
from soorma.errors import DeadLettered, Forbidden, ReentrantRequest, TimedOut
from soorma.testing import LocalPlatform

FACTS = "business-facts"
ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def worker() -> Worker:
    return Worker("worker", retry=RetryPolicy(max_attempts=3, first_delay=0))


@pytest.fixture
def responder() -> Worker:
    """An agent that responds to `ask` with its data and the number of requests so far."""
    other, asked = Worker("responder"), []

    @other.on_event("ask", topic="action-requests")
    async def answer(event: Any, context: HandlerContext) -> None:
        asked.append(event.data)
        await context.bus.respond(event, [event.data, len(asked)])

    return other


# requests


@pytest.mark.behaviour("requests.after-changes")
async def test_a_request_goes_out_at_once_though_changes_are_not_committed(
    soorma_platform: LocalPlatform, worker: Worker, responder: Worker
) -> None:
    seen = []

    @worker.on_event("loop")
    async def loop(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        for turn in range(3):
            answer = await context.bus.request("ask", turn, response_event="answered", timeout=5)
            await state.append("answers", answer.data)
            await context.bus.publish("said", FACTS, turn)
            seen.append(
                (
                    await soorma_platform.state("p").get("answers"),
                    len(soorma_platform.published("said")),
                )
            )

    await soorma_platform.run(worker, responder)
    await soorma_platform.publish("loop", FACTS, plan_id="p")
    await soorma_platform.settle()
    assert seen == [(None, 0)] * 3, "nothing is visible before the commit"
    assert await soorma_platform.state("p").get("answers") == [[0, 1], [1, 2], [2, 3]]
    assert len(soorma_platform.published("said")) == 3


@pytest.mark.behaviour("requests.same-answer-for-a-later-attempt")
@pytest.mark.parametrize("order", [1, -1], ids=["in the same order", "in another order"])
async def test_a_later_attempt_gets_the_same_responses(
    soorma_platform: LocalPlatform, worker: Worker, responder: Worker, order: int
) -> None:
    """They are the same for requests side by side, in any order.

    The same request, made twice, has two responses.
    """
    seen: list[list[Any]] = []

    @worker.on_event("go")
    async def handle(event: Any, context: HandlerContext) -> None:
        questions = ["a", "b", "c", "a"][:: order if context.attempt > 1 else 1]
        calls = [
            context.bus.request("ask", one, response_event="answered", timeout=5)
            for one in questions
        ]
        seen.append(sorted(answer.data for answer in await asyncio.gather(*calls)))

        if context.attempt < 3:
            raise ValueError("not yet")

    await soorma_platform.run(worker, responder)
    await soorma_platform.publish("go", FACTS, plan_id="p")
    await soorma_platform.settle()
    await soorma_platform.advance(10)
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    assert len(soorma_platform.published("ask")) == 4


@pytest.mark.behaviour("requests.same-answer-for-a-later-attempt")
async def test_a_response_is_recorded_beyond_the_log(
    soorma_platform: LocalPlatform, worker: Worker, responder: Worker
) -> None:
    """A later attempt gets it without a request, and with nobody there to respond."""
    seen = []

    @worker.on_event("go")
    async def handle(event: Any, context: HandlerContext) -> None:
        answer = await context.bus.request("ask", "x", response_event="answered", timeout=5)
        seen.append((answer.id, answer.type, answer.data, answer.source))
        if context.attempt == 1:
            raise Retry("not yet", after=86_400 * 20)

    await soorma_platform.run(worker, responder)
    await soorma_platform.publish("go", FACTS, plan_id="p")
    await soorma_platform.settle()
    await soorma_platform.stop(responder)
    calls = soorma_platform.published("answered")
    await soorma_platform.advance(86_400 * 20)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert seen[0][1:] == ("answered", ["x", 1], "responder")
    assert soorma_platform.published("answered") == calls


@pytest.mark.behaviour("requests.same-answer-for-a-later-attempt")
async def test_a_crash_at_any_await_asks_once(
    soorma_platform: LocalPlatform, worker: Worker, responder: Worker
) -> None:
    @worker.on_event("go")
    async def handle(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        await state.increment("runs")
        answer = await context.bus.request("ask", "x", response_event="answered", timeout=5)
        await state.set("answer", answer.data)

    await soorma_platform.run(worker, responder)
    for await_, plan in enumerate(["p1", "p2", "p3", "p4"]):
        soorma_platform.crash(worker, at_await=await_ + 1, restart=True)
        await soorma_platform.publish("go", FACTS, plan_id=plan)
        await soorma_platform.settle()
        await soorma_platform.advance(40)
        state = soorma_platform.state(plan)
        assert (await state.get("runs"), (await state.get("answer"))[0]) == (1, "x")
        assert len([one for one in soorma_platform.published("ask") if one.plan_id == plan]) == 1


@pytest.mark.behaviour("requests.reentrant")
@pytest.mark.parametrize("how", ["itself", "through another", "only place", "from a step"])
async def test_a_request_that_would_wait_for_itself_is_refused_at_once(
    soorma_platform: LocalPlatform, how: str
) -> None:
    a = Worker("a", max_concurrency=1 if how == "only place" else 32, retry=ONCE)
    b, raised = Worker("b"), []

    async def ask(context: HandlerContext) -> None:
        try:
            await context.bus.request("price", response_event="price.told", timeout=60)
        except (ReentrantRequest, DeadLettered) as error:
            raised.append(error)
            raise

    @a.on_event("go", ordered=how != "only place")
    async def go(event: Any, context: HandlerContext) -> None:
        await (context.step("ask", ask, context) if how == "from a step" else ask(context))

    async def price(event: Any, context: HandlerContext) -> None:
        if how == "through another":
            await context.bus.request("stock", response_event="stock.told", timeout=60)
        await context.bus.respond(event, 5)

    (b if how == "through another" else a).on_event("price")(price)

    @a.on_event("stock")
    async def stock(event: Any, context: HandlerContext) -> None:
        raise AssertionError("nobody gets here")

    await soorma_platform.run(a, *([b] if how == "through another" else []))
    async with asyncio.timeout(20):
        await soorma_platform.publish("go", FACTS, plan_id=None if how == "only place" else "p")
        await soorma_platform.settle()
    (error,) = raised
    assert isinstance(error, DeadLettered if how == "through another" else ReentrantRequest)
    assert "'a' takes it, but waits for it itself, in its handler of 'go'" in str(error)
    letters = await soorma_platform.dead_letters()
    assert len(letters) == (2 if how == "through another" else 1)
    assert soorma_platform.published("price") == [] or how == "through another"


@pytest.mark.behaviour("requests.reentrant")
async def test_a_request_that_another_can_respond_to_is_not_refused(
    soorma_platform: LocalPlatform, worker: Worker, responder: Worker
) -> None:
    answers = []

    @worker.on_event("go")
    async def go(event: Any, context: HandlerContext) -> None:
        answers.append(
            (await context.bus.request("ask", 1, response_event="answered", timeout=5)).data
        )
        answers.append(
            (
                await context.bus.request(
                    "own", 1, response_event="answered", timeout=5, plan_id="q"
                )
            ).data
        )
        answers.append(
            (await context.bus.request("beside", 1, response_event="answered", timeout=5)).data
        )

    async def own(event: Any, context: HandlerContext) -> None:
        await context.bus.respond(event, event.type)

    worker.on_event("ask", topic="action-requests")(lambda event, context: None)
    worker.on_event("own")(own)
    worker.on_event("beside", ordered=False)(own)
    await soorma_platform.run(worker, responder)
    await soorma_platform.publish("go", FACTS, plan_id="p")
    await soorma_platform.settle()
    assert answers == [[1, 1], "own", "beside"]


@pytest.mark.behaviour("requests.timed-out")
async def test_a_request_that_times_out_in_a_handler_says_what_it_keeps(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    told = []

    @worker.on_event("go")
    async def go(event: Any, context: HandlerContext) -> None:
        with pytest.raises(TimedOut) as error:
            await context.bus.request("nobody", response_event="told", timeout=0.05)
        told.append(str(error.value))

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", FACTS, plan_id="p")
    await soorma_platform.settle()
    assert "no 'told' came within 0.05 s in response to 'nobody'" in told[0]
    assert "'worker' handles no other event of its plan" in told[0]


# mistakes


@pytest.mark.behaviour("retries.hopeless")
@pytest.mark.parametrize(
    "mistake", ["topic", "key", "ttl", "reason", "step", "side by side", "after"]
)
async def test_what_no_attempt_can_repair_is_given_up_at_once(
    soorma_platform: LocalPlatform, worker: Worker, mistake: str
) -> None:
    attempts = []

    @worker.on_event("go")
    async def go(event: Any, context: HandlerContext) -> None:
        attempts.append(context.attempt)
        state = WorkflowState(context.memory, "p")
        await {
            "topic": lambda: context.bus.publish("e", "no-topic"),
            "key": lambda: state.set("", 1),
            "ttl": lambda: state.set("k", 1, ttl=-1),
            "reason": lambda: state.fail(ValueError()),  # type: ignore[arg-type]
            "step": lambda: context.step("s", lambda: 1, timeout=-1),
            "side by side": lambda: in_a_group(state.set("", 1), state.set("k", 1)),
            "after": lambda: retry_with("soon"),
        }[mistake]()

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", FACTS, plan_id="p")
    await soorma_platform.advance(60)
    assert attempts == [1]
    (letter,) = await soorma_platform.dead_letters()
    assert "Invalid" in letter.reason


async def in_a_group(*calls: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call)


async def retry_with(after: str) -> None:
    raise Retry("429", after=after)


@pytest.mark.behaviour("retries.hopeless")
async def test_what_another_attempt_may_find_otherwise_is_tried_again(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    """A value that does not fit: the next attempt may make, or find, another."""
    attempts = []

    @worker.on_event("go")
    async def go(event: Any, context: HandlerContext) -> None:
        attempts.append(context.attempt)
        state = WorkflowState(context.memory, "p")
        if event.data == "read":
            await state.get("k", type=int)
        elif event.data == "increment":
            await state.increment("k")
        else:
            await state.set("n", float("nan") if context.attempt < 3 else 1)

    await soorma_platform.state("p").set("k", "text")
    await soorma_platform.run(worker)
    for how in ("read", "increment", "write"):
        attempts.clear()
        await soorma_platform.publish("go", FACTS, how)
        await soorma_platform.advance(60)
        assert attempts == [1, 2, 3]
    assert await soorma_platform.state("p").get("n") == 1


@pytest.mark.behaviour("handlers.raised-side-by-side")
async def test_a_task_beside_others_gives_the_event_up(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    attempts = []

    async def give_up() -> None:
        raise Reject("no use")

    @worker.on_event("go")
    async def go(event: Any, context: HandlerContext) -> None:
        attempts.append(context.attempt)
        await in_a_group(give_up(), asyncio.Event().wait())

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", FACTS)
    await soorma_platform.advance(60)
    assert attempts == [1]
    assert [letter.reason for letter in await soorma_platform.dead_letters()] == ["no use"]


# checks


class Refused(Exception):
    pass


@pytest.mark.behaviour("steps.checked")
@pytest.mark.parametrize(
    "retry", [None, RetryPolicy(max_attempts=5, first_delay=0)], ids=["once", "with tries"]
)
@pytest.mark.parametrize("check", ["raises", "says no", "async", "json.loads"])
async def test_a_result_that_its_check_refuses_is_not_recorded(
    soorma_platform: LocalPlatform, worker: Worker, check: str, retry: RetryPolicy | None
) -> None:
    answers, calls = ["not json", "nor this", "[]"], []

    async def model() -> str:
        calls.append(1)
        return answers[len(calls) - 1]

    def raises(answer: str) -> None:
        if answer != "[]":
            raise Refused

    async def later(answer: str) -> bool:
        await asyncio.sleep(0)
        return answer == "[]"

    checks: dict[str, Any] = {
        "raises": raises, "says no": lambda answer: answer == "[]", "async": later,
        "json.loads": json.loads,
    }  # fmt: skip

    @worker.on_event("think")
    async def think(event: Any, context: HandlerContext) -> None:
        answer = await context.step("model", model, check=checks[check], retry=retry)
        state = WorkflowState(context.memory, "p")
        await state.set("answer", json.loads(answer))
        await state.set("attempt", context.attempt)

    await soorma_platform.run(worker)
    await soorma_platform.publish("think", FACTS, plan_id="p")
    await soorma_platform.advance(60)
    assert await soorma_platform.state("p").get("answer") == []
    assert await soorma_platform.state("p").get("attempt") == (3 if retry is None else 1)
    assert len(calls) == 3


@pytest.mark.behaviour("steps.checked")
async def test_a_recorded_result_is_not_checked_again(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    checked: list[Any] = []

    @worker.on_event("think")
    async def think(event: Any, context: HandlerContext) -> None:
        await context.step("model", lambda: {"n": 1}, check=checked.append)
        if context.attempt == 1:
            raise ValueError("again")

    await soorma_platform.run(worker)
    await soorma_platform.publish("think", FACTS)
    await soorma_platform.advance(60)
    assert checked == [{"n": 1}], "what the function returned"


@pytest.mark.behaviour("steps.checked")
async def test_a_check_that_is_no_function_is_refused(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    @worker.on_event("think")
    async def think(event: Any, context: HandlerContext) -> None:
        await context.step("model", lambda: 1, check=True)  # type: ignore[arg-type]

    await soorma_platform.run(worker)
    await soorma_platform.publish("think", FACTS)
    await soorma_platform.settle()
    assert "check of step 'model' is a function" in (await soorma_platform.dead_letters())[0].reason


# waiting


@pytest.mark.behaviour("retries.defer")
async def test_putting_off_costs_no_attempt(soorma_platform: LocalPlatform, worker: Worker) -> None:
    seen, charged = [], []

    @worker.on_event("call")
    async def call(event: Any, context: HandlerContext) -> None:
        await context.step("charge", lambda: charged.append(1))
        await WorkflowState(context.memory, "p").increment("runs")
        seen.append((event.data, context.attempt))
        if len(seen) < 20:
            raise Defer("429", after=timedelta(seconds=60))

    await soorma_platform.run(worker)
    await soorma_platform.publish("call", FACTS, 1, plan_id="p")
    await soorma_platform.publish("call", FACTS, 2, plan_id="p")
    await soorma_platform.settle()
    (waiting, behind) = soorma_platform.waiting()
    assert (waiting.reason, waiting.failed, behind.reason) == ("retry", "429", "turn")
    assert waiting.due == pytest.approx(
        soorma_platform.now + timedelta(seconds=60), abs=timedelta(seconds=1)
    )
    await soorma_platform.advance(60 * 25)
    assert seen == [(1, 1)] * 20 + [(2, 1)]
    assert await soorma_platform.state("p").get("runs") == 2
    assert len(charged) == 2, "its recorded steps stay"
    assert await soorma_platform.dead_letters() == []


@pytest.mark.behaviour("retries.defer")
async def test_failures_count_beside_deferrals(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    attempts = []

    @worker.on_event("call")
    async def call(event: Any, context: HandlerContext) -> None:
        attempts.append(context.attempt)
        raise Defer(after=1) if len(attempts) % 2 else ValueError("no")

    await soorma_platform.run(worker)
    await soorma_platform.publish("call", FACTS)
    await soorma_platform.advance(60)
    assert attempts == [1, 1, 2, 2, 3, 3]
    assert len(await soorma_platform.dead_letters()) == 1


@pytest.mark.behaviour("retries.after-forms")
@pytest.mark.parametrize(
    "after", ["30", timedelta(seconds=30), 30], ids=["text", "timedelta", "number"]
)
async def test_a_retry_takes_what_a_header_says(
    soorma_platform: LocalPlatform, worker: Worker, after: Any
) -> None:
    began = []

    @worker.on_event("call")
    async def call(event: Any, context: HandlerContext) -> None:
        began.append(soorma_platform.now)
        if len(began) == 1:
            raise Retry("429", after=after)

    await soorma_platform.run(worker)
    await soorma_platform.publish("call", FACTS)
    await soorma_platform.advance(31)
    assert began[1] - began[0] == pytest.approx(timedelta(seconds=30), abs=timedelta(seconds=1))


# confinement


@pytest.mark.behaviour("tenants.immediate")
async def test_what_is_written_through_is_confined_too(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    refused, allowed = [], []

    @worker.on_event("go")
    async def go(event: Any, context: HandlerContext) -> None:
        now, theirs = context.immediate, {"tenant_id": "victim", "user_id": "v"}
        for whose in (theirs, {"tenant_id": "victim"}, {"user_id": "v"}):
            for call in (
                lambda whose=whose: state_of(now, whose).set("x", 1),
                lambda whose=whose: now.memory.set_plan_state("kb", "x", 1, **whose),
                lambda whose=whose: now.memory.get_plan_state("kb", "x", **whose),
                lambda whose=whose: now.memory.get_plan_states("kb", ["x"], **whose),
                lambda whose=whose: now.memory.get_committed("kb", "x", **whose),
                lambda whose=whose: now.memory.get_plan("kb", **whose),
                lambda whose=whose: now.memory.list_keys("kb", **whose),
                lambda whose=whose: now.memory.get_actions("kb", **whose),
                lambda whose=whose: now.memory.get_history("kb", **whose),
                lambda whose=whose: now.memory.get_revision("kb", **whose),
                lambda whose=whose: now.memory.get_values_at("kb", 1, **whose),
                lambda whose=whose: now.memory.delete_plan_state("kb", "x", **whose),
                lambda whose=whose: now.memory.cleanup_plan("kb", **whose),
                lambda whose=whose: now.memory.cancel_plan("kb", "", *both(event, whose)),
                lambda whose=whose: first(now.memory.list_plans(**whose)),
                lambda whose=whose: first(now.memory.watch_plan("kb", **whose)),
                lambda whose=whose: now.bus.publish("a.b", FACTS, **whose),
                lambda whose=whose: now.bus.publish("a.b", FACTS, delay=1, **whose),
                lambda whose=whose: now.bus.publish_many(
                    [
                        {"event_type": "a", "topic": FACTS},
                        {"event_type": "a", "topic": FACTS, **whose},
                    ]
                ),
                lambda whose=whose: now.bus.request("a.b", response_event="c", timeout=1, **whose),
                lambda whose=whose: now.bus.cancel("some", **whose),
                lambda whose=whose: within(now, whose),
            ):
                with pytest.raises(Forbidden, match=r"context\.immediate"):
                    await call()
                refused.append(call)
        await WorkflowState(now.memory, "kb").set("x", 1)
        await WorkflowState(now.memory, "kb", event.tenant_id, event.user_id).set("y", 1)
        await now.bus.publish("a.b", FACTS, tenant_id=event.tenant_id, user_id=event.user_id)
        allowed.append(await now.registry.find())

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", FACTS, tenant_id="acme", user_id="ann")
    await soorma_platform.settle()
    assert await soorma_platform.dead_letters() == []
    assert (len(refused), len(allowed)) == (66, 1)
    assert await soorma_platform.state("kb", tenant_id="acme", user_id="ann").keys() == ["x", "y"]
    assert await soorma_platform.state("kb", tenant_id="victim", user_id="v").keys() == []
    assert [event.tenant_id for event in soorma_platform.published("a.b")] == ["acme"]


def state_of(context: Any, whose: dict[str, str]) -> WorkflowState:
    state = WorkflowState(context.memory, "kb")
    for name, value in whose.items():
        setattr(state, name, value)
    return state


def both(event: Any, whose: dict[str, str]) -> tuple[str, str]:
    return whose.get("tenant_id", event.tenant_id), whose.get("user_id", event.user_id)


async def first(stream: Any) -> Any:
    async for one in stream:
        return one
    return None


async def within(context: Any, whose: dict[str, str]) -> None:
    async with state_of(context, whose).transaction() as tx:
        await tx.set("x", 1)
