"""Steps: an effect whose result was recorded is not done again, whoever takes the event over."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest
from platform_process import PlatformProcess
from running import AT_ONCE, Seen, another, config_of, context_of, eventually, unique

from soorma import Agent, HandlerContext, PlatformContext, RetryPolicy, WorkflowState
from soorma.errors import HandlerEnded, InvalidValue, LimitExceeded


@pytest.fixture
def retry() -> RetryPolicy:
    return AT_ONCE


@pytest.mark.behaviour("steps.recorded")
async def test_a_later_attempt_gets_the_recorded_result(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    calls, results = Seen(), Seen()

    async def pay(amount: int) -> dict[str, int]:
        calls.append(amount)
        return {"receipt": 100 + len(calls)}

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        first = await handler.step("pay", pay, 1)
        second = await handler.step("pay", pay, 2)
        await WorkflowState(handler.memory, "plan").set("receipts", [first, second])
        if handler.attempt < 3:
            raise ValueError("after the effect")
        results.append((first, second))

    async with agent:
        await context.bus.publish("a", "business-facts")
        await results.until(1)
    assert calls == [1, 2], "each effect once, in three attempts"
    assert results == [({"receipt": 101}, {"receipt": 102})]
    assert await state.get("receipts") == [{"receipt": 101}, {"receipt": 102}]


@pytest.mark.behaviour("steps.recorded")
async def test_another_replica_goes_on_from_the_recorded_step(context: PlatformContext, agent: Agent) -> None:
    """The first dies after its step, as a killed process does: nothing is said, the socket closes."""
    calls, ended, stuck = Seen(), Seen(), asyncio.Event()
    twin = another(agent, agent.name)

    def program(replica: Agent, name: str) -> None:
        @replica.on_event("a")
        async def handle(event: Any, handler: HandlerContext) -> None:
            done = await handler.step("model", lambda: calls.append(name) or name)
            if name == "first":
                stuck.set()
                await asyncio.Event().wait()
            ended.append((name, done, handler.attempt))

    program(agent, "first")
    program(twin, "second")
    await agent.start()
    await context.bus.publish("a", "business-facts")
    await stuck.wait()
    await twin.start()
    agent._drain_timeout = 0
    await agent.stop()
    await ended.until(1)
    await twin.stop()
    assert (calls, ended) == (["first"], [("second", "first", 1)]), "given back untried, with its step"


@pytest.mark.behaviour("steps.kept-on-conflict")
async def test_a_conflict_runs_the_handler_again_and_no_step(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    calls, runs = Seen(), Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")
        n = await inside.get("n", 0)
        runs.append(n)
        answer = await handler.step("model", lambda: calls.append("model") or 42)
        if len(runs) == 1:
            await state.set("n", 5)
        await inside.set("n", n + answer)

    async with agent:
        await context.bus.publish("a", "business-facts", plan_id="plan")
        await eventually(lambda: _is(state, "n", 47))
    assert (runs, calls) == ([0, 5], ["model"])


async def _is(state: WorkflowState, key: str, value: Any) -> bool:
    return bool(await state.get(key) == value)


class Quote(pydantic.BaseModel):
    price: float


@dataclass
class Order:
    item: str
    count: int


class Invoice(msgspec.Struct):
    total: int


async def make_quote() -> Quote:
    return Quote(price=2.5)


def make_order() -> Order:
    return Order("tea", 3)


async def make_invoice() -> Invoice:
    return Invoice(7)


@pytest.mark.behaviour("steps.types")
async def test_results_come_back_as_what_they_were(context: PlatformContext, agent: Agent) -> None:
    seen = Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        found = (
            await handler.step("quote", make_quote),
            await handler.step("order", make_order),
            await handler.step("invoice", make_invoice),
            await handler.step("plain", lambda: {"a": [1, None]}),
            await handler.step("typed", lambda: {"item": "milk", "count": 1}, type=Order),
            await handler.step("nothing", lambda: None),
        )
        if handler.attempt == 1:
            raise ValueError("again")
        seen.append(found)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await seen.until(1)
    assert seen == [(Quote(price=2.5), Order("tea", 3), Invoice(7), {"a": [1, None]}, Order("milk", 1), None)]


@pytest.mark.behaviour("steps.side-by-side")
async def test_steps_side_by_side(context: PlatformContext, agent: Agent) -> None:
    calls, seen = Seen(), Seen()
    together = asyncio.Barrier(3)

    async def fetch(what: str) -> str:
        await together.wait()
        calls.append(what)
        return what.upper()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        found = await asyncio.gather(*(handler.step("fetch", fetch, what) for what in "abc"))
        if handler.attempt == 1:
            raise ValueError("again")
        seen.append(found)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await seen.until(1)
    assert seen == [["A", "B", "C"]]
    assert sorted(calls) == ["a", "b", "c"]


@pytest.mark.behaviour("steps.retry-and-timeout")
async def test_a_step_is_tried_again_by_its_own_policy(context: PlatformContext, agent: Agent) -> None:
    tries, seen = Seen(), Seen()

    async def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return len(tries)

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        quick = RetryPolicy(max_attempts=3, first_delay=0.001)
        seen.append((handler.attempt, await handler.step("flaky", flaky, retry=quick)))

    async with agent:
        await context.bus.publish("a", "business-facts")
        await seen.until(1)
    assert seen == [(1, 3)], "one attempt of the event"


@pytest.mark.behaviour("steps.retry-and-timeout")
async def test_a_try_that_takes_too_long_fails(context: PlatformContext, agent: Agent) -> None:
    seen = Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        try:
            await handler.step("slow", asyncio.Event().wait, timeout=0.01)
        except TimeoutError:
            seen.append(handler.attempt)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await seen.until(1)
    assert seen == [1]


@pytest.mark.behaviour("steps.plain-functions")
async def test_a_plain_handler_takes_steps_too(context: PlatformContext, agent: Agent) -> None:
    calls, seen = Seen(), Seen()

    @agent.on_event("a")
    def handle(event: Any, handler: HandlerContext) -> None:
        threads = {threading.current_thread().name}
        answer = handler.run(handler.step("block", lambda: calls.append(1) or threading.current_thread().name))
        if handler.attempt == 1:
            raise ValueError("again")
        seen.append(answer not in threads)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await seen.until(1)
    assert (calls, seen) == ([1], [True])


@pytest.mark.behaviour("steps.limits")
async def test_what_cannot_be_recorded_fails_the_attempt(context: PlatformContext, agent: Agent) -> None:
    refused = Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        for result in (object(), float("nan"), "x" * (1024 * 1024)):
            try:
                await handler.step(f"of {type(result).__name__}", lambda result=result: result)
            except (InvalidValue, LimitExceeded) as error:
                refused.append(type(error))

    async with agent:
        await context.bus.publish("a", "business-facts")
        await refused.until(3)
    assert refused == [InvalidValue, InvalidValue, LimitExceeded]


@pytest.mark.behaviour("handlers.ended")
async def test_no_step_after_the_handler(context: PlatformContext, agent: Agent) -> None:
    left: list[HandlerContext] = []
    called = Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        left.append(handler)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await eventually(lambda: _there(left))
        await eventually(lambda: _refused(left[0], called))
    assert called == []


async def _there(left: list[HandlerContext]) -> bool:
    return bool(left)


async def _refused(handler: HandlerContext, called: Seen) -> bool:
    try:
        await handler.step("late", lambda: called.append(1))
    except HandlerEnded:
        return True
    return False


@pytest.mark.behaviour("steps.survive")
async def test_a_step_is_there_after_the_platform_was_killed(platform: PlatformProcess, tmp_path: Any) -> None:

    calls, seen = Seen(), Seen()
    agent = Agent(unique("agent"), config=config_of(platform), retry=AT_ONCE)

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        answer = await handler.step("model", lambda: calls.append(1) or 42)
        if len(calls) == 1 and handler.attempt == 1 and not seen:
            seen.append("killed")
            await asyncio.to_thread(platform.restart)
            raise ValueError("again")
        seen.append(answer)

    async with agent, context_of(platform) as context:
        await context.bus.publish("a", "business-facts")
        await seen.until(2)
    assert (calls, seen) == ([1], ["killed", 42])
