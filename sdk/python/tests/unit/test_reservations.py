"""Reservations end with their holders: when these are done, lost, gone, or silent for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from soorma_common.causes import NOBODY, Cause
from soorma_common.names import Scope
from soorma_platform.metrics import Metrics
from soorma_platform.work import reservations
from soorma_platform.work.reservations import Reservations, ReservedKey

KEY, OTHER = (ReservedKey(Scope("tenant", "user"), "plan", name) for name in ("key", "other"))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def held(metrics: Metrics) -> Reservations:
    """Reservations in which the delivery `first` of the agent `a` holds the key."""
    made = Reservations(metrics)
    made.join("a")
    made.join("b")
    assert await made.reserve("first", "a", [KEY])
    return made


async def waiting(
    held: Reservations, fence: str, owner: str, keys: Iterable[ReservedKey] = (KEY,)
) -> asyncio.Task[bool]:
    """Starts another delivery, which waits for the key."""
    task = asyncio.create_task(held.reserve(fence, owner, keys))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def in_time(task: asyncio.Task[bool]) -> bool:
    async with asyncio.timeout(5):
        return await task


@pytest.mark.behaviour("handlers.turns", "metrics.counted")
async def test_a_released_key_goes_to_whoever_asked_first(
    held: Reservations, metrics: Metrics
) -> None:
    tasks = [await waiting(held, f"{number}", "b") for number in range(3)]
    assert metrics.commits.waiting == 3
    held.release("first")
    for number, task in enumerate(tasks):
        assert await in_time(task)
        assert held.holds(f"{number}", [KEY])
        assert not any(later.done() for later in tasks[number + 1 :])
        held.release(f"{number}")
    assert not held
    assert metrics.commits.waiting == 0
    assert metrics.commits.reservations.values() == {(): 4}
    assert metrics.commits.reservations_expired.values() == {(): 0}


@pytest.mark.behaviour("handlers.turns-end")
@pytest.mark.parametrize("end", ["release", "leave", "lost"])
async def test_whose_delivery_has_ended_holds_and_waits_no_more(
    held: Reservations, end: str
) -> None:
    heir, gone = await waiting(held, "heir", "b"), await waiting(held, "gone", "a")
    match end:
        case "release":
            held.release("first")
            held.release("gone")
        case "leave":
            held.leave("a")
        case "lost":
            held.renew([], lost=["first", "gone"])
    assert await in_time(heir)
    assert await in_time(gone) is False, "it is told that it does not hold the key"
    assert held.holds("heir", [KEY])


@pytest.mark.behaviour("handlers.turns-end")
async def test_who_has_gone_takes_no_more_turns(held: Reservations) -> None:
    held.leave("a")
    assert await held.reserve("second", "a", [KEY]) is False
    assert await held.await_turn("second", "a", [KEY]) is None, "nobody has it"
    assert not held
    assert await held.reserve("third", "b", [KEY])
    assert await held.await_turn("second", "a", [KEY]) is False


@pytest.mark.behaviour("handlers.turns-end", "metrics.counted")
async def test_who_is_not_heard_of_loses_all_its_turns_at_once(
    monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    monkeypatch.setattr(reservations, "RESERVED_SECONDS", 0.05)
    held = Reservations(metrics)
    held.join("frozen")
    held.join("alive")
    assert await held.reserve("first", "frozen", [KEY])
    frozen = [await waiting(held, f"{number}", "frozen") for number in range(20)]
    heir = await waiting(held, "heir", "alive")
    assert await in_time(heir)
    assert [await in_time(task) for task in frozen] == [False] * 20
    assert metrics.commits.reservations_expired.values() == {(): 1}, "not one after the other"


@pytest.mark.behaviour("handlers.turns-end")
async def test_who_is_heard_of_keeps_its_turn(
    monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    monkeypatch.setattr(reservations, "RESERVED_SECONDS", 0.5)
    held = Reservations(metrics)
    held.join("a")
    held.join("b")
    assert await held.reserve("first", "a", [KEY])
    heir = await waiting(held, "heir", "b")
    loop = asyncio.get_running_loop()
    until = loop.time() + 1.5
    while loop.time() < until:
        held.renew(["first"])
        await asyncio.sleep(0.01)
    assert not heir.done()
    assert held.holds("first", [KEY])
    assert await in_time(heir)
    assert not held.holds("first", [KEY])


@pytest.mark.behaviour("handlers.turns")
async def test_for_more_keys_it_keeps_its_place(held: Reservations) -> None:
    """It gives up its keys, so that two that want each other's do not wait for ever.

    The elder comes first.
    """
    assert await held.reserve("second", "b", [OTHER])
    first = await waiting(held, "first", "a", [OTHER])
    second = await waiting(held, "second", "b", [KEY])
    assert not held.holds("second", [OTHER]) or not first.done()
    assert await in_time(first)
    assert held.holds("first", [KEY, OTHER])
    held.release("first")
    assert await in_time(second)
    assert held.holds("second", [KEY, OTHER])


@pytest.mark.behaviour("handlers.turns")
async def test_a_commit_that_is_sent_twice_waits_once(held: Reservations) -> None:
    tasks = [await waiting(held, "second", "b") for _ in range(2)]
    held.release("first")
    assert [await in_time(task) for task in tasks] == [True, True]
    held.release("second")
    assert not held


@pytest.mark.behaviour("handlers.turns-end")
async def test_who_is_cancelled_leaves_the_line(held: Reservations) -> None:
    cancelled, heir = await waiting(held, "cancelled", "b"), await waiting(held, "heir", "b")
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    held.release("first")
    assert await in_time(heir)


@pytest.mark.behaviour("handlers.turns-requests")
@pytest.mark.parametrize(
    ("cause", "waits"),
    [
        (Cause(event_id="request", correlation_id="request", trace_id="trace"), False),
        (Cause(event_id="request", correlation_id="request", trace_id="another"), True),
        (Cause(event_id="event", correlation_id="of another", trace_id="trace"), True),
        (Cause(event_id="event", correlation_id="event"), True),
        (NOBODY, True),
    ],
    ids=str,
)
async def test_a_request_of_the_holder_does_not_wait_for_it(
    metrics: Metrics, cause: Cause, waits: bool
) -> None:
    held = Reservations(metrics)
    held.join("a")
    assert await held.reserve("first", "a", [KEY], "trace")
    assert held.would_wait_for_itself("second", cause, [KEY]) is not waits
    assert held.would_wait_for_itself("second", cause, [OTHER]) is False
    assert held.would_wait_for_itself("first", cause, [KEY]) is False, "it is the holder itself"
