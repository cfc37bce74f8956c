"""Events whose handlers fail: retries, dead letters, replays, parked lanes."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import Raw, Seen, eventually

from soorma import (
    Agent,
    HandlerContext,
    PlatformContext,
    Reject,
    Retry,
    RetryPolicy,
    WorkflowState,
)


def dead_letters(running: PlatformProcess, agent: Agent) -> list[Any]:
    path = f"/v1/events/dead-letters?group={agent.name}&tenant_id={agent.tenant_id}"
    found: list[Any] = Raw(running.events_url)("GET", path).json["dead_letters"]
    return found


@pytest.mark.behaviour("retries.backoff", "deadletters.kept", "logs.failures")
async def test_retries_back_off_and_end_in_a_dead_letter(
    running: PlatformProcess,
    context: PlatformContext,
    agent: Agent,
    caplog: pytest.LogCaptureFixture,
) -> None:
    times, told = [], Seen()
    caplog.set_level(logging.ERROR, "soorma.agent")

    @agent.on_event("a", retry=RetryPolicy(max_attempts=3, first_delay=0.2, factor=2, jitter=0.2))
    async def handle(event: Any, handler: HandlerContext) -> None:
        times.append(time.monotonic())
        assert handler.attempt == len(times)
        await handler.memory.set_plan_state("p", "k", 1)
        await handler.bus.publish("never", "business-facts")
        raise ValueError("no good")

    @agent.on_event("event.dead_lettered", topic="system-events")
    async def notice(event: Any, _: Any) -> None:
        told.append(event)

    async with agent:
        event_id = await context.bus.publish(
            "a", "action-requests", {"n": 1}, plan_id="p", session_id="s"
        )
        notice = (await told.until(1))[0]
    assert 0.15 <= times[1] - times[0] <= 0.24 + 1
    assert 0.31 <= times[2] - times[1] <= 0.48 + 1
    expected = {
        "event_id": event_id,
        "type": "a",
        "topic": "action-requests",
        "group": agent.name,
        "attempts": 3,
    }
    assert notice.data == {**expected, "failures": 3, "deaths": 0, "reason": "ValueError: no good"}
    assert (notice.plan_id, notice.session_id, notice.parent_event_id) == ("p", "s", event_id)
    letter = dead_letters(running, agent)[0]
    assert (letter["attempts"], letter["reason"], letter["event_id"]) == (
        3,
        "ValueError: no good",
        event_id,
    )
    assert letter["event"]["data"] == {"n": 1}
    assert await context.memory.list_keys("p") == []
    failures = [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]
    assert len(failures) == 3
    assert event_id in failures[0]
    assert "plan p, attempt 1" in failures[0]


@pytest.mark.behaviour("deadletters.lane-goes-on", "deadletters.reject")
async def test_the_lane_goes_on_after_a_dead_letter(context: PlatformContext, agent: Agent) -> None:
    seen = Seen()

    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        seen.append(event.data)
        if event.data == 0:
            raise Reject("not mine")

    async with agent:
        for n in range(3):
            await context.bus.publish("a", "business-facts", n, plan_id="p")
        assert await seen.until(3) == [0, 1, 2]


@pytest.mark.behaviour("deadletters.replayed", "deadletters.reject")
async def test_a_dead_letter_can_be_replayed(
    running: PlatformProcess, context: PlatformContext, agent: Agent
) -> None:
    seen, well = Seen(), False

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        seen.append(handler.attempt)
        if not well:
            raise Reject("not yet")
        await handler.memory.set_plan_state("p", "k", event.data)

    async with agent:
        await context.bus.publish("a", "business-facts", "kept", plan_id="p")
        letter = (await eventually(lambda: dead_letters(running, agent)))[0]
        assert (letter["reason"], letter["attempts"], letter["parked"]) == ("not yet", 1, False)
        well = True
        raw = Raw(running.events_url)
        assert raw("POST", f"/v1/events/dead-letters/{letter['id']}/replay").json == {
            "replayed": letter["id"]
        }
        assert await WorkflowState(context.memory, "p").wait_for("k", timeout=10) == "kept"
        assert raw("POST", f"/v1/events/dead-letters/{letter['id']}/replay").code == "not_found"
    assert seen == [1, 1]
    assert dead_letters(running, agent) == []


@pytest.mark.behaviour("deadletters.park")
async def test_a_parked_lane_waits_for_the_replay(
    running: PlatformProcess, context: PlatformContext, agent: Agent
) -> None:
    seen, well = Seen(), False

    @agent.on_event("a", retry=RetryPolicy(max_attempts=2, first_delay=0, then="park"))
    async def handle(event: Any, _: Any) -> None:
        seen.append((event.plan_id, event.data))
        if event.data == 0 and not well:
            raise ValueError("not yet")

    async with agent:
        for plan, n in (("p", 0), ("p", 1), ("q", 2)):
            await context.bus.publish("a", "business-facts", n, plan_id=plan)
        letter = (await eventually(lambda: dead_letters(running, agent)))[0]
        assert letter["parked"] is True
        await seen.until(3)
        await context.bus.publish("a", "business-facts", 3, plan_id="q")
        await seen.until(4)
        assert ("p", 1) not in seen
        well = True
        Raw(running.events_url)("POST", f"/v1/events/dead-letters/{letter['id']}/replay")
        assert (await seen.until(6))[4:] == [("p", 0), ("p", 1)]


@pytest.mark.behaviour("retries.after")
async def test_retry_says_when(context: PlatformContext, agent: Agent) -> None:
    times = Seen()

    @agent.on_event("a", retry=RetryPolicy(first_delay=60))
    async def handle(event: Any, _: Any) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise Retry(after=0.3)
        if len(times) == 2:
            raise Retry("again", after=0)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await times.until(3)
    assert 0.28 <= times[1] - times[0] < 3


@pytest.mark.behaviour("retries.timeout")
async def test_a_handler_that_takes_too_long_fails(
    running: PlatformProcess, context: PlatformContext, agent: Agent
) -> None:
    attempts = Seen()

    @agent.on_event("a", timeout=0.1, retry=RetryPolicy(max_attempts=2, first_delay=0))
    async def handle(event: Any, handler: HandlerContext) -> None:
        attempts.append(handler.attempt)
        await handler.memory.set_plan_state("p", "k", 1)
        await asyncio.Event().wait()

    async with agent:
        await context.bus.publish("a", "business-facts")
        letter = (await eventually(lambda: dead_letters(running, agent)))[0]
    assert attempts == [1, 2]
    assert "timeout" in letter["reason"]
    assert await context.memory.list_keys("p") == []


@pytest.mark.behaviour("deadletters.no-loop")
async def test_a_dead_letter_of_a_dead_letter_ends_there(
    running: PlatformProcess, context: PlatformContext, agent: Agent
) -> None:
    seen = Seen()

    @agent.on_event("*")
    async def handle(event: Any, _: Any) -> None:
        seen.append(event.type)
        raise Reject("never")

    async with agent:
        await context.bus.publish("a", "business-facts")
        await eventually(lambda: len(dead_letters(running, agent)) == 2)
        await context.bus.publish("b", "business-facts")
        await eventually(lambda: len(dead_letters(running, agent)) == 4)
    assert seen == ["a", "event.dead_lettered", "b", "event.dead_lettered"]
