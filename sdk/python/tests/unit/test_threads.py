"""The threads in which an agent runs plain functions."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from soorma.runtime.threads import ABANDONED_FOR_EACH, Threads, TimeIsOver, waiting

pytestmark = pytest.mark.behaviour("retries.threads")


class _Pool:
    """A pool, and the reasons for which it was exhausted."""

    def __init__(self, most: int) -> None:
        self.exhausted: list[str] = []
        self.threads = Threads(most, "test", self.exhausted.append)


async def test_no_more_run_at_once_than_there_may_be() -> None:
    pool, lock, now, most = _Pool(3), threading.Lock(), 0, 0

    def work(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.005)
        with lock:
            now -= 1
        return number

    results = await asyncio.gather(*(pool.threads.run(lambda n=n: work(n)) for n in range(40)))
    assert results == list(range(40))
    assert most == 3
    pool.threads.close()


async def test_time_counts_from_the_start_of_the_function() -> None:
    pool, go_on = _Pool(1), threading.Event()
    first = asyncio.create_task(pool.threads.run(go_on.wait))
    await asyncio.sleep(0)
    behind = asyncio.create_task(pool.threads.run(lambda: "done", timeout=1.0))
    await asyncio.sleep(1.2)
    assert not behind.done()
    go_on.set()
    assert await first
    assert await behind == "done"
    pool.threads.close()


async def test_a_function_that_has_returned_is_not_too_late() -> None:
    pool, loop, begun = _Pool(1), asyncio.get_running_loop(), asyncio.Event()

    def work() -> str:
        loop.call_soon_threadsafe(begun.set)
        threading.Event().wait(0.02)
        return "done"

    running = asyncio.create_task(pool.threads.run(work, timeout=0.1))
    await begun.wait()
    for _ in range(5):  # so that its time counts
        await asyncio.sleep(0)
    threading.Event().wait(0.3)  # the loop is held up until long after its timeout
    assert await running == "done"
    assert not pool.exhausted
    pool.threads.close()


async def test_a_stuck_thread_is_replaced_until_too_many_are_stuck() -> None:
    pool, over = _Pool(2), threading.Event()
    for number in range(2 * ABANDONED_FOR_EACH):
        assert not pool.exhausted
        with pytest.raises(TimeIsOver):
            await pool.threads.run(over.wait, timeout=0.01)
        assert await pool.threads.run(lambda n=number: n) == number
    assert len(pool.exhausted) == 1
    assert f"{2 * ABANDONED_FOR_EACH} threads are stuck" in pool.exhausted[0]
    over.set()
    pool.threads.close()


async def test_a_thread_that_comes_back_is_not_counted_any_more() -> None:
    pool = _Pool(1)
    for _ in range(3 * ABANDONED_FOR_EACH):
        over, ended = threading.Event(), threading.Event()

        def work(over: threading.Event = over, ended: threading.Event = ended) -> None:
            over.wait()
            ended.set()

        with pytest.raises(TimeIsOver):
            await pool.threads.run(work, timeout=0.01)
        over.set()
        await asyncio.to_thread(ended.wait)
        await _until(lambda: pool.threads._abandoned == 0)
    assert not pool.exhausted
    pool.threads.close()


async def test_who_waits_for_another_function_makes_room_for_it() -> None:
    pool, loop = _Pool(1), asyncio.get_running_loop()

    def outer(depth: int) -> int:
        if depth == 0:
            return 0
        with waiting():
            return (
                1
                + asyncio.run_coroutine_threadsafe(
                    pool.threads.run(lambda: outer(depth - 1)), loop
                ).result()
            )

    assert await pool.threads.run(lambda: outer(20)) == 20
    assert pool.threads._busy == 0
    pool.threads.close()


async def test_who_is_abandoned_while_it_waits_is_counted_once() -> None:
    pool, loop, over = _Pool(1), asyncio.get_running_loop(), asyncio.Event()

    def outer() -> None:
        with waiting():
            asyncio.run_coroutine_threadsafe(over.wait(), loop).result()

    with pytest.raises(TimeIsOver):
        await pool.threads.run(outer, timeout=0.05)
    over.set()
    await _until(lambda: pool.threads._abandoned == 0)
    assert pool.threads._busy == 0
    assert await pool.threads.run(lambda: 1) == 1
    pool.threads.close()


async def test_a_function_that_was_not_begun_is_taken_back() -> None:
    pool, go_on, done = _Pool(1), threading.Event(), []
    first = asyncio.create_task(pool.threads.run(go_on.wait))
    await asyncio.sleep(0)
    second = asyncio.create_task(pool.threads.run(lambda: done.append(1)))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go_on.set()
    await first
    await pool.threads.run(lambda: None)
    assert not done
    pool.threads.close()


async def test_nothing_of_a_function_stays_behind() -> None:
    class Large:
        pass

    pool, large = _Pool(1), Large()
    kept = weakref.ref(large)
    await pool.threads.run(lambda large=large: None)
    del large
    await pool.threads.run(lambda: None)
    gc.collect()
    assert kept() is None
    pool.threads.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - threads tell nobody
            await asyncio.sleep(0.005)
