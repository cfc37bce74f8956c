"""Faults on purpose: calls that fail, connections that break, agents that die, at any await."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from soorma import ClientConfig, Worker, WorkflowState
from soorma.errors import Fenced, InvalidRequest, Unavailable
from soorma.testing import Crash, LocalPlatform
from soorma.testing.asgi import Exchange, http_scope

SECONDS = 10.0


# Calls


@pytest.mark.behaviour("testing.faults")
async def test_a_call_that_does_not_arrive_is_made_again(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("plan")
    failure = soorma_platform.fail_next(
        2, service="memory", method="POST", path="/v1/memory/commit"
    )
    assert await state.increment("count") == 1
    assert (failure.happened, failure.left) == (2, 0)
    assert len(await state.history("count")) == 1


@pytest.mark.behaviour("testing.faults")
async def test_a_service_that_fails_within_its_response_cuts_it_off() -> None:
    """As a server does: half a body is never taken for a whole one."""

    async def fails(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError

    exchange = Exchange("memory", None)
    await exchange.run(fails, http_scope("GET", "/", {}))
    assert await exchange.status == 200
    with pytest.raises(Unavailable, match="the memory service was lost"):
        await exchange.body()


@pytest.mark.behaviour("testing.faults", "outage.at-most-once")
async def test_a_call_whose_answer_is_lost_takes_effect_once(
    soorma_platform: LocalPlatform,
) -> None:
    state = soorma_platform.state("plan")
    failure = soorma_platform.fail_next(lost=True)
    assert await state.increment("count") == 1
    assert failure.happened == 1
    assert await state.get("count") == 1


@pytest.mark.behaviour("testing.refused")
async def test_a_failure_that_would_never_come_about_is_refused(
    soorma_platform: LocalPlatform,
) -> None:
    counts: list[Any] = [0, -1, 1.5, True, "2", None]
    for count in counts:
        with pytest.raises(InvalidRequest, match=f"a whole number from 1 on, not {count!r}"):
            soorma_platform.fail_next(count)
    with pytest.raises(InvalidRequest, match=r"there is no service 'memroy'; there are .*memory"):
        soorma_platform.fail_next(service="memroy")
    await soorma_platform.state("plan").set("key", "nothing fails")


@pytest.mark.behaviour("testing.faults")
async def test_the_signs_of_life_of_an_agent_fail_only_by_their_name(
    soorma_platform: LocalPlatform,
) -> None:
    unnamed = soorma_platform.fail_next(1000, method="PUT")
    by_name = soorma_platform.fail_next(1, path="/v1/registry/agents/")
    await soorma_platform.run(_steps([]))
    async with asyncio.timeout(SECONDS):
        while not await soorma_platform.context.registry.find(name="steps"):
            await soorma_platform.settle()
    assert (unnamed.happened, by_name.happened) == (0, 1)


@pytest.mark.behaviour("testing.faults")
async def test_a_caller_without_patience_sees_the_failure() -> None:
    async with LocalPlatform(retry_seconds=0) as platform:
        failure = platform.fail_next(path="/v1/events")
        assert (
            await platform.state("plan").get("key") is None
        )  # another call than the one that fails
        with pytest.raises(Unavailable, match="as the test asked: it did not arrive"):
            await platform.publish("told", "business-facts")
        assert platform.published() == []
        assert failure.happened == 1
        platform.fail_next(service="events", lost=True)
        with pytest.raises(Unavailable, match="its answer was lost"):
            await platform.publish("told", "business-facts")
        assert len(platform.published("told")) == 1


@pytest.mark.behaviour("testing.faults", "agents.no-platform")
async def test_an_agent_that_cannot_connect_says_so_and_may_try_again(
    soorma_platform: LocalPlatform,
) -> None:
    worker = _steps([], config=ClientConfig(retry_seconds=1.0))
    failure = soorma_platform.fail_next(1000, path="/v1/events/connect")
    with pytest.raises(Unavailable, match="agent 'steps' could not subscribe"):
        await soorma_platform.run(worker)
    assert failure.happened
    failure.left = 0
    await soorma_platform.run(worker)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert await soorma_platform.state("plan").get("count") == 1


@pytest.mark.behaviour("testing.faults")
async def test_an_agent_that_cannot_start_again_fails_the_test(
    soorma_platform: LocalPlatform,
) -> None:
    worker, starts = _steps([]), []

    @worker.on_startup
    def once() -> None:
        starts.append(True)
        if len(starts) > 1:
            raise RuntimeError("the second start fails")

    await soorma_platform.run(worker)
    soorma_platform.crash(worker, 1, restart=True)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    with pytest.raises(RuntimeError, match="second start"):
        await soorma_platform.settle()


# Connections


@pytest.mark.behaviour("testing.faults", "leases.reconnect")
async def test_a_handler_outlives_its_agents_connection(soorma_platform: LocalPlatform) -> None:
    worker, begun, go_on = Worker("steady"), asyncio.Event(), asyncio.Event()
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
    soorma_platform.disconnect(worker)
    go_on.set()
    await soorma_platform.settle()
    assert len(soorma_platform.published("worked")) == 1
    assert soorma_platform.waiting() == []


@pytest.mark.behaviour("testing.faults", "readers.resumes")
async def test_a_reader_misses_nothing_when_its_connection_breaks(
    soorma_platform: LocalPlatform,
) -> None:
    client, heard, three = soorma_platform.client(), [], asyncio.Event()

    @client.on_event("told")
    def hear(event: Any) -> None:
        heard.append(event.data)
        if len(heard) == 3:
            three.set()

    await client.connect(["business-facts"])
    await soorma_platform.publish("told", "business-facts", 1)
    await soorma_platform.settle()
    soorma_platform.disconnect(client)
    await soorma_platform.publish("told", "business-facts", 2)
    await soorma_platform.publish("told", "business-facts", 3)
    async with asyncio.timeout(SECONDS):
        await three.wait()
    assert heard == [1, 2, 3]


# Deaths


def _steps(said: list[str], **given: Any) -> Worker:
    """Makes an agent with awaits of all kinds, which records how far it gets."""
    worker = Worker("steps", **given)

    @worker.on_event("work", topic="action-requests")
    async def work(event: Any, context: Any) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        try:
            count = await state.get("count", 0)
            said.append("read")
            await asyncio.sleep(0)
            said.append("slept")
            await state.set("count", count + 1)
            said.append("set")
            await WorkflowState(context.immediate.memory, event.plan_id).append(
                "attempts", context.attempt
            )
            said.append("told")
            await context.bus.publish("worked", "action-results", {"count": count + 1})
            said.append("published")
        finally:
            said.append("finally")

    return worker


AWAITS = [
    "get 'count'",
    "wait in work, line",
    "set 'count'",
    "POST /v1/memory/commit",
    "publish 'worked'",
    "its outcome is sent",
    "its outcome is answered",
]


@pytest.mark.behaviour("testing.deaths")
async def test_the_awaits_of_an_attempt_can_be_looked_at(soorma_platform: LocalPlatform) -> None:
    worker = _steps([])
    await soorma_platform.run(worker)
    trace = soorma_platform.trace(worker)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert len(trace.awaits) == len(AWAITS)
    assert all(said.startswith(known) for said, known in zip(trace.awaits, AWAITS, strict=True))
    assert trace.event is not None
    assert trace.event.id == soorma_platform.published("work")[0].id


@pytest.mark.behaviour("testing.deaths", "handlers.kill-at-every-await")
@pytest.mark.parametrize("at_await", range(1, len(AWAITS) + 1))
async def test_wherever_an_agent_dies_each_effect_happens_once(
    soorma_platform: LocalPlatform, at_await: int
) -> None:
    said: list[str] = []
    worker = _steps(said)
    await soorma_platform.run(worker)
    crash = soorma_platform.crash(worker, at_await)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert crash.happened
    assert "finally" not in said or at_await > 5  # what is dead does not clean up
    committed = at_await == len(AWAITS)
    assert (await soorma_platform.state("plan").get("count") == 1) is committed
    assert [one.reason for one in soorma_platform.waiting()] == ([] if committed else ["agent"])

    await soorma_platform.run(worker)
    await soorma_platform.settle()
    assert await soorma_platform.state("plan").get("count") == 1
    assert [event.data for event in soorma_platform.published("worked")] == [{"count": 1}]
    immediate = await soorma_platform.state("plan").get("attempts")
    assert immediate == ([2] if at_await <= 4 else [1] if committed else [1, 2])


@pytest.mark.behaviour("testing.deaths")
async def test_a_crash_that_comes_to_nothing_says_so(soorma_platform: LocalPlatform) -> None:
    worker = _steps([])
    await soorma_platform.run(worker)
    crash = soorma_platform.crash(worker, len(AWAITS) + 1)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert not crash.happened
    assert len(crash.awaits) == len(AWAITS)
    assert await soorma_platform.state("plan").get("attempts") == [1]


@pytest.mark.behaviour("testing.deaths")
async def test_a_crash_is_of_one_attempt_at_one_type(soorma_platform: LocalPlatform) -> None:
    worker = _steps([])

    @worker.on_event("other", topic="action-requests")
    async def other(event: Any, context: Any) -> None:
        await WorkflowState(context.memory, event.plan_id).increment("others")

    await soorma_platform.run(worker)
    crash = soorma_platform.crash(worker, 1, "other", restart=True)
    for kind in ("work", "other", "other"):
        await soorma_platform.publish(kind, "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert crash.happened
    assert crash.awaits == ["increment 'others'"]
    assert await soorma_platform.state("plan").get("others") == 2
    assert await soorma_platform.state("plan").get("attempts") == [1]
    with pytest.raises(InvalidRequest, match="number 1"):
        soorma_platform.crash(worker, 0)


@pytest.mark.behaviour("testing.deaths")
async def test_one_death_takes_all_that_the_agent_had_in_hand(
    soorma_platform: LocalPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    worker, begun, go_on, ended = Worker("busy"), asyncio.Event(), asyncio.Event(), []

    @worker.on_event("wait")
    async def wait(event: Any, context: Any) -> None:
        begun.set()
        try:
            await go_on.wait()
        finally:
            ended.append(context.attempt)
        await context.bus.publish("waited", "action-results", {"attempt": context.attempt})

    await soorma_platform.run(worker)
    await soorma_platform.publish("wait", "action-requests")
    await begun.wait()
    caplog.clear()
    await soorma_platform.kill(worker)
    go_on.set()
    await soorma_platform.settle()
    assert [record.message for record in caplog.records if record.name == "soorma.agent"] == []
    assert ended == []
    assert soorma_platform.published("waited") == []
    await soorma_platform.run(worker)
    await soorma_platform.settle()
    assert [event.data for event in soorma_platform.published("waited")] == [{"attempt": 2}]
    assert ended == [2]


@pytest.mark.behaviour("testing.deaths", "leases.closed-socket")
async def test_a_replica_takes_over(soorma_platform: LocalPlatform) -> None:
    first, second = _steps([]), _steps([])
    await soorma_platform.run(first)
    crash = soorma_platform.crash(first, 3)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.run(second)
    await soorma_platform.settle()
    assert crash.happened
    assert await soorma_platform.state("plan").get("count") == 1
    with pytest.raises(InvalidRequest, match="does not run here"):
        await soorma_platform.kill(first)


@pytest.mark.behaviour("testing.deaths")
async def test_calls_side_by_side_count_one_by_one(soorma_platform: LocalPlatform) -> None:
    worker = Worker("gathering")

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        await asyncio.gather(state.set("a", 1), state.set("b", 2))

    await soorma_platform.run(worker)
    trace = soorma_platform.trace(worker)
    crash = soorma_platform.crash(worker, 3)
    await soorma_platform.publish("work", "action-requests", plan_id="plan-1")
    await soorma_platform.settle()
    assert [what.partition(",")[0] for what in trace.awaits] == [
        "wait in work", "set 'a'", "set 'b'", "its outcome is sent", "its outcome is answered",
    ]  # fmt: skip
    await soorma_platform.publish("work", "action-requests", plan_id="plan-2")
    await soorma_platform.settle()
    assert crash.happened
    await soorma_platform.run(worker)
    await soorma_platform.settle()
    assert await soorma_platform.state("plan-2").keys() == ["a", "b"]


@pytest.mark.behaviour("testing.deaths")
async def test_a_call_counts_as_one_whatever_it_does_inside(soorma_platform: LocalPlatform) -> None:
    worker = Worker("far")

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        state = WorkflowState(
            context.memory, "another plan"
        )  # it did not come along with the event
        assert await state.get("key") == "value"
        await state.keys()

    await soorma_platform.state("another plan").set("key", "value")
    await soorma_platform.run(worker)
    trace = soorma_platform.trace(worker)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert trace.awaits == ["get 'key'", "keys", "its outcome is sent", "its outcome is answered"]


@pytest.mark.behaviour("testing.deaths")
async def test_a_stream_counts_by_what_it_brings(soorma_platform: LocalPlatform) -> None:
    worker = Worker("waiting")

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        await WorkflowState(context.memory, "other").wait_for("ready")

    await soorma_platform.run(worker)
    trace = soorma_platform.trace(worker)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    async with asyncio.timeout(SECONDS):
        while trace.awaits.count("the next of a stream") < 2:  # noqa: ASYNC110 - it is a list that tells
            await asyncio.sleep(0.001)
    await soorma_platform.state("other").set("ready", value=True)
    await soorma_platform.settle()
    assert [what.partition("?")[0] for what in trace.awaits] == [
        "GET /v1/memory/working/other",
        "GET /v1/memory/watch/other",
        "the next of a stream",  # it is open
        "GET /v1/memory/working/other/ready",
        "the next of a stream",  # a commit
        "GET /v1/memory/working/other/ready",
        "its outcome is sent",
        "its outcome is answered",
    ]


@pytest.mark.behaviour("testing.deaths")
async def test_what_a_handler_leaves_running_counts_no_more(soorma_platform: LocalPlatform) -> None:
    worker, go_on, left = Worker("leaving"), asyncio.Event(), []

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        async def later() -> None:
            await go_on.wait()
            with pytest.raises(Fenced):  # its delivery is settled
                await WorkflowState(context.immediate.memory, "plan").set("later", value=True)

        left.append(asyncio.create_task(later()))

    await soorma_platform.run(worker)
    trace = soorma_platform.trace(worker)
    await soorma_platform.publish("work", "action-requests")
    await soorma_platform.settle()
    before = list(trace.awaits)
    go_on.set()
    await left[0]
    assert trace.awaits == before
    assert await soorma_platform.state("plan").get("later") is None


@pytest.mark.behaviour("testing.deaths")
async def test_a_plain_handler_dies_at_its_calls(soorma_platform: LocalPlatform) -> None:
    worker, said = Worker("plain"), []

    @worker.on_event("work")
    def work(event: Any, context: Any) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        count = context.run(state.get("count", 0))
        said.append(context.attempt)
        context.run(state.set("count", count + 1))
        said.append(context.attempt)

    await soorma_platform.run(worker)
    crash = soorma_platform.crash(worker, 2, restart=True)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert crash.happened
    assert crash.awaits == ["get 'count'", "set 'count'"]
    assert said == [1, 2, 2]
    assert await soorma_platform.state("plan").get("count") == 1


@pytest.mark.behaviour("testing.deaths", "retries.lost-leases")
async def test_an_agent_that_always_dies_ends_in_a_dead_letter(
    soorma_platform: LocalPlatform,
) -> None:
    worker = _steps([])
    await soorma_platform.run(worker)
    crashes = [soorma_platform.crash(worker, 1, restart=True) for _ in range(3)]
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    await soorma_platform.advance(10)
    assert all(crash.happened for crash in crashes)
    (letter,) = await soorma_platform.dead_letters()
    assert (
        letter.reason
        == "3 processes died while handling it, the last one with nothing else in hand"
    )
    assert (letter.attempts, letter.failures, letter.deaths) == (3, 0, 3)
    assert isinstance(soorma_platform.crash(worker, 1), Crash)


@pytest.mark.behaviour("handlers.conflict-runs-again")
async def test_a_conflict_runs_the_handler_again_within_the_attempt(
    soorma_platform: LocalPlatform,
) -> None:
    worker, counts = Worker("late"), []

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        counts.append(await state.get("count", 0))
        if len(counts) == 1:
            await soorma_platform.state("plan").set("count", 10)  # somebody else's change
        await state.set("count", counts[-1] + 1)

    await soorma_platform.run(worker)
    trace = soorma_platform.trace(worker)
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert counts == [0, 10]
    assert await soorma_platform.state("plan").get("count") == 11
    assert trace.awaits.count("its outcome is sent") == 2
