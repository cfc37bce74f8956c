"""Agents as processes of their own: stopped, frozen, blocked and killed inside a handler."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest
from platform_process import PlatformProcess
from running import PythonProcess, Seen, config_of, context_of, eventually, platform_in, unique

from soorma import Agent, PlatformContext, WorkflowState

LEASE = 2.0

HANDLER = """
drain = float(os.environ.get("DRAIN", "30"))
agent = Worker(os.environ["NAME"], retry=RetryPolicy(first_delay=0), \
max_concurrency=4, drain_timeout=drain)

@agent.on_startup
def begin():
    say("starts up")

@agent.on_shutdown
async def end():
    await asyncio.sleep(0)
    say("shuts down")

async def work(event, context):
    say("begins", event.data, context.attempt)
    state = WorkflowState(context.memory, "plan")
    await state.append("done", [event.data, context.attempt, os.environ["ME"]])
    await state.record_action(str(event.data))
    await context.bus.publish("done", "business-facts", event.data)
    return state

@agent.on_event("wait")
async def wait(event, context):
    await work(event, context)
    await asyncio.to_thread(sys.stdin.readline)
    say("goes on", event.data)

@agent.on_event("block")
async def block(event, context):
    await work(event, context)
    time.sleep(float(os.environ["BLOCK"]))
    say("goes on", event.data)

@agent.on_event("thread")
def thread(event, context):
    say("begins", event.data, context.attempt)
    time.sleep(float(os.environ["BLOCK"]))
    context.run(WorkflowState(context.memory, "plan").set("thread", context.attempt))

@agent.on_event("pay")
async def pay(event, context):
    say("begins", event.data, context.attempt)
    await asyncio.to_thread(sys.stdin.readline)
    await context.step("pay", lambda: say("pays", event.data, context.attempt))
    await WorkflowState(context.memory, "plan").append("done", \
[event.data, context.attempt, os.environ["ME"]])

@agent.on_event("step")
async def step(event, context):
    say("begins", event.data, context.attempt)
    await context.step("block", time.sleep, float(os.environ["BLOCK"]))

@agent.on_event("quick")
async def quick(event, context):
    await work(event, context)

agent.run()
say("returned")
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with platform_in(
        tmp_path_factory.mktemp("leases"), SOORMA_LEASE_SECONDS=str(LEASE)
    ) as platform:
        yield platform


def replica(
    running: PlatformProcess, context: PlatformContext, me: str, block: float = 0, **env: str
) -> PythonProcess:
    scope = context.memory.scope()
    name = "agent-of-" + scope.tenant_id
    return PythonProcess(
        running,
        HANDLER,
        NAME=name,
        SOORMA_TENANT_ID=scope.tenant_id,
        ME=me,
        BLOCK=str(block),
        **env,
    )


async def done(state: WorkflowState, count: int, seconds: float = 15) -> list[list[object]]:
    found: list[list[object]] = await state.wait_for(
        "done", lambda value: len(value) >= count, timeout=seconds
    )
    return found


async def ask(context: PlatformContext, kind: str, data: object, **more: str) -> str:
    return await context.bus.publish(kind, "action-requests", data, **more)


@pytest.mark.behaviour("agents.drain")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState, number: signal.Signals
) -> None:
    with replica(running, context, "one") as one:
        await one.subscribed()
        await ask(context, "wait", 1)
        await one.until("begins 1")
        one.send(number)
        # what is published before that may still be its own
        await one.until("takes no further events")
        await ask(context, "quick", 2)
        one.go()
        assert await asyncio.to_thread(one.wait) == 0, one.lines
    assert (await done(state, 1))[0] == [1, 1, "one"]
    spoken = [
        line for line in one.lines if line.split()[0] in {"starts", "shuts", "goes", "returned"}
    ]
    assert spoken == ["starts up", "goes on 1", "shuts down", "returned"]
    with replica(running, context, "two") as two:
        await two.subscribed()
        assert [found[:2] for found in await done(state, 2)] == [[1, 1], [2, 1]]


@pytest.mark.behaviour("agents.second-signal")
async def test_a_second_signal_ends_at_once(
    running: PlatformProcess, context: PlatformContext
) -> None:
    with replica(running, context, "one", block=0) as one:
        await one.subscribed()
        await ask(context, "wait", 1)
        await one.until("begins 1")

        def is_gone() -> bool:
            one.send(signal.SIGTERM)
            return one.process.poll() is not None

        await eventually(is_gone, 10)
        assert one.process.returncode == -signal.SIGTERM


@pytest.mark.behaviour("leases.closed-socket", "handlers.clean-attempt")
async def test_a_killed_agent_is_replaced_at_once(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState
) -> None:
    with replica(running, context, "one") as one:
        await one.subscribed()
        await ask(context, "wait", 1)
        await one.until("begins 1")
        with replica(running, context, "two") as two:
            await two.subscribed()
            two.go()
            one.kill()
            await two.until("begins 1", seconds=LEASE / 2)
            assert await done(state, 1) == [[1, 2, "two"]]
            await two.until("goes on 1")
    assert await state.get_action_history() == ["1"]


@pytest.mark.behaviour("leases.renewed")
@pytest.mark.parametrize("kind", ["block", "thread"])
async def test_a_handler_that_blocks_longer_than_its_lease_keeps_its_event(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState, kind: str
) -> None:
    with (
        replica(running, context, "one", block=1.6 * LEASE) as one,
        replica(running, context, "two", block=1.6 * LEASE) as two,
    ):
        await one.subscribed()
        await two.subscribed()
        await ask(context, kind, "it")
        await state.wait_for("done" if kind == "block" else "thread", timeout=10)
        assert [line for line in one.lines + two.lines if line.startswith("begins")] == [
            "begins it 1"
        ]


@pytest.mark.behaviour("leases.given-back")
async def test_what_waits_behind_a_handler_that_blocks_costs_no_attempt(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """An event on its way to an agent with a blocked event loop is not begun: no attempt fails."""
    lease = 0.5
    folder = tmp_path_factory.mktemp("short")
    with platform_in(folder, SOORMA_LEASE_SECONDS=str(lease)) as platform:
        async with context_of(platform, tenant_id=unique("tenant")) as context:
            state = WorkflowState(context.memory, "plan")
            with replica(platform, context, "one", block=8 * lease) as one:
                await one.subscribed()
                await ask(context, "block", "blocks")
                await one.until("begins blocks 1")
                await ask(context, "quick", "waits")
                found = await done(state, 2, 8 * lease + 5)
    assert [(data, attempt) for data, attempt, _ in found] == [("blocks", 1), ("waits", 1)]


@pytest.mark.behaviour("leases.fence")
async def test_a_zombie_has_no_effect(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState
) -> None:
    heard = Seen()
    listener = Agent(unique("listener"), config=config_of(running, tenant_id=state.tenant_id))

    @listener.on_event("done")
    async def hear(event: object, _: object) -> None:
        heard.append(event)

    with replica(running, context, "one") as one:
        await one.subscribed()
        await ask(context, "wait", 1)
        await one.until("begins 1")
        one.send(signal.SIGSTOP)
        with replica(running, context, "two") as two:
            two.go()
            await two.subscribed()
            await two.until("begins 1")
            assert await done(state, 1) == [[1, 2, "two"]]
            one.go()
            one.send(signal.SIGCONT)
            assert "nothing of this attempt is visible" in await one.until("fenced")
            await ask(context, "quick", 2)
            assert len(await done(state, 2)) == 2
    assert await state.get_action_history() == ["1", "2"]
    async with listener:
        await ask(context, "done", "last")
        await heard.until(3)
    assert sorted(str(event["data"]) for event in heard) == ["1", "2", "last"]


@pytest.mark.behaviour("steps.fenced")
async def test_a_zombie_begins_no_step(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState
) -> None:
    with replica(running, context, "one") as one:
        await one.subscribed()
        await ask(context, "pay", 1)
        await one.until("begins 1")
        one.send(signal.SIGSTOP)
        with replica(running, context, "two") as two:
            two.go()
            await two.subscribed()
            await two.until("pays 1 2")
            assert await done(state, 1) == [[1, 2, "two"]]
            one.go()
            one.send(signal.SIGCONT)
            assert "nothing of this attempt is visible" in await one.until("fenced")
    assert not [line for line in one.lines if line.startswith("pays")]
    assert not [line for line in one.lines if "Traceback" in line or "ERROR" in line]


@pytest.mark.behaviour("agents.drain")
@pytest.mark.parametrize("kind", ["thread", "step"])
async def test_a_drain_does_not_wait_for_what_blocks_in_a_thread(
    running: PlatformProcess, context: PlatformContext, kind: str
) -> None:
    with replica(running, context, "one", block=120, DRAIN="0.3") as one:
        await one.subscribed()
        await ask(context, kind, 1)
        await one.until("begins 1")
        one.send(signal.SIGTERM)
        assert await asyncio.to_thread(one.wait) == 0, one.lines
    assert "returned" in one.lines


@pytest.mark.behaviour("leases.frozen-agent")
async def test_a_frozen_agent_collects_nothing(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState
) -> None:
    with replica(running, context, "one") as one, replica(running, context, "two") as two:
        await one.subscribed()
        await two.subscribed()
        one.send(signal.SIGSTOP)
        for n in range(30):
            await ask(context, "quick", n)
        found = await done(state, 30)
    assert sorted(data for data, _, _ in found) == list(range(30))  # type: ignore[type-var]
    assert len(await state.get_action_history()) == 30


@pytest.mark.behaviour("leases.platform-restart", "leases.reconnect")
@pytest.mark.parametrize("graceful", [False, True], ids=["kill -9", "SIGTERM"])
async def test_a_platform_that_goes_in_the_middle_costs_no_attempt(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState, graceful: bool
) -> None:
    with replica(running, context, "one") as one:
        await one.subscribed()
        await ask(context, "wait", 1, plan_id="plan")
        await ask(context, "quick", 2, plan_id="plan")
        await one.until("begins 1")
        if graceful:
            assert running.stop() == 0
        else:
            running.kill()
        one.go()
        await one.until("goes on 1")
        running.start()
        assert await done(state, 2) == [[1, 1, "one"], [2, 1, "one"]]
        assert await state.get_action_history() == ["1", "2"]
        begun = [line for line in one.lines if line.startswith("begins")]
        assert begun == ["begins 1 1", "begins 2 1"]


@pytest.mark.behaviour("leases.closed-socket")
async def test_an_agent_killed_while_the_platform_is_away_is_replaced(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState
) -> None:
    with replica(running, context, "one") as one:
        await one.subscribed()
        await ask(context, "wait", 1)
        await one.until("begins 1")
        running.kill()
        one.kill()
        running.start()
    with replica(running, context, "two") as two:
        two.go()
        assert await done(state, 1, LEASE + 10) == [[1, 2, "two"]]


@pytest.mark.behaviour("handlers.clean-attempt")
async def test_kills_again_and_again_lose_and_double_nothing(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState
) -> None:
    for n in range(3):
        await ask(context, "wait", n, plan_id="plan")
    for n in range(3):
        with replica(running, context, f"victim {n}") as victim:
            await victim.until(f"begins {n} ")
            victim.kill()
        with replica(running, context, "other") as other:
            await other.until(f"begins {n} ")
            other.go()
            await done(state, n + 1)
    assert await state.get_action_history() == ["0", "1", "2"]
    # each was begun by a victim and, but for the first, by the one before that was killed while it
    # had it
    assert [(data, attempt) for data, attempt, _ in await done(state, 3)] == [
        (0, 2),
        (1, 3),
        (2, 3),
    ]
