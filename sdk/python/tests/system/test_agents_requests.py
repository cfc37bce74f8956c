"""Requests and their responses, in handlers and outside; and the ids that events pass on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import AT_ONCE, Raw, Seen, another

from soorma import Agent, HandlerContext, PlatformContext, Reject, RetryPolicy, WorkflowState
from soorma.errors import DeadLettered, InvalidRequest, TimedOut


@pytest.fixture
def retry() -> RetryPolicy:
    return AT_ONCE


# requests


@pytest.fixture
async def responder(agent: Agent) -> AsyncIterator[Seen]:
    """Runs an agent that responds to `ask` and rejects `refuse`; yields what it was asked."""
    asked, other = Seen(), another(agent)

    @other.on_event("ask", topic="action-requests")
    async def answer(event: Any, handler: HandlerContext) -> None:
        asked.append(event)
        await handler.bus.respond(event, {"you said": event.data})

    @other.on_event("refuse", topic="action-requests")
    async def refuse(event: Any, _: Any) -> None:
        raise Reject("I never answer")

    async with other:
        yield asked


@pytest.mark.behaviour("requests.one-answer")
async def test_a_request_gets_the_one_answer_that_belongs_to_it(
    context: PlatformContext, responder: Seen
) -> None:
    calls = [
        context.bus.request("ask", n, response_event="answered", timeout=10) for n in range(20)
    ]
    answers = await asyncio.gather(*calls)
    assert [answer.data for answer in answers] == [{"you said": n} for n in range(20)]
    assert len({event.correlation_id for event in responder}) == 20
    first = next(event for event in responder if event.data == 0)
    assert (answers[0].type, answers[0].topic) == ("answered", "action-results")
    assert (answers[0].correlation_id, answers[0].parent_event_id) == (
        first.correlation_id,
        first.id,
    )


@pytest.mark.behaviour("requests.timed-out")
async def test_a_request_nobody_answers_times_out(context: PlatformContext) -> None:
    with pytest.raises(TimedOut, match="answered"):
        await context.bus.request("nobody listens", response_event="answered", timeout=0.3)


@pytest.mark.behaviour("requests.dead-lettered")
async def test_a_dead_lettered_request_fails_at_once(
    context: PlatformContext, responder: Seen
) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(DeadLettered, match="I never answer") as raised:
            await context.bus.request("refuse", response_event="answered", timeout=60)
    assert raised.value.attempts == 1
    assert raised.value.reason == "I never answer"


@pytest.mark.behaviour("requests.respond")
async def test_respond_needs_to_know_what_with(context: PlatformContext, agent: Agent) -> None:
    seen, answers = Seen(), Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        with pytest.raises(InvalidRequest, match="requests no response"):
            await handler.bus.respond(event, 1)
        await handler.bus.respond(event, 2, event_type="named", topic="business-facts")
        seen.append(event)

    @agent.on_event("named")
    async def named(event: Any, _: Any) -> None:
        answers.append(event)

    async with agent:
        await context.bus.publish("a", "business-facts", correlation_id="mine")
        assert (await answers.until(1))[0].correlation_id == "mine"


@pytest.mark.behaviour("requests.same-answer-for-a-later-attempt")
@pytest.mark.parametrize("traced", [True, False])
async def test_a_later_attempt_finds_the_same_answer(
    running: PlatformProcess, context: PlatformContext, agent: Agent, responder: Seen, traced: bool
) -> None:
    seen, scope = Seen(), context.memory.scope()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        first = await handler.bus.request("ask", "x", response_event="answered", timeout=10)
        second = await handler.bus.request("ask", "x", response_event="answered", timeout=10)
        seen.append((first.id, second.id))
        await handler.memory.set_plan_state("plan", "k", first.data)
        if handler.attempt < 3:
            raise ValueError("not yet")

    async with agent:
        event = {"type": "a", "topic": "business-facts", "plan_id": "plan",
                 "tenant_id": scope.tenant_id, "user_id": scope.user_id,
                 **({"trace_id": "t"} if traced else {})}  # fmt: skip
        Raw(running.events_url)("POST", "/v1/events/publish", event)
        assert await WorkflowState(context.memory, "plan").wait_for("k", timeout=10) == {
            "you said": "x"
        }
    assert len(seen) == 3
    assert len(set(seen)) == 1, "each attempt asked anew"
    assert seen[0][0] != seen[0][1]
    assert len(responder) == 2


@pytest.mark.behaviour("requests.after-changes")
async def test_a_request_after_changes_goes_out_and_these_stay_uncommitted(
    context: PlatformContext, agent: Agent, responder: Seen
) -> None:
    state, seen = WorkflowState(context.memory, "plan"), Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")
        tokens = await inside.increment("tokens", 10)
        answer = await handler.bus.request("ask", tokens, response_event="answered", timeout=10)
        seen.append((await state.get("tokens"), await inside.get("tokens"), answer.data))
        await inside.increment("tokens", 5)
        if handler.attempt == 1:
            raise ValueError("once more")

    async with agent:
        await context.bus.publish("a", "business-facts")
        assert await state.wait_for("tokens", timeout=10) == 15
    assert seen == [(None, 10, {"you said": 10})] * 2
    assert len(responder) == 1


@pytest.mark.behaviour("requests.dead-lettered", "requests.timed-out")
async def test_a_request_in_a_handler_fails_like_one_outside(
    context: PlatformContext, agent: Agent, responder: Seen
) -> None:
    raised = Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        for kind, limit in (("refuse", 10), ("nobody listens", 0.2)):
            try:
                await handler.bus.request(kind, response_event="answered", timeout=limit)
            except (DeadLettered, TimedOut) as error:
                raised.append(type(error))

    async with agent:
        await context.bus.publish("a", "business-facts")
        assert await raised.until(2) == [DeadLettered, TimedOut]


# ids


@pytest.mark.behaviour("ids.inherited", "ids.of-the-event", "ids.correlation")
async def test_ids_are_inherited_through_agents(context: PlatformContext, agent: Agent) -> None:
    seen = Seen()

    @agent.on_event("a")
    async def first(event: Any, handler: HandlerContext) -> None:
        await handler.bus.publish("b", "business-facts", {"n": 1})
        seen.append(event)

    @agent.on_event("b")
    async def second(event: Any, handler: HandlerContext) -> None:
        await handler.bus.announce(
            "c", {"plan_id": "of the data"}, session_id="its own", correlation_id="its own"
        )
        seen.append(event)

    @agent.on_event("c")
    async def third(event: Any, handler: HandlerContext) -> None:
        seen.append(event)
        assert (handler.tenant_id, handler.user_id) == (event.tenant_id, event.user_id)
        assert handler.plan_id == "of the data"
        assert WorkflowState(handler.memory, "p").tenant_id == event.tenant_id

    async with agent:
        event_id = await context.bus.publish(
            "a",
            "business-facts",
            {"plan_id": "of the data first"},
            plan_id="plan",
            session_id="session",
            trace_id="f" * 32,
        )
        a, b, c = await seen.until(3)
    scope = context.memory.scope()
    assert a.correlation_id == a.id == event_id
    assert [event.tenant_id for event in (a, b, c)] == [scope.tenant_id] * 3
    assert [event.user_id for event in (a, b, c)] == [scope.user_id] * 3
    assert [event.plan_id for event in (a, b, c)] == ["plan", "plan", "of the data"]
    assert [event.session_id for event in (a, b, c)] == ["session", "session", "its own"]
    assert [event.correlation_id for event in (a, b, c)] == [event_id, event_id, "its own"]
    assert [event.trace_id for event in (a, b, c)] == ["f" * 32] * 3
    assert [event.parent_event_id for event in (a, b, c)] == [None, a.id, b.id]
    assert [event.source for event in (b, c)] == [agent.name] * 2


@pytest.mark.behaviour("ids.plan-of-an-event")
@pytest.mark.parametrize(
    "data", [{"plan_id": 7}, {"plan_id": ""}, {"plan_id": None}, ["plan_id"], "plan_id", None]
)
async def test_a_plan_id_in_data_counts_only_if_it_is_one(
    context: PlatformContext, agent: Agent, data: Any
) -> None:
    seen = Seen()

    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        seen.append(event)

    async with agent:
        await context.bus.publish("a", "business-facts", data)
        assert (await seen.until(1))[0].plan_id is None
        assert seen[0].get("data") == data


@pytest.mark.behaviour("requests.of-its-plan")
async def test_a_request_in_a_handler_belongs_to_its_plan(
    context: PlatformContext, agent: Agent, responder: Seen
) -> None:
    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        answer = await handler.bus.request("ask", response_event="answered", timeout=10)
        await handler.memory.set_plan_state("plan", "answer", answer)

    async with agent:
        event_id = await context.bus.publish("a", "business-facts", plan_id="plan", session_id="s")
        answer = await WorkflowState(context.memory, "plan").wait_for("answer", timeout=10)
    asked = responder[0]
    assert (asked.plan_id, asked.session_id, asked.parent_event_id) == ("plan", "s", event_id)
    assert asked.correlation_id != event_id, "a request starts a correlation of its own"
    assert (answer["plan_id"], answer["parent_event_id"]) == ("plan", asked.id)
