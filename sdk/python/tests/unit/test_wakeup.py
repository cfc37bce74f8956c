"""The flag that the platform's waits end with."""

from __future__ import annotations

import asyncio

import pytest

from soorma_platform.wakeup import Wakeup

LONG = 60.0


async def test_a_flag_that_is_set_ends_the_wait_at_once() -> None:
    flag = Wakeup()
    flag.set()
    assert await flag.wait(LONG)
    assert await flag.wait(LONG), "it stays set until it is cleared"
    flag.clear()
    assert not await flag.wait(0.01)


async def test_setting_it_wakes_the_waiter() -> None:
    flag = Wakeup()
    waiting = asyncio.create_task(flag.wait(LONG))
    await asyncio.sleep(0)
    flag.set()
    assert await waiting


async def test_a_flag_set_as_the_time_ends_counts_as_set() -> None:
    flag = Wakeup()
    waiting = asyncio.create_task(flag.wait(0.0))
    await asyncio.sleep(0)
    flag.set()
    assert await waiting


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    flag = Wakeup()
    waiting = asyncio.create_task(flag.wait(LONG))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    flag.set()
    assert await flag.wait(LONG)


async def test_a_second_wait_is_not_ended_by_the_time_of_the_first() -> None:
    flag = Wakeup()
    assert not await flag.wait(0.01)
    waiting = asyncio.create_task(flag.wait(LONG))
    await asyncio.sleep(0.03)
    assert not waiting.done()
    flag.set()
    assert await waiting
