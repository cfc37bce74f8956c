"""Moving the platform's clock: retries, leases, expiry and upkeep happen exactly when due."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from soorma import Retry, RetryPolicy, Worker, WorkflowState
from soorma.errors import InvalidRequest
from soorma.testing import LocalPlatform
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.services import agents as platform_agents

SECONDS = 10.0
STEADY = RetryPolicy(max_attempts=4, first_delay=10, factor=2, longest_delay=100, jitter=0)
DAY = 86_400.0


def _failing(until: int, **given: Any) -> tuple[Worker, list[int]]:
    """Makes an agent whose attempts before `until` fail, and the list of its attempts' numbers."""
    worker, attempts = Worker("failing", retry=STEADY, **given), []

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        attempts.append(context.attempt)
        if context.attempt < until:
            raise ValueError(f"attempt {context.attempt}")
        await WorkflowState(context.memory, event.plan_id).set("attempt", context.attempt)

    return worker, attempts


@pytest.mark.behaviour("testing.time")
async def test_time_stands_still_until_it_is_moved() -> None:
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    async with LocalPlatform(now=begin) as platform:
        assert platform.now == begin
        await platform.publish("first", "business-facts")
        await platform.advance(1.5)
        await platform.publish("second", "business-facts")
        assert [event.time for event in platform.published()] == [
            "2030-01-01T00:00:00.000Z", "2030-01-01T00:00:01.500Z",
        ]  # fmt: skip
        assert platform.now == begin + timedelta(seconds=1.5)
        await platform.advance(timedelta(days=1))
        assert platform.now == begin + timedelta(days=1, seconds=1.5)


@pytest.mark.behaviour("testing.refused")
async def test_a_time_that_is_none_is_refused(soorma_platform: LocalPlatform) -> None:
    before = soorma_platform.now
    off: list[Any] = [
        -1,
        timedelta(seconds=-1),
        "60",
        None,
        True,
        float("nan"),
        float("inf"),
        1e300,
        10**400,
    ]
    for time in off:
        with pytest.raises(InvalidRequest):
            await soorma_platform.advance(time)
    assert soorma_platform.now == before


@pytest.mark.behaviour("testing.time", "retries.backoff")
async def test_a_retry_comes_when_it_is_due(soorma_platform: LocalPlatform) -> None:
    worker, attempts = _failing(until=3)
    begin = soorma_platform.now
    await soorma_platform.run(worker)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    first, second = soorma_platform.waiting()
    assert (first.reason, first.attempts, first.failed) == ("retry", 1, "ValueError: attempt 1")
    assert first.due == begin + timedelta(seconds=10)
    assert (second.reason, second.attempts, second.due) == ("turn", 0, None)

    await soorma_platform.advance(9.999)
    assert attempts == [1]
    await soorma_platform.advance(0.001)
    assert attempts == [1, 2]
    await soorma_platform.advance(1000)
    assert attempts == [1, 2, 3, 1, 2, 3]
    assert await soorma_platform.state("plan").get("attempt") == 3
    assert soorma_platform.waiting() == []
    assert soorma_platform.now == begin + timedelta(seconds=1010)


@pytest.mark.behaviour("testing.time")
async def test_all_attempts_that_become_due_are_made_at_their_times(
    soorma_platform: LocalPlatform,
) -> None:
    worker, _ = _failing(until=99)
    times = []

    @worker.on_event("event.dead_lettered")
    async def note(event: Any, context: Any) -> None:
        times.append(soorma_platform.now)

    begin = soorma_platform.now
    await soorma_platform.run(worker)
    await soorma_platform.publish("work", "action-requests")
    await soorma_platform.advance(DAY)
    (letter,) = await soorma_platform.dead_letters()
    assert letter.attempts == 4
    assert times == [begin + timedelta(seconds=10 + 20 + 40)]


@pytest.mark.behaviour("testing.time", "retries.after")
async def test_a_handler_says_when_it_wants_the_event_again(
    soorma_platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        platform_agents, "POLL_SECONDS", 3600.0
    )  # nobody looks without being told to
    worker = Worker("patient")

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        if context.attempt == 1:
            raise Retry(after=3600)

    await soorma_platform.run(worker)
    await soorma_platform.publish("work", "action-requests")
    await soorma_platform.settle()
    (one,) = soorma_platform.waiting()
    assert one.due == soorma_platform.now + timedelta(hours=1)
    await soorma_platform.advance(3600)
    assert soorma_platform.waiting() == []


@pytest.mark.behaviour("testing.time")
async def test_keys_and_plans_expire(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("plan")
    await state.set("short", 1, ttl=10)
    await state.set("long", 2)
    await state.ttl(60)
    await soorma_platform.advance(9.999)
    assert await state.keys() == ["long", "short"]
    await soorma_platform.advance(0.001)
    assert await state.keys() == ["long"]
    assert [change.op for change in await state.history("short")] == ["set", "expire"]  # swept, too
    await soorma_platform.advance(50)
    assert await state.keys() == []


@pytest.mark.behaviour("testing.time", "leases.renewed")
async def test_an_agent_at_work_keeps_its_event_for_a_day(
    soorma_platform: LocalPlatform,
) -> None:
    worker, begun, go_on = Worker("slow"), asyncio.Event(), asyncio.Event()
    attempts = []

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        attempts.append(context.attempt)
        begun.set()
        await go_on.wait()
        await context.bus.publish("worked", "action-results")

    await soorma_platform.run(worker)
    await soorma_platform.publish("work", "action-requests")
    await begun.wait()
    await soorma_platform.advance(0.99 * DAY, settle=False)
    go_on.set()
    await soorma_platform.settle()
    assert attempts == [1]
    assert len(soorma_platform.published("worked")) == 1
    await soorma_platform.advance(7 * DAY)
    await soorma_platform.publish("work", "action-requests")  # its subscription is still there, too
    await soorma_platform.settle()
    assert len(soorma_platform.published("worked")) == 2


@pytest.mark.behaviour("testing.time", "leases.longest")
async def test_after_a_day_its_event_goes_to_another() -> None:
    worker, begun, over = Worker("slow"), asyncio.Event(), asyncio.Event()
    attempts = []

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                over.set()

    async with LocalPlatform(lease=1.5) as platform:  # its agent renews often: it learns of it soon
        await platform.run(worker)
        await platform.publish("work", "action-requests", plan_id="p")
        async with asyncio.timeout(SECONDS):
            await begun.wait()
        await platform.advance(1.01 * DAY, settle=False)
        async with asyncio.timeout(SECONDS):
            await over.wait()
        await platform.settle()
        assert attempts == [1, 2]
        assert await platform.dead_letters() == []


@pytest.mark.behaviour("testing.time", "leases.fence")
async def test_no_replica_takes_what_another_has_in_hand_while_time_moves(
    soorma_platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle, busy, begun, go_on, attempts = (
        Worker("shared"),
        Worker("shared"),
        asyncio.Event(),
        asyncio.Event(),
        [],
    )
    for worker in (idle, busy):

        @worker.on_event("work")
        async def work(event: Any, context: Any) -> None:
            attempts.append(context.attempt)
            begun.set()
            await go_on.wait()

    platform = soorma_platform._platform
    renew = platform.store.deliveries.renew

    async def late(*given: Any) -> list[str]:
        platform.bus.notify(
            Notice(groups=soorma_platform._record.groups())
        )  # the other one looks, first
        await asyncio.sleep(0.05)
        return await renew(*given)

    await soorma_platform.run(idle, busy)
    with soorma_platform.frozen(idle):
        await soorma_platform.advance(25)  # it is not heard of, so it gets nothing
        await soorma_platform.publish("work", "action-requests")
        await begun.wait()
    monkeypatch.setattr(platform.store.deliveries, "renew", late)
    await soorma_platform.advance(3600, settle=False)
    go_on.set()
    await soorma_platform.settle()
    assert attempts == [1]


@pytest.mark.behaviour("testing.time", "leases.fence")
async def test_a_frozen_agent_loses_its_event_and_its_late_commit_is_refused(
    soorma_platform: LocalPlatform,
) -> None:
    done: list[tuple[str, int]] = []

    def replica(name: str) -> tuple[Worker, asyncio.Event, asyncio.Event]:
        worker, begun, go_on = Worker("shared"), asyncio.Event(), asyncio.Event()

        @worker.on_event("work")
        async def work(event: Any, context: Any) -> None:
            begun.set()
            await go_on.wait()
            await WorkflowState(context.memory, "plan").append("by", name)
            done.append((name, context.attempt))

        return worker, begun, go_on

    sleepy, begun, wake_up = replica("sleepy")
    awake, _, go_on = replica("awake")
    go_on.set()
    await soorma_platform.run(sleepy)
    await soorma_platform.publish("work", "action-requests")
    await begun.wait()
    await soorma_platform.run(awake)
    with soorma_platform.frozen(sleepy):
        await soorma_platform.settle()
        (one,) = soorma_platform.waiting()
        assert (one.reason, one.attempts) == ("lease", 1)
        assert one.due == soorma_platform.now + timedelta(seconds=30)
        await soorma_platform.advance(29)
        assert done == []
        await soorma_platform.advance(1)
        assert done == [("awake", 2)]
        wake_up.set()
    await soorma_platform.settle()
    assert done == [("awake", 2), ("sleepy", 1)]  # it ran to its end, and nothing of it is there
    assert await soorma_platform.state("plan").get("by") == ["awake"]


@pytest.mark.behaviour("testing.time", "groups.start-order")
async def test_what_nobody_took_waits_ten_minutes_for_an_agent() -> None:
    async def taken_after(seconds: float) -> int:
        async with LocalPlatform() as platform:
            worker, attempts = _failing(until=1)
            await platform.publish("work", "action-requests", plan_id="plan")
            await platform.advance(seconds)
            await platform.run(worker)
            await platform.settle()
            return len(attempts)

    assert await taken_after(600) == 1
    assert await taken_after(601) == 0


@pytest.mark.behaviour("testing.time", "groups.unseen")
async def test_a_group_that_is_away_for_a_week_is_forgotten(soorma_platform: LocalPlatform) -> None:
    worker, attempts = _failing(until=1)
    await soorma_platform.run(worker)
    await soorma_platform.stop(worker)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.advance(6 * DAY)
    assert [one.reason for one in soorma_platform.waiting()] == ["agent"]
    await soorma_platform.advance(2 * DAY)
    assert soorma_platform.waiting() == []
    assert attempts == []
    assert (
        len(soorma_platform.published("work")) == 1
    )  # though the platform's log has let it go, too


@pytest.mark.behaviour("testing.time", "registry.expires")
async def test_the_registry_knows_who_is_at_work(soorma_platform: LocalPlatform) -> None:
    registry = soorma_platform.context.registry
    worker, _ = _failing(until=1)
    other = Worker("other")

    @other.on_event("other")
    async def ignore(event: Any, context: Any) -> None: ...

    async def known() -> list[str]:
        return [found.name for found in await registry.find()]

    await soorma_platform.run(worker, other)
    await soorma_platform.settle()
    assert await known() == ["failing", "other"]
    await soorma_platform.advance(DAY)
    assert await known() == ["failing", "other"]
    await soorma_platform.kill(other)
    await soorma_platform.advance(29)
    assert await known() == ["failing", "other"]
    await soorma_platform.advance(1)
    assert await known() == ["failing"]
    await soorma_platform.stop(worker)
    assert await known() == []
