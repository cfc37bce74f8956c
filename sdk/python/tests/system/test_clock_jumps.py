"""A real platform whose system clock jumps ahead and back, while it runs and between two runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import Raw, config_of, context_of, eventually

from soorma import Agent, PlatformContext, RetryPolicy, WorkflowState
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER

HOUR, MONTH = 3600, 30 * 86_400
MANY_SWEEPS = 15
"""Transactions; a sweep is several, and there is one each second."""
SECONDS = 30.0
"""Seconds in which all that is due within a second or two has happened, on a busy machine."""

_PROGRAM = """
import sys, time
true = time.time

def told():
    with open("jumped") as file:
        return true() + float(file.read())

time.time = told
from soorma_platform.__main__ import main
sys.exit(main())
"""


class JumpingPlatform(PlatformProcess):
    """A platform whose system clock is ahead by the amount in a file."""

    program = ("-c", _PROGRAM)

    def set_ahead(self, seconds: float) -> None:
        """Sets the clock ahead of the true time, or back."""
        new = self.folder / "new"
        new.write_text(str(seconds), "ascii")
        new.replace(self.folder / "jumped")

    def health(self) -> dict[str, Any]:
        """The memory service's view of the record."""
        found: dict[str, Any] = Raw(self.memory_url)("GET", "/health").json["store"]
        return found

    def metric(self, name: str) -> float:
        """A series without labels."""
        lines = Raw(self.memory_url)("GET", "/metrics").body.decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.split()[0] == name)

    def timers(self) -> list[Any]:
        """The timers of the default user that wait."""
        asked = Raw(self.events_url, DEFAULT_TENANT, DEFAULT_USER)("GET", "/v1/events/timers")
        found: list[Any] = asked.json["timers"]
        return found


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[JumpingPlatform]:
    made = JumpingPlatform(tmp_path, {"SOORMA_LEASE_SECONDS": "3"})
    made.set_ahead(0)
    with made:
        yield made


@pytest.fixture
async def context(platform: JumpingPlatform) -> AsyncIterator[PlatformContext]:
    async with context_of(platform) as made:
        yield made


def _worker(platform: PlatformProcess, context: PlatformContext) -> Agent:
    agent = Agent("worker", config=config_of(platform), retry=RetryPolicy(first_delay=1, jitter=0))
    state = WorkflowState(context.memory, "seen")

    @agent.on_event("fails once")
    async def fail_once(_: Any, handler: Any) -> None:
        await state.set("begun", True)
        if handler.attempt == 1:
            raise ValueError("once")
        await WorkflowState(handler.memory, "seen").set("retried", True)

    @agent.on_event("alarm")
    async def ring(event: Any, handler: Any) -> None:
        await WorkflowState(handler.memory, "seen").set(event.data, True)

    @agent.on_event("slow")
    async def work(_: Any, handler: Any) -> None:
        await state.increment("slow begun")
        await asyncio.sleep(4)  # longer than a lease
        await WorkflowState(handler.memory, "seen").set("slow done", handler.attempt)

    return agent


@pytest.mark.behaviour("clocks.waiting", "clocks.told")
@pytest.mark.parametrize("by", [-HOUR, HOUR, -MONTH, MONTH])
async def test_a_running_platform_goes_on_through_a_jump(
    platform: JumpingPlatform, context: PlatformContext, by: float
) -> None:
    seen = WorkflowState(context.memory, "seen")
    async with _worker(platform, context):
        await context.bus.publish("slow", "business-facts", plan_id="slow")
        await context.bus.publish("fails once", "business-facts")
        await context.bus.publish("alarm", "business-facts", "delayed", delay=3)
        await context.bus.publish("alarm", "business-facts", "in two hours", delay=2 * HOUR)
        await seen.wait_for("begun", timeout=SECONDS)
        await seen.wait_for("slow begun", timeout=SECONDS)
        platform.set_ahead(by)
        await context.bus.publish("alarm", "business-facts", "after the jump")
        for key in ("after the jump", "retried", "delayed", "slow done"):
            await seen.wait_for(key, timeout=SECONDS)
        assert await seen.get("slow done") == await seen.get("slow begun") == 1
        assert len(platform.timers()) == 1, "the one in two hours"
    await eventually(lambda: platform.health().get("clock_jumps") == 1, SECONDS)
    assert 0 < platform.health()["clock_settles_in"] <= 600
    told = [
        line
        for line in platform.log.read_text("utf-8").splitlines()
        if "system clock jumped" in line
    ]
    assert len(told) == 1
    assert ("ahead" if by > 0 else "back") in told[0]
    assert platform.metric("soorma_clock_jumps_total") == 1
    assert platform.metric("soorma_clock_settling_seconds") > 0


@pytest.mark.behaviour("clocks.keeping", "clocks.sweeping-waits")
@pytest.mark.parametrize("restarts", [False, True], ids=["while it runs", "over a restart"])
async def test_a_month_ahead_for_seconds_removes_nothing(
    platform: JumpingPlatform, context: PlatformContext, restarts: bool
) -> None:
    state = WorkflowState(context.memory, "plan")
    async with _worker(platform, context):
        pass  # the group is there, and nobody of it
    await context.bus.publish("alarm", "business-facts", "waited")
    await state.set("short", 1, ttl=HOUR)
    await WorkflowState(context.memory, "ended").complete("well")
    if restarts:
        platform.stop()
        platform.set_ahead(2 * MONTH)
        platform.start()
    else:
        platform.set_ahead(2 * MONTH)
    await eventually(lambda: platform.health().get("clock_jumps") == 1, SECONDS)
    assert await state.get("short") is None, "readers go by the system's clock"
    await WorkflowState(context.memory, "other").set("k", 1)
    transactions = platform.metric("soorma_store_transaction_seconds_count")
    await eventually(
        lambda: (
            platform.metric("soorma_store_transaction_seconds_count") > transactions + MANY_SWEEPS
        ),
        SECONDS,
    )
    platform.set_ahead(0)
    assert await state.get("short") == 1
    assert (await context.memory.get_plan("ended")).status == "completed"
    async with _worker(platform, context):
        await WorkflowState(context.memory, "seen").wait_for("waited", timeout=SECONDS)
