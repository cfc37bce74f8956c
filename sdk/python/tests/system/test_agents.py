"""Agents in this process on a real platform: what they subscribe to, run, retry and give up."""

from __future__ import annotations

import asyncio
import enum
import threading
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import Seen, another, config_of, eventually

from soorma import (
    Agent,
    ClientConfig,
    HandlerContext,
    PlatformContext,
    RetryPolicy,
    Topic,
    Worker,
    WorkflowState,
)
from soorma.errors import InvalidName, InvalidRequest, Unavailable


class Kind(enum.Enum):
    JOB = "job.of.an.enum"


# what they subscribe to


@pytest.mark.behaviour("agents.handlers-chosen")
async def test_types_and_topics_choose_the_handler(context: PlatformContext, agent: Agent) -> None:
    seen = Seen()

    def handler(name: str) -> Any:
        async def handle(event: Any, _: Any) -> None:
            seen.append((name, event.type, event.topic))

        return handle

    agent.on_event("a", topic="business-facts")(handler("a on facts"))
    agent.on_event("a")(handler("a anywhere"))
    agent.on_event(Kind.JOB, topic=Topic.TASK_EVENTS)(handler("enum"))
    agent.on_event("*", topic="plan-events")(handler("all plan events"))
    async with agent:
        for kind, topic in (
            ("a", "business-facts"), ("a", Topic.ACTION_REQUESTS), (Kind.JOB, "task-events"),
            ("x", "plan-events"), ("a", "plan-events"), ("x", "business-facts"),
        ):  # fmt: skip
            await context.bus.publish(kind, topic)
        await context.bus.publish("last", "plan-events")
        await seen.until(6)
    assert sorted(seen) == [
        ("a anywhere", "a", "action-requests"),
        ("a anywhere", "a", "plan-events"),
        ("a on facts", "a", "business-facts"),
        ("all plan events", "last", "plan-events"),
        ("all plan events", "x", "plan-events"),
        ("enum", "job.of.an.enum", "task-events"),
    ]


@pytest.mark.behaviour("groups.handler")
async def test_a_star_takes_all(context: PlatformContext, agent: Agent) -> None:
    seen = Seen()

    @agent.on_event("*")
    async def handle(event: Any, _: Any) -> None:
        seen.append((event.type, event.topic))

    async with agent:
        for topic in Topic:
            await context.bus.publish("any", topic)
        assert sorted(await seen.until(8)) == sorted(("any", topic.value) for topic in Topic)


@pytest.mark.behaviour("agents.handlers-chosen")
async def test_the_same_event_twice_is_an_error(agent: Agent) -> None:
    async def handle(event: Any, context: Any) -> None: ...

    agent.on_event("a", topic="business-facts")(handle)
    agent.on_event("a")(handle)
    for again in (
        lambda: agent.on_event("a", topic=Topic.BUSINESS_FACTS),
        lambda: agent.on_event("a"),
    ):
        with pytest.raises(InvalidRequest, match="already"):
            again()(handle)


@pytest.mark.behaviour("agents.refused", "topics.eight")
async def test_what_is_no_agent_is_refused(agent: Agent) -> None:
    with pytest.raises(InvalidName, match="topics are"):
        agent.on_event("a", topic="no-such-topic")
    for wrong in ("", ".", "x" * 256, "a\0"):
        with pytest.raises(InvalidName):
            agent.on_event(wrong)
        with pytest.raises(InvalidName):
            Worker(wrong)
    with pytest.raises(InvalidRequest):
        Worker("w", max_concurrency=0)
    with pytest.raises(InvalidRequest, match="no handlers"):
        await agent.start()


@pytest.mark.behaviour("agents.describes-itself")
async def test_a_worker_describes_itself(running: PlatformProcess) -> None:
    worker = Worker("w", "does w", ["can w"], ["a"], ["b"], "tenant", config=config_of(running))

    @worker.on_event("c")
    async def handle(event: Any, context: Any) -> None: ...

    assert (worker.name, worker.description, worker.capabilities) == ("w", "does w", ["can w"])
    assert (worker.events_consumed, worker.events_produced, worker.tenant_id) == (
        ["a", "c"],
        ["b"],
        "tenant",
    )


# their life


@pytest.mark.behaviour("agents.hooks", "agents.drain")
async def test_hooks_run_before_the_first_and_after_the_last_event(
    context: PlatformContext, agent: Agent
) -> None:
    seen, go_on = Seen(), asyncio.Event()
    await context.bus.publish("early", "business-facts")

    @agent.on_startup
    async def prepare() -> None:
        await agent.context.memory.set_plan_state(agent.name, "ready", value=True)
        seen.append("startup")

    @agent.on_startup
    def plain() -> None:
        seen.append("plain startup")

    @agent.on_event("early")
    async def handle(event: Any, _: Any) -> None:
        seen.append("begins")
        await go_on.wait()
        seen.append("ends")

    @agent.on_shutdown
    async def clean() -> None:
        seen.append("shutdown")

    await agent.start()
    await seen.until(3)
    stopping = asyncio.create_task(agent.stop())
    go_on.set()
    await stopping
    assert seen == ["startup", "plain startup", "begins", "ends", "shutdown"]
    await agent.stop()  # twice does no harm


@pytest.mark.behaviour("agents.start-stop")
async def test_an_agent_can_be_started_again(context: PlatformContext, agent: Agent) -> None:
    seen = Seen()

    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        seen.append(event.data)

    for n in range(3):
        async with agent:
            with pytest.raises(InvalidRequest, match="running"):
                await agent.start()
            await context.bus.publish("a", "business-facts", n)
            await seen.until(n + 1)
    assert seen == [0, 1, 2]


@pytest.mark.behaviour("agents.drain", "leases.given-back")
async def test_a_stop_gives_back_what_does_not_end_in_time(
    context: PlatformContext, agent: Agent
) -> None:
    attempts = Seen()
    slow = another(agent, agent.name, drain_timeout=0.1)

    @slow.on_event("a")
    async def hang(event: Any, handler: HandlerContext) -> None:
        attempts.append(handler.attempt)
        await handler.memory.set_plan_state("p", "k", "never")
        await asyncio.Event().wait()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        attempts.append(handler.attempt)

    async with slow:
        await context.bus.publish("a", "business-facts")
        await attempts.until(1)
    async with agent:
        assert await attempts.until(2) == [1, 1], "giving back costs no attempt"
    assert await context.memory.list_keys("p") == []


@pytest.mark.behaviour("agents.no-platform")
async def test_start_without_a_platform_says_so() -> None:
    agent = Agent("a", config=config_of_nobody())

    @agent.on_event("a")
    async def handle(event: Any, context: Any) -> None: ...

    with pytest.raises(Unavailable, match="soorma dev"):
        await agent.start()


def config_of_nobody() -> Any:
    return ClientConfig("http://127.0.0.1:9", "http://127.0.0.1:9", retry_seconds=0.3)


@pytest.mark.behaviour("handlers.plain-def")
async def test_plain_handlers_run_in_threads_side_by_side(
    context: PlatformContext, agent: Agent
) -> None:
    both, seen = threading.Barrier(2, timeout=10), Seen()

    @agent.on_event("a")
    def handle(event: Any, handler: HandlerContext) -> None:
        both.wait()
        state = WorkflowState(handler.memory, "plan")
        handler.run(state.append("l", event.data, blind=True))
        handler.run(
            handler.bus.publish(
                "b", "business-facts", threading.current_thread() is threading.main_thread()
            )
        )

    @agent.on_event("b")
    async def look(event: Any, handler: HandlerContext) -> None:
        seen.append(event.data)
        with pytest.raises(InvalidRequest, match="await"):
            handler.run(handler.memory.list_keys("plan"))

    async with agent:
        for n in range(2):
            await context.bus.publish("a", "business-facts", n)
        assert await seen.until(2) == [False, False]
    assert sorted((await context.memory.get_plan_state("plan", "l")).value) == [0, 1]


# lanes


@pytest.mark.behaviour("lanes.max-concurrency")
@pytest.mark.parametrize("most", [1, 3])
async def test_no_more_than_max_concurrency_run_at_once(
    context: PlatformContext, agent: Agent, most: int
) -> None:
    limited, now, highest, done = another(agent, max_concurrency=most), Seen(), Seen(), Seen()

    @limited.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        now.append(1)
        highest.append(len(now))
        if len(highest) <= 12 - most:
            await eventually(lambda: len(highest) >= most)
        await asyncio.sleep(0.02)
        now.pop()
        done.append(1)

    async with limited:
        await context.bus.publish_many([{"event_type": "a", "topic": "business-facts"}] * 12)
        await done.until(12)
    assert max(highest) == most


@pytest.mark.behaviour("lanes.in-order", "ids.plan-of-an-event")
async def test_a_plan_is_handled_in_order_and_one_at_a_time(
    context: PlatformContext, agent: Agent
) -> None:
    seen, busy = Seen(), set()

    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        assert event.plan_id not in busy
        busy.add(event.plan_id)
        await asyncio.sleep(0)
        busy.discard(event.plan_id)
        seen.append((event.plan_id, event.data["n"]))

    async with agent:
        for n in range(20):
            for plan in "xyz":
                given = {"plan_id": plan} if n % 2 else {}
                await context.bus.publish(
                    "a", "business-facts", {"n": n, **({} if n % 2 else {"plan_id": plan})}, **given
                )
        await seen.until(60)
    for plan in "xyz":
        assert [n for where, n in seen if where == plan] == list(range(20))


@pytest.mark.behaviour("lanes.unordered", "operations.blind")
async def test_unordered_events_of_a_plan_run_side_by_side(
    context: PlatformContext, agent: Agent
) -> None:
    together = asyncio.Barrier(5)

    @agent.on_event("a", ordered=False)
    async def handle(event: Any, handler: HandlerContext) -> None:
        if handler.attempt == 1 and together.n_waiting + 1 <= 5 and not together.broken:
            await together.wait()
        await WorkflowState(handler.memory, "plan").increment("n", blind=True)

    async with agent:
        for _ in range(5):
            await context.bus.publish("a", "business-facts", plan_id="plan")
        assert await WorkflowState(context.memory, "plan").wait_for("n", 5, timeout=15) == 5


@pytest.mark.behaviour("lanes.slow-stalls-nobody")
async def test_a_slow_handler_does_not_stall_other_lanes(
    context: PlatformContext, agent: Agent
) -> None:
    go_on, seen = asyncio.Event(), Seen()

    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        if event.plan_id == "slow":
            await go_on.wait()
        seen.append(event.plan_id)

    async with agent:
        for _ in range(3):
            await context.bus.publish("a", "business-facts", plan_id="slow")
        for n in range(50):
            await context.bus.publish("a", "business-facts", plan_id=f"fast {n}" if n % 2 else None)
        await seen.until(50)
        assert "slow" not in seen
        go_on.set()
        await seen.until(53)


@pytest.mark.behaviour("retries.lane-waits", "retries.policy")
async def test_a_lane_waits_while_its_head_backs_off(
    context: PlatformContext, agent: Agent
) -> None:
    seen = Seen()

    @agent.on_event("a", retry=RetryPolicy(first_delay=0.5, jitter=0))
    async def handle(event: Any, handler: HandlerContext) -> None:
        seen.append((event.data, handler.attempt))
        if event.data == "first" and handler.attempt == 1:
            raise ValueError("once")

    async with agent:
        for data, plan in (("first", "p"), ("second", "p"), ("other", "q")):
            await context.bus.publish("a", "business-facts", data, plan_id=plan)
        await seen.until(4)
    assert [one for one in seen if one[0] != "other"] == [("first", 1), ("first", 2), ("second", 1)]
    assert seen.index(("other", 1)) < seen.index(("first", 2))


# groups


@pytest.mark.behaviour("groups.start-order")
async def test_events_of_before_go_to_the_first_that_subscribes(
    context: PlatformContext, agent: Agent
) -> None:
    seen, second = Seen(), another(agent)
    for n in range(10):
        await context.bus.publish("a", "business-facts", n, plan_id="p")

    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        seen.append(event.data)

    @second.on_event("a")
    async def late(event: Any, _: Any) -> None:
        seen.append(("second", event.data))

    async with agent:
        assert await seen.until(10) == list(range(10))
        async with second:
            await context.bus.publish("a", "business-facts", "new", plan_id="p")
            await seen.until(12)
    assert sorted(map(str, seen[10:])) == ["('second', 'new')", "new"]


@pytest.mark.behaviour("groups.wait")
async def test_an_agent_that_was_away_gets_all_in_order(
    context: PlatformContext, agent: Agent
) -> None:
    seen = Seen()

    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        seen.append(event.data)

    async with agent:
        pass
    for start in range(0, 1000, 100):
        events = [
            {"event_type": "a", "topic": "business-facts", "data": n, "plan_id": "p"}
            for n in range(start, start + 100)
        ]
        await context.bus.publish_many(events)
    async with agent:
        await seen.until(1000, 18)
    assert seen == list(range(1000))


@pytest.mark.behaviour("groups.copy-and-share")
async def test_replicas_share_and_different_agents_each_get_a_copy(
    context: PlatformContext, agent: Agent
) -> None:
    seen: dict[str, Seen] = {name: Seen() for name in ("one", "two", "other")}
    agents = {"one": agent, "two": another(agent, agent.name), "other": another(agent)}
    for name, which in agents.items():

        async def handle(event: Any, _: Any, name: str = name) -> None:
            seen[name].append(event.data)
            if name != "other":
                await eventually(lambda: seen["one"] and seen["two"])

        which.on_event("a")(handle)
    async with agents["one"], agents["two"], agents["other"]:
        for n in range(100):
            await context.bus.publish("a", "business-facts", n)
        await seen["other"].until(100)
        await eventually(lambda: len(seen["one"]) + len(seen["two"]) >= 100)
    assert sorted(seen["one"] + seen["two"]) == sorted(seen["other"]) == list(range(100))


@pytest.mark.behaviour("groups.handler")
async def test_a_delivery_goes_only_to_a_replica_with_a_handler_for_it(
    context: PlatformContext, agent: Agent
) -> None:
    seen, newer = Seen(), another(agent, agent.name)

    @agent.on_event("a")
    async def old(event: Any, _: Any) -> None:
        seen.append(("old", event.type))

    @newer.on_event("b")
    async def new(event: Any, _: Any) -> None:
        seen.append(("new", event.type))

    async with agent, newer:
        for n in range(10):
            await context.bus.publish("ab"[n % 2], "business-facts")
        await seen.until(10)
    assert sorted(seen) == [("new", "b")] * 5 + [("old", "a")] * 5
