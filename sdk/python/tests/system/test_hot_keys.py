"""Handlers of different plans that contend for one key take turns at it, whoever of them dies."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import AT_ONCE, PythonProcess, Raw, Seen, another, context_of, eventually, unique

from soorma import Agent, HandlerContext, PlatformContext, RetryPolicy, WorkflowState

EVENTS = 60
BLOCKED_SECONDS = 6.5
"""More seconds than a reservation lasts without a sign of life."""

HANDLERS = """
agent = Worker(os.environ["NAME"], max_concurrency=int(os.environ.get("AT_ONCE", "4")))

async def add(event, context, pause):
    state = WorkflowState(context.memory, "hot")
    n = await state.get("n", 0)
    say("begins", event.data)
    await pause()
    await state.set("n", n + 1)
    await state.append("order", event.data, blind=True)

@agent.on_event(os.environ["NAME"] + ".add")
async def add_one(event, context):
    await add(event, context, lambda: asyncio.sleep(0.02))

@agent.on_event(os.environ["NAME"] + ".hold")
async def hold(event, context):
    await add(event, context, lambda: asyncio.to_thread(sys.stdin.readline))

runs = 0

@agent.on_event(os.environ["NAME"] + ".block")
async def block(event, context):
    global runs
    runs += 1
    async def pause():
        if runs == 1:
            await asyncio.to_thread(sys.stdin.readline)
        else:
            time.sleep(float(os.environ["BLOCK"]))
    await add(event, context, pause)

agent.run()
"""


@pytest.fixture
def retry() -> RetryPolicy:
    return AT_ONCE


@pytest.fixture
def hot(context: PlatformContext) -> WorkflowState:
    return WorkflowState(context.memory, "hot")


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def agent_in(
    processes: ExitStack, platform: PlatformProcess, name: str, **env: str
) -> PythonProcess:
    """A replica of the group `name`, which handles `name.add` and so on, once it is subscribed."""
    process = processes.enter_context(PythonProcess(platform, HANDLERS, NAME=name, **env))
    return await process.subscribed()


async def ask(context: PlatformContext, kind: str, *data: Any) -> None:
    """Publishes events, each of a plan of its own."""
    await context.bus.publish_many(
        {"event_type": kind, "topic": "action-requests", "plan_id": unique("plan"), "data": one}
        for one in data
    )


async def reserve(
    context: PlatformContext, hot: WorkflowState, holder: PythonProcess, kind: str
) -> None:
    """Makes the holder run again with the key reserved: while it ran first, the key was changed."""
    await ask(context, kind, "holder")
    await holder.until("begins holder")
    await hot.increment("n")
    holder.go()
    await holder.until("begins holder", 2)


def measured(platform: PlatformProcess, name: str) -> int:
    told = Raw(platform.events_url)("GET", "/metrics").body.decode()
    found = re.search(rf"^{name} (\d+)", told, re.MULTILINE)
    assert found is not None, told
    return int(found[1])


def expired(platform: PlatformProcess) -> int:
    """The number of turns that ended because their holders were silent."""
    return measured(platform, "soorma_reservations_expired_total")


def waiting(platform: PlatformProcess) -> int:
    found = re.search(
        r"^soorma_commits_waiting (\d+)",
        Raw(platform.events_url)("GET", "/metrics").body.decode(),
        re.MULTILINE,
    )
    assert found is not None
    return int(float(found[1]))


def letters(platform: PlatformProcess, group: str) -> list[Any]:
    return list(
        Raw(platform.events_url)("GET", f"/v1/events/dead-letters?group={group}").json[
            "dead_letters"
        ]
    )


@pytest.mark.behaviour("handlers.turns")
@pytest.mark.parametrize("replicas", [1, 4])
async def test_many_who_change_one_key_run_about_twice_each(
    running: PlatformProcess,
    context: PlatformContext,
    hot: WorkflowState,
    processes: ExitStack,
    replicas: int,
) -> None:
    name = unique("agent")
    agents = [
        await agent_in(processes, running, name, AT_ONCE=str(32 // replicas))
        for _ in range(replicas)
    ]
    await ask(context, f"{name}.add", *range(EVENTS))
    await hot.wait_for("n", EVENTS, timeout=60)
    runs = sum(line.startswith("begins") for agent in agents for line in agent.lines)
    assert runs <= 2.5 * EVENTS
    assert letters(running, name) == []
    assert sorted(await hot.get("order")) == list(range(EVENTS))


@pytest.mark.behaviour("handlers.turns")
async def test_a_slow_handler_beside_a_quick_writer_commits(
    context: PlatformContext, agent: Agent, hot: WorkflowState
) -> None:
    slow, quick = Seen(), Seen()

    @agent.on_event("slow")
    async def read(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "hot")
        slow.append(await inside.get("status"))
        await asyncio.sleep(0.3)
        await inside.set("result", 1)

    writer = another(agent)

    @writer.on_event("quick")
    async def write(event: Any, handler: HandlerContext) -> None:
        quick.append(event.data)
        await WorkflowState(handler.memory, "hot").set("status", event.data)

    async def keep_writing() -> None:
        number = 0
        while True:
            await ask(context, "quick", number)
            await asyncio.sleep(0.05)
            number += 1

    async with agent, writer:
        writing = asyncio.create_task(keep_writing())
        await quick.until(3)
        await ask(context, "slow", None)
        await hot.wait_for("result", timeout=30)
        before = len(quick)
        await quick.until(before + 2)
        writing.cancel()
    assert len(slow) <= 6


@pytest.mark.behaviour("handlers.turns-delay", "metrics.counted")
async def test_a_reservation_delays_handlers_that_write_and_nobody_else(
    running: PlatformProcess,
    context: PlatformContext,
    agent: Agent,
    hot: WorkflowState,
    processes: ExitStack,
) -> None:
    holder = await agent_in(processes, running, agent.name + "-holder")
    await reserve(context, hot, holder, agent.name + "-holder.hold")

    @agent.on_event("blind")
    async def blind(event: Any, handler: HandlerContext) -> None:
        await WorkflowState(handler.memory, "hot").increment("n", blind=True)

    @agent.on_event("reads")
    async def reads(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "hot")
        await inside.set("copy", await inside.get("n"))

    @agent.on_event("writes")
    async def writes(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "hot")
        await inside.set("n", 100)
        await inside.set("written", True)

    async with agent:
        await hot.set("n", 10)
        await ask(context, "blind", None)
        await hot.wait_for("n", 11)
        await ask(context, "reads", None)
        assert await hot.wait_for("copy") == 11
        await ask(context, "writes", None)
        await eventually(lambda: waiting(running) == 1)
        assert await hot.has("written") is False
        # A call from outside has changed its key: it runs again, ahead of the other.
        holder.go()
        await holder.until("begins holder", 3)
        holder.go()
        await hot.wait_for("written")
    assert await hot.get("n") == 100
    assert await hot.get("order") == ["holder"]
    assert waiting(running) == 0


@pytest.mark.behaviour("handlers.turns-end")
async def test_a_holders_death_frees_its_key_at_once(
    running: PlatformProcess, context: PlatformContext, hot: WorkflowState, processes: ExitStack
) -> None:
    name = unique("agent")
    before = expired(running)
    holder = await agent_in(processes, running, name, AT_ONCE="32")
    await reserve(context, hot, holder, f"{name}.hold")
    await ask(context, f"{name}.add", *range(10))
    await eventually(lambda: waiting(running) == 10)
    await agent_in(processes, running, f"{name}-other")
    await ask(context, f"{name}-other.add", "other")
    await eventually(lambda: waiting(running) == 11)
    holder.kill()
    await eventually(lambda: _has(hot, "other", 1))
    assert expired(running) == before, "neither it nor those that waited beside it"
    heir = await agent_in(processes, running, name, AT_ONCE="32")
    await heir.until("begins holder")
    for _ in range(2):  # it may have to run again
        heir.go()
    await eventually(lambda: _has(hot, "", 12))
    assert await hot.get("n") == 1 + 12
    assert expired(running) == before


@pytest.mark.behaviour("handlers.turns-end")
async def test_a_frozen_holder_and_all_that_wait_beside_it_hold_up_the_others_for_one_reservation(
    running: PlatformProcess, context: PlatformContext, hot: WorkflowState, processes: ExitStack
) -> None:
    before = expired(running)
    name = unique("agent")
    holder = await agent_in(processes, running, name, AT_ONCE="32")
    await reserve(context, hot, holder, f"{name}.hold")
    await ask(context, f"{name}.add", *range(20))
    await eventually(lambda: waiting(running) == 20)
    holder.send(signal.SIGSTOP)
    await agent_in(processes, running, f"{name}-other")
    await ask(context, f"{name}-other.add", *(f"other {number}" for number in range(3)))
    await eventually(lambda: _has(hot, "other", 3))
    assert expired(running) == before + 1
    holder.send(signal.SIGCONT)
    holder.go()
    await holder.until("begins holder", 3)
    holder.go()
    await eventually(lambda: _has(hot, "", 1 + 20 + 3))
    assert await hot.get("n") == 1 + 1 + 20 + 3


async def _has(hot: WorkflowState, beginning: str, count: int) -> bool:
    return sum(str(one).startswith(beginning) for one in await hot.get("order", [])) >= count


@pytest.mark.behaviour("handlers.turns-end")
async def test_a_handler_that_blocks_its_event_loop_keeps_its_reservation(
    running: PlatformProcess, context: PlatformContext, hot: WorkflowState, processes: ExitStack
) -> None:
    before = expired(running)
    name = unique("agent")
    holder = await agent_in(processes, running, name, BLOCK=str(BLOCKED_SECONDS))
    await agent_in(processes, running, f"{name}-other")
    await reserve(context, hot, holder, f"{name}.block")
    await ask(context, f"{name}-other.add", "other")
    await hot.wait_for("order", ["holder", "other"])
    assert expired(running) == before


@pytest.mark.behaviour("handlers.turns-end")
async def test_a_restart_of_the_platform_loses_turns_and_no_update(
    tmp_path: Path, processes: ExitStack
) -> None:
    folder = tmp_path / "platform"
    folder.mkdir()
    platform = processes.enter_context(PlatformProcess(folder))
    async with context_of(platform, tenant_id=unique("tenant")) as context:
        hot, name = WorkflowState(context.memory, "hot"), unique("agent")
        holder = await agent_in(processes, platform, name, AT_ONCE="32")
        await reserve(context, hot, holder, f"{name}.hold")
        await ask(context, f"{name}.add", *range(10))
        await eventually(lambda: waiting(platform) == 10)
        platform.restart()
        holder.go()
        await hot.wait_for("n", lambda n: n >= 11, timeout=30)
        holder.go()
        await hot.wait_for("n", 12, timeout=30)
        assert len(await hot.get("order")) == 11


@pytest.mark.behaviour("handlers.turns")
async def test_whoever_needs_several_keys_in_any_order_is_not_stuck(
    running: PlatformProcess, context: PlatformContext, agent: Agent
) -> None:
    accounts = WorkflowState(context.memory, "accounts")
    await accounts.update({f"a{number}": 100 for number in range(5)})
    done = WorkflowState(context.memory, "done")

    async def transfer(event: Any, handler: HandlerContext) -> None:
        giver, taker = event.data
        inside = WorkflowState(handler.memory, "accounts")
        given = await inside.get(giver)
        await inside.set(giver, given - 1)
        await asyncio.sleep(0.005)
        taken = await inside.get(taker)
        await inside.set(taker, taken + 1)
        await WorkflowState(handler.memory, "done").increment("n", blind=True)

    twin = another(agent, agent.name)
    for one in (agent, twin):
        one.on_event("transfer")(transfer)
    moves = [(f"a{number % 5}", f"a{(number * 3 + 1) % 5}") for number in range(60)]
    moves = [(giver, taker) for giver, taker in moves if giver != taker]
    async with agent, twin:
        await ask(context, "transfer", *moves)
        await done.wait_for("n", len(moves), timeout=60)
    assert sum((await accounts.get_many(f"a{number}" for number in range(5))).values()) == 500
    assert letters(running, agent.name) == []


@pytest.mark.behaviour("handlers.turns-requests")
async def test_a_holder_may_ask_others_who_change_its_key(
    running: PlatformProcess, context: PlatformContext, agent: Agent, hot: WorkflowState
) -> None:
    """Those it asks must not wait for the holder's turn while the holder waits for them."""
    helper, answers = another(agent), Seen()

    @helper.on_event("help", topic="action-requests")
    async def give_help(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "hot")
        await inside.set("n", await inside.get("n", 0) + 1)
        await handler.bus.respond(event, event.data)

    @agent.on_event("ask")
    async def ask_for_help(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "hot")
        n = await inside.get("n", 0)
        if not answers:
            await hot.increment("n")  # so that it runs again with the key reserved
        answer = (
            await handler.bus.request("help", response_event="helped", timeout=10)
            if answers
            else None
        )
        answers.append(answer)
        await inside.set("asked", n)

    async with agent, helper:
        await ask(context, "ask", None)
        await hot.wait_for("asked")
    assert len(answers) >= 3
    assert letters(running, agent.name) == []


@pytest.mark.behaviour("joins.without-conflicts")
async def test_those_who_join_do_not_disturb_each_other(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    runs, joined = Seen(), Seen()

    @agent.on_event("part", ordered=False)
    async def part(event: Any, handler: HandlerContext) -> None:
        runs.append(event.data)
        inside = WorkflowState(handler.memory, "plan")
        is_last = await inside.join("parts", expect=EVENTS)
        await asyncio.sleep(0.01)
        if is_last:
            await handler.bus.publish("all", "business-facts")

    @agent.on_event("all")
    async def hear(event: Any, _: HandlerContext) -> None:
        joined.append(event)

    async with agent:
        await context.bus.publish_many(
            {"event_type": "part", "topic": "action-requests", "plan_id": "plan", "data": number}
            for number in range(EVENTS)
        )
        await joined.until(1)
    assert len(runs) <= EVENTS + 1, "only the last could have seen another result"
    assert len((await state.get("parts"))["arrived"]) == EVENTS
