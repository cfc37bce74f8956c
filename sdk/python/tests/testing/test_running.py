"""Agents at work on a platform inside the test: events, state, readers, and the remains."""

from __future__ import annotations

import asyncio
import gc
import socket
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import apsw
import pytest

from soorma import EventClient, Reject, Worker, WorkflowState
from soorma.errors import InvalidRequest, LimitExceeded, TimedOut
from soorma.testing import LocalPlatform
from soorma_common.limits import Limits

SECONDS = 10.0


def _counter(name: str = "counter", **given: Any) -> Worker:
    """Makes an agent that counts the events of a plan and publishes the number."""
    worker = Worker(name, **given)

    @worker.on_event("count", topic="action-requests")
    async def count(event: Any, context: Any) -> None:
        number = await WorkflowState(context.memory, event.plan_id).increment("count")
        await context.bus.publish("counted", "action-results", {"number": number})

    return worker


@pytest.mark.behaviour("testing.as-written", "lanes.in-order")
async def test_events_of_a_plan_are_handled_in_order(soorma_platform: LocalPlatform) -> None:
    await soorma_platform.run(_counter())
    for _ in range(20):
        await soorma_platform.publish("count", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert [event.data["number"] for event in soorma_platform.published("counted")] == list(
        range(1, 21)
    )
    assert await soorma_platform.state("plan").get("count") == 20
    assert len(soorma_platform.published(topic="action-requests")) == 20
    assert not soorma_platform.published("counted", "action-requests")
    assert len(soorma_platform.published()) == 40


@pytest.mark.behaviour("testing.in-process")
async def test_no_socket_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a socket is opened")

    monkeypatch.setattr(socket, "socket", refuse)
    async with LocalPlatform() as platform:
        client = platform.client()
        await client.connect(["action-results"])
        await platform.run(_counter())
        await client.publish("count", "action-requests", plan_id="plan")
        await platform.settle()
        assert platform.published("counted")


@pytest.mark.behaviour("testing.in-process")
async def test_it_starts_in_less_than_a_tenth_of_a_second() -> None:
    """Of processor time: on a busy machine, more of the clock's."""
    took = []
    for _ in range(5):
        begun = time.process_time()
        async with LocalPlatform():
            took.append(time.process_time() - begun)
    assert min(took) < 0.1


@pytest.mark.behaviour("testing.as-written")
async def test_whose_data_is_meant() -> None:
    async with LocalPlatform(tenant_id="acme", user_id="ada") as platform:
        await platform.run(_counter())
        await platform.publish("count", "action-requests", plan_id="plan")
        await platform.publish("count", "action-requests", plan_id="plan", user_id="bob")
        await platform.settle()
        assert [(event.tenant_id, event.user_id) for event in platform.published("counted")] == [
            ("acme", "ada"), ("acme", "bob"),
        ]  # fmt: skip
        assert await platform.state("plan").get("count") == 1
        assert await platform.state("plan", user_id="bob").get("count") == 1
        assert await platform.state("plan", tenant_id="other").get("count") is None


@pytest.mark.behaviour("testing.as-written")
async def test_settings_are_those_of_the_platform() -> None:
    async with LocalPlatform(limits=Limits(value_bytes=10)) as platform:
        await platform.state("plan").set("key", "short")
        with pytest.raises(LimitExceeded, match="value_bytes is 10"):
            await platform.state("plan").set("key", "longer than that")


# Agents and clients


@pytest.mark.behaviour("testing.as-written")
async def test_agents_start_on_one_platform_after_another() -> None:
    worker = _counter()
    for _ in range(3):
        async with LocalPlatform() as platform:
            await platform.run(worker)
            await platform.publish("count", "action-requests", plan_id="plan")
            await platform.settle()
            assert await platform.state("plan").get("count") == 1


@pytest.mark.behaviour("testing.as-written")
async def test_hooks_run_and_work_on_the_platform(soorma_platform: LocalPlatform) -> None:
    worker, said = _counter(), []

    @worker.on_startup
    async def begin() -> None:
        await WorkflowState(worker.context.memory, "hooks").set("begun", value=True)

    @worker.on_shutdown
    async def end() -> None:
        said.append(await WorkflowState(worker.context.memory, "hooks").get("begun"))

    await soorma_platform.run(worker)
    assert await soorma_platform.state("hooks").get("begun") is True
    await soorma_platform.stop(worker)
    assert said == [True]


@pytest.mark.behaviour("testing.as-written", "agents.drain")
async def test_a_stopped_agent_finishes_what_it_has_in_hand(soorma_platform: LocalPlatform) -> None:
    worker, begun, go_on = Worker("slow"), asyncio.Event(), asyncio.Event()

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        begun.set()
        await go_on.wait()
        await context.bus.publish("worked", "action-results")

    await soorma_platform.run(worker)
    await soorma_platform.publish("work", "action-requests")
    await begun.wait()
    stopping = asyncio.create_task(soorma_platform.stop(worker))
    go_on.set()
    await stopping
    assert len(soorma_platform.published("worked")) == 1
    with pytest.raises(InvalidRequest, match="does not run here"):
        await soorma_platform.stop(worker)


@pytest.mark.behaviour("testing.as-written", "agents.start-stop")
async def test_an_agent_runs_once(soorma_platform: LocalPlatform) -> None:
    worker = _counter()
    await soorma_platform.run(worker)
    with pytest.raises(InvalidRequest, match="running already"):
        await soorma_platform.run(worker)


@pytest.mark.behaviour("testing.as-written")
async def test_replicas_share_the_events(soorma_platform: LocalPlatform) -> None:
    await soorma_platform.run(_counter(), _counter(), _counter("another"))
    for number in range(10):
        await soorma_platform.publish("count", "action-requests", plan_id=f"plan-{number}")
    await soorma_platform.settle()
    assert len(soorma_platform.published("counted")) == 20  # of two groups


@pytest.mark.behaviour("testing.as-written", "handlers.plain-def")
async def test_a_plain_handler_runs_in_its_thread(soorma_platform: LocalPlatform) -> None:
    worker, threads = Worker("plain"), set()

    @worker.on_event("work")
    def work(event: Any, context: Any) -> None:
        threads.add(threading.current_thread())
        state = WorkflowState(context.memory, event.plan_id)
        context.run(state.set("done", context.run(state.get("asked"))))

    await soorma_platform.run(worker)
    await soorma_platform.state("plan").set("asked", "this")
    await soorma_platform.publish("work", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert await soorma_platform.state("plan").get("done") == "this"
    assert threading.main_thread() not in threads


@pytest.mark.behaviour("testing.settles")
async def test_listeners_have_heard_of_all_that_is_settled(soorma_platform: LocalPlatform) -> None:
    made_elsewhere = EventClient("page")
    before = made_elsewhere._caller
    heard: list[str] = []
    for client in (soorma_platform.client("other"), soorma_platform.use(made_elsewhere)):
        client.on_all_events(
            lambda event, name=client.agent_id: heard.append(f"{name}: {event.type}")
        )
        await client.connect(["action-requests", "action-results"])
    await soorma_platform.run(_counter())
    await made_elsewhere.publish("count", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert sorted(heard) == ["other: count", "other: counted", "page: count", "page: counted"]
    assert made_elsewhere._caller is not before


@pytest.mark.behaviour("testing.settles")
async def test_what_the_record_has_already_is_told_before_it_has_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow(
        connection: apsw.Connection,
    ) -> None:  # the machine is busy just then: the thread has committed, and waits
        connection.set_profile(lambda sql, _: time.sleep(0.05) if sql == "COMMIT" else None)

    monkeypatch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, slow])
    async with LocalPlatform(now=datetime(2026, 1, 1, tzinfo=UTC)) as platform:
        await platform.publish("due", "business-facts", at=datetime(1970, 1, 1, tzinfo=UTC))
        await platform.settle()
        assert len(platform.published("due")) == 1


@pytest.mark.behaviour("testing.as-written")
async def test_a_client_of_elsewhere_is_given_back() -> None:
    client = EventClient("page")
    before = client._caller
    async with LocalPlatform() as platform:
        assert platform.use(client) is client
        assert platform.use(client)._caller is not before
    assert client._caller is before


@pytest.mark.behaviour("testing.as-written")
async def test_requests_and_answers(soorma_platform: LocalPlatform) -> None:
    worker = Worker("answering")

    @worker.on_event("question", topic="action-requests")
    async def answer(event: Any, context: Any) -> None:
        await context.bus.respond(event, {"answer": 42})

    await soorma_platform.run(worker)
    answer_event = await soorma_platform.context.bus.request(
        "question", response_event="answer", timeout=SECONDS
    )
    assert answer_event.data == {"answer": 42}


@pytest.mark.behaviour("testing.as-written")
async def test_changes_can_be_watched(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("plan")
    await soorma_platform.run(_counter())
    waiting = asyncio.create_task(state.wait_for("count", 3, timeout=SECONDS))
    for _ in range(3):
        await soorma_platform.publish("count", "action-requests", plan_id="plan")
    assert await waiting == 3


# Settling


@pytest.mark.behaviour("testing.settles")
async def test_what_has_no_agent_waits_and_does_not_move(soorma_platform: LocalPlatform) -> None:
    worker = _counter()
    await soorma_platform.run(worker)
    await soorma_platform.stop(worker)
    await soorma_platform.publish("count", "action-requests", plan_id="plan")
    await soorma_platform.publish("count", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert [(one.group, one.reason, one.due) for one in soorma_platform.waiting()] == [
        ("counter", "agent", None), ("counter", "turn", None),
    ]  # fmt: skip
    await soorma_platform.run(worker)
    await soorma_platform.settle()
    assert soorma_platform.waiting() == []
    assert await soorma_platform.state("plan").get("count") == 2


@pytest.mark.behaviour("testing.settles")
async def test_an_event_that_no_running_agent_takes_does_not_move(
    soorma_platform: LocalPlatform,
) -> None:
    before, now = _counter(), Worker("counter")

    @now.on_event("something.else")
    async def ignore(event: Any, context: Any) -> None: ...

    await soorma_platform.run(before)
    await soorma_platform.stop(before)
    await soorma_platform.run(now)
    await soorma_platform.publish("count", "action-requests")
    await soorma_platform.settle()
    assert [one.reason for one in soorma_platform.waiting()] == ["agent"]


@pytest.mark.behaviour("testing.settles")
async def test_what_does_not_settle_is_named(soorma_platform: LocalPlatform) -> None:
    worker, go_on = Worker("stuck"), asyncio.Event()

    @worker.on_event("work")
    async def never_ending(event: Any, context: Any) -> None:
        await go_on.wait()

    await soorma_platform.run(worker)
    await soorma_platform.publish("work", "action-requests", plan_id="plan", event_id="the-event")
    with pytest.raises(
        TimedOut,
        match=r"never_ending.* on event 'work' the-event \(plan plan\) of agent 'stuck' runs",
    ):
        await soorma_platform.settle(timeout=0.05)
    go_on.set()
    await soorma_platform.settle()


@pytest.mark.behaviour("testing.as-written")
async def test_a_rejected_event_is_a_dead_letter_that_can_be_replayed(
    soorma_platform: LocalPlatform,
) -> None:
    worker, wanted = Worker("picky"), []

    @worker.on_event("work")
    async def work(event: Any, context: Any) -> None:
        if not wanted:
            raise Reject("not this one")
        await context.bus.publish("worked", "action-results")

    await soorma_platform.run(worker)
    await soorma_platform.publish("work", "action-requests")
    await soorma_platform.settle()
    (letter,) = await soorma_platform.dead_letters()
    assert (letter.group, letter.type, letter.reason) == ("picky", "work", "not this one")
    assert len(soorma_platform.published("event.dead_lettered", "system-events")) == 1
    wanted.append(True)
    await soorma_platform.replay(letter)
    await soorma_platform.settle()
    assert len(soorma_platform.published("worked")) == 1
    assert await soorma_platform.dead_letters() == []
    with pytest.raises(InvalidRequest, match="no dead letter"):
        await soorma_platform.replay(letter)


# Side by side, and afterwards


@pytest.mark.behaviour("testing.in-process")
async def test_many_platforms_at_once() -> None:
    async def one(number: int) -> None:
        async with LocalPlatform() as platform:
            await platform.run(_counter())
            for _ in range(number):
                await platform.publish("count", "action-requests", plan_id="plan")
            await platform.settle()
            assert await platform.state("plan").get("count") == number
            assert len(platform.published()) == 2 * number

    await asyncio.gather(*(one(number) for number in range(1, 9)))


@pytest.mark.behaviour("testing.as-written")
async def test_another_event_loop_is_told_apart(soorma_platform: LocalPlatform) -> None:
    with pytest.raises(InvalidRequest, match="another event loop"):
        await asyncio.to_thread(asyncio.run, soorma_platform.state("plan").get("key"))


@pytest.mark.behaviour("testing.in-process")
async def test_nothing_is_left_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    worker = _counter()

    @worker.on_event("hang")
    async def hang(event: Any, context: Any) -> None:
        await asyncio.get_running_loop().create_future()

    async with LocalPlatform() as platform:
        client = platform.client()
        await client.connect(["action-results"])
        await platform.run(worker)
        platform.crash(worker, at_await=1, event_type="count", restart=True)
        await platform.publish("count", "action-requests", plan_id="plan")
        await platform.settle()
        assert _held(tmp_path)
        await platform.publish("hang", "action-requests")
        await platform.publish("count", "action-requests", plan_id="plan")
        with pytest.raises(TimedOut):
            await platform.settle(timeout=0.05)
    gc.collect()
    assert asyncio.all_tasks() == tasks
    assert not _held(tmp_path)
    async with asyncio.timeout(SECONDS):
        while left := _of_soorma(set(threading.enumerate()) - threads):
            await asyncio.to_thread(left.pop().join, SECONDS)


def _of_soorma(threads: set[threading.Thread]) -> set[threading.Thread]:
    return {thread for thread in threads if thread.name.startswith("soorma")}


def _held(folder: Path) -> list[Path]:
    return list(folder.iterdir())
