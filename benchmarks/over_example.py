"""Figures of example 05 as it stands, its agents in processes of their own, without its pauses."""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from uuid import uuid4

import uvloop
from measuring import FULL_COMMIT, Figure, cpu_seconds, ms, percentile, ratio_of, rounds, say, times
from over_sdk import BareClient, in_flight, timed_calls
from stage import EXAMPLE, Stage, clean_environment

from soorma import Event, EventClient

AGENTS = ("planner", "worker", "coordinator")
HOPS = 8
"""Durable steps of one goal, in sequence: its publication and the commits of seven handlers."""
IN_FLIGHT = 50
WARM_UP = 10
PATIENCE = 60.0


@contextmanager
def agents_of(stage: Stage) -> Iterator[dict[str, int]]:
    """The agents of the example; yields their process ids."""
    env = clean_environment(
        SOORMA_MEMORY_URL=stage.config.memory_url,
        SOORMA_EVENT_SERVICE_URL=stage.config.events_url,
        SOORMA_REGISTRY_URL=stage.config.registry_url,
        SOORMA_LOG_LEVEL="warning",
        TASK_SECONDS="0",
    )
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name in AGENTS:
            command = [sys.executable, str(EXAMPLE / f"{name}.py")]
            running.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
        yield {name: process.pid for name, process in zip(AGENTS, running, strict=True)}
    finally:
        for process in running:
            process.kill()
            process.wait()


class Goals:
    """Submits goals and waits for their workflows to complete."""

    def __init__(self, client: EventClient) -> None:
        self._client = client
        self._waiting: dict[str, asyncio.Future[None]] = {}
        client.on_event("workflow.completed", topic="action-results")(self._completed)

    def _completed(self, event: Event) -> None:
        waiting = self._waiting.pop(str(event.correlation_id), None)
        if waiting is not None:
            waiting.set_result(None)

    async def reach(self, _: int) -> None:
        """One goal, from its publication to the completion of its workflow."""
        name = str(uuid4())
        # it may be before the answer
        reached = self._waiting[name] = asyncio.get_running_loop().create_future()
        await self._client.publish(
            "goal.received", "action-requests", {"goal": "measure"}, correlation_id=name
        )
        async with asyncio.timeout(PATIENCE):
            await reached


def example(stage: Stage) -> None:
    """One goal at a time, and many in flight."""
    say("example 05, its agents in processes of their own")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_example(stage))
    hop = [HOPS * (one["bare put"] + one["commit"]) for one in found]
    latency, rate = median(one["p50"] for one in found), median(one["rate"] for one in found)
    alone = ratio_of((one["p50"], floor) for one, floor in zip(found, hop, strict=True))
    share = ratio_of((one["rate"], one["bare rate"] / HOPS) for one in found)
    stage.report.numbers |= {
        "example 05, one goal, p50, s": latency,
        f"example 05, {IN_FLIGHT} goals in flight, /s": rate,
    }
    stage.report.figures += [
        Figure("example 05, one goal, "
               "p50", f"{ms(latency)} (p99 {ms(median(one['p99'] for one in found))})",
               f"{HOPS} × (bare PUT + bare FULL commit): "
               f"{ms(median(hop))}", times(alone), "≤ 50 ms",
               latency <= 0.05, FULL_COMMIT),
        Figure(f"example 05, {IN_FLIGHT} goals in flight", f"{rate:,.0f} goals/s",
               f"bare PUTs by the same client ÷ {HOPS}: "
               f"{median(one['bare rate'] for one in found) / HOPS:,.0f}/s",
               times(share), "≥ 130 goals/s", rate >= 130, FULL_COMMIT),
    ]  # fmt: skip
    spent = ", ".join(
        f"{name} {median(one[name] for one in found) * 1e3:.2f} ms"
        for name in ("platform", *AGENTS, "client")
    )
    stage.report.notes.append(
        f"Example 05, processor time of a goal with {IN_FLIGHT} in flight: {spent}."
    )


async def _example(stage: Stage) -> list[dict[str, float]]:
    sizes, bare = stage.sizes, BareClient(stage)
    found: list[dict[str, float]] = []
    with agents_of(stage) as pids:
        watched = {"platform": stage.platform.pid, **pids, "client": os.getpid()}
        async with EventClient("bench-client", config=stage.config) as client:
            goals = Goals(client)
            await client.connect(["action-results"])
            await timed_calls(min(WARM_UP, sizes.goals), goals.reach)
            for _ in rounds(sizes.rounds, 60):
                alone = await timed_calls(sizes.goals, goals.reach)
                used = {name: cpu_seconds(pid) for name, pid in watched.items()}
                started = time.perf_counter()
                await in_flight(sizes.goals_in_flight, IN_FLIGHT, goals.reach)
                rate = sizes.goals_in_flight / (time.perf_counter() - started)
                spent = {
                    name: (cpu_seconds(pid) - used[name]) / sizes.goals_in_flight
                    for name, pid in watched.items()
                }
                calls = sizes.goals_in_flight * HOPS
                found.append(
                    {
                        "p50": percentile(alone, 0.5),
                        "p99": percentile(alone, 0.99),
                        "rate": rate,
                        "bare rate": calls / await in_flight(calls, IN_FLIGHT, bare.put),
                        "bare put": median(await timed_calls(sizes.goals * HOPS, bare.put)),
                        "commit": median(stage.commits.many(sizes.goals * HOPS)),
                        **spent,
                    }
                )
    await bare.close()
    return found
