"""Figures through the SDK: single calls, and events from publication to an agent's handler."""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

import uvloop
from measuring import FULL_COMMIT, READ, Figure, ms, percentile, ratio_of, rounds, say, times
from stage import Stage, clean_environment

from soorma import ClientConfig, PlatformContext, WorkflowState

try:
    from soorma.transport.http import HttpTransport
except ImportError:  # a tree of 85d0dca or before, with which this one is compared
    from soorma.transport import HttpTransport  # type: ignore[attr-defined, no-redef]

EVENT = "bench.ping"
TOPIC: Final = "task-events"
IN_FLIGHT = 32
BATCH = 100
PATIENCE = 60.0
PACE = 0.004


async def timed_calls(count: int, call: Callable[[int], Awaitable[Any]]) -> list[float]:
    """The seconds that each of `count` calls takes, one at a time."""
    took = []
    for number in range(count):
        started = time.perf_counter()
        await call(number)
        took.append(time.perf_counter() - started)
    return took


async def in_flight(count: int, width: int, call: Callable[[int], Awaitable[Any]]) -> float:
    """The seconds that `count` calls take, `width` of them at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await call(number)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(width)))
    return time.perf_counter() - started


class BareClient:
    """The SDK's own HTTP client on the bare server: no session of ours, no checks, no decoding."""

    def __init__(self, stage: Stage) -> None:
        self._transport = HttpTransport({"memory": stage.bare.url, "events": stage.bare.url})

    async def get(self, _: int) -> None:
        await self._transport.request("memory", "GET", "/v1/memory/working/plan/key", {}, None)

    async def put(self, number: int) -> None:
        headers = {"Content-Type": "application/json"}
        body = json.dumps({"value": {"n": number, "text": "x" * 80}}).encode()
        await self._transport.request("memory", "PUT", "/v1/memory/working/plan/key", headers, body)

    async def close(self) -> None:
        await self._transport.close()


def single_calls(stage: Stage) -> None:
    """Get and set of a WorkflowState, one at a time."""
    say("get and set through the SDK, one at a time")
    found = asyncio.run(_single_calls(stage))
    for name, parts, what, target, durability in (
        ("get", ("bare get",), "the same client on a bare answer", 2.5, READ),
        ("set", ("bare put", "commit"), "bare PUT + bare FULL commit, by turns", 2.0, FULL_COMMIT),
    ):
        pairs = [(one[name], sum(one[part] for part in parts)) for one in found]
        ratio = ratio_of(pairs)
        stage.report.numbers[f"SDK {name}, p50, s"] = median(one[name] for one in found)
        shown = " + ".join(ms(median(one[part] for one in found)) for part in parts)
        stage.report.figures.append(
            Figure(
                f"SDK `{name}`, one at a time, "
                "p50", ms(median(one[name] for one in found)), f"{what}: {shown}",
                times(ratio), f"≤ {target} ×", ratio <= target, durability,
            )
        )  # fmt: skip


async def _single_calls(stage: Stage) -> list[dict[str, float]]:
    bare, count = BareClient(stage), stage.sizes.sdk_calls
    found: list[dict[str, float]] = []
    async with PlatformContext.on(stage.config, "bench") as context:
        state = WorkflowState(context.memory, "sdk")
        for turn in rounds(stage.sizes.rounds + 1, 30, least=2):
            first = turn * count

            async def put(number: int, first: int = first) -> None:
                await state.set(f"k{number % 100}", {"n": first + number, "text": "x" * 80})

            took = {
                "set": await timed_calls(count, put),
                **await _bare_sets(stage, bare, count),
                "get": await timed_calls(
                    count, lambda number: state.get(f"k{number % min(count, 100)}")
                ),
                "bare get": await timed_calls(count, bare.get),
            }
            if turn:  # the first round warms up
                found.append({name: median(values) for name, values in took.items()})
    await bare.close()
    return found


async def _bare_sets(stage: Stage, bare: BareClient, count: int) -> dict[str, list[float]]:
    """The seconds of alternating bare PUTs and bare commits, which is the rhythm of `set`.

    A disk and a core that were idle for as long as a request takes are slower than in a series of
    commits.
    """
    took: dict[str, list[float]] = {"bare put": [], "commit": []}
    for number in range(count):
        began = time.perf_counter()
        await bare.put(number)
        between = time.perf_counter()
        stage.commits.commit()
        took["bare put"].append(between - began)
        took["commit"].append(time.perf_counter() - between)
    return took


class AgentProcess:
    """`event_agent.py`, which reports when it has handled all events of a series."""

    def __init__(self, config: ClientConfig) -> None:
        key = {"SOORMA_API_KEY": config.api_key} if isinstance(config.api_key, str) else {}
        env = clean_environment(
            SOORMA_MEMORY_URL=config.memory_url,
            SOORMA_EVENT_SERVICE_URL=config.events_url,
            SOORMA_REGISTRY_URL=config.registry_url,
            **key,
        )
        script = Path(__file__).with_name("event_agent.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), EVENT, TOPIC], env=env, stdout=subprocess.PIPE
        )

    async def told(self) -> dict[str, Any]:
        """Its next report."""
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        async with asyncio.timeout(PATIENCE):
            line = await asyncio.to_thread(self._process.stdout.readline)
        if not line:
            raise RuntimeError("the agent has ended")
        told: dict[str, Any] = json.loads(line)
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.kill()
        self._process.communicate()


def events(stage: Stage) -> None:
    """Publish to handler, one at a time and as fast as they go, through one agent."""
    say("events, from publishing to the handler of one agent in a process of its own")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_events(stage))
    floor = " + ".join(ms(median(one[part] for one in found)) for part in ("bare put", "commit"))
    figures = stage.report.figures
    for name, what in (
        ("turns", "each when the one before was handled"),
        ("paced", f"one every {PACE * 1e3:.0f} ms"),
    ):
        latency, slow = (median(one[f"{name} p{share}"] for one in found) for share in (50, 99))
        ratio = ratio_of((one[f"{name} p50"], one["bare put"] + one["commit"]) for one in found)
        stage.report.numbers[f"publish to handler, {what}, p50, s"] = latency
        figures.append(
            Figure(f"publish → handler, {what}, p50", f"{ms(latency)} (p99 {ms(slow)})",
                   "bare PUT + bare FULL commit: "
                   f"{floor}", times(ratio), "≤ 2 ms", latency <= 0.002, FULL_COMMIT)
        )  # fmt: skip
    bare = median(one["bare rate"] for one in found)
    lost, twice = (sum(one[what] for one in found) for what in ("lost", "twice"))
    for name, what, target in (
        ("single", f"published singly, {IN_FLIGHT} in flight", 1_500),
        ("batch", f"published in batches of {BATCH}", 3_000),
    ):
        rate = median(one[name] for one in found)
        share = ratio_of((one[name], one["bare rate"]) for one in found)
        stage.report.numbers[f"events, {what}, /s"] = rate
        figures.append(
            Figure(
                f"events handled by one agent, {what}", f"{rate:,.0f}/s",
                f"bare PUTs by the same client: {bare:,.0f}/s",
                times(share), f"≥ {target:,}/s", rate >= target, FULL_COMMIT,
            )
        )  # fmt: skip
    count = len(found) * 2 * (stage.sizes.paced_events + stage.sizes.events)
    figures.append(
        Figure(
            "events lost",
            f"{lost:.0f} of {count:,} ({twice:.0f} handled twice)",
            "0",
            "",
            "0",
            lost == 0,
            FULL_COMMIT,
        )
    )


async def _events(stage: Stage) -> list[dict[str, float]]:
    bare, sizes = BareClient(stage), stage.sizes
    found: list[dict[str, float]] = []
    with AgentProcess(stage.config) as agent:
        async with PlatformContext.on(stage.config, "bench") as context:
            await agent.told()
            for turn in rounds(sizes.rounds, 60):
                turns = await series_of(
                    agent, f"turns-{turn}", sizes.paced_events, _in_turn(context, agent)
                )
                paced = await series_of(agent, f"paced-{turn}", sizes.paced_events, _paced(context))
                single = await series_of(agent, f"single-{turn}", sizes.events, singly(context))
                batch = await series_of(agent, f"batch-{turn}", sizes.events, _batches(context))
                series = (turns, paced, single, batch)
                found.append(
                    {
                        **{
                            f"turns p{share}": percentile(turns["latencies"], share / 100)
                            for share in (50, 99)
                        },
                        **{
                            f"paced p{share}": percentile(paced["latencies"], share / 100)
                            for share in (50, 99)
                        },
                        "single": sizes.events / single["seconds"],
                        "batch": sizes.events / batch["seconds"],
                        "bare rate": sizes.events
                        / await in_flight(sizes.events, IN_FLIGHT, bare.put),
                        "bare put": median(await timed_calls(sizes.paced_events, bare.put)),
                        "commit": median(stage.commits.many(sizes.paced_events)),
                        "lost": sum(one["lost"] for one in series),
                        "twice": sum(one["twice"] for one in series),
                    }
                )
    await bare.close()
    return found


Publish = Callable[[str, int], Awaitable[None]]


async def series_of(agent: AgentProcess, name: str, count: int, publish: Publish) -> dict[str, Any]:
    """Publishes a series of events; returns what the agent says of them, and how long it took."""
    started = time.perf_counter()
    await publish(name, count)
    told = await agent.told()
    return {**told, "seconds": told["last"] - started}


def _data(series: str, number: int, count: int, *, echo: bool = False) -> dict[str, Any]:
    return {"series": series, "n": number, "of": count, "echo": echo, "at": time.perf_counter()}


def _in_turn(context: PlatformContext, agent: AgentProcess) -> Publish:
    async def publish(series: str, count: int) -> None:
        for number in range(count):
            await context.bus.publish(EVENT, TOPIC, _data(series, number, count, echo=True))
            await agent.told()

    return publish


def _paced(context: PlatformContext) -> Publish:
    async def publish(series: str, count: int) -> None:
        for number in range(count):
            await context.bus.publish(EVENT, TOPIC, _data(series, number, count))
            await asyncio.sleep(PACE)

    return publish


def singly(context: PlatformContext) -> Publish:
    """Publishes events one by one, some of them in flight at a time."""

    async def publish(series: str, count: int) -> None:
        await in_flight(
            count, IN_FLIGHT, lambda n: context.bus.publish(EVENT, TOPIC, _data(series, n, count))
        )

    return publish


def _batches(context: PlatformContext) -> Publish:
    async def publish(series: str, count: int) -> None:
        for first in range(0, count, BATCH):
            numbers = range(first, min(count, first + BATCH))
            await context.bus.publish_many(
                [
                    {"event_type": EVENT, "topic": TOPIC, "data": _data(series, n, count)}
                    for n in numbers
                ]
            )

    return publish
