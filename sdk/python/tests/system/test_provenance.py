"""The author and the cause of a change: what the platform knows of them, not what a client says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from platform_process import PlatformProcess
from running import WAIT, Raw, unique

from soorma_common.protocol import PROTOCOL

SET = [{"op": "set", "key": "k", "value": 1}]
FORGED = {"actor": "somebody else", "event_id": "another"}


class Handler:
    """An agent's connection, with a delivery in hand."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, agent: str) -> None:
        self._socket = socket
        self.agent = agent

    async def say(self, frame: str, **fields: Any) -> None:
        await self._socket.send_bytes(json.dumps({"frame": frame, **fields}).encode())

    async def hear(self, frame: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(await self._socket.receive_bytes(timeout=WAIT))
        assert told["frame"] == frame, told
        return told

    async def commit(self, tenant: str, fence: str, **more: Any) -> None:
        commit = {"plans": [{"plan_id": "plan", "operations": SET}], "fence": fence, **more}
        await self.say("commit", number=1, tenant_id=tenant, user_id="u", commit=commit)


@pytest.fixture
def tenant() -> str:
    return unique("tenant")


@pytest.fixture
async def handler(running: PlatformProcess) -> AsyncIterator[Handler]:
    agent = unique("agent")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{running.events_url}/v1/events/connect") as socket,
    ):
        made = Handler(socket, agent)
        await made.say(
            "hello", agent=agent, instance="one", subscriptions=[{"type": agent}], protocol=PROTOCOL
        )
        await made.hear("welcome")
        yield made


async def delivered(running: PlatformProcess, handler: Handler, tenant: str) -> tuple[str, str]:
    """The fence of a delivery in the handler's hands, and the id of its event."""
    event = {
        "type": handler.agent,
        "topic": "business-facts",
        "correlation_id": "goal",
        "trace_id": "trace",
    }
    event_id = Raw(running.events_url, tenant, "u")("POST", "/v1/events/publish", event).json["id"]
    return (await handler.hear("deliver"))["fence"], event_id


def cause(change: dict[str, Any]) -> tuple[str | None, ...]:
    """The author of a change, its process, and its cause."""
    return tuple(
        change.get(name) for name in ("actor", "instance", "event_id", "correlation_id", "trace_id")
    )


@pytest.mark.behaviour("security.provenance", "history.who")
async def test_the_platform_knows_who_made_a_change(
    running: PlatformProcess, handler: Handler, tenant: str
) -> None:
    memory = Raw(running.memory_url, tenant, "u")
    fence, event_id = await delivered(running, handler, tenant)
    commit = {"plans": [{"plan_id": "plan", "operations": SET}]}
    for change in (
        memory("PUT", "/v1/memory/working/plan/k", {"value": 1}, X_Soorma_Fence=fence),
        memory("DELETE", "/v1/memory/working/plan/k", X_Soorma_Fence=fence),
        memory("POST", "/v1/memory/commit", commit, X_Soorma_Fence=fence),
    ):
        assert change.status == 200
    await handler.commit(tenant, fence)
    await handler.hear("answer")
    changes = memory("GET", "/v1/memory/history/plan").json["changes"]
    assert [cause(one) for one in changes] == [
        (handler.agent, "one", event_id, "goal", "trace")
    ] * 4
    assert memory("PUT", "/v1/memory/working/plan/k", {"value": 2}).status == 200
    *_, last = memory("GET", "/v1/memory/history/plan").json["changes"]
    assert cause(last) == (None,) * 5, "from outside of handlers"


@pytest.mark.behaviour("security.provenance")
async def test_nobody_says_who_made_a_change(
    running: PlatformProcess, handler: Handler, tenant: str
) -> None:
    memory = Raw(running.memory_url, tenant, "u")
    fence, _ = await delivered(running, handler, tenant)
    forged = {"plans": [{"plan_id": "plan", "operations": SET}], "cause": FORGED}
    refused = memory("POST", "/v1/memory/commit", forged)
    assert (refused.status, refused.code) == (422, "invalid_request")
    await handler.commit(tenant, fence, cause=FORGED)
    assert "cause" in (await handler.hear("goodbye"))["problem"]["detail"]
    assert memory("GET", "/v1/memory/history/plan").json["changes"] == []


@pytest.mark.behaviour("security.fences", "handlers.immediate")
async def test_what_a_handler_changes_at_once_is_fenced_too(
    running: PlatformProcess, handler: Handler, tenant: str
) -> None:
    memory, events = Raw(running.memory_url, tenant, "u"), Raw(running.events_url, tenant, "u")
    key = "/v1/memory/working/plan/at-once"
    other_event = {"type": unique("other"), "topic": "business-facts"}
    timer, own = {"event": other_event, "delay": 3600}, {"id": unique("event")}
    fence, _ = await delivered(running, handler, tenant)
    first = memory("PUT", key, {"value": 1}, X_Soorma_Fence=fence, Idempotency_Key="one")
    assert first.status == 200
    published = other_event | own
    assert (
        events(
            "POST", "/v1/events/publish", published, X_Soorma_Fence=fence, Idempotency_Key="two"
        ).status
        == 200
    )
    other = Raw(running.memory_url, tenant, "another")(
        "PUT", key, {"value": 1}, X_Soorma_Fence=fence
    )
    assert (other.status, other.code) == (403, "forbidden"), (
        "a fence is for its event's tenant and user"
    )
    await handler.commit(tenant, fence)
    await handler.hear("answer")
    late = memory("PUT", key, {"value": 2}, X_Soorma_Fence=fence)
    assert (late.status, late.code) == (409, "fenced"), "the delivery was settled"
    unknown = memory("PUT", key, {"value": 2}, X_Soorma_Fence="0" * 32)
    assert (unknown.status, unknown.code) == (409, "fenced")
    for path, body in (("publish", other_event), ("timers", timer)):
        late = events("POST", f"/v1/events/{path}", body, X_Soorma_Fence=fence)
        assert (late.status, late.code) == (409, "fenced")
    assert events("DELETE", "/v1/events/timers/x", X_Soorma_Fence=fence).code == "fenced"
    assert (
        events(
            "POST", "/v1/events/publish", published, X_Soorma_Fence=fence, Idempotency_Key="two"
        ).status
        == 200
    )
    again = memory("PUT", key, {"value": 1}, X_Soorma_Fence=fence, Idempotency_Key="one")
    assert (again.status, again.json["revision"]) == (200, first.json["revision"]), (
        "it was made while the fence stood"
    )
    assert memory("GET", key).json["value"] == 1


@pytest.mark.behaviour("security.fences", "api.exact")
@pytest.mark.parametrize(
    "text", ["{}", "f", "0" * 31, "0" * 33, "A" * 32, "%30" * 32, "g" * 32, ""]
)
def test_what_cannot_be_a_fence_is_refused_even_of_a_request_that_is_repeated(
    running: PlatformProcess, tenant: str, text: str
) -> None:
    memory, events = Raw(running.memory_url, tenant, "u"), Raw(running.events_url, tenant, "u")
    event = {"type": unique("other"), "topic": "business-facts"}
    requests: list[tuple[Raw, str, str, Any]] = [
        (memory, "PUT", "/v1/memory/working/plan/k", {"value": 1}),
        (memory, "DELETE", "/v1/memory/working/plan/k", None),
        (memory, "POST", "/v1/memory/commit", {"plans": [{"plan_id": "plan", "operations": SET}]}),
        (memory, "DELETE", "/v1/memory/working/plan", None),
        (events, "POST", "/v1/events/publish", event),
        (events, "POST", "/v1/events/timers", {"event": event, "delay": 3600}),
        (events, "DELETE", "/v1/events/timers/x", None),
    ]
    for number, (service, *request) in enumerate(requests):
        first = service(*request, Idempotency_Key=f"k{number}")
        assert first.status == 200, first
        refused = service(*request, Idempotency_Key=f"k{number}", X_Soorma_Fence=text)
        assert (refused.status, refused.code) == (422, "invalid_request")
        assert "X-Soorma-Fence must be the fence of a delivery" in refused.json["detail"]
        assert service(*request, Idempotency_Key=f"k{number}").json == first.json
