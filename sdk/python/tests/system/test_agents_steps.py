"""Steps: an effect whose result is recorded is not repeated, whoever takes over the event."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pydantic
import pytest
from platform_process import PlatformProcess
from running import AT_ONCE, Seen, another, config_of, context_of, eventually, platform_in, unique

from soorma import Agent, HandlerContext, PlatformContext, Reject, Retry, RetryPolicy, WorkflowState
from soorma.errors import Conflict, Fenced, HandlerEnded, InvalidRequest, KeyMissing, Unavailable
from soorma.runtime.steps import StepResults


@pytest.fixture
def retry() -> RetryPolicy:
    return AT_ONCE


def gather(into: list[Any]) -> Callable[[Any, HandlerContext], Awaitable[None]]:
    """A handler that keeps its events."""

    async def handle(event: Any, handler: HandlerContext) -> None:
        into.append(event)

    return handle


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
async def test_another_replica_goes_on_from_the_recorded_step(
    context: PlatformContext, agent: Agent
) -> None:
    """The first dies after its step, as if killed: it sends nothing, and its socket closes."""
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
    assert (calls, ended) == (["first"], [("second", "first", 1)]), (
        "given back untried, with its step"
    )


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


class Maker:
    async def __call__(self) -> Order:
        return Order("oil", 1)


async def make_list() -> list[Quote]:
    return [Quote(price=1)]


async def make_perhaps(price: float) -> Quote | None:
    return Quote(price=price) if price else None


def make_pair() -> tuple[int, Order]:
    return 1, Order("salt", 2)


def make_by_name() -> dict[str, Order]:
    return {"tea": Order("tea", 3)}


def make_later() -> Awaitable[Order]:
    return Maker()()


def make_iterable() -> Iterable[int]:
    return [1, 2]


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
    assert seen == [
        (Quote(price=2.5), Order("tea", 3), Invoice(7), {"a": [1, None]}, Order("milk", 1), None)
    ]


@pytest.mark.behaviour("steps.types")
async def test_what_a_function_declares_is_what_each_attempt_gets(
    context: PlatformContext, agent: Agent
) -> None:
    seen = Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        found = (
            await handler.step("list", make_list),
            await handler.step("some", make_perhaps, 2),
            await handler.step("none", make_perhaps, 0),
            await handler.step("pair", make_pair),
            await handler.step("names", make_by_name),
            await handler.step("later", make_later),
            await handler.step("object", Maker()),
            await handler.step("method", Maker().__call__),
            await handler.step("partial", partial(partial(make_perhaps), price=3)),
            await handler.step("class", Order, "rye", 4),
            await handler.step("iterable", make_iterable),
            await handler.step("undeclared", lambda: (1, 2)),
        )
        seen.append(found)
        if handler.attempt == 1:
            raise ValueError("again")

    async with agent:
        await context.bus.publish("a", "business-facts")
        await seen.until(2)
    first, second = seen
    assert first == second
    assert list(map(type, first)) == list(map(type, second))
    assert first == (
        [Quote(price=1)],
        Quote(price=2),
        None,
        (1, Order("salt", 2)),
        {"tea": Order("tea", 3)},
        *[Order("oil", 1)] * 3,
        Quote(price=3),
        Order("rye", 4),
        *[[1, 2]] * 2,
    )


@pytest.mark.behaviour("steps.types")
async def test_what_is_not_as_declared_is_done_again_and_told(
    context: PlatformContext, agent: Agent
) -> None:
    calls, letters = Seen(), Seen()

    async def lies() -> list[Order]:
        calls.append(1)
        return {"nothing": "of that"}  # type: ignore[return-value]

    @agent.on_event("a", retry=RetryPolicy(max_attempts=2, first_delay=0))
    async def handle(event: Any, handler: HandlerContext) -> None:
        await handler.step("lies", lies)

    agent.on_event("event.dead_lettered")(gather(letters))
    async with agent:
        await context.bus.publish("a", "business-facts")
        await letters.until(1)
    assert calls == [1, 1]
    assert (
        "the result of step 'lies': it is not what its function declares to return"
        in letters[0].data["reason"]
    )


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
async def test_a_step_is_tried_again_by_its_own_policy(
    context: PlatformContext, agent: Agent
) -> None:
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
        answer = handler.run(
            handler.step("block", lambda: calls.append(1) or threading.current_thread().name)
        )
        if handler.attempt == 1:
            raise ValueError("again")
        seen.append(answer not in threads)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await seen.until(1)
    assert (calls, seen) == ([1], [True])


@pytest.mark.behaviour("steps.plain-functions")
async def test_an_agent_that_takes_one_event_at_a_time_has_threads_for_many_steps(
    running: PlatformProcess, context: PlatformContext
) -> None:
    tenant_id = context.memory.scope().tenant_id
    agent = Agent(
        unique("agent"), config=config_of(running, tenant_id=tenant_id), max_concurrency=1
    )
    together, seen = threading.Barrier(32), Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        seen.append(
            await asyncio.gather(*(handler.step("block", together.wait, 10) for _ in range(32)))
        )

    async with agent:
        await context.bus.publish("a", "business-facts")
        await seen.until(1)
    assert sorted(seen[0]) == list(range(32))


@pytest.mark.behaviour("steps.unrecordable")
@pytest.mark.parametrize(
    "result", [object(), {1, 2}, b"bytes", float("nan"), datetime.now(UTC), "x" * 1024 * 1024]
)
@pytest.mark.parametrize("swallows", [False, True])
async def test_a_result_that_cannot_be_recorded_gives_the_event_up(
    context: PlatformContext, agent: Agent, result: Any, swallows: bool
) -> None:
    """Another attempt would repeat the effect, whatever the handler makes of the error."""
    done, letters = Seen(), Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        try:
            await handler.step("pay", lambda: done.append(1) or result)
        except Reject as refused:
            if not swallows:
                raise
            raise ValueError("in other words") from refused

    agent.on_event("event.dead_lettered")(gather(letters))
    async with agent:
        await context.bus.publish("a", "business-facts")
        await letters.until(1)
    assert done == [1]
    assert letters[0].data["attempts"] == 1
    assert (
        "the effect of step 'pay' was done, but its result could not be recorded: "
        in letters[0].data["reason"]
    )


@pytest.mark.behaviour("steps.unrecordable")
async def test_one_step_too_many_gives_the_event_up(tmp_path: Any) -> None:
    done, letters = Seen(), Seen()
    with platform_in(tmp_path / "few", SOORMA_LIMIT_DELIVERY_STEPS="2") as platform:
        agent = Agent(unique("agent"), config=config_of(platform), retry=AT_ONCE)

        @agent.on_event("a")
        async def handle(event: Any, handler: HandlerContext) -> None:
            for number in range(3):
                await handler.step("pay", done.append, number)

        agent.on_event("event.dead_lettered")(gather(letters))
        async with agent, context_of(platform) as context:
            await context.bus.publish("a", "business-facts")
            await letters.until(1)
    assert done == [0, 1, 2]
    assert "the limit delivery_steps is 2" in letters[0].data["reason"]


@pytest.mark.behaviour("steps.unrecordable")
async def test_a_conflict_does_not_do_an_unrecorded_effect_again(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    done, letters = Seen(), Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")
        n = await inside.get("n", 0)
        with suppress(Reject):
            await handler.step("pay", lambda: done.append(1) or object())
        await state.set("n", n + 1)
        await inside.set("n", n)

    agent.on_event("event.dead_lettered")(gather(letters))
    async with agent:
        await context.bus.publish("a", "business-facts")
        await letters.until(1)
    assert done == [1]


@pytest.mark.behaviour("steps.side-by-side")
@pytest.mark.parametrize("fails", [True, False])
async def test_what_still_runs_when_the_handler_ends_is_recorded(
    context: PlatformContext, agent: Agent, state: WorkflowState, fails: bool
) -> None:
    """One step fails, or nobody awaits the other: it is awaited, and the next run skips it."""
    calls, runs = Seen(), Seen()

    async def slow() -> int:
        await asyncio.sleep(0.2)
        calls.append("slow")
        return 7

    async def boom(attempt: int) -> int:
        if attempt == 1:
            raise ConnectionError("boom")
        return 8

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        runs.append(handler.attempt)
        slowly = asyncio.create_task(handler.step("slow", slow))
        await asyncio.sleep(0.05)
        if fails:
            await asyncio.gather(slowly, handler.step("boom", boom, len(runs)))
        inside = WorkflowState(handler.memory, "plan")
        n = await inside.get("n", 0)
        if len(runs) == 1:
            await state.set("n", 5)  # a conflict
        else:
            await inside.set("found", await slowly)
        await inside.set("n", n + 1)

    async with agent:
        await context.bus.publish("a", "business-facts")
        assert await state.wait_for("found") == 7
    assert (calls, runs) == (["slow"], [1, 2] if fails else [1, 1])


@pytest.mark.behaviour("steps.side-by-side")
async def test_a_handler_that_has_failed_does_nothing_more_while_its_steps_end(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    refused, held, let_go = Seen(), asyncio.Event(), asyncio.Event()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")

        async def hold() -> Any:
            held.set()
            await let_go.wait()
            return await inside.get("n", "nothing"), await handler.step("inner", lambda: 1)

        async def goes_on() -> None:
            await held.wait()
            await asyncio.sleep(0.05)
            try:
                await inside.set("n", 1)
            except HandlerEnded:
                refused.append(handler.attempt)
            let_go.set()

        if handler.attempt == 1:
            left = [asyncio.create_task(handler.step("hold", hold)), asyncio.create_task(goes_on())]
            await held.wait()
            raise ValueError(f"with {len(left)} tasks at work")
        await inside.set("found", await handler.step("hold", lambda: "again"))

    async with agent:
        await context.bus.publish("a", "business-facts")
        assert await state.wait_for("found") == ["nothing", 1]
    assert refused == [1]
    assert not await state.has("n")


@pytest.mark.behaviour("retries.timeout", "steps.to-the-end")
async def test_a_handler_that_took_too_long_waits_for_its_steps_no_longer_than_a_lease(
    tmp_path: Any,
) -> None:
    letters, never = Seen(), asyncio.Event()
    with platform_in(tmp_path / "short", SOORMA_LEASE_SECONDS="2") as platform:
        agent = Agent(unique("agent"), config=config_of(platform))

        @agent.on_event("a", timeout=0.1, retry=RetryPolicy(max_attempts=1))
        async def handle(event: Any, handler: HandlerContext) -> None:
            await handler.step("for ever", never.wait)

        agent.on_event("event.dead_lettered")(gather(letters))
        async with agent, context_of(platform) as context:
            await context.bus.publish("a", "business-facts")
            await letters.until(1)
    assert letters[0].data["reason"] == "the handler took longer than its timeout allows: 0.1 s"


@pytest.mark.behaviour("steps.retry-and-timeout")
async def test_the_timeout_of_a_step_is_not_told_as_the_handlers(
    context: PlatformContext, agent: Agent
) -> None:
    letters = Seen()

    @agent.on_event("a", timeout=60, retry=RetryPolicy(max_attempts=1))
    async def handle(event: Any, handler: HandlerContext) -> None:
        if event.data == "step":
            await handler.step("slow", asyncio.Event().wait, timeout=0.01)
        raise TimeoutError

    agent.on_event("event.dead_lettered")(gather(letters))
    async with agent:
        await context.bus.publish("a", "business-facts", "step")
        await letters.until(1)
        await context.bus.publish("a", "business-facts", "own")
        await letters.until(2)
    reasons = [letter.data["reason"] for letter in letters]
    assert reasons == ["TimeoutError: step 'slow' took longer than 0.01 s", "TimeoutError"]


@pytest.mark.behaviour("steps.change-nothing")
async def test_a_steps_function_changes_nothing_through_the_context(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    refused, seen = Seen(), Seen()
    await state.set("n", 3)

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")

        async def tries() -> int:
            for change in (
                inside.set("n", 1),
                inside.record_action("tried"),
                inside.deadline(5),
                handler.bus.publish("b", "business-facts"),
                handler.bus.publish("b", "business-facts", delay=1),
                handler.bus.cancel("some"),
            ):
                try:
                    await change
                except InvalidRequest as error:
                    refused.append(str(error))
            await WorkflowState(handler.immediate.memory, "plan").set("progress", "half")
            return await inside.get("n") + await handler.step("inner", lambda: 1)

        def in_a_thread() -> None:
            handler.run(inside.set("n", 2))

        found = await handler.step("outer", tries)
        with pytest.raises(InvalidRequest, match="step 'thread'"):
            await handler.step("thread", in_a_thread)
        await inside.set("n", 10)
        seen.append(found)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await seen.until(1)
        assert await state.wait_for("n", 10)
    assert len(refused) == 6
    for told in refused:
        assert "do it after the step" in told
        assert "context.immediate" in told
    assert seen == [4]
    assert await state.get_many(["n", "progress"]) == {"n": 10, "progress": "half"}


@pytest.mark.behaviour("steps.retry-and-timeout")
async def test_a_steps_own_policy_retries_every_error_of_its_function(
    context: PlatformContext, agent: Agent
) -> None:
    tries, seen = Seen(), Seen()
    raised: list[Exception] = [Unavailable("no"), KeyMissing("no"), Conflict("no"), TimeoutError()]

    async def flaky() -> int:
        tries.append(1)
        if raised:
            raise raised.pop()
        return 1

    async def steers(how: Exception) -> None:
        tries.append(how)
        raise how

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        quick = RetryPolicy(max_attempts=5, first_delay=0.001)
        await handler.step("flaky", flaky, retry=quick)
        assert len(tries) == 5
        for how in (Retry("r"), Reject("r"), Fenced("r"), HandlerEnded("r")):
            del tries[:]
            with pytest.raises(type(how)):
                await handler.step(f"steers {type(how).__name__}", steers, how, retry=quick)
            assert tries == [how]
        seen.append(1)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await seen.until(1)


@pytest.mark.behaviour("steps.retry-and-timeout")
@pytest.mark.parametrize(
    "how", [{"retry": 3}, {"timeout": 0}, {"timeout": -1}, {"timeout": "5"}, {"timeout": True}]
)
async def test_what_a_step_is_not_given(
    context: PlatformContext, agent: Agent, how: dict[str, Any]
) -> None:
    refused, called = Seen(), Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        try:
            await handler.step("pay", called.append, 1, **how)
        except InvalidRequest as error:
            refused.append(str(error))

    async with agent:
        await context.bus.publish("a", "business-facts")
        await refused.until(1)
    assert called == []
    assert next(iter(how)) in refused[0]


@pytest.mark.behaviour("steps.fenced")
async def test_a_step_that_is_fenced_is_told_in_one_line(
    context: PlatformContext,
    agent: Agent,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.WARNING, "soorma.agent")
    ended = Seen()

    async def lost(self: StepResults, *result: Any) -> str:
        raise Fenced("it is another agent's by now")

    monkeypatch.setattr(StepResults, "keep", lost)

    @agent.on_event("a", retry=RetryPolicy(max_attempts=1))
    async def handle(event: Any, handler: HandlerContext) -> None:
        await handler.step("late", lambda: 1)

    @agent.on_event("event.dead_lettered")
    async def hear(event: Any, handler: HandlerContext) -> None:
        ended.append(event)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await ended.until(1)
    (told,) = caplog.records
    assert (told.levelname, told.exc_info) == ("WARNING", None)
    assert (
        "fenced, nothing of this attempt is visible: it is another agent's by now"
        in told.getMessage()
    )


@pytest.mark.behaviour("handlers.ended")
async def test_no_step_after_the_handler(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    left: list[HandlerContext] = []
    called: list[int] = []

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        left.append(handler)
        await WorkflowState(handler.memory, "plan").set("k", 1)

    async with agent:
        await context.bus.publish("a", "business-facts")
        # What a handler set is there when it is committed: only then has the handler ended.
        await state.wait_for("k")
        with pytest.raises(HandlerEnded):
            await left[0].step("late", lambda: called.append(1))
    assert called == []


@pytest.mark.behaviour("steps.survive")
async def test_a_step_is_there_after_the_platform_was_killed(
    platform: PlatformProcess, tmp_path: Any
) -> None:

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
