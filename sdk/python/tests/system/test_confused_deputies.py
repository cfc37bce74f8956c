"""Confused deputies: what a valid credential is not to be talked into."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from closed_platform import Closed, closed_in
from running import WAIT, Answer, unique

from soorma import WorkflowState
from soorma.errors import Forbidden, InvalidRequest
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER
from soorma_common.protocol import PROTOCOL

GRANTS = {"agents": ["*"], "subscribe": ["*"], "publish": ["order.packed"]}
"""Of all tenants: what confines such an agent is the delivery alone."""
PUT = {"value": 1}


class Agent:
    """The agent's side of its connection."""

    replica: str

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def say(self, kind: str, **fields: Any) -> None:
        await self._socket.send_bytes(json.dumps({"frame": kind, **fields}).encode())

    async def hear(self, kind: str) -> dict[str, Any]:
        while True:
            message = await self._socket.receive(timeout=WAIT)
            assert message.type is aiohttp.WSMsgType.BINARY, message
            frame: dict[str, Any] = json.loads(message.data)
            if frame["frame"] == kind:
                return frame


def publish(closed: Closed, tenant: str, user: str = "ann") -> str:
    """Publishes what the agent of a tenant takes; returns the id of the event."""
    event = {"type": f"paid.{tenant}", "topic": "business-facts"}
    raw = closed.raw("events", closed.operator, X_Tenant_ID=tenant, X_User_ID=user)
    identity: str = raw("POST", "/v1/events/publish", event).json["id"]
    return identity


@asynccontextmanager
async def agent_of(closed: Closed, credential: str, tenant: str) -> AsyncIterator[Agent]:
    """An agent that speaks frames, and takes what `publish` publishes for a tenant."""
    headers = {"Authorization": f"Bearer {credential}"}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{closed.platform.events_url}/v1/events/connect", headers=headers
        ) as socket,
    ):
        made = Agent(socket)
        await made.say(
            "hello", agent=tenant, instance=unique("i"), max_concurrency=8,
            subscriptions=[{"type": f"paid.{tenant}"}], protocol=PROTOCOL,
        )  # fmt: skip
        made.replica = (await made.hear("welcome"))["replica"]
        yield made


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    with closed_in(tmp_path_factory.mktemp("closed")) as running:
        yield running


@pytest.fixture
def tenant() -> str:
    return unique("tenant")


def under(closed: Closed, credential: str, fence: str, **headers: str) -> Answer:
    """A change over HTTP under a fence."""
    raw = closed.raw("memory", credential, X_Soorma_Fence=fence, **headers)
    return raw("PUT", "/v1/memory/working/p/k", PUT)


@pytest.mark.behaviour("identity.deliveries")
async def test_a_fence_is_bound_to_the_family_of_its_key(closed: Closed, tenant: str) -> None:
    key_id, own = closed.key("agent", **GRANTS)
    _, other = closed.key("agent", **GRANTS)
    _, app = closed.key("app", tenant_id=tenant, user_id="bob")
    async with agent_of(closed, own, tenant) as agent:
        publish(closed, tenant)
        fence = (await agent.hear("deliver"))["fence"]
        assert under(closed, own, fence).status == 200
        stranger = under(closed, other, fence)
        nowhere = under(closed, other, "0" * 32)
        assert (stranger.status, stranger.code) == (409, "fenced")
        assert stranger.json["detail"] == nowhere.json["detail"]
        # Whoever has a key of its own is not helped by somebody else's fence: it acts for its own.
        assert under(closed, app, fence).status in (403, 409)
        listed = closed.raw("memory", own, X_Soorma_Fence=fence)("GET", "/v1/memory/working")
        assert [plan["plan_id"] for plan in listed.json["plans"]] == ["p"]

        successor = closed.rotate(key_id, 60).credential
        assert under(closed, successor, fence).status == 200, "it has it, too"

        await agent.say("commit", number=1, tenant_id=tenant, user_id="ann",
                        commit={"fence": fence})  # fmt: skip
        await agent.hear("answer")
        assert under(closed, own, fence).code == "fenced", "it is settled"


@pytest.mark.behaviour("identity.deliveries", "identity.revoked")
async def test_a_fence_opens_nothing_after_a_revocation(closed: Closed, tenant: str) -> None:
    key_id, own = closed.key("agent", **GRANTS)
    _, other = closed.key("agent", **GRANTS)
    async with agent_of(closed, own, tenant) as agent:
        publish(closed, tenant)
        fence = (await agent.hear("deliver"))["fence"]
        closed.revoke(key_id)
        assert (await agent.hear("goodbye"))["problem"]["code"] == "unauthorized"
        assert under(closed, own, fence).status == 401
        assert under(closed, other, fence).code == "fenced"
    async with agent_of(closed, other, tenant) as heir:
        again = await heir.hear("deliver")
        assert (again["attempt"], again["fence"] != fence) == (1, True)


@pytest.mark.behaviour("identity.deliveries", "identity.scope")
async def test_a_handler_is_not_talked_into_acting_for_others(closed: Closed, tenant: str) -> None:
    """By headers, by bodies, and by frames."""
    _, own = closed.key("agent", **GRANTS)
    async with agent_of(closed, own, tenant) as agent:
        publish(closed, tenant)
        fence = (await agent.hear("deliver"))["fence"]
        for named in ({"X_Tenant_ID": "umbrella"}, {"X_User_ID": "bob"},
                      {"X_Tenant_ID": "umbrella", "X_User_ID": "eve"}):  # fmt: skip
            assert under(closed, own, fence, **named).code == "forbidden"
        events = closed.raw("events", own, X_Soorma_Fence=fence)
        event = {"type": "order.packed", "topic": "business-facts"}
        for claim in ({"tenant_id": "umbrella"}, {"user_id": "bob"}):
            answer = events("POST", "/v1/events/publish", event | claim)
            assert answer.code in ("invalid_request", "forbidden"), answer.body
        assert (
            events("POST", "/v1/events/publish", event | {"type": "order.paid"}).code == "forbidden"
        )
        assert events("POST", "/v1/events/publish", event).status == 200
        memory = closed.raw("memory", own, X_Soorma_Fence=fence)
        for commit in ({"fence": "0" * 32}, {"plans": [], "cause": {"actor": "boss"}}):
            assert memory("POST", "/v1/memory/commit", commit).status in (409, 422)
        for tenant_id, user_id in (("umbrella", "ann"), (tenant, "bob")):
            await agent.say("commit", number=7, tenant_id=tenant_id, user_id=user_id,
                            commit={"fence": fence})  # fmt: skip
            assert (await agent.hear("answer"))["problem"]["code"] == "invalid_request"


@pytest.mark.behaviour("identity.deliveries")
async def test_an_agent_renews_and_takes_up_only_its_own(closed: Closed, tenant: str) -> None:
    _, own = closed.key("agent", **GRANTS)
    _, other = closed.key("agent", **GRANTS)
    async with agent_of(closed, own, tenant) as agent:
        publish(closed, tenant)
        fence = (await agent.hear("deliver"))["fence"]
        renewal = {"replica": agent.replica, "fences": [fence]}
        assert closed.raw("events", other)("POST", "/v1/events/renew", renewal).json["kept"] == []
        assert closed.raw("events", own)("POST", "/v1/events/renew", renewal).json["kept"] == [
            fence
        ]
        async with aiohttp.ClientSession() as session:
            address = f"{closed.platform.events_url}/v1/events/connect"
            headers = {"Authorization": f"Bearer {other}"}
            async with session.ws_connect(address, headers=headers) as socket:
                thief = Agent(socket)
                await thief.say(
                    "hello", agent=tenant, instance="thief", running=[fence],
                    subscriptions=[{"type": f"paid.{tenant}"}], protocol=PROTOCOL,
                )  # fmt: skip
                assert (await thief.hear("welcome"))["kept"] == []
        assert under(closed, own, fence).status == 200


@pytest.mark.behaviour("identity.scope")
@pytest.mark.parametrize("name", ["Authorization", "X-Tenant-ID", "X-User-ID", "X-Soorma-Fence"])
def test_a_header_that_is_there_twice_is_believed_neither_time(closed: Closed, name: str) -> None:
    _, app = closed.key("app", tenant_id="acme", user_id="ann")
    said = {
        "Authorization": f"Bearer {app}", "X-Tenant-ID": "acme", "X-User-ID": "ann",
        "X-Soorma-Fence": "0" * 32,
    }  # fmt: skip
    address = urlsplit(closed.platform.memory_url).netloc
    for second in (said[name], "umbrella"):
        with closing(http.client.HTTPConnection(address, timeout=WAIT)) as connection:
            connection.putrequest("GET", "/v1/memory/working")
            for one, value in said.items():
                connection.putheader(one, value)
            connection.putheader(name, second)
            connection.endheaders()
            assert connection.getresponse().status == 422


@pytest.mark.behaviour("identity.tenants")
def test_what_is_anothers_is_answered_as_what_is_not_there(closed: Closed) -> None:
    """Plans, events, cursors and idempotency keys of another tenant."""
    theirs, own = unique("tenant"), unique("tenant")
    there = closed.raw("memory", closed.operator, X_Tenant_ID=theirs, X_User_ID="ann")
    plan = unique("plan")
    assert there("PUT", f"/v1/memory/working/{plan}/k", PUT, Idempotency_Key="same").status == 200
    event_id = publish(closed, theirs)
    _, app = closed.key("app", tenant_id=own, user_id="ann")
    memory, events = closed.raw("memory", app), closed.raw("events", app)
    for method, raw, path, missing in (
        ("GET", memory, "/v1/memory/working/{}/k", "plan-x"),
        ("GET", memory, "/v1/memory/plans/{}", "plan-x"),
        ("GET", memory, "/v1/memory/history/{}", "plan-x"),
        ("DELETE", memory, "/v1/memory/working/{}", "plan-x"),
        ("GET", events, "/v1/events/answer/{}", "event-x"),
        ("DELETE", events, "/v1/events/timers/{}", "event-x"),
    ):
        name = plan if missing == "plan-x" else event_id
        found, nothing = raw(method, path.format(name)), raw(method, path.format(missing))
        assert found.status == nothing.status, path
        assert found.body.replace(name.encode(), b"") == nothing.body.replace(
            missing.encode(), b""
        ), path
    again = memory("PUT", "/v1/memory/working/p/k", {"value": 2}, Idempotency_Key="same")
    assert again.status == 200, "an idempotency key is its tenant's"
    assert there("GET", f"/v1/memory/working/{plan}/k").json["value"] == 1


@pytest.mark.behaviour("identity.grants")
def test_an_agent_speaks_in_the_registry_for_itself_alone(closed: Closed, tenant: str) -> None:
    """It neither announces, refreshes nor removes others, nor says what their events look like."""
    grants = {"agents": ["packer"], "subscribe": ["order.paid@business-facts"],
              "publish": ["order.packed"]}  # fmt: skip
    _, own = closed.key("agent", tenant_id=tenant, **grants)
    _, boss = closed.key("agent", tenant_id=tenant, **GRANTS)
    registry, of_boss = closed.raw("registry", own), closed.raw("registry", boss)
    theirs, mine = (f"/v1/registry/agents/{name}/instances/i" for name in ("boss", "packer"))
    assert of_boss("PUT", theirs, {}).status == registry("PUT", mine, {}).status == 200
    for method, path in (("PUT", theirs), ("POST", f"{theirs}/heartbeat"), ("DELETE", theirs)):
        answer = registry(method, path, {})
        assert (answer.status, answer.code) == (403, "forbidden"), (method, answer.body)
    assert of_boss("POST", f"{theirs}/heartbeat", {}).status == 200, "it is still there"
    assert registry("POST", f"{mine}/heartbeat", {}).status == 200

    def define(event_type: str, topic: str) -> Answer:
        return registry("PUT", f"/v1/registry/events/{event_type}/versions/1", {"topic": topic})

    assert define("order.paid", "business-facts").status == 200
    assert define("order.packed", "notification-events").status == 200
    for event_type, topic in (("order.lost", "business-facts"), ("order.paid", "system-events")):
        assert define(event_type, topic).code == "forbidden"
    gone = registry("DELETE", "/v1/registry/events/order.paid/versions/1")
    assert gone.code == "forbidden", "others still publish by it"
    _, app = closed.key("app", tenant_id=tenant)
    found = closed.raw("registry", app)("GET", "/v1/registry/events")
    assert {event["type"] for event in found.json["events"]} == {"order.paid", "order.packed"}


@pytest.mark.behaviour("identity.scope")
async def test_whom_a_program_does_not_name_its_key_does(closed: Closed) -> None:
    """Whatever is called without a tenant and user is for the key's, in the SDK as over HTTP."""
    tenant, plan = unique("tenant"), unique("plan")
    _, users = closed.key("app", tenant_id=tenant, user_id="ann")
    async with closed.context(users) as platform:
        state = WorkflowState(platform.memory, plan)
        await state.set("a", 1)
        assert await state.get("a") == 1
        event_id = await platform.bus.publish("e.now", "business-facts", {})
        later = await platform.bus.publish("e.later", "business-facts", {}, delay=3600.0)
        assert await platform.bus.cancel(later)
        async with state.transaction() as transaction:
            await transaction.set("b", 2)
            await transaction.bus.publish("e.with", "business-facts", {})
    see = closed.raw("memory", closed.operator, X_Tenant_ID=tenant, X_User_ID="ann")
    assert see("GET", f"/v1/memory/working/{plan}/b").json["value"] == 2
    assert event_id


@pytest.mark.behaviour("identity.scope")
async def test_whom_a_program_names_is_meant_even_if_that_is_the_default(closed: Closed) -> None:
    """A key for another tenant refuses it, one for many takes it; it is not left out unseen."""
    _, others = closed.key("app", tenant_id=unique("tenant"), user_id="ann")
    async with closed.context(others) as platform:
        state = WorkflowState(platform.memory, "p", DEFAULT_TENANT, DEFAULT_USER)
        with pytest.raises(Forbidden):
            await state.set("a", 1)
        with pytest.raises(Forbidden):
            await platform.bus.publish("e", "business-facts", {}, tenant_id=DEFAULT_TENANT)
    _, many = closed.key("app", tenant_id=DEFAULT_TENANT)
    async with closed.context(many) as platform:
        await WorkflowState(platform.memory, "p", DEFAULT_TENANT, DEFAULT_USER).set("a", 1)
        await platform.bus.publish("e", "business-facts", {}, user_id=DEFAULT_USER)
        with pytest.raises(InvalidRequest, match="say whose"):
            await WorkflowState(platform.memory, "p").set("a", 1)


@pytest.mark.behaviour("metrics.counted")
async def test_who_shows_no_valid_key_is_counted_wherever_he_knocks(closed: Closed) -> None:
    """At an endpoint and at a socket."""
    ops = closed.raw("events", closed.operator)

    def refused() -> float:
        found = re.search(
            r"^soorma_unauthorized_total (\S+)", ops("GET", "/metrics").body.decode(), re.MULTILINE
        )
        assert found is not None
        return float(found[1])

    before = refused()
    wrong = {"Authorization": "Bearer soorma_" + "0" * 16 + "_" + "0" * 64}
    async with aiohttp.ClientSession(headers=wrong) as session:
        async with session.get(f"{closed.platform.memory_url}/v1/memory/working") as answer:
            assert answer.status == 401
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{closed.platform.events_url}/v1/events/connect")
    assert refused() == before + 2
