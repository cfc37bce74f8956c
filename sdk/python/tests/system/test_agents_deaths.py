"""Processes that die in every way, with other events in flight: only the culprit is given up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from depth import at_depth, drawn
from platform_process import PlatformProcess
from running import PythonProcess, context_of, eventually, platform_in

from soorma import PlatformContext

LEASE = 2.0
IN_FLIGHT = 32

WAYS = ["os._exit", "kill -9", "SIGTERM without a handler", "abort", "segmentation fault", "freeze"]

AGENT = """
import ctypes, signal
most = int(os.environ.get("MOST", "32"))
agent = Worker(os.environ["NAME"], retry=RetryPolicy(max_attempts=1), max_concurrency=most)

def freeze():
    os.kill(os.getpid(), signal.SIGSTOP)

WAYS = {
    "os._exit": lambda: os._exit(1),
    "kill -9": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGTERM without a handler": lambda: (signal.signal(signal.SIGTERM, signal.SIG_DFL), \
os.kill(os.getpid(), 15)),
    "abort": os.abort,
    "segmentation fault": lambda: ctypes.string_at(0),
    "freeze": freeze,
}

@agent.on_event("work", topic="action-requests")
async def work(event, context):
    await asyncio.sleep(0.1)
    if event.data["way"]:
        say("dies", context.attempt)
        WAYS[event.data["way"]]()
    await context.bus.publish("worked", "action-results", event.data)

@agent.on_event("deploy", topic="action-requests")
async def deploy(event, context):
    say("begins", context.attempt)
    await asyncio.sleep(0.1 if os.environ.get("LAST") else 60)
    await context.bus.publish("worked", "action-results", event.data)

@agent.on_event("hold", topic="action-requests", ordered=False)
async def hold(event, context):
    say("holds", event.data)
    await asyncio.sleep(600)

agent.run()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with platform_in(
        tmp_path_factory.mktemp("deaths"), SOORMA_LEASE_SECONDS=str(LEASE)
    ) as platform:
        yield platform


class Supervisor:
    """A supervisor: starts an agent again when it has died, and another one when it is frozen."""

    def __init__(
        self, running: PlatformProcess, context: PlatformContext, stack: ExitStack
    ) -> None:
        tenant = context.memory.scope().tenant_id
        self._make = lambda: PythonProcess(
            running, AGENT, NAME=f"agent-of-{tenant}", SOORMA_TENANT_ID=tenant
        )
        self._stack = stack
        self.agents: list[PythonProcess] = []

    def look(self) -> None:
        if not self.agents or self._is_over(self.agents[-1]):
            self.agents.append(self._stack.enter_context(self._make()))

    @staticmethod
    def _is_over(agent: PythonProcess) -> bool:
        return agent.process.poll() is not None or any(
            line.startswith("dies") for line in agent.lines
        )


async def letters(context: PlatformContext) -> list[dict[str, Any]]:
    scope = context.memory.scope()
    query = {"tenant_id": scope.tenant_id}
    found = await context.memory._caller.read("events", "/v1/events/dead-letters", scope, **query)
    return list(found["dead_letters"])


async def waiting(context: PlatformContext) -> int:
    scope = context.memory.scope()
    found = await context.memory._caller.read(
        "events", "/v1/events/groups", scope, tenant_id=scope.tenant_id
    )
    return sum(
        group["waiting"] + group["in_hand"]
        for group in found["groups"]
        if group["tenant_id"] == scope.tenant_id
    )


@pytest.mark.behaviour("retries.one-culprit", "retries.max-deaths", "deadletters.numbers")
@pytest.mark.parametrize("way", drawn("ways to die", WAYS, 3))
@pytest.mark.timeout(120)
async def test_however_a_process_dies_only_the_culprit_is_given_up(
    running: PlatformProcess, context: PlatformContext, way: str
) -> None:
    await find_culprit(running, context, way, 90)


@pytest.mark.proof
@pytest.mark.behaviour("leases.shorter-after-silence")
@pytest.mark.timeout(120)
async def test_what_freezes_its_process_is_found_within_a_minute(tmp_path: Path) -> None:
    """At default settings, in full depth."""
    with platform_in(tmp_path, **at_depth({"SOORMA_LEASE_SECONDS": "6"}, {})) as running:
        async with context_of(running) as context:
            assert await find_culprit(running, context, "freeze", 60) < 60


async def find_culprit(
    running: PlatformProcess, context: PlatformContext, way: str, longest: float
) -> float:
    """Seconds from the first death until all is done: the culprit is the only dead letter."""
    with ExitStack() as stack:
        supervisor = Supervisor(running, context, stack)
        supervisor.look()
        await supervisor.agents[0].subscribed()
        for number in range(IN_FLIGHT):
            culprit = number == IN_FLIGHT // 2
            data = {"number": number, "way": way if culprit else ""}
            await context.bus.publish("work", "action-requests", data, plan_id=f"p{number}")
        await supervisor.agents[0].until("dies 1")
        began = monotonic()

        async def is_over() -> bool:
            supervisor.look()
            return await waiting(context) == 0

        await eventually(is_over, longest)
        took = monotonic() - began
        (letter,) = await letters(context)
        assert letter["event"]["data"]["number"] == IN_FLIGHT // 2
        assert (letter["failures"], letter["deaths"]) == (0, 3)
        assert letter["attempts"] == 3
        what = "gave no sign of life for a lease" if way == "freeze" else "died"
        assert (
            letter["reason"]
            == f"3 processes {what} while handling it, the last one with nothing else in hand"
        )
        return took


@pytest.mark.behaviour("leases.slot-back")
async def test_an_agent_that_was_frozen_and_fenced_takes_the_next_event(
    running: PlatformProcess, context: PlatformContext
) -> None:
    tenant = context.memory.scope().tenant_id
    known = {"NAME": f"agent-of-{tenant}", "SOORMA_TENANT_ID": tenant, "MOST": "1"}
    with (
        PythonProcess(running, AGENT, **known) as one,
        PythonProcess(running, AGENT, **known) as two,
    ):
        await one.subscribed()
        await two.subscribed()
        await context.bus.publish("hold", "action-requests", "first")
        await eventually(lambda: "holds first" in (*one.lines, *two.lines))
        frozen, other = (one, two) if "holds first" in one.lines else (two, one)
        frozen.send(signal.SIGSTOP)
        await other.until("holds first")
        frozen.send(signal.SIGCONT)
        await frozen.until("fenced")
        await context.bus.publish("hold", "action-requests", "second")
        await frozen.until("holds second")


@pytest.mark.behaviour("leases.draining-costs-nothing")
@pytest.mark.timeout(120)
async def test_ten_deployments_that_are_cut_short_cost_nothing(
    running: PlatformProcess, context: PlatformContext
) -> None:
    tenant = context.memory.scope().tenant_id
    known = {"NAME": f"agent-of-{tenant}", "SOORMA_TENANT_ID": tenant}
    await context.bus.publish("deploy", "action-requests", {}, plan_id="p")
    for attempt in range(1, 11):
        with PythonProcess(running, AGENT, **known) as agent:
            await agent.until(f"begins {attempt}")
            agent.send(signal.SIGTERM)
            await agent.until("takes no further events")
            agent.send(signal.SIGKILL)
            await asyncio.to_thread(agent.wait)
    with PythonProcess(running, AGENT, LAST="yes", **known) as agent:
        await agent.until("begins 11")

        async def is_done() -> bool:
            return await waiting(context) == 0

        await eventually(is_done, 20)
    assert await letters(context) == []
