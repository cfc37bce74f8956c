"""EventClient: publishing and listening outside an agent, through restarts of the platform too."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import Seen, config_of, environment_of, eventually, unique

from soorma import Agent, ClientConfig, EventClient, Topic
from soorma.errors import EventIdConflict, InvalidName, InvalidRequest, TimedOut, Unavailable


@pytest.fixture
def tenant_id() -> str:
    return unique("tenant")


@pytest.fixture
def client(running: PlatformProcess, tenant_id: str) -> EventClient:
    return EventClient(unique("client"), "me", tenant_id, config=config_of(running))


def listened(client: EventClient) -> Seen:
    seen = Seen()
    client.on_all_events(seen.append)
    return seen


@pytest.mark.behaviour("readers.listens")
async def test_it_listens_to_types_and_topics(client: EventClient) -> None:
    typed, on_topic, everything = Seen(), Seen(), listened(client)

    @client.on_event("a")
    def plain(event: Any) -> None:
        typed.append(event)

    @client.on_event("a", topic=Topic.PLAN_EVENTS)
    async def asynchronous(event: Any) -> None:
        await asyncio.sleep(0)
        on_topic.append(event)

    await client.connect(["business-facts", Topic.PLAN_EVENTS])
    for kind, topic in (
        ("a", "business-facts"),
        ("b", "plan-events"),
        ("a", "plan-events"),
        ("a", "task-events"),
    ):
        await client.publish(kind, topic, {"on": topic})
    event_id = await client.publish("last", "business-facts")
    await everything.until(4)
    await client.disconnect()
    assert [(event.type, event.topic) for event in everything] == [
        ("a", "business-facts"), ("b", "plan-events"), ("a", "plan-events"),
        ("last", "business-facts"),
    ]  # fmt: skip
    assert [event["data"] for event in typed] == [{"on": "business-facts"}, {"on": "plan-events"}]
    assert [event.topic for event in on_topic] == ["plan-events"]
    last = everything[-1]
    assert (last.id, last.source, last.tenant_id, last.correlation_id) == (
        event_id,
        "me",
        client.tenant_id,
        event_id,
    )


@pytest.mark.behaviour("readers.publishes")
async def test_it_publishes_without_a_connection(
    client: EventClient, running: PlatformProcess
) -> None:
    async with (
        client,
        EventClient("other", tenant_id=client.tenant_id, config=config_of(running)) as other,
    ):
        seen = listened(other)
        await other.connect(["business-facts"])
        identity = unique("id")
        assert (
            await client.publish("a", "business-facts", 1, event_id=identity, session_id="s")
            == identity
        )
        ids = await client.publish_many(
            [{"event_type": "b", "topic": "business-facts", "data": n} for n in range(2)]
        )
        await seen.until(3)
        assert [event.id for event in seen] == [identity, *ids]
        assert seen[0].session_id == "s"


@pytest.mark.behaviour("events.id-conflict")
async def test_the_same_id_with_other_content_is_a_conflict(client: EventClient) -> None:
    async with client:
        identity = await client.publish("a", "business-facts", 1, trace_id="t")
        assert (
            await client.publish("a", "business-facts", 1, trace_id="t", event_id=identity)
            == identity
        )
        with pytest.raises(EventIdConflict):
            await client.publish("a", "business-facts", 2, trace_id="t", event_id=identity)


@pytest.mark.behaviour("events.id-once")
async def test_the_same_call_with_the_same_id_does_nothing(client: EventClient) -> None:
    async with client:
        identity = unique("id")
        for _ in range(2):
            assert (
                await client.publish("a", "business-facts", {"n": 1}, event_id=identity) == identity
            )


@pytest.mark.behaviour("events.refused", "topics.eight")
async def test_what_cannot_be_published_is_refused(client: EventClient) -> None:
    async with client:
        with pytest.raises(InvalidName, match="topics are"):
            await client.publish("a", "no-such-topic")
        for wrong in ("", ".", "x" * 256):
            with pytest.raises(InvalidName):
                await client.publish(wrong, "business-facts")
        with pytest.raises(TypeError, match="nonsense"):
            await client.publish("a", "business-facts", nonsense="x")
        with pytest.raises(InvalidRequest, match="JSON cannot say"):
            await client.publish("a", "business-facts", float("nan"))


@pytest.mark.behaviour("readers.rules")
async def test_connecting_has_rules(client: EventClient) -> None:
    with pytest.raises(InvalidRequest, match="topic"):
        await client.connect([])
    with pytest.raises(InvalidName):
        await client.connect(["no-such-topic"])
    await client.connect(["business-facts"])
    with pytest.raises(InvalidRequest, match="connected"):
        await client.connect(["business-facts"])
    await client.disconnect()
    await client.disconnect()
    seen = listened(client)
    await client.connect(["business-facts"])
    await client.publish("again", "business-facts")
    await seen.until(1)
    await client.disconnect()


@pytest.mark.behaviour("readers.begins-now")
async def test_it_sees_nothing_of_the_time_before(client: EventClient) -> None:
    seen = listened(client)
    async with client:
        await client.publish("before", "business-facts")
        await client.connect(["business-facts"])
        await client.publish("after", "business-facts")
        await seen.until(1)
    assert [event.type for event in seen] == ["after"]


@pytest.mark.behaviour("readers.failing-listener")
async def test_a_listener_that_fails_stops_nothing(
    client: EventClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "soorma.client")

    @client.on_all_events
    async def fail(event: Any) -> None:
        raise ValueError("in a listener")

    seen = listened(client)
    async with client:
        await client.connect(["business-facts"])
        for n in range(3):
            await client.publish("a", "business-facts", n)
        await seen.until(3)
    assert (
        len([record for record in caplog.records if "listener failed" in record.getMessage()]) == 3
    )


@pytest.mark.behaviour("readers.publishes")
async def test_it_requests(client: EventClient, running: PlatformProcess, tenant_id: str) -> None:
    agent = Agent(unique("agent"), tenant_id=tenant_id, config=config_of(running))

    @agent.on_event("ask", topic="action-requests")
    async def answer(event: Any, context: Any) -> None:
        await context.bus.respond(event, event.data + 1)

    async with client, agent:
        found = await client.request("ask", 1, response_event="answered", timeout=10)
        assert (found.data, found.type) == (2, "answered")
        with pytest.raises(TimedOut):
            await client.request("nobody", response_event="answered", timeout=0.2)


@pytest.mark.behaviour("tenants.confined")
async def test_a_confined_client_hears_its_tenant_only(
    running: PlatformProcess, client: EventClient
) -> None:
    kind = unique("kind")
    unconfined = EventClient("all", config=config_of(running))
    own, all_of_it = listened(client), Seen()
    unconfined.on_event(kind)(all_of_it.append)
    async with client, unconfined:
        await client.connect(["business-facts"])
        await unconfined.connect(["business-facts"])
        await unconfined.publish(kind, "business-facts", "theirs", tenant_id=unique("tenant"))
        await unconfined.publish(kind, "business-facts", "nobody's")
        await client.publish(kind, "business-facts", "ours")
        await all_of_it.until(3)
        await own.until(1)
    assert [event.data for event in all_of_it] == ["theirs", "nobody's", "ours"]
    assert [event.data for event in own] == ["ours"]


@pytest.mark.behaviour("ids.environment")
async def test_the_environment_names_platform_and_tenant(
    running: PlatformProcess, monkeypatch: Any
) -> None:
    with environment_of(running):
        tenant_id = unique("tenant")
        monkeypatch.setenv("SOORMA_TENANT_ID", tenant_id)
        async with EventClient("client") as client:
            assert client.tenant_id == tenant_id
            seen = listened(client)
            await client.connect(["business-facts"])
            await client.publish("a", "business-facts")
            assert (await seen.until(1))[0].tenant_id == tenant_id


@pytest.mark.behaviour("outage.every-call")
async def test_connecting_to_nobody_says_so() -> None:
    client = EventClient(
        "c", config=ClientConfig("http://127.0.0.1:9", "http://127.0.0.1:9", retry_seconds=0.2)
    )
    with pytest.raises(Unavailable, match="soorma dev"):
        await client.connect(["business-facts"])
    with pytest.raises(Unavailable):
        await client.publish("a", "business-facts")
    await client.disconnect()


@pytest.mark.behaviour("readers.resumes", "durability.acknowledged")
@pytest.mark.parametrize("graceful", [False, True], ids=["kill -9", "SIGTERM"])
async def test_it_comes_back_without_gap_or_duplicate(
    running: PlatformProcess, client: EventClient, tenant_id: str, graceful: bool
) -> None:
    seen = listened(client)
    async with (
        client,
        EventClient("publisher", tenant_id=tenant_id, config=config_of(running)) as publisher,
    ):
        await client.connect(["business-facts"])
        sent = 0
        for _ in range(3):
            for _ in range(20):
                await publisher.publish("a", "business-facts", sent)
                sent += 1
            end = running.stop if graceful else running.kill
            await asyncio.to_thread(end)
            waiting = asyncio.create_task(publisher.publish("a", "business-facts", sent))
            sent += 1
            await asyncio.to_thread(running.start)
            await waiting
        await seen.until(sent)
        await publisher.publish("last", "business-facts", sent)
        await seen.until(sent + 1)
    assert [event.data for event in seen] == list(range(sent + 1))


@pytest.mark.behaviour("readers.slow")
async def test_a_slow_listener_gets_everything(client: EventClient) -> None:
    go_on, seen = asyncio.Event(), Seen()

    @client.on_all_events
    async def slow(event: Any) -> None:
        await go_on.wait()
        seen.append(event.data)

    async with client:
        await client.connect(["business-facts"])
        for start in range(0, 5000, 500):
            await client.publish_many(
                {"event_type": "a", "topic": "business-facts", "data": n}
                for n in range(start, start + 500)
            )
        go_on.set()
        await seen.until(5000)
    assert seen == list(range(5000))


@pytest.mark.behaviour("readers.rules")
async def test_disconnecting_leaves_nothing_open(client: EventClient) -> None:
    before = asyncio.all_tasks()
    await client.connect(["business-facts"])
    await client.publish("a", "business-facts")
    assert asyncio.all_tasks() > before
    await client.disconnect()
    assert await eventually(lambda: asyncio.all_tasks() == before)
