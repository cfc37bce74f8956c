"""The data of one tenant or user is nobody else's, whatever names they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import Raw, Seen, config_of, context_of, eventually, path_of, platform_in, unique

from soorma import Agent, EventClient, HandlerContext, MemoryClient, Reject, WorkflowState
from soorma.errors import NotFound, TimedOut


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with platform_in(tmp_path_factory.mktemp("isolation")) as platform:
        yield platform


@pytest.fixture
async def memory(running: PlatformProcess) -> AsyncIterator[MemoryClient]:
    async with MemoryClient(running.memory_url) as made:
        yield made


@pytest.fixture(params=["tenants", "users"])
def two(request: pytest.FixtureRequest) -> tuple[tuple[str, str], tuple[str, str]]:
    """Two (tenant, user) that differ in one of both only."""
    tenant_id, user_id = unique("tenant"), unique("user")
    other = (
        (unique("tenant"), user_id) if request.param == "tenants" else (tenant_id, unique("user"))
    )
    return (tenant_id, user_id), other


def states(
    memory: MemoryClient, two: Any, plan_id: str = "plan"
) -> tuple[WorkflowState, WorkflowState]:
    one, other = two
    return WorkflowState(memory, plan_id, *one), WorkflowState(memory, plan_id, *other)


@pytest.mark.behaviour("tenants.share-nothing")
async def test_state_history_and_listings_are_ones_own(memory: MemoryClient, two: Any) -> None:
    mine, theirs = states(memory, two)
    await mine.update({"k": "mine", "n": 1})
    await mine.record_action("my action")
    await mine.set("k", "mine again")
    assert await theirs.get("k", "nothing") == "nothing"
    assert await theirs.has("k") is False
    assert await theirs.keys() == []
    assert await theirs.get_many(["k", "n"]) == {}
    assert await theirs.get_action_history() == []
    assert await theirs.history() == []
    assert await theirs.delete("k") is False
    assert await theirs.increment("n") == 1
    assert await theirs.cleanup() == 1
    assert [
        plan.plan_id async for plan in memory.list_plans(theirs.tenant_id, theirs.user_id)
    ] == []
    assert [plan.plan_id async for plan in memory.list_plans(mine.tenant_id, mine.user_id)] == [
        "plan"
    ]
    assert await mine.get_many(["k", "n"]) == {"k": "mine again", "n": 1}
    assert await mine.get_action_history() == ["my action"]
    assert [change.revision for change in await mine.history()] == [1, 1, 2, 3]
    assert (await mine.get_entry("k")).id != (await set_and_get(theirs, "k")).id


async def set_and_get(state: WorkflowState, key: str) -> Any:
    await state.set(key, "theirs")
    return await state.get_entry(key)


@pytest.mark.behaviour("tenants.share-nothing")
async def test_a_watch_sees_ones_own_changes_only(memory: MemoryClient, two: Any) -> None:
    mine, theirs = states(memory, two)
    with pytest.raises(TimedOut):
        await asyncio.gather(theirs.set("k", "theirs"), mine.wait_for("k", timeout=0.5))
    async with aclosing(mine.watch(after=0)) as stream, asyncio.timeout(10):
        await theirs.set("k", "theirs again")
        await mine.set("k", "mine")
        assert (await anext(stream)).argument == "mine"


@pytest.mark.behaviour("tenants.share-nothing")
async def test_over_http_too(running: PlatformProcess, two: Any) -> None:
    mine, theirs = (Raw(running.memory_url, *ids) for ids in two)
    assert mine("PUT", path_of("plan", "k"), {"value": 1}).status == 200
    for path in (path_of("plan", "k"), path_of("plan", "k") + "?revision=0"):
        assert theirs("GET", path).status == 404
    assert theirs("GET", path_of("plan")).json["entries"] == []
    assert theirs("POST", "/v1/memory/many/plan", {"keys": ["k"]}).json["entries"] == {}
    assert theirs("GET", "/v1/memory/working").json["plans"] == []
    assert theirs("GET", "/v1/memory/history/plan").json["changes"] == []
    assert theirs("DELETE", path_of("plan", "k")).json["deleted"] is False
    assert theirs("DELETE", path_of("plan")).json["deleted"] == 0
    assert mine("GET", path_of("plan", "k")).json["value"] == 1
    with mine.stream("/v1/memory/watch/plan?after=0") as stream:
        assert stream.next()[2]["changes"][0]["argument"] == 1


@pytest.mark.behaviour("tenants.publish-for-another")
async def test_a_commit_cannot_publish_for_another(running: PlatformProcess, two: Any) -> None:
    one, other = two
    raw = Raw(running.memory_url, *one)
    event = {"type": "a", "topic": "business-facts", "tenant_id": other[0], "user_id": other[1]}
    part = {"plan_id": "plan", "operations": [{"op": "set", "key": "k", "value": 1}]}
    refused = raw("POST", "/v1/memory/commit", {"plans": [part], "events": [event]})
    assert (refused.status, refused.code) == (403, "forbidden")
    assert raw("GET", path_of("plan", "k")).status == 404


@pytest.mark.behaviour("requests.over-http")
async def test_an_answer_is_for_the_user_who_asked(running: PlatformProcess, two: Any) -> None:
    one, other = two
    async with context_of(running) as context:
        asked = await context.bus.publish(
            "ask",
            "action-requests",
            response_event="answered",
            correlation_id="c",
            tenant_id=one[0],
            user_id=one[1],
        )
        ids = {"tenant_id": other[0], "user_id": other[1]}
        await context.bus.publish("answered", "action-results", "forged", correlation_id="c", **ids)
        path = f"/v1/events/answer/{asked}?timeout=0"
        assert Raw(running.events_url, *one)("GET", path).json == {"event": None}
        assert Raw(running.events_url, *other)("GET", path).code == NotFound.code


def confined(running: PlatformProcess, name: str, tenant_id: str) -> tuple[Agent, Seen]:
    agent, seen = Agent(name, tenant_id=tenant_id, config=config_of(running)), Seen()

    @agent.on_event("*")
    async def handle(event: Any, context: HandlerContext) -> None:
        await WorkflowState(context.memory, "plan").append("l", event.data)
        seen.append((event.tenant_id, event.data))
        if event.data == "refuse":
            raise Reject("refused")

    return agent, seen


@pytest.mark.behaviour("tenants.confined")
async def test_agents_of_one_name_in_two_tenants_share_nothing(
    running: PlatformProcess, memory: MemoryClient
) -> None:
    name, tenants = unique("agent"), (unique("tenant"), unique("tenant"))
    made = [confined(running, name, tenant_id) for tenant_id in tenants]
    async with AsyncExitStack() as stack:
        for agent, _ in made:
            await stack.enter_async_context(agent)
        context = await stack.enter_async_context(context_of(running))
        for n in range(10):
            for tenant_id in tenants:
                await context.bus.publish(
                    "a", "business-facts", n, tenant_id=tenant_id, plan_id="plan"
                )
        await context.bus.publish("a", "business-facts", "refuse", tenant_id=tenants[0])
        await made[0][1].until(12)  # with the notice of its own dead letter
        await made[1][1].until(10)
    assert {tenant for tenant, _ in made[0][1]} == {tenants[0]}
    assert made[1][1] == [(tenants[1], n) for n in range(10)]
    user_id = memory.scope().user_id
    assert await WorkflowState(memory, "plan", tenants[1], user_id).get("l") == list(range(10))
    raw = Raw(running.events_url)
    for tenant_id, letters in zip(tenants, (1, 0), strict=True):
        path = f"/v1/events/dead-letters?group={name}&tenant_id={tenant_id}"
        assert len(raw("GET", path).json["dead_letters"]) == letters
        groups = raw("GET", f"/v1/events/groups?tenant_id={tenant_id}").json["groups"]
        assert [group["tenant_id"] for group in groups if group["name"] == name] == [tenant_id]


@pytest.mark.behaviour("tenants.confined", "groups.start-order")
async def test_a_confined_agent_inherits_nothing_of_others_from_before(
    running: PlatformProcess,
) -> None:
    tenant_id, kind = unique("tenant"), unique("kind")
    agent, seen = Agent(unique("agent"), tenant_id=tenant_id, config=config_of(running)), Seen()

    @agent.on_event(kind)
    async def handle(event: Any, _: Any) -> None:
        seen.append(event.data)

    async with context_of(running) as context:
        await context.bus.publish(kind, "business-facts", "of another", tenant_id=unique("tenant"))
        await context.bus.publish(kind, "business-facts", "early", tenant_id=tenant_id)
        async with agent:
            await context.bus.publish(kind, "business-facts", "late", tenant_id=tenant_id)
            await seen.until(2)
    assert seen == ["early", "late"]


@pytest.mark.behaviour("tenants.unconfined", "ids.of-the-event")
async def test_an_unconfined_agent_serves_each_in_their_own_scope(
    running: PlatformProcess, memory: MemoryClient, two: Any
) -> None:
    kind = unique("kind")
    agent = Agent(unique("agent"), config=config_of(running))
    mine, theirs = states(memory, two)

    @agent.on_event(kind)
    async def handle(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, "plan")
        await state.append("l", event.data)
        await state.record_action(str(event.data))
        await context.bus.publish("done." + kind, "business-facts", event.data)

    async with agent, EventClient("client", config=config_of(running)) as client:
        seen = Seen()
        client.on_event("done." + kind)(seen.append)
        await client.connect(["business-facts"])
        for n in range(10):
            for ids in two:
                await client.publish(
                    kind,
                    "business-facts",
                    [ids[0], ids[1], n],
                    plan_id="plan",
                    tenant_id=ids[0],
                    user_id=ids[1],
                )
        await seen.until(20)
    for state in (mine, theirs):
        assert await state.get("l") == [[state.tenant_id, state.user_id, n] for n in range(10)]
        assert len(await state.get_action_history()) == 10
    assert all([event.tenant_id, event.user_id] == event.data[:2] for event in seen)


@pytest.mark.behaviour("tenants.lanes")
async def test_one_plan_id_of_two_users_is_two_lanes(running: PlatformProcess, two: Any) -> None:
    kind, go_on, seen = unique("kind"), asyncio.Event(), Seen()
    agent = Agent(unique("agent"), config=config_of(running))

    @agent.on_event(kind)
    async def handle(event: Any, _: Any) -> None:
        if (event.tenant_id, event.user_id) == two[0]:
            await go_on.wait()
        seen.append((event.tenant_id, event.user_id))

    async with agent, context_of(running) as context:
        for ids in two:
            await context.bus.publish(
                kind, "business-facts", plan_id="plan", tenant_id=ids[0], user_id=ids[1]
            )
        assert await seen.until(1) == [two[1]]
        go_on.set()
        await seen.until(2)


@pytest.mark.behaviour("tenants.confined")
async def test_the_stream_of_a_tenant_is_its_own(running: PlatformProcess) -> None:
    tenants = unique("tenant"), unique("tenant")
    clients = [
        EventClient("client", tenant_id=tenant_id, config=config_of(running))
        for tenant_id in tenants
    ]
    heard = [Seen(), Seen()]
    async with clients[0], clients[1]:
        for client, seen in zip(clients, heard, strict=True):
            client.on_all_events(seen.append)
            await client.connect(["business-facts"])
        for n in range(5):
            for client in clients:
                await client.publish("a", "business-facts", n)
        await eventually(lambda: all(len(seen) == 5 for seen in heard))
    for tenant_id, seen in zip(tenants, heard, strict=True):
        assert [(event.tenant_id, event.data) for event in seen] == [
            (tenant_id, n) for n in range(5)
        ]
