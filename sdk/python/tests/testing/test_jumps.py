"""A test sets its platform's wall clock ahead and back: waiting goes by the time that passes."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from soorma import Retry, RetryPolicy, Worker, WorkflowState
from soorma.errors import InvalidRequest
from soorma.testing import LocalPlatform

HOUR, MONTH = 3600.0, 30 * 86_400.0
FIRST, FAR = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@pytest.mark.behaviour("testing.jump")
@pytest.mark.parametrize("by", [-MONTH, -HOUR, HOUR, MONTH])
async def test_what_waits_is_moved_by_time_and_not_by_a_jump(
    soorma_platform: LocalPlatform, by: float
) -> None:
    worker, seen = Worker("w", retry=RetryPolicy(first_delay=10, jitter=0)), list[Any]()

    @worker.on_event("alarm")
    async def ring(event: Any, context: Any) -> None:
        seen.append(event.data)

    @worker.on_event("again")
    async def again(event: Any, context: Any) -> None:
        if context.attempt == 1:
            raise Retry("not yet", after=100)
        seen.append("again")

    await soorma_platform.run(worker)
    begin = soorma_platform.now
    await soorma_platform.publish("again", "business-facts")
    await soorma_platform.publish("alarm", "business-facts", "delayed", delay=50)
    await soorma_platform.publish("alarm", "business-facts", "at", at=begin + timedelta(days=60))
    await soorma_platform.jump(by)
    assert soorma_platform.now == begin + timedelta(seconds=by)
    (waiting,) = soorma_platform.waiting()
    assert waiting.due == soorma_platform.now + timedelta(seconds=100)
    assert seen == []
    await soorma_platform.advance(49.9)
    assert seen == []
    await soorma_platform.advance(0.2)
    assert seen == ["delayed"]
    await soorma_platform.advance(50)
    assert seen == ["delayed", "again"]
    await soorma_platform.advance(60 * 86_400 - by - 101)
    assert seen == ["delayed", "again"]
    await soorma_platform.advance(1)
    assert seen == ["delayed", "again", "at"]


@pytest.mark.behaviour("testing.jump", "clocks.sweeping-waits")
async def test_what_has_expired_is_hidden_and_removed_ten_minutes_later(
    soorma_platform: LocalPlatform,
) -> None:
    state = soorma_platform.state("p")
    await state.set("k", 1, ttl=60)
    await soorma_platform.jump(timedelta(hours=1))
    assert await state.get("k") is None
    await soorma_platform.jump(-3600)
    assert await state.get("k") == 1
    await soorma_platform.jump(3600)
    await soorma_platform.advance(602)
    await soorma_platform.jump(-3600)
    assert await state.get("k") is None


@pytest.mark.behaviour("testing.jump", "testing.refused")
async def test_a_jump_that_leads_nowhere_is_refused(soorma_platform: LocalPlatform) -> None:
    before = soorma_platform.now
    off: list[Any] = [
        "60",
        None,
        True,
        math.nan,
        math.inf,
        1e300,
        -1e300,
        10**400,
        timedelta.max,
        timedelta.min,
    ]
    for by in off:
        with pytest.raises(InvalidRequest):
            await soorma_platform.jump(by)
    assert soorma_platform.now == before


FAR_TIMES: dict[str, dict[str, Any]] = {
    "the last day": {"at": FAR},
    "the first day": {"at": FIRST},
    "before 1970": {"at": datetime(1969, 12, 31, tzinfo=UTC)},
    "without a time zone": {"at": datetime(2030, 1, 1)},  # noqa: DTZ001
    "a date as text": {"at": "2030-01-01T00:00:00Z"},
    "eleven years": {"delay": timedelta(days=11 * 365)},
    "the longest timedelta": {"delay": timedelta.max},
    "before now": {"delay": -1},
    "1e300 s": {"delay": 1e300},
    "10**400 s": {"delay": 10**400},
    "NaN": {"delay": math.nan},
    "infinity": {"delay": math.inf},
    "text": {"delay": "60"},
    "a truth": {"delay": True},
    "both": {"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)},
}
FAR_TIMES |= {
    f"the {name} day at {hours:+} h": {"at": day.replace(tzinfo=timezone(timedelta(hours=hours)))}
    for name, day in {"first": FIRST, "last": FAR}.items()
    for hours in (-12, 12, 14)
}


@pytest.mark.behaviour("timers.far-times")
@pytest.mark.parametrize("when", FAR_TIMES.values(), ids=FAR_TIMES)
async def test_a_far_time_is_refused_where_it_is_given(
    soorma_platform: LocalPlatform, when: dict[str, Any]
) -> None:
    state, worker, refused = soorma_platform.state("p"), Worker("w"), list[str]()

    @worker.on_event("go")
    async def go(event: Any, context: Any) -> None:
        for call in (
            lambda: context.bus.publish("x", "business-facts", **when),
            lambda: WorkflowState(context.memory, "p").deadline(**when),
        ):
            try:
                await call()
            except InvalidRequest as error:
                refused.append(error.message)

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "business-facts")
    await soorma_platform.settle()
    assert len(refused) == 2
    for call in (
        lambda: soorma_platform.publish("x", "business-facts", **when),
        lambda: state.deadline(**when),
    ):
        with pytest.raises(InvalidRequest, match=r"\bat\b|delay") as error:
            await call()
        assert len(str(error.value)) < 700
    assert await soorma_platform.dead_letters() == []


@pytest.mark.behaviour("timers.far-times")
@pytest.mark.parametrize(
    "at", [datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, 23, 59, 59, tzinfo=UTC)]
)
async def test_the_first_and_the_last_time_are_taken(
    soorma_platform: LocalPlatform, at: datetime
) -> None:
    await soorma_platform.publish("x", "business-facts", at=at)
    await soorma_platform.settle()
    assert len(soorma_platform.published("x")) == (at.year == 1970)


@pytest.mark.behaviour("timers.far-times")
@pytest.mark.parametrize("seconds", [math.nan, 1e300, 10**400, "30", True, timedelta.max])
async def test_a_wait_that_is_no_time_is_refused(
    soorma_platform: LocalPlatform, seconds: Any
) -> None:
    state = soorma_platform.state("p")
    with pytest.raises(InvalidRequest, match="timeout is a number of seconds"):
        await state.wait_for("k", timeout=seconds)
    with pytest.raises(InvalidRequest, match="timeout is a number of seconds"):
        await soorma_platform.context.bus.request("x", response_event="y", timeout=seconds)
    assert soorma_platform.published() == []
    with pytest.raises(InvalidRequest, match="wait is a number of seconds"):
        await state.claim("c", wait=seconds)
    await state.set("k", 1)
    assert await state.wait_for("k", timeout=timedelta(seconds=5)) == 1
    assert await state.wait_for("k", timeout=math.inf) == 1
