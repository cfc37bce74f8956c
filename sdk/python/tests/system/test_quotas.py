"""Quotas of tenants on a closed platform, as its clients and agents meet them."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from closed_platform import Closed, Key, closed_in
from running import WAIT, Seen, config_of, eventually, unique

from soorma import PlatformContext, Worker, WorkflowState
from soorma.errors import LimitExceeded, TooManyAttempts, TooManyRequests
from soorma_common.errors import Unauthorized

REQUESTS, EVENTS, CONNECTIONS = 40, 20, 3


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    folder = tmp_path_factory.mktemp("quotas")
    quotas = {"REQUESTS": REQUESTS, "EVENTS": EVENTS, "CONNECTIONS": CONNECTIONS, "PLANS": 5,
              "STORED_BYTES": 4_000_000}  # fmt: skip
    env = {f"SOORMA_QUOTA_{name}": str(value) for name, value in quotas.items()}
    with closed_in(folder, SOORMA_FAILED_ATTEMPTS="5", **env) as found:
        yield found


@pytest.fixture
def tenant() -> str:
    """A tenant that nobody has used."""
    return unique("tenant")


@pytest.fixture
def app(closed: Closed, tenant: str) -> Key:
    return closed.key("app", tenant_id=tenant)


def exhaust(closed: Closed, app: Key) -> Any:
    """Sends requests until one is refused, and returns that response."""
    memory = closed.raw("memory", app.credential, X_User_ID="ann")
    for _ in range(20 * REQUESTS):
        found = memory("GET", "/v1/memory/working")
        if found.status != 200:
            return found
    raise AssertionError("no request was refused")


@pytest.mark.behaviour("quotas.rates")
def test_beyond_its_quota_a_tenant_is_told_when_to_come_again(closed: Closed, app: Key) -> None:
    refused = exhaust(closed, app)
    assert refused.status == 429
    assert refused.json["code"] == "too_many_requests"
    assert (refused.json["limit"], refused.json["maximum"]) == ("requests", REQUESTS)
    assert refused.headers["retry-after"] == "1"
    time.sleep(refused.json["retry_after"])
    memory = closed.raw("memory", app.credential, X_User_ID="ann")
    assert memory("GET", "/v1/memory/working").status == 200, "it was told the truth"


@pytest.mark.behaviour("quotas.rates")
def test_another_tenant_is_not_concerned_and_health_is_nobodys(closed: Closed, app: Key) -> None:
    other = closed.key("app", tenant_id=unique("tenant"))
    exhaust(closed, app)
    memory = closed.raw("memory", other.credential, X_User_ID="ann")
    assert memory("GET", "/v1/memory/working").status == 200
    assert memory("GET", "/health").status == 200


@pytest.mark.behaviour("quotas.rates")
def test_it_is_the_tenants_whichever_key_is_used(closed: Closed, tenant: str, app: Key) -> None:
    second = closed.key("app", tenant_id=tenant)
    of_all = closed.key("app")
    exhaust(closed, app)
    statuses = [
        closed.raw("memory", second.credential, X_User_ID="bob")("GET", "/v1/memory/working"),
        closed.raw("memory", of_all.credential, X_User_ID="bob", X_Tenant_ID=tenant)(
            "GET", "/v1/memory/working"
        ),
    ]
    assert 429 in {one.status for one in statuses}
    # Without a tenant it acts for all of them, and no quota is its own.
    health = closed.raw("events", closed.operator)("GET", "/v1/events/groups")
    assert health.status == 200


@pytest.mark.behaviour("quotas.rates")
def test_a_large_body_counts_as_several(closed: Closed, app: Key) -> None:
    memory = closed.raw("memory", app.credential, X_User_ID="ann")
    body = {"value": "x" * (64 * 1024 * (REQUESTS + 10))}
    with_length = memory("PUT", f"/v1/memory/working/{unique('p')}/k", body)
    assert with_length.status in {200, 413}
    assert memory("GET", "/v1/memory/working").status == 429


@pytest.mark.behaviour("quotas.rates")
def test_a_body_without_a_length_is_counted_when_it_is_there(closed: Closed, app: Key) -> None:
    address = urlsplit(closed.platform.memory_url).netloc
    headers = {"Authorization": f"Bearer {app.credential}", "X-User-ID": "ann",
               "Content-Type": "application/json"}  # fmt: skip
    body = json.dumps({"value": "x" * (64 * 1024 * (REQUESTS + 10))}).encode()
    with closing(http.client.HTTPConnection(address, timeout=WAIT)) as connection:
        pieces = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
        connection.request(
            "PUT", f"/v1/memory/working/{unique('p')}/k", pieces, headers, encode_chunked=True
        )
        assert connection.getresponse().read() is not None
        connection.request("GET", "/v1/memory/working", headers=headers)
        assert connection.getresponse().status == 429


@pytest.mark.behaviour("quotas.sdk-waits")
async def test_the_sdk_waits_and_loses_nothing(closed: Closed, tenant: str, app: Key) -> None:
    async with closed.context(app.credential, tenant_id=tenant, user_id="ann") as context:
        state = WorkflowState(context.memory, unique("plan"))
        began = time.monotonic()
        await asyncio.gather(*(state.increment("count") for _ in range(3 * REQUESTS)))
        took = time.monotonic() - began
        assert await state.get("count") == 3 * REQUESTS
    assert took > 1.5, "more than the quota allows cannot be done sooner"


@pytest.mark.behaviour("quotas.sdk-waits")
async def test_without_patience_the_sdk_says_when(closed: Closed, tenant: str, app: Key) -> None:
    exhaust(closed, app)
    ids = {"tenant_id": tenant, "user_id": "ann", "retry_seconds": 0}
    config = config_of(closed.platform, api_key=app.credential, **ids)
    async with PlatformContext.on(config, "test") as context:
        state = WorkflowState(context.memory, "p")
        with pytest.raises(TooManyRequests) as refused:
            await asyncio.gather(*(state.get("k") for _ in range(2 * REQUESTS)))
    assert refused.value.limit == "requests"
    assert refused.value.retry_after is not None


def read(closed: Closed, app: Key, kind: str, count: int) -> None:
    """Reads so many events of a type."""
    events = closed.raw("events", app.credential, X_User_ID="ann")
    with events.stream(f"/v1/events/stream?types={kind}&after=0") as stream:
        for _ in range(count):
            stream.next()


@pytest.mark.behaviour("quotas.events")
async def test_a_handler_waits_with_its_commit_and_is_not_run_again(
    closed: Closed, tenant: str, app: Key
) -> None:
    runs, goal = Seen(), unique("goal")
    kinds = [f"{goal}.begun", f"{goal}.done"]
    key = closed.key(
        "agent", tenant_id=tenant, agents=["*"], subscribe=[kinds[0]], publish=[kinds[1]]
    )
    worker = Worker(unique("worker"), config=config_of(closed.platform, api_key=key.credential))

    @worker.on_event(kinds[0], topic="business-facts")
    async def fan_out(event: Any, context: Any) -> None:
        runs.append((event.data["n"], context.attempt))
        for _ in range(10):
            await context.bus.publish(kinds[1], topic="business-facts", data={})

    many = 2 * EVENTS // 10 + 2
    async with worker, closed.context(app.credential, tenant_id=tenant, user_id="ann") as context:
        began = time.monotonic()
        for number in range(many):
            await context.bus.publish(
                kinds[0], topic="business-facts", data={"n": number}, plan_id=str(number)
            )
        await asyncio.to_thread(read, closed, app, kinds[1], 10 * many)
        took = time.monotonic() - began
    assert sorted(runs) == [(number, 1) for number in range(many)], "no attempt was lost over it"
    assert took > (many * 11 - EVENTS) / EVENTS / 2


@pytest.mark.behaviour("quotas.connections")
async def test_connections_beyond_are_refused_until_one_ends(closed: Closed, app: Key) -> None:
    events = closed.raw("events", app.credential, X_User_ID="ann")
    path = "/v1/events/stream"
    with ExitStack() as stack:
        for _ in range(CONNECTIONS - 1):
            assert stack.enter_context(events.stream(path)).status == 200
        with events.stream(path) as last:
            assert last.status == 200
            refused = events("GET", path)
            assert refused.status == 429
            assert refused.json["limit"] == "connections"
            assert "retry-after" not in refused.headers

        def has_room() -> bool:
            with events.stream(path) as again:
                return again.status == 200

        await eventually(has_room)


@pytest.mark.behaviour("quotas.stored")
async def test_a_plan_too_many_and_bytes_too_many(closed: Closed, tenant: str, app: Key) -> None:
    async with closed.context(app.credential, tenant_id=tenant, user_id="ann") as context:
        states = [WorkflowState(context.memory, f"plan-{number}") for number in range(6)]
        for state in states[:5]:
            await state.set("k", "x" * 300_000)
        with pytest.raises(LimitExceeded) as refused:
            await states[5].set("k", 1)
        assert refused.value.limit == "quota_plans"
        many = [states[0].set(f"more-{number}", "y" * 400_000) for number in range(5)]
        with pytest.raises(LimitExceeded) as refused:
            await asyncio.gather(*many)
        assert refused.value.limit == "quota_stored_bytes"
        assert await states[0].get("k") == "x" * 300_000
        await states[0].cleanup()
        await states[5].set("k", 1)


@pytest.mark.behaviour("identity.guessing")
def test_guesses_are_limited_and_the_rightful_holder_is_not(closed: Closed, app: Key) -> None:
    wrong = "_".join((*app.credential.split("_")[:2], "0" * 64))
    guesses = [closed.raw("memory", wrong)("GET", "/v1/memory/working") for _ in range(12)]
    assert {one.status for one in guesses[6:]} == {429}
    last = guesses[-1]
    assert last.json["code"] == "too_many_attempts"
    assert 0 < int(last.headers["retry-after"]) <= 60
    # From the same address, with the very key that was guessed at, on every service.
    for service, path in (("memory", "/v1/memory/working"), ("gateway", "/openapi.json")):
        memory = closed.raw(service, app.credential, X_User_ID="ann")
        assert memory("GET", path).status == 200
    # Another service counts the same address.
    assert closed.raw("registry", wrong)("GET", "/v1/registry/agents").status == 429
    log = closed.platform.log.read_text()
    assert log.count("valid credential") == 1, "once a minute"
    assert wrong not in log


@pytest.mark.behaviour("identity.guessing")
async def test_a_key_that_was_rotated_is_asked_for_among_many_failures(
    closed: Closed, tenant: str, app: Key
) -> None:
    wrong = "_".join((*app.credential.split("_")[:2], "1" * 64))
    for _ in range(8):
        closed.raw("memory", wrong)("GET", "/v1/memory/working")
    given = iter([wrong, app.credential])
    async with closed.context(lambda: next(given), tenant_id=tenant, user_id="ann") as context:
        await WorkflowState(context.memory, unique("p")).set("k", 1)
    async with closed.context(wrong, tenant_id=tenant, user_id="ann") as context:
        with pytest.raises(TooManyAttempts) as refused:
            await WorkflowState(context.memory, unique("p")).set("k", 1)
    assert isinstance(refused.value, Unauthorized)


@pytest.mark.behaviour("identity.metrics")
def test_the_metrics_count_them(closed: Closed, app: Key) -> None:
    exhaust(closed, app)
    agent = closed.key("agent", tenant_id="acme", agents=["*"], subscribe=["*"], publish=["*"])
    assert closed.raw("memory", agent.credential)("GET", "/v1/memory/working").status == 403
    assert closed.raw("memory", "soorma_no")("GET", "/v1/memory/working").status in {401, 429}
    text = closed.raw("gateway", closed.operator)("GET", "/metrics").body.decode()
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("soorma_"))
    assert float(found['soorma_too_many_requests_total{limit="requests"}']) > 0
    assert float(found["soorma_forbidden_total"]) > 0
    assert float(found["soorma_unauthorized_total"]) > 0
    assert float(found['soorma_credentials_used_total{kind="key"}']) > 0
