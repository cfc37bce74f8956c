"""Example 05 under fire: agents and platform are killed with -9, and every goal completes once."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from agent_process import AgentProcess
from closed_platform import closed_in
from depth import at_depth
from platform_process import PlatformProcess
from proofs.invariants import check_file

from soorma import ClientConfig, Event, EventClient, MemoryClient, WorkflowState
from soorma.context import caller_for
from soorma.transport.calls import Caller
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER

NAMES = ("planner", "worker", "coordinator")
REPLICAS = 2
PAUSE = 0.04
GOALS, KILLS = at_depth((1, 9), (100, 50))
"""At least so many of each."""
GOALS_AT_ONCE = 8
PLATFORM_KILL_EVERY = at_depth(3, 8)
SECONDS = at_depth(100, 200)
ACCESS = at_depth(("closed",), ("open", "closed"))
ACTIONS = [
    "planning.started",
    "workflow.started",
    "research.completed",
    "draft.completed",
    "review.completed",
    "workflow.completed",
]


class Fleet:
    """Two replicas of each agent; a killed one is replaced."""

    def __init__(self, hunted: Hunted, folder: Path) -> None:
        self._hunted = hunted
        self._folder = folder
        self._numbers = itertools.count(1)
        self.agents = [self._start(name) for name in NAMES for _ in range(REPLICAS)]

    def _start(self, name: str) -> AgentProcess:
        log = self._folder / f"{name}-{next(self._numbers)}.log"
        platform, key = self._hunted.platform, self._hunted.agent
        return AgentProcess(name, platform, log, pause=PAUSE, api_key=key)

    def kill_one(self, dice: random.Random) -> list[str]:
        """Kills a replica inside a handler and starts another; returns the interrupted attempts."""
        deadline = time.monotonic() + 30
        while not (
            busy := [
                index for index, agent in enumerate(self.agents) if _may_die(agent.unfinished())
            ]
        ):
            assert time.monotonic() < deadline, "no handler that may be killed has run for 30 s"
            time.sleep(0.002)
        index = dice.choice(busy)
        cut_short = self.agents[index].kill()
        self.agents[index] = self._start(self.agents[index].name)
        return cut_short

    def stop(self) -> None:
        for agent in self.agents:
            agent.stop()


def _may_die(attempts: list[str]) -> bool:
    """False if one has cost two processes their lives: it is rightly given up at a third death."""
    return bool(attempts) and all(int(attempt.rpartition(" ")[2]) < 3 for attempt in attempts)


class Hunted(NamedTuple):
    """The platform, and keys for its agents and its clients if it is closed."""

    platform: PlatformProcess
    agent: str | None = None
    app: str | None = None


@pytest.fixture(params=ACCESS)
def hunted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hunted]:
    """A short lease: an agent killed while the platform is away is noticed by its lease alone."""
    folder = tmp_path / "platform"
    folder.mkdir()
    if request.param == "open":
        with PlatformProcess(folder, env={"SOORMA_LEASE_SECONDS": "8"}) as running:
            yield Hunted(running)
        return
    with closed_in(folder, SOORMA_LEASE_SECONDS="8") as closed:
        agent = closed.key("agent", agents=["*"], subscribe=["*"], publish=["*"])
        app = closed.key("app", tenant_id=DEFAULT_TENANT, user_id=DEFAULT_USER)
        yield Hunted(closed.platform, agent.credential, app.credential)


@pytest.fixture
def fleet(hunted: Hunted, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        agents = Fleet(hunted, tmp_path)
        stack.callback(agents.stop)
        yield agents


async def submit(config: ClientConfig, goals: list[str], enough: asyncio.Event) -> None:
    """Submits a few goals at a time.

    At a fixed rate, a slow machine would fall behind, and have all of them to do at the end.
    """
    room = asyncio.Semaphore(GOALS_AT_ONCE)
    reached: set[str] = set()
    async with EventClient("submitter", config=config) as client:

        @client.on_event("workflow.completed", topic="action-results")
        def completed(event: Event) -> None:
            if event.correlation_id not in reached:
                reached.add(str(event.correlation_id))
                room.release()

        await client.connect(["action-results"])
        while not enough.is_set() or len(goals) < GOALS:
            await room.acquire()
            goal = f"goal {len(goals)}"
            goals.append(await client.publish("goal.received", "action-requests", {"goal": goal}))
            await asyncio.sleep(0.25)


async def count(config: ClientConfig, acknowledged: list[int], enough: asyncio.Event) -> None:
    """Writes of a client that is not killed: each acknowledged one must be there at the end."""
    async with MemoryClient(config=config) as memory:
        state = WorkflowState(memory, "ledger")
        while not enough.is_set():
            acknowledged.append(await state.increment("count"))
            await asyncio.sleep(0.02)


async def completions(
    caller: Caller, goals: list[str]
) -> tuple[dict[str, list[dict[str, Any]]], list[Any]]:
    """The workflow.completed events of each goal, and all events, once every goal has one."""
    found: dict[str, list[dict[str, Any]]] = {goal: [] for goal in goals}
    events = []
    async for kind, _, data in caller.follow("events", "/v1/events/stream", None, {"after": 0}):
        if kind == "event":
            event = json.loads(data)
            events.append(event)
            if event["type"] == "workflow.completed":
                found[event["correlation_id"]].append(event)
        if all(found.values()):
            return found, events
    raise AssertionError("the stream ended")


@pytest.mark.proof
@pytest.mark.behaviour("handlers.kills-of-everything")
@pytest.mark.timeout(SECONDS + 60)
async def test_goals_complete_once_under_kills(hunted: Hunted, fleet: Fleet) -> None:
    platform = hunted.platform
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    config = ClientConfig(
        platform.memory_url, platform.events_url, retry_seconds=30, api_key=hunted.app
    )
    goals: list[str] = []
    acknowledged: list[int] = []
    enough = asyncio.Event()
    busy = [
        asyncio.create_task(submit(config, goals, enough)),
        asyncio.create_task(count(config, acknowledged, enough)),
    ]
    kills: list[str] = []
    platform_kills = 0
    async with asyncio.timeout(SECONDS):
        while len(kills) < KILLS:
            await asyncio.sleep(dice.uniform(0.2, 1.2))
            cut_short = await asyncio.to_thread(fleet.kill_one, dice)
            if cut_short:
                kills.append(cut_short[0])
                if len(kills) % PLATFORM_KILL_EVERY == 0:
                    platform_kills += 1
                    await asyncio.to_thread(platform.restart)
        enough.set()
        await asyncio.gather(*busy)
        caller = caller_for(config)
        found, events = await completions(caller, goals)
        await caller.close()

    per_agent = Counter(kill.partition(":")[0] for kill in kills)
    sys.stdout.write(
        f"\nseed {seed}: {len(kills)} kills inside running handlers {dict(per_agent)}, "
        f"{platform_kills} of the "
        f"platform, {len(goals)} goals, {len(acknowledged)} writes beside them\n"
    )
    assert len(kills) >= KILLS
    assert len(goals) >= GOALS
    assert platform_kills >= 3
    assert {goal: len(ended) for goal, ended in found.items()} == dict.fromkeys(goals, 1)
    await check_plans(config, found, events)
    async with MemoryClient(config=config) as memory:
        assert (
            await WorkflowState(memory, "ledger").get("count")
            == acknowledged[-1]
            == len(acknowledged)
        )
    check_file(platform.database)


async def check_plans(
    config: ClientConfig, found: dict[str, list[dict[str, Any]]], events: list[Any]
) -> None:
    """Checks that each plan has its six actions in order, its results, and no extra events."""
    published = Counter((event.get("plan_id"), event["type"]) for event in events)
    assert not [event for event in events if event["type"] == "event.dead_lettered"]
    async with MemoryClient(config=config) as memory:
        for (ended,) in found.values():
            plan_id = ended["data"]["plan_id"]
            state = WorkflowState(memory, plan_id)
            assert await state.get_action_history() == ACTIONS
            values = await state.get_many(
                ["status", "current_task_index", "research_result", "review_result"]
            )
            assert len(values) == 4
            assert values["status"] == "completed"
            assert values["current_task_index"] == 2
            assert published[plan_id, "task.assigned"] == published[plan_id, "task.completed"] == 3
            assert published[plan_id, "workflow.completed"] == 1
