"""A closed platform: keys, what each permits, deliveries as capabilities, and revocation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from soorma import HandlerContext, PlatformContext, RetryPolicy, Worker
from soorma.errors import Fenced, Forbidden, InvalidRequest, Unauthorized
from soorma.testing import LocalPlatform

OWN = {"tenant_id": "acme", "user_id": "alice"}
OTHER = {"tenant_id": "umbrella", "user_id": "eve"}


@pytest.fixture
async def platform() -> AsyncIterator[LocalPlatform]:
    async with LocalPlatform(closed=True) as running:
        yield running


async def set_one(context: PlatformContext, value: int = 1, **scope: str) -> None:
    await context.memory.set_plan_state("p", "k", value, **scope)


async def value_of(context: PlatformContext, plan: str = "p", **scope: str) -> Any:
    return await context.memory.get_value(plan, "k", **scope)


@pytest.mark.behaviour("identity.keys")
async def test_nothing_is_done_without_a_valid_key(platform: LocalPlatform) -> None:
    key = await platform.key("app", **OWN)
    wrong = (
        "soorma_0123456789abcdef_" + "0" * 64,
        key[:-1] + ("0" if key[-1] != "0" else "1"),
        "another-token",
        f"{key}x",
    )
    for one in wrong:
        with pytest.raises(Unauthorized):
            await set_one(platform.context_of(one))
    await set_one(platform.context_of(key))


@pytest.mark.behaviour("identity.scope")
async def test_a_key_says_for_whom_it_is(platform: LocalPlatform) -> None:
    own = platform.context_of(await platform.key("app", **OWN))
    await set_one(own)
    await set_one(own, **OWN)
    for scope in (OTHER, {**OWN, "user_id": "bob"}, {**OWN, "tenant_id": "umbrella"}):
        with pytest.raises(Forbidden, match="is not for X-"):
            await set_one(own, **scope)
    everybody = platform.context_of(await platform.key("app", tenant_id="acme"))
    assert await value_of(everybody, **OWN) == 1
    await set_one(everybody, tenant_id="acme", user_id="bob")
    with pytest.raises(Forbidden):
        await set_one(everybody, **OTHER)
    with pytest.raises(InvalidRequest, match="say whose data is meant"):
        await set_one(everybody)
    with pytest.raises(Forbidden, match="is for one user"):
        await own.memory.list_quarantines(all_users=True)


@pytest.mark.behaviour("identity.scope")
async def test_an_event_that_names_nobody_is_of_its_keys_user(platform: LocalPlatform) -> None:
    own = platform.context_of(await platform.key("app", **OWN))
    await own.bus.publish("order.paid", topic="business-facts", data={})
    everybody = platform.context_of(await platform.key("app", tenant_id="acme"))
    with pytest.raises(InvalidRequest, match="say whose event it is"):
        await everybody.bus.publish("order.paid", topic="business-facts", data={})
    named = {"user_id": "bob"}
    await everybody.bus.publish("order.paid", topic="business-facts", data={}, **named)
    published = platform.published("order.paid")
    assert [(event.tenant_id, event.user_id) for event in published] == [
        ("acme", "alice"),
        ("acme", "bob"),
    ]


@pytest.mark.behaviour("identity.roles")
async def test_a_viewer_changes_nothing(platform: LocalPlatform) -> None:
    await set_one(platform.context_of(await platform.key("app", **OWN)))
    viewer = platform.context_of(await platform.key("viewer", **OWN))
    assert await value_of(viewer) == 1
    assert not (await viewer.memory.search_knowledge("anything")).hits
    with pytest.raises(Forbidden, match="does not permit memory:write"):
        await set_one(viewer)
    with pytest.raises(Forbidden, match="does not permit events:write"):
        await viewer.bus.publish("order.paid", topic="business-facts", data={})


@pytest.mark.behaviour("identity.roles")
async def test_what_concerns_all_users_is_for_operators(platform: LocalPlatform) -> None:
    app = platform.context_of(await platform.key("app", tenant_id="acme"), user_id="alice")
    operator = platform.context_of(await platform.key("operator", tenant_id="acme"))
    with pytest.raises(Forbidden, match="does not permit memory:manage"):
        await app.memory.quarantine(source="mail", all_users=True)
    await operator.memory.quarantine(source="mail", all_users=True)


def packer(**more: Any) -> Worker:
    return Worker("packer", retry=RetryPolicy(max_attempts=1), **more)


@pytest.mark.behaviour("identity.deliveries")
async def test_an_agents_key_by_itself_permits_nothing_but_deliveries(
    platform: LocalPlatform,
) -> None:
    key = await platform.key("agent", tenant_id="acme", agents=["packer"], subscribe=["*"])
    outside = platform.context_of(key, **OWN)
    with pytest.raises(Forbidden, match="use the context that a handler is called with"):
        await value_of(outside)
    with pytest.raises(Forbidden):
        await set_one(outside)
    with pytest.raises(Forbidden):
        await outside.bus.publish("order.paid", topic="business-facts", data={})


@pytest.mark.behaviour("identity.deliveries")
async def test_a_handler_acts_for_the_user_of_its_event_and_nobody_else(
    platform: LocalPlatform,
) -> None:
    key = await platform.key(
        "agent", agents=["packer"], subscribe=["order.paid"], publish=["order.packed"]
    )
    agent, seen = packer(api_key=key), dict[str, Any]()

    @agent.on_event("order.paid", topic="business-facts")
    async def pack(event: Any, context: HandlerContext) -> None:
        memory, at_once = context.memory, context.immediate.memory
        seen["before"] = await memory.get_value("p", "k")
        await memory.set_plan_state("p", "k", event.data["value"])
        await at_once.set_plan_state("now", "k", 5)
        seen["now"] = await at_once.get_value("now", "k")
        seen["history"] = await memory.get_history("p")
        seen["context"] = context.immediate
        await context.bus.publish("order.packed", topic="business-facts", data={})

    await platform.run(agent)
    app = platform.context_of(await platform.key("app", tenant_id="acme"), **OWN)
    await set_one(app)
    await app.bus.publish("order.paid", topic="business-facts", data={"value": 2})
    await platform.settle()
    assert (seen["before"], seen["now"]) == (1, 5)
    assert await value_of(app) == 2
    with pytest.raises(Fenced):
        await value_of(seen["context"])


@pytest.mark.behaviour("identity.grants")
async def test_an_agent_takes_and_publishes_what_its_key_names(platform: LocalPlatform) -> None:
    grants = {"agents": ["packer"], "subscribe": ["order.paid@business-facts"]}
    key = await platform.key("agent", **grants, publish=["order.packed"])
    agent = packer(api_key=key)

    @agent.on_event("order.paid", topic="business-facts")
    async def pack(event: Any, context: HandlerContext) -> None:
        await context.bus.publish("order.lost", topic="business-facts", data={})

    await platform.run(agent)
    await platform.context.bus.publish("order.paid", topic="business-facts", data={})
    await platform.settle()
    (letter,) = await platform.dead_letters()
    assert "may publish order.packed, not order.lost on business-facts" in letter.reason
    await platform.stop(agent)

    for named, kind, topic in (
        ("thief", "order.paid", "business-facts"),
        ("packer", "order.sent", "business-facts"),
        ("packer", "order.paid", "action-results"),
        ("packer", "*", "business-facts"),
    ):
        other = Worker(named, api_key=key)

        @other.on_event(kind, topic=topic)  # type: ignore[arg-type]
        async def take(event: Any, context: HandlerContext) -> None:
            raise AssertionError

        with pytest.raises(Forbidden, match=r"may take|is for agents named"):
            await platform.run(other)


@pytest.mark.behaviour("identity.revoked")
async def test_a_revoked_key_ends_what_is_under_way_and_costs_no_attempt(
    platform: LocalPlatform,
) -> None:
    grants = {"agents": ["*"], "subscribe": ["*"], "publish": ["*"]}
    first, second = [await platform.key("agent", **grants) for _ in range(2)]
    begun, attempts = asyncio.Event(), list[tuple[str, int]]()

    def packing(name: str, key: str) -> Worker:
        agent = packer(api_key=key)

        @agent.on_event("order.paid", topic="business-facts")
        async def pack(event: Any, context: HandlerContext) -> None:
            attempts.append((name, context.attempt))
            if name == "first":
                begun.set()
                await asyncio.sleep(3600)

        return agent

    agent = packing("first", first)
    await platform.run(agent)
    await platform.context.bus.publish("order.paid", topic="business-facts", data={})
    await asyncio.wait_for(begun.wait(), 10)
    await platform.revoke(first)
    await platform.run(packing("second", second))
    await platform.kill(agent)
    await platform.settle()
    assert attempts == [("first", 1), ("second", 1)]
    assert await platform.dead_letters() == []


@pytest.mark.behaviour("identity.revoked")
async def test_streams_of_a_revoked_key_end(platform: LocalPlatform) -> None:
    key = await platform.key("app", **OWN)
    context = platform.context_of(key)
    await set_one(context)
    async with aclosing(context.memory.watch_plan("p")) as watching:
        assert await anext(watching) == [], "the stream stands"
        following = asyncio.ensure_future(anext(watching))
        await platform.revoke(key)
        with pytest.raises(Unauthorized):
            await asyncio.wait_for(following, 10)


@pytest.mark.behaviour("identity.revoked")
async def test_what_waits_for_long_with_a_revoked_key_ends(platform: LocalPlatform) -> None:
    key = await platform.key("app", **OWN)
    context = platform.context_of(key)
    asking = asyncio.ensure_future(
        context.bus.request(
            "order.ask", topic="action-requests", data={}, response_event="told", timeout=60
        )
    )
    for _ in range(1_000):
        if platform.published("order.ask"):
            break
        await asyncio.sleep(0.01)
    await platform.revoke(key)
    with pytest.raises(Unauthorized):
        await asyncio.wait_for(asking, 10)


@pytest.mark.behaviour("identity.key-function")
async def test_a_key_from_a_function_is_asked_for_again(platform: LocalPlatform) -> None:
    keys = [await platform.key("app", **OWN) for _ in range(2)]
    asked = list[str]()

    def current() -> str:
        asked.append(keys[len(asked)])
        return asked[-1]

    context = platform.context_of(current)
    await set_one(context, 1)
    await set_one(context, 2)
    assert len(asked) == 1
    await platform.revoke(keys[0])
    await set_one(context, 3)
    assert asked == keys
    await platform.revoke(keys[1])
    keys.append(keys[1])
    with pytest.raises(Unauthorized):
        await set_one(context, 4)
    assert await value_of(platform.context_of(await platform.key("app", **OWN))) == 3


@pytest.mark.behaviour("identity.secret")
async def test_a_key_is_shown_by_nothing(platform: LocalPlatform) -> None:
    key = await platform.key("app", **OWN)
    context = platform.context_of(key)
    agent = packer(api_key=key)
    secret = key.rpartition("_")[2]
    with pytest.raises(Forbidden) as refused:
        await set_one(context, **OTHER)
    with pytest.raises(InvalidRequest) as malformed:
        platform.context_of(f"{key} {key}")
    for shown in (repr(context), repr(agent), repr(agent._config), str(refused.value),
                  repr(refused.value.details), str(malformed.value)):  # fmt: skip
        assert secret not in shown
