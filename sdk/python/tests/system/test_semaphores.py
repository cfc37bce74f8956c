"""Claims and semaphores between processes: first come, first served; no dead process holds one."""

from __future__ import annotations

import asyncio
import re
import signal

import pytest
from platform_process import PlatformProcess
from running import PythonProcess, Raw, context_of, eventually

from soorma import PlatformContext, WorkflowState

LEASE = 4.0
"""Seconds, shorter than the default, so that nobody waits for long here."""

PROGRAM = f"""
from soorma.memory import locks, renewal
locks.LEASE_SECONDS = renewal.LEASE_SECONDS = {LEASE}
renewal.RENEW_SECONDS = {LEASE / 4}

async def main():
    async with PlatformContext.from_env(source="test") as context:
        state = WorkflowState(context.memory, "plan", os.environ["TENANT"], os.environ["USER_ID"])
        claim = await state.semaphore("k", int(os.environ.get("PLACES", "1")), ttl=600, wait=600)
        say("holds", claim.key)
        if block := float(os.environ.get("BLOCK", "0")):
            time.sleep(block)
        else:
            await asyncio.to_thread(sys.stdin.readline)
        await claim.renew()
        say("released", await claim.release())

asyncio.run(main())
"""


@pytest.fixture
def shared(context: PlatformContext) -> WorkflowState:
    """The plan that all programs of a test use."""
    return WorkflowState(context.memory, "plan")


def program(running: PlatformProcess, state: WorkflowState, **env: str) -> PythonProcess:
    """A process that takes a place, waits for a line, and releases the place."""
    return PythonProcess(running, PROGRAM, TENANT=state.tenant_id, USER_ID=state.user_id, **env)


async def in_line(state: WorkflowState, count: int) -> None:
    """Returns once so many wait."""

    async def are_there() -> bool:
        return len(await state.keys("k/waiting/")) == count

    await eventually(are_there)


def http_commits(running: PlatformProcess) -> int:
    told = Raw(running.memory_url)("GET", "/metrics").body.decode()
    found = re.search(r'^soorma_commits_total\{source="http"\} (\d+)', told, re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.behaviour("claims.dead-holder")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_what_a_dead_process_held_goes_to_the_next_in_line(
    running: PlatformProcess, shared: WorkflowState, number: signal.Signals
) -> None:
    with program(running, shared) as holder:
        await holder.until("holds k")
        with program(running, shared) as waits_and_dies:
            await in_line(shared, 1)
            with program(running, shared) as heir:
                await in_line(shared, 2)
                waits_and_dies.send(number)
                holder.send(number)
                await heir.until("holds k", seconds=30)
                assert await shared.keys() == ["k"]
                heir.go()
                await heir.until("released True")


@pytest.mark.behaviour("claims.dead-holder")
async def test_who_blocks_its_event_loop_keeps_its_place(
    running: PlatformProcess, shared: WorkflowState
) -> None:
    with program(running, shared, BLOCK=str(2 * LEASE)) as holder:
        await holder.until("holds k")
        with program(running, shared) as other:
            await in_line(shared, 1)
            await holder.until("released True", seconds=30)
            await other.until("holds k")


@pytest.mark.behaviour("claims.first-come")
async def test_clients_and_tasks_are_served_in_the_order_they_came(
    running: PlatformProcess, shared: WorkflowState
) -> None:
    served: list[int] = []

    async def use(number: int, state: WorkflowState) -> None:
        claim = await state.semaphore("k", 2, wait=60)
        assert claim is not None
        async with claim:
            served.append(number)
            await asyncio.sleep(0.01)

    async with context_of(running, tenant_id=shared.tenant_id, user_id=shared.user_id) as context:
        twin = WorkflowState(context.memory, "plan")
        first, second = await shared.semaphore("k", 2), await twin.semaphore("k", 2)
        assert first is not None
        assert second is not None
        using = []
        for number in range(20):
            using.append(asyncio.create_task(use(number, (shared, twin)[number % 2])))
            await in_line(shared, number + 1)
        await first.release()
        await asyncio.gather(*using)
        assert served == list(range(20))
        await second.release()
    assert await shared.keys() == []


@pytest.mark.behaviour("claims.first-come")
async def test_waiting_costs_no_commits(running: PlatformProcess, shared: WorkflowState) -> None:
    """One to ask and one to release, however many wait; renewals come every few seconds."""
    count, most, held = 60, 0, 0

    async def use() -> None:
        nonlocal most, held
        claim = await shared.semaphore("k", 3, wait=60)
        assert claim is not None
        async with claim:
            held += 1
            most = max(most, held)
            await asyncio.sleep(0.01)
            held -= 1

    before, loop = http_commits(running), asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(use() for _ in range(count)))
    renewals = (loop.time() - began) / 2 + 2
    assert http_commits(running) - before <= 2 * count + renewals
    assert most <= 3
