"""The life of a client: several event loops, its end, and its errors while nobody responds."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from platform_process import PlatformProcess, clean_environment
from running import addresses_of, config_of, context_of, eventually, unique

from soorma import (
    Agent,
    ClientConfig,
    EventClient,
    MemoryClient,
    PlatformContext,
    RegistryClient,
    Worker,
)
from soorma.errors import InvalidRequest, Unavailable

NOWHERE = ClientConfig(
    "http://localhost:1", "http://localhost:1", retry_seconds=2.5, registry_url="http://localhost:1"
)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- Event loops ---------------------------------------------------------------------------


def loops_one_after_the_other(use: Callable[[], Awaitable[Any]]) -> None:
    for _ in range(30):
        asyncio.run(use())  # type: ignore[arg-type]


def loops_side_by_side(use: Callable[[], Awaitable[Any]]) -> None:
    threads = [threading.Thread(target=loops_one_after_the_other, args=(use,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def loops_that_are_not_shut_down(use: Callable[[], Awaitable[Any]]) -> None:
    """Closes loops without cancelling their tasks: the next loop must work all the same."""
    for _ in range(5):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(use())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.mark.behaviour("clients.loops")
@pytest.mark.parametrize(
    "way", [loops_one_after_the_other, loops_side_by_side, loops_that_are_not_shut_down]
)
@pytest.mark.parametrize("kind", ["memory", "registry", "events", "context", "agent"])
def test_a_client_in_many_loops_leaks_nothing(
    running: PlatformProcess,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    way: Callable[[Any], None],
) -> None:
    config = config_of(running)
    memory, registry = MemoryClient(config=config), RegistryClient(config=config)
    client, context = (
        EventClient(unique("client"), config=config),
        PlatformContext.on(config, "test"),
    )
    outside = Agent(unique("agent"), config=config).context
    uses: dict[str, Callable[[], Awaitable[Any]]] = {
        "memory": lambda: memory.get_revision("plan"),
        "registry": registry.events,
        "events": lambda: client.publish("something.happened", "business-facts"),
        "context": lambda: context.memory.get_revision("plan"),
        "agent": lambda: outside.memory.get_revision("plan"),
    }
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        way(uses[kind])
        gc.collect()
    assert descriptors() <= before + 2
    assert "Unclosed" not in caplog.text


@pytest.mark.behaviour("clients.loops")
async def test_closing_here_closes_what_another_loop_has_open(running: PlatformProcess) -> None:
    memory, used, end = (
        MemoryClient(config=config_of(running)),
        threading.Event(),
        threading.Event(),
    )

    async def use() -> None:
        await memory.get_revision("plan")
        used.set()
        await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    await asyncio.to_thread(used.wait)
    transport: Any = memory._caller.transport
    (session,) = transport._sessions.values()
    await memory.close()
    await eventually(lambda: session.closed)
    end.set()
    await asyncio.to_thread(thread.join)


@pytest.mark.behaviour("clients.loops")
async def test_a_step_from_another_loop_is_refused(running: PlatformProcess) -> None:
    worker, outcomes = Worker(unique("worker"), config=config_of(running)), []

    @worker.on_event(event := unique("event"))
    def handle(_event: Any, context: Any) -> None:
        try:
            asyncio.run(context.step("one", lambda: 1))
        except InvalidRequest as error:
            outcomes.append(str(error))
        outcomes.append(context.run(context.step("two", lambda: 2)))

    async with worker, context_of(running) as context:
        await context.bus.publish(event, "action-requests")
        await eventually(lambda: len(outcomes) == 2)
    assert "context.run(context.step" in outcomes[0]
    assert outcomes[1] == 2


# --- Its end -------------------------------------------------------------------------------


@pytest.mark.behaviour("clients.closed")
@pytest.mark.parametrize("used", [True, False])
async def test_a_closed_client_refuses_and_opens_nothing(
    running: PlatformProcess, used: bool
) -> None:
    config = config_of(running)
    memory, registry, context = (
        MemoryClient(config=config),
        RegistryClient(config=config),
        context_of(running),
    )
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: memory.get_revision("plan"),
        registry.events,
        lambda: context.bus.publish("x", "business-facts"),
        lambda: context.memory.set_plan_state("plan", "key", 1),
    ]
    if used:
        for call in calls:
            await call()
    for closing in (memory, registry, context):
        await closing.close()
        await closing.close()
    before = descriptors()
    for call in calls:
        with pytest.raises(InvalidRequest, match="closed"):
            await call()
    assert descriptors() == before


@pytest.mark.behaviour("clients.closed")
async def test_a_closed_event_client_opens_with_connect_only(running: PlatformProcess) -> None:
    client = EventClient("viewer", config=config_of(running))
    async with client:
        await client.publish("x", "business-facts")
    for call in (
        client.publish("x", "business-facts"),
        client.publish_many([]),
        client.cancel("x"),
        client.request("x", response_event="y"),
    ):
        with pytest.raises(InvalidRequest, match="'viewer' is closed"):
            await call
    await client.connect(["business-facts"])
    await client.publish("x", "business-facts")
    await client.disconnect()


# --- Silence -------------------------------------------------------------------------------


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "soorma.calls"]


@pytest.mark.behaviour("clients.silence")
async def test_what_is_tried_and_until_when_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with PlatformContext.on(NOWHERE, "test") as context:
        calls = [context.memory.get_revision("plan"), context.bus.publish("x", "business-facts")]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    (said,) = told(caplog)
    assert re.fullmatch(
        r"no answer from the \w+ service at http://localhost:1; trying for another [12] s, until "
        r"\d\d:\d\d:\d\d",
        said,
    )


@pytest.mark.behaviour("clients.silence")
async def test_a_frozen_platform_is_told_and_that_it_is_back(
    platform: PlatformProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "soorma.calls"):
        async with context_of(platform) as context:
            await context.memory.get_revision("plan")
            assert told(caplog) == []
            os.kill(platform.pid, signal.SIGSTOP)
            try:
                waiting = asyncio.ensure_future(context.memory.get_revision("plan"))
                await eventually(lambda: len(told(caplog)) == 1)
            finally:
                os.kill(platform.pid, signal.SIGCONT)
            await waiting
    assert told(caplog)[1] == "the memory service responds again"


@pytest.mark.behaviour("clients.silence")
async def test_a_stream_that_does_not_open_is_told(caplog: pytest.LogCaptureFixture) -> None:
    client = EventClient("viewer", config=NOWHERE)
    with pytest.raises(Unavailable):
        await client.connect(["business-facts"])
    await client.disconnect()
    assert len(told(caplog)) == 1


@pytest.mark.behaviour("clients.silence")
def test_a_script_that_sets_up_no_logging_says_it_too() -> None:
    script = (
        "import asyncio; from soorma import MemoryClient; "
        "asyncio.run(MemoryClient().get_revision('plan'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment(SOORMA_MEMORY_URL="http://localhost:1", SOORMA_RETRY_SECONDS="2"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (
        "no answer from the memory service at http://localhost:1; trying for another 1 s"
        in done.stderr
    )


@pytest.mark.behaviour("settings.folder")
def test_which_platform_it_is_is_told_once(running: PlatformProcess) -> None:
    script = """
import asyncio, logging
from soorma import MemoryClient
logging.basicConfig(level=logging.INFO)
async def main():
    for _ in range(2):
        async with MemoryClient() as memory:
            await memory.get_revision("plan")
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment(**addresses_of(running)),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr.count("uses the platform that the environment names: events at") == 1
