"""Costs that stay flat: measured in alternating pairs, so that a slow machine affects both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from uuid import uuid4

import pytest
from depth import at_depth
from platform_process import PlatformProcess

from soorma import ClientConfig, Event, HandlerContext, PlatformContext, Worker
from soorma_common.operations import RecordAction

TOLERATED = 1.20
MANY = at_depth(10_000, 100_000)
ROUNDS = 400
TRIES = 3
"""A pair of medians may be off by chance; a cost that grows is off every time."""

Measured = Callable[[], Awaitable[None]]


async def ratio(first: Measured, second: Measured, rounds: int = ROUNDS) -> float:
    """Median time of `first` over that of `second`, taken in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, took in zip((first, second), times, strict=True):
            started = time.perf_counter()
            await call()
            took.append(time.perf_counter() - started)
    return median(times[0]) / median(times[1])


async def lowest_ratio(first: Measured, second: Measured) -> float:
    """The lowest of a few ratios."""
    lowest = float("inf")
    for _ in range(TRIES):
        lowest = min(lowest, await ratio(first, second))
        if lowest <= TOLERATED:
            break
    return lowest


def config_of(platform: PlatformProcess) -> ClientConfig:
    return ClientConfig(platform.memory_url, platform.events_url)


@pytest.mark.behaviour("costs.actions")
@pytest.mark.proof
async def test_record_action_costs_the_same_at_many_actions(platform: PlatformProcess) -> None:
    async with PlatformContext.on(config_of(platform), "test") as context:
        memory = context.memory
        thousand, ten = [RecordAction("filler")] * 1000, [RecordAction("filler")] * 10
        for _ in range(MANY // 1000):
            await memory.apply("long", list(thousand))
        short = iter([f"short {number}" for number in range(ROUNDS * TRIES)])
        for number in range(ROUNDS * TRIES):
            await memory.apply(f"short {number}", list(ten))

        async def record_long() -> None:
            await memory.apply("long", [RecordAction("measured")])

        async def record_short() -> None:
            await memory.apply(next(short), [RecordAction("measured")])

        lowest = await lowest_ratio(record_long, record_short)
        assert lowest <= TOLERATED, f"{lowest:.2f} times the cost at 10 actions"
        history = await memory.get_actions("long")
        assert len(history) >= MANY + ROUNDS


class Round:
    """A round: publishes an event, which an agent of a group other than the waiting one handles."""

    def __init__(self, context: PlatformContext, config: ClientConfig) -> None:
        self._context = context
        self._handled = asyncio.Event()
        self.agent = Worker("awake", config=config)
        self.agent.on_event("ping", topic="task-events")(self._handle)

    async def _handle(self, event: Event, context: HandlerContext) -> None:
        self._handled.set()

    async def __call__(self) -> None:
        self._handled.clear()
        await self._context.bus.publish("ping", "task-events", {"id": str(uuid4())})
        await self._handled.wait()


async def leave_events_waiting(platform: PlatformProcess, count: int) -> None:
    """Events of one group whose agent has gone away."""
    config = config_of(platform)
    sleeper = Worker("asleep", config=config)

    @sleeper.on_event("ping", topic="task-events")
    async def never(event: Event, context: HandlerContext) -> None:
        raise AssertionError("the sleeper is asleep")

    await sleeper.start()
    await sleeper.stop()
    async with PlatformContext.on(config, "test") as context:
        for _ in range(count // 1000):
            await context.bus.publish_many(
                [{"event_type": "ping", "topic": "task-events", "data": {}}] * 1000
            )


@pytest.fixture
def two_platforms(tmp_path: Path) -> Iterator[tuple[PlatformProcess, PlatformProcess]]:
    with ExitStack() as stack:
        platforms = []
        for name in ("full", "empty"):
            (tmp_path / name).mkdir()
            platforms.append(stack.enter_context(PlatformProcess(tmp_path / name)))
        yield platforms[0], platforms[1]


@pytest.mark.behaviour("costs.waiting")
@pytest.mark.proof
async def test_waiting_events_slow_nobody(
    two_platforms: tuple[PlatformProcess, PlatformProcess],
) -> None:
    full, empty = two_platforms
    await leave_events_waiting(full, MANY)
    await leave_events_waiting(empty, 0)

    async with (
        PlatformContext.on(config_of(full), "test") as busy,
        PlatformContext.on(config_of(empty), "test") as idle,
    ):
        on_full, on_empty = Round(busy, config_of(full)), Round(idle, config_of(empty))
        async with on_full.agent, on_empty.agent:
            lowest = await lowest_ratio(on_full, on_empty)
    assert lowest <= TOLERATED, f"publish to handler takes {lowest:.2f} times as long"

    tries = (slower_start(two_platforms) for _ in range(TRIES))
    grown = [next(tries)]
    while min(grown) > TOLERATED and (once_more := next(tries, None)) is not None:
        grown.append(once_more)
    assert min(grown) <= TOLERATED, f"starting takes {min(grown):.2f} times as long"


def slower_start(platforms: tuple[PlatformProcess, PlatformProcess]) -> float:
    """The best time that the first takes to start over that of the second, taken in turn."""
    starts: tuple[list[float], list[float]] = ([], [])
    for _ in range(5):
        for platform, took in zip(platforms, starts, strict=True):
            platform.stop()
            started = time.perf_counter()
            platform.start()
            took.append(time.perf_counter() - started)
    return min(starts[0]) / min(starts[1])
