"""The sampler sees who holds up the event loop, and nobody else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from soorma_platform.metrics import Metrics
from soorma_platform.sampler import LOOKS, PERIOD, LoopSampler


def works(seconds: float) -> None:
    """Uses the processor for some seconds."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def works_in_a_thread(seconds: float) -> None:
    thread = threading.Thread(target=works, args=(seconds,))
    thread.start()
    thread.join()


async def held_by(work: Callable[[float], None], seconds: float, times: int = 1) -> list[int]:
    """Counts how often the loop was held, by the bounds of the metric."""
    metrics = Metrics()
    sampler = LoopSampler(metrics)
    sampler.touch()
    await asyncio.sleep(0.05)
    before = list(metrics.loop_held.counts)
    for _ in range(times):
        work(seconds)
        await asyncio.sleep(0.03)
    sampler.stop()
    return [after - one for after, one in zip(metrics.loop_held.counts, before, strict=True)]


def beyond(counts: list[int], seconds: float) -> int:
    bounds = Metrics().loop_held.bounds
    return sum(
        count
        for count, bound in zip(counts, (*bounds, float("inf")), strict=True)
        if bound > seconds
    )


@pytest.mark.behaviour("metrics.held")
async def test_who_works_on_the_loop_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    assert beyond(await held_by(works, 0.2, times=2), 0.15) == 2
    told = [record for record in caplog.records if "event loop was held" in record.getMessage()]
    assert len(told) == 2


@pytest.mark.behaviour("metrics.held")
async def test_what_is_short_is_not_told_as_long() -> None:
    assert beyond(await held_by(works, 0.02, times=5), 0.15) == 0


@pytest.mark.behaviour("metrics.held")
@pytest.mark.parametrize("work", [time.sleep, works_in_a_thread], ids=["sleeps", "works elsewhere"])
async def test_what_the_thread_does_not_do_itself_is_not_counted(
    work: Callable[[float], None],
) -> None:
    assert beyond(await held_by(work, 0.2), 0.1) == 0


@pytest.mark.behaviour("metrics.held")
async def test_it_can_be_stopped() -> None:
    metrics = Metrics()
    sampler = LoopSampler(metrics)
    sampler.touch()
    sampler.stop()
    sampler.touch()
    await asyncio.sleep(0.03)
    works(0.1)
    await asyncio.sleep(0.03)
    assert sum(metrics.loop_held.counts) == 0


@pytest.mark.behaviour("metrics.held")
async def test_it_looks_as_long_as_something_comes_in() -> None:
    metrics = Metrics()
    sampler = LoopSampler(metrics)
    works(0.1)
    await asyncio.sleep(0.05)
    assert sum(metrics.loop_held.counts) == 0, "nobody was there to wait"
    for _ in range(3):
        sampler.touch()
        await asyncio.sleep((LOOKS + 10) * PERIOD)  # it has ended by now
        sampler.touch()
        works(0.1)
        await asyncio.sleep(0.05)
    sampler.stop()
    assert sum(metrics.loop_held.counts) >= 3
