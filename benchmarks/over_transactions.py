"""Figures of a handler: its changes and its event as one commit, against writing them through."""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import uvloop
from handler_agent import READS, RESULTS, TOPIC, WRITES
from measuring import FULL_COMMIT, Figure, ms, percentile, ratio_of, rounds, say, times
from over_sdk import in_flight, timed_calls
from stage import Stage, clean_environment

from soorma import Event, EventClient

IN_FLIGHT = 50
WARM_UP = 10
PATIENCE = 60.0
WHAT = f"a handler of {WRITES} writes, {READS} reads and 1 publish"


class Work:
    """A client that requests work and waits for the event that the handler publishes."""

    def __init__(self, client: EventClient) -> None:
        self._client = client
        self._plans = [f"handler-{number}" for number in range(IN_FLIGHT)]
        self._waiting: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self._number = 0
        client.on_event("work.done", topic=RESULTS)(self._done)

    def _done(self, event: Event) -> None:
        plan, answer = self._waiting.get(event.data["number"], ("", None))
        if answer is not None and plan == event.plan_id and not answer.done():
            answer.set_result(None)

    async def whole(self, _: int) -> None:
        """As a transaction."""
        await self._ask("work.whole")

    async def through(self, _: int) -> None:
        """Written through."""
        await self._ask("work.through")

    async def _ask(self, event_type: str) -> None:
        """The time from publishing the event until the handler's own is received.

        Those in flight have plans of their own.
        """
        plan = self._plans.pop(0)
        self._number += 1
        number = str(self._number)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = (plan, answer)
        await self._client.publish(event_type, TOPIC, {"plan_id": plan, "number": number})
        async with asyncio.timeout(PATIENCE):
            await answer
        del self._waiting[number]
        self._plans.append(plan)


def handler(stage: Stage) -> None:
    """One at a time, and many in flight, both ways alternately."""
    say(f"{WHAT}, its agent in a process of its own")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_handler(stage))
    middle = {name: median(one[name] for one in found) for name in found[0]}
    for way, what in (("whole", WHAT), ("through", f"{WHAT}, written through")):
        stage.report.numbers[f"{what}, p50, s"] = middle[f"{way} p50"]
        stage.report.numbers[f"{what}, {IN_FLIGHT} in flight, /s"] = middle[f"{way} rate"]
    stage.report.figures += [
        Figure(f"{WHAT}, p50", f"{ms(middle['whole p50'])} (p99 {ms(middle['whole p99'])})",
               f"the same written through: {ms(middle['through p50'])} (p99 "
               f"{ms(middle['through p99'])})",
               times(ratio_of((one["whole p50"], one["through p50"]) for one in found)), "–",
               durability=FULL_COMMIT),
        Figure(f"{WHAT}, {IN_FLIGHT} in flight", f"{middle['whole rate']:,.0f}/s",
               f"the same written through: {middle['through rate']:,.0f}/s",
               times(ratio_of((one["whole rate"], one["through rate"]) for one in found)), "–",
               durability=FULL_COMMIT),
    ]  # fmt: skip


@contextmanager
def agent_of(stage: Stage) -> Iterator[None]:
    """Its agent."""
    config = stage.config
    env = clean_environment(
        SOORMA_MEMORY_URL=config.memory_url,
        SOORMA_EVENT_SERVICE_URL=config.events_url,
        SOORMA_REGISTRY_URL=config.registry_url,
        SOORMA_LOG_LEVEL="warning",
    )
    agent = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("handler_agent.py"))], env=env
    )
    try:
        yield
    finally:
        agent.kill()
        agent.wait()


async def _handler(stage: Stage) -> list[dict[str, float]]:
    sizes = stage.sizes
    found: list[dict[str, float]] = []
    with agent_of(stage):
        async with EventClient("bench-client", config=stage.config) as client:
            work = Work(client)
            ways = {"whole": work.whole, "through": work.through}
            await client.connect([RESULTS])
            for way in ways.values():
                await timed_calls(min(WARM_UP, sizes.goals), way)
            for _ in rounds(sizes.rounds, 40):
                one: dict[str, float] = {}
                for name, way in ways.items():
                    took = await timed_calls(sizes.goals * 2, way)
                    one |= {
                        f"{name} p50": percentile(took, 0.5),
                        f"{name} p99": percentile(took, 0.99),
                    }
                    one[f"{name} rate"] = sizes.goals_in_flight / await in_flight(
                        sizes.goals_in_flight, IN_FLIGHT, way
                    )
                found.append(one)
    return found
