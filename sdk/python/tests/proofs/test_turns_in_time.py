"""Times under contention: handlers that change one key, and holders of a semaphore.

Each figure is the best of three, as it is about Soorma and not about what else the machine does.
`make prove` requires what is promised; `make test`, which runs beside much else, the order of
magnitude, which a stampede exceeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import pytest
from depth import at_depth
from platform_process import PlatformProcess
from running import PythonProcess, Raw, context_of, unique

from soorma import PlatformContext, WorkflowState

pytestmark = pytest.mark.proof

TURNS_WITHIN, PLACES_WITHIN = at_depth((10.0, 10.0), (1.8, 1.3))
"""Times the ideal."""
HANDLERS, HANDLER_SECONDS = 200, 0.02
HOLDERS, HOLDER_SECONDS, PLACES = 133, 0.05, 3

AGENT = f"""
agent = Worker(os.environ["NAME"], max_concurrency=int(os.environ["AT_ONCE"]))

@agent.on_event("add")
async def add(event, context):
    state = WorkflowState(context.memory, event.data)
    n = await state.get("n", 0)
    print("runs", flush=True)
    await asyncio.sleep({HANDLER_SECONDS})
    await state.set("n", n + 1)

agent.run()
"""


async def measure(once: Callable[[], Awaitable[float]], enough: float) -> list[float]:
    """Up to three measurements; one that is good enough is the last."""
    found = [await once()]
    while found[-1] > enough and len(found) < 3:
        found.append(await once())
    return found


@pytest.mark.behaviour("handlers.turns")
@pytest.mark.parametrize("processes", [1, 4])
async def test_handlers_of_one_key_take_little_longer_than_one_after_the_other(
    platform: PlatformProcess, processes: int
) -> None:
    ideal, name = HANDLERS * HANDLER_SECONDS, unique("agent")
    with ExitStack() as stack:
        agents = [
            stack.enter_context(
                PythonProcess(platform, AGENT, NAME=name, AT_ONCE=str(32 // processes))
            )
            for _ in range(processes)
        ]
        for agent in agents:
            await agent.subscribed()
        async with context_of(platform) as context:
            rounds = await measure(lambda: _add(context), TURNS_WITHIN * ideal)
            commits = HANDLERS * len(rounds)
        runs = sum(agent.lines.count("runs") for agent in agents)
        letters = Raw(platform.events_url)("GET", f"/v1/events/dead-letters?group={name}").json[
            "dead_letters"
        ]
    took = min(rounds)
    assert took <= TURNS_WITHIN * ideal, f"{took / ideal:.2f} of the ideal"
    assert runs <= 2.5 * commits
    assert letters == []


async def _add(context: PlatformContext) -> float:
    plan, loop = unique("hot"), asyncio.get_running_loop()
    began = loop.time()
    await context.bus.publish_many(
        {"event_type": "add", "topic": "action-requests", "plan_id": unique("plan"), "data": plan}
        for _ in range(HANDLERS)
    )
    await WorkflowState(context.memory, plan).wait_for("n", HANDLERS, timeout=90)
    return loop.time() - began


@pytest.mark.behaviour("claims.first-come")
async def test_holders_of_a_semaphore_take_little_longer_than_their_places_would(
    platform: PlatformProcess,
) -> None:
    ideal = HOLDERS * HOLDER_SECONDS / PLACES
    async with context_of(platform) as context:
        took = min(await measure(lambda: _hold(context), PLACES_WITHIN * ideal))
    assert took <= PLACES_WITHIN * ideal, f"{took / ideal:.2f} of the ideal"


async def _hold(context: PlatformContext) -> float:
    state, loop = WorkflowState(context.memory, unique("plan")), asyncio.get_running_loop()

    async def hold() -> None:
        claim = await state.semaphore("k", PLACES, wait=60)
        assert claim is not None
        async with claim:
            await asyncio.sleep(HOLDER_SECONDS)

    began = loop.time()
    await asyncio.gather(*(hold() for _ in range(HOLDERS)))
    return loop.time() - began
