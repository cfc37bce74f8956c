"""Waiting for a claim, giving it up, and the effects of time on both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from soorma import HandlerContext, Worker, WorkflowState
from soorma.testing import LocalPlatform


async def in_line(state: WorkflowState, count: int) -> None:
    """Returns when `count` are waiting for the key `k`."""
    await state_is(lambda keys: sum(key.startswith("k/waiting/") for key in keys) == count, state)


async def state_is(wanted: Callable[[list[str]], bool], state: WorkflowState) -> None:
    """Returns when the plan's keys are as wanted."""
    async with asyncio.timeout(10):
        while not wanted(await state.keys()):  # noqa: ASYNC110 - others change it
            await asyncio.sleep(0.001)


@pytest.mark.behaviour("claims.first-come")
async def test_who_is_cancelled_leaves_the_line(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    held = await state.claim("k")
    assert held is not None
    cancelled = asyncio.create_task(state.claim("k", wait=60))
    await in_line(state, 1)
    heir = asyncio.create_task(state.claim("k", wait=60))
    await in_line(state, 2)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await in_line(state, 1)
    await held.release()
    claim = await heir
    assert claim is not None
    assert await claim.release() is True
    assert await state.keys() == []


@pytest.mark.behaviour("claims.first-come")
async def test_who_is_cancelled_before_it_is_answered_keeps_nothing(
    soorma_platform: LocalPlatform,
) -> None:
    state = soorma_platform.state("p")
    for turns in range(12):
        asking = asyncio.create_task(state.claim("k", wait=60))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        (outcome,) = await asyncio.gather(asking, return_exceptions=True)
        if not isinstance(outcome, BaseException):
            assert outcome is not None
            await outcome.release()
        await state_is(lambda keys: not keys, state)


@pytest.mark.behaviour("claims.waiting", "claims.first-come")
async def test_whose_wait_is_over_leaves_the_line(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    async with await state.claim("k"):  # type: ignore[union-attr]
        assert await state.claim("k", wait=0.01) is None
        assert await state.keys() == ["k"]


@pytest.mark.behaviour("claims.waiting")
async def test_a_line_that_was_cleaned_up_forms_again(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    await state.claim("k")
    waiting = asyncio.create_task(state.claim("k", wait=60))
    await in_line(state, 1)
    await state.cleanup()
    async with asyncio.timeout(10):
        assert await waiting is not None


@pytest.mark.behaviour("claims.one-holder")
async def test_a_claim_is_held_for_its_whole_time(soorma_platform: LocalPlatform) -> None:
    """It lasts longer than the lifetime of a place that nobody renews."""
    state = soorma_platform.state("p")
    claim = await state.claim("k", ttl=100)
    waiting = asyncio.create_task(state.claim("k", wait=60))
    await in_line(state, 1)
    for _ in range(3):
        await soorma_platform.advance(33, settle=False)
        assert await state.get_entry("k") is not None
        await in_line(state, 1)
    await soorma_platform.advance(1, settle=False)
    heir = await waiting
    assert heir is not None
    assert claim is not None
    assert await claim.release() is False


@pytest.mark.behaviour("claims.dead-holder", "claims.in-a-handler")
async def test_a_killed_agents_claim_is_free_after_ten_seconds(
    soorma_platform: LocalPlatform,
) -> None:
    worker, holds = Worker("worker"), asyncio.Event()

    @worker.on_event("e")
    async def handle(event: Any, context: HandlerContext) -> None:
        async with await WorkflowState(context.immediate.memory, "p").claim("k", ttl=600):
            holds.set()
            await asyncio.Event().wait()

    await soorma_platform.run(worker)
    await soorma_platform.publish("e", "business-facts")
    await holds.wait()
    state = soorma_platform.state("p")
    waiting = asyncio.create_task(state.claim("k", wait=60))
    await in_line(state, 1)
    await soorma_platform.advance(60, settle=False)
    assert not waiting.done(), "its holder lives"
    await soorma_platform.kill(worker)
    await soorma_platform.advance(9, settle=False)
    assert not waiting.done()
    await soorma_platform.advance(1, settle=False)
    async with asyncio.timeout(10):
        assert await waiting is not None
