"""Without the platform no call returns as if there were nothing, and its past responses hold."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import Raw, Seen, config_of, context_of, unique

from soorma import Agent, EventClient, PlatformContext, WorkflowState
from soorma.errors import Unavailable

PATIENCE = 0.5


@pytest.fixture
async def context(platform: PlatformProcess) -> AsyncIterator[PlatformContext]:
    async with context_of(platform, tenant_id=unique("tenant"), retry_seconds=PATIENCE) as made:
        yield made


def calls_of(context: PlatformContext) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every call there is, by name."""
    state = WorkflowState(context.memory, "plan")
    memory, bus = context.memory, context.bus
    return {
        "set": lambda: state.set("k", 2),
        "get": lambda: state.get("k", "a default"),
        "get_entry": lambda: state.get_entry("k"),
        "has": lambda: state.has("k"),
        "get_many": lambda: state.get_many(["k", "l"]),
        "keys": state.keys,
        "delete": lambda: state.delete("k"),
        "increment": lambda: state.increment("n"),
        "append": lambda: state.append("l", 1),
        "extend": lambda: state.extend("l", [1]),
        "update_dict": lambda: state.update_dict("o", {"a": 1}),
        "update": lambda: state.update({"a": 1}),
        "compare_and_set": lambda: state.compare_and_set("k", 2, expected_revision=1),
        "record_action": lambda: state.record_action("a"),
        "get_action_history": state.get_action_history,
        "actions": state.actions,
        "history": state.history,
        "at": lambda: state.at(1).get("k", "a default"),
        "at.has": lambda: state.at(1).has("k"),
        "at.keys": state.at(1).keys,
        "at.all": state.at(1).all,
        "revision": state.revision,
        "diff": lambda: state.diff(0, 1),
        "restore": lambda: state.restore("k", 1),
        "fork": lambda: state.fork("fork"),
        "info": state.info,
        "complete": state.complete,
        "deadline": lambda: state.deadline(60),
        "join": lambda: state.join("joined", expect=2, arrival="a"),
        "claim": lambda: state.claim("lock"),
        "ttl": lambda: state.ttl(60),
        "cleanup": state.cleanup,
        "watch": lambda: anext(state.watch(after=0)),
        "wait_for": lambda: state.wait_for("never", timeout=60),
        "get_plan_state": lambda: memory.get_plan_state("plan", "k"),
        "set_plan_state": lambda: memory.set_plan_state("plan", "k", 1),
        "delete_plan_state": lambda: memory.delete_plan_state("plan", "k"),
        "list_plans": lambda: anext(memory.list_plans()),
        "get_value_at": lambda: memory.get_value_at("plan", "k", 1),
        "publish": lambda: bus.publish("a", "business-facts"),
        "publish_many": lambda: bus.publish_many([{"event_type": "a", "topic": "business-facts"}]),
        "request": lambda: bus.request("a", response_event="b", timeout=60),
    }


@pytest.mark.behaviour("outage.every-call")
async def test_every_call_says_that_the_platform_is_away(
    platform: PlatformProcess, context: PlatformContext
) -> None:
    await WorkflowState(context.memory, "plan").set("k", 1)
    await asyncio.to_thread(platform.kill)
    began = time.monotonic()
    calls = calls_of(context)
    outcomes = await asyncio.gather(*(call() for call in calls.values()), return_exceptions=True)
    assert {
        name: type(found) for name, found in zip(calls, outcomes, strict=True)
    } == dict.fromkeys(calls, Unavailable)
    assert time.monotonic() - began < PATIENCE + 3
    assert all("soorma dev" in str(error) for error in outcomes)
    await asyncio.to_thread(platform.start)
    state = WorkflowState(context.memory, "plan")
    assert [change.op for change in await state.history()] == ["set"]
    assert await state.get("k") == 1


@pytest.mark.behaviour("outage.every-call")
async def test_a_platform_that_hangs_is_away_too(
    platform: PlatformProcess, context: PlatformContext
) -> None:
    state = WorkflowState(context.memory, "plan")
    await state.set("k", 1)
    os.kill(platform.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        calls = (
            state.get("k", "a default"),
            state.increment("k"),
            context.bus.publish("a", "business-facts"),
        )
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
        assert time.monotonic() - began < PATIENCE + 5
    finally:
        os.kill(platform.pid, signal.SIGCONT)
    assert await state.wait_for("k", timeout=10) in {1, 2}


@pytest.mark.behaviour("outage.handler")
async def test_a_handler_does_not_take_an_outage_for_an_empty_plan(
    platform: PlatformProcess, context: PlatformContext
) -> None:
    await WorkflowState(context.memory, "other").set("k", "kept")
    began, go_on, seen = asyncio.Event(), asyncio.Event(), Seen()
    tenant_id = context.memory.scope().tenant_id
    agent = Agent(
        unique("agent"), config=config_of(platform, tenant_id=tenant_id, retry_seconds=PATIENCE)
    )

    @agent.on_event("a")
    async def handle(event: Any, handler: Any) -> None:
        began.set()
        await go_on.wait()
        inside = WorkflowState(handler.memory, "other")
        try:
            seen.append(await inside.get("k", "a default"))
        except Unavailable:
            seen.append("unavailable")
            raise

    async with agent:
        await context.bus.publish("a", "business-facts")
        await began.wait()
        await asyncio.to_thread(platform.kill)
        go_on.set()
        await seen.until(1)
        await asyncio.to_thread(platform.start)
        assert await seen.until(2) == ["unavailable", "kept"]


@pytest.mark.behaviour("handlers.plan-at-hand")
async def test_the_plan_in_hand_is_read_without_asking_the_platform(
    platform: PlatformProcess, context: PlatformContext
) -> None:
    state = WorkflowState(context.memory, "plan")
    await state.update({"n": 1, "null": None})
    began, go_on, seen = asyncio.Event(), asyncio.Event(), Seen()
    agent = Agent(
        unique("agent"), config=config_of(platform, tenant_id=context.memory.scope().tenant_id)
    )

    @agent.on_event("a")
    async def handle(event: Any, handler: Any) -> None:
        began.set()
        await go_on.wait()
        inside = WorkflowState(handler.memory, "plan")
        seen.append(
            [await inside.get("n"), await inside.get("null", "?"), await inside.has("missing")]
        )
        await inside.set("attempt", handler.attempt)

    async with agent:
        await context.bus.publish("a", "business-facts", plan_id="plan")
        await began.wait()
        await asyncio.to_thread(platform.kill)
        go_on.set()
        assert await seen.until(1) == [[1, None, False]]
        await asyncio.to_thread(platform.start)
        assert await state.wait_for("attempt", timeout=15) == 1
    assert len(seen) == 1


@pytest.mark.behaviour("outage.restart")
async def test_a_call_during_a_restart_succeeds(platform: PlatformProcess) -> None:
    async with context_of(platform) as context:
        state = WorkflowState(context.memory, unique("plan"))
        await state.set("k", 1)
        for end in (platform.kill, platform.stop):
            await asyncio.to_thread(end)
            calls = asyncio.gather(
                state.increment("k"),
                state.get("k"),
                state.record_action("a"),
                context.bus.publish("a", "business-facts"),
            )
            await asyncio.to_thread(platform.start)
            await calls
        assert await state.get("k") == 3
        assert await state.get_action_history() == ["a", "a"]


@pytest.mark.behaviour("outage.restart", "watch.without-gap")
async def test_watch_and_wait_for_go_on_after_a_restart(platform: PlatformProcess) -> None:
    async with context_of(platform) as context:
        state = WorkflowState(context.memory, unique("plan"))
        await state.set("n", 0)
        seen, watching = Seen(), asyncio.Event()

        async def watch() -> None:
            async for change in state.watch(after=0):
                seen.append(change.argument)
                watching.set()

        watcher = asyncio.create_task(watch())
        waiter = asyncio.create_task(state.wait_for("n", 5, timeout=15))
        await watching.wait()
        for n in range(1, 6):
            await asyncio.to_thread(platform.kill)
            await asyncio.to_thread(platform.start)
            await state.set("n", n)
        assert await waiter == 5
        assert await seen.until(6) == list(range(6))
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


class Stream:
    """Endless calls, and their outcomes."""

    def __init__(self, call: Callable[[str], Awaitable[Any]]) -> None:
        self._call = call
        self.acknowledged: list[str] = []
        self.raised: list[str] = []
        self.stop = False

    async def run(self, name: str) -> None:
        number = 0
        while not self.stop:
            number += 1
            mine = f"{name}.{number}"
            try:
                await self._call(mine)
            except Unavailable:
                self.raised.append(mine)
            else:
                self.acknowledged.append(mine)

    def explains(self, found: list[str]) -> None:
        """Asserts that each acknowledged call is in `found` once, and no call more than once."""
        assert len(found) == len(set(found)), "a retry has doubled something"
        missing = set(self.acknowledged) - set(found)
        assert not missing, "what was acknowledged is gone"
        assert set(found) <= {*self.acknowledged, *self.raised}


async def kill_again_and_again(
    platform: PlatformProcess, times: int, streams: list[Stream]
) -> None:
    for _ in range(times):
        before = [len(stream.acknowledged) for stream in streams]
        async with asyncio.timeout(15):
            while any(  # noqa: ASYNC110 - processes tell by what they print
                len(stream.acknowledged) < n + 5 for stream, n in zip(streams, before, strict=True)
            ):
                await asyncio.sleep(0.001)
        await asyncio.to_thread(platform.kill)
        await asyncio.to_thread(platform.start)
    for stream in streams:
        stream.stop = True


@pytest.mark.behaviour("durability.acknowledged", "outage.at-most-once")
@pytest.mark.parametrize("patience", [10.0, 0.05], ids=["patient", "impatient"])
async def test_retries_under_kills_double_and_lose_nothing(
    platform: PlatformProcess, patience: float
) -> None:
    tenant_id, plan = unique("tenant"), unique("plan")
    async with context_of(platform, tenant_id=tenant_id, retry_seconds=patience) as context:
        state = WorkflowState(context.memory, plan)
        numbers = Stream(lambda name: state.increment("n"))
        lists = Stream(lambda name: state.append("l", name, blind=True))
        actions = Stream(state.record_action)
        objects = Stream(lambda name: state.update_dict("o", {name: 1}, blind=True))
        events = Stream(lambda name: context.bus.publish("a", "business-facts", name))
        streams = [numbers, lists, actions, objects, events]
        running = [
            asyncio.create_task(s.run(f"{i}.{w}")) for i, s in enumerate(streams) for w in range(3)
        ]
        await kill_again_and_again(platform, 5, streams)
        await asyncio.gather(*running)
    async with context_of(platform, tenant_id=tenant_id) as context:
        state = WorkflowState(context.memory, plan)
        total = await state.get("n")
        assert len(numbers.acknowledged) <= total <= len(numbers.acknowledged) + len(numbers.raised)
        lists.explains(await state.get("l"))
        actions.explains(await state.get_action_history())
        objects.explains([change.argument.popitem()[0] for change in await state.history("o")])
        events.explains(published(platform, tenant_id, len(events.acknowledged)))
        if patience > 5:
            assert sum(len(stream.raised) for stream in streams) == 0, (
                "a restart is no outage for a patient caller"
            )
        assert len(await state.history("n")) == total


def published(platform: PlatformProcess, tenant_id: str, at_least: int) -> list[str]:
    """The data of all events of a tenant, up to a last one that is published here."""
    raw = Raw(platform.events_url, tenant_id)
    raw(
        "POST",
        "/v1/events/publish",
        {"type": "last", "topic": "business-facts", "tenant_id": tenant_id},
    )
    found: list[str] = []
    with raw.stream(f"/v1/events/stream?after=0&tenant_id={tenant_id}") as stream:
        while (event := stream.next()[2])["type"] != "last":
            found.append(event["data"])
    assert len(found) >= at_least
    return found


@pytest.mark.behaviour("durability.acknowledged")
async def test_what_was_acknowledged_survives_a_kill_at_once(platform: PlatformProcess) -> None:
    tenant_id = unique("tenant")
    async with (
        context_of(platform, tenant_id=tenant_id) as context,
        EventClient("c", config=config_of(platform)) as client,
    ):
        state = WorkflowState(context.memory, "plan")
        for n in range(10):
            calls = [state.set(f"k{n}.{m}", m) for m in range(10)]
            await asyncio.gather(
                *calls, client.publish("a", "business-facts", n, tenant_id=tenant_id)
            )
            if n % 3 == 0:
                await asyncio.to_thread(platform.kill)
                await asyncio.to_thread(platform.start)
        assert len(await state.keys()) == 100
    assert sorted(published(platform, tenant_id, 10)) == list(  # type: ignore[comparison-overlap]
        range(10)
    )


@pytest.mark.behaviour("agents.come-back")
async def test_an_agent_comes_back_by_itself(platform: PlatformProcess) -> None:
    tenant_id = unique("tenant")
    agent, seen = Agent(unique("agent"), config=config_of(platform, tenant_id=tenant_id)), Seen()

    @agent.on_event("a")
    async def handle(event: Any, context: Any) -> None:
        await WorkflowState(context.memory, "plan").append("l", event.data)
        seen.append((event.data, context.attempt))

    async with context_of(platform, tenant_id=tenant_id) as context, agent:
        for n in range(5):
            await context.bus.publish("a", "business-facts", n, plan_id="plan")
            await WorkflowState(context.memory, "plan").wait_for(
                "l", list(range(n + 1)), timeout=15
            )
            await asyncio.to_thread(platform.kill)
            await asyncio.to_thread(platform.start)
    assert seen == [(n, 1) for n in range(5)]
