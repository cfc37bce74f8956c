"""The gateway: every service through one port, the page, the health of all, and what it refuses."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from platform_process import PlatformProcess
from running import Raw, Seen, eventually, path_of, unique

from soorma import Agent, ClientConfig, EventClient, PlatformContext, WorkflowState
from soorma_platform.assembly import Platform
from soorma_platform.settings import Settings

SERVICES = ("registry", "events", "memory", "identity")
EVENT = {"type": "order.placed", "topic": "business-facts"}


@pytest.fixture
def gateway(running: PlatformProcess) -> Raw:
    return Raw(running.gateway_url, unique("tenant"), unique("user"))


@pytest.fixture
def through(running: PlatformProcess, gateway: Raw) -> ClientConfig:
    """The configuration of the SDK with every service at the gateway."""
    url, tenant_id = running.gateway_url, gateway.headers["X-Tenant-ID"]
    return ClientConfig(memory_url=url, events_url=url, registry_url=url, tenant_id=tenant_id)


@pytest.fixture
async def context(through: ClientConfig) -> AsyncIterator[PlatformContext]:
    async with PlatformContext.on(through, "test") as made:
        yield made


# one entrance


@pytest.mark.behaviour("gateway.one-entrance")
def test_what_is_written_through_the_gateway_is_read_at_the_service(
    running: PlatformProcess, gateway: Raw
) -> None:
    written = gateway("PUT", path_of("plan", "a/ä"), {"value": [1]})
    read = Raw(running.memory_url, **scope_of(gateway))("GET", path_of("plan", "a/ä"))
    assert (written.status, written.json) == (200, read.json)
    assert written.headers["etag"] == read.headers["etag"]


@pytest.mark.behaviour("gateway.one-entrance")
def test_each_service_answers_and_refuses_as_on_its_own_port(
    running: PlatformProcess, gateway: Raw
) -> None:
    asked = {
        "memory": [
            "/v1/memory/working",
            path_of("plan", "missing"),
            "/v1/memory/nothing",
            "/v1/memory/working?limit=x",
        ],
        "events": ["/v1/events/groups", "/v1/events/dead-letters", "/v1/events/answer/none"],
        "registry": ["/v1/registry/agents", "/v1/registry/events/none"],
    }
    for service, paths in asked.items():
        own = Raw(getattr(running, f"{service}_url"), **scope_of(gateway))
        for path in paths:
            here, there = gateway("GET", path, Host="localhost"), own("GET", path, Host="localhost")
            assert (here.status, here.json) == (there.status, there.json), path


@pytest.mark.behaviour("http.parameters")
def test_no_endpoint_takes_a_parameter_that_it_does_not_have(
    running: PlatformProcess, gateway: Raw
) -> None:
    for service in ("gateway", "memory", "events", "registry"):
        raw = Raw(getattr(running, f"{service}_url"), **scope_of(gateway))
        for path, methods in raw("GET", "/openapi.json").json["paths"].items():
            for method, operation in methods.items():
                answer = raw(method.upper(), f"{re.sub('{.+?}', '1', path)}?limt=3")
                assert (answer.status, answer.code, answer.json["unknown"]) == (
                    422,
                    "invalid_request",
                    ["limt"],
                ), path
                known = [
                    one["name"]
                    for one in operation.get("parameters", [])
                    if one.get("in") == "query"
                ]
                assert all(name in answer.json["detail"] for name in ["'limt'", *known]), path
    twice = gateway("GET", "/v1/memory/working?limit=3&limit=4")
    assert (twice.status, twice.code) == (422, "invalid_request")
    assert "'limit' is in the query more than once" in twice.json["detail"]


@pytest.mark.behaviour("gateway.one-entrance")
def test_streams_run_through_it(gateway: Raw) -> None:
    revision = gateway("PUT", path_of("plan", "key"), {"value": 1}).json["revision"]
    with gateway.stream(f"/v1/memory/watch/plan?after={revision - 1}") as changes:
        assert changes.next()[2]["changes"][0]["key"] == "key"
    sent = gateway("POST", "/v1/events/publish", EVENT).json["id"]
    with gateway.stream(
        f"/v1/events/stream?after=0&tenant_id={gateway.headers['X-Tenant-ID']}"
    ) as events:
        assert events.next()[2]["id"] == sent


@pytest.mark.behaviour("gateway.one-entrance")
async def test_an_agent_works_through_it(through: ClientConfig, context: PlatformContext) -> None:
    agent = Agent(unique("agent"), config=through, capabilities=["adding"])

    @agent.on_event("add", topic="action-requests")
    async def add(event: Any, context: PlatformContext) -> None:
        total = await WorkflowState(context.memory, "sums").increment("total", event.data["by"])
        await context.bus.respond(event, {"total": total})

    async with agent, EventClient(unique("client"), config=through) as client:
        told = Seen()
        client.on_event("added")(told.append)
        await client.connect(["action-results"])
        answers = [
            await context.bus.request("add", {"by": by}, response_event="added") for by in (2, 3)
        ]
        assert [answer.data for answer in answers] == [{"total": 2}, {"total": 5}]
        assert [event.data["total"] for event in await told.until(2)] == [2, 5]
        (found,) = await eventually(lambda: context.registry.find(capability="adding"))
        assert found.name == agent.name


# how it is


@pytest.mark.behaviour("gateway.health")
def test_its_health_is_that_of_all(running: PlatformProcess, gateway: Raw) -> None:
    health = gateway("GET", "/health").json
    assert "services" in document_health(gateway)["properties"]
    assert (health["service"], health["status"], health["store"]) == (
        "gateway",
        "ok",
        {"status": "ok"},
    )
    assert health["services"] == {
        service: {"address": getattr(running, f"{service}_url"), "status": "ok"}
        for service in SERVICES
    }


def document_health(gateway: Raw) -> Any:
    document = gateway("GET", "/openapi.json").json
    told = document["paths"]["/health"]["get"]["responses"]["503"]["content"]["application/json"][
        "schema"
    ]["$ref"]
    return document["components"]["schemas"][told.rpartition("/")[2]]


@pytest.mark.behaviour("gateway.health")
async def test_without_the_record_it_is_failing(tmp_path: Path) -> None:
    platform = Platform(Settings(database=tmp_path / "soorma.db", access="open"))
    async with platform:
        gateway = platform.services["gateway"]
        await platform.store.close()
        status, _, body = await called(gateway, "/health")
        health = json.loads(body)
        assert (status, health["status"]) == (503, "failing")
        assert {service["status"] for service in health["services"].values()} == {"failing"}
        status, _, body = await called(gateway, "/")
        assert (status, Page(body.decode()).cells("memory")[1]) == (200, "failing")


async def called(application: Any, path: str) -> tuple[int, dict[bytes, bytes], bytes]:
    """The response of an application in this process."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
    }
    await application({**scope, "headers": [(b"host", b"localhost")]}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


# the page


class Page(HTMLParser):
    """A page: its rows by their ids, and what it would load from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, list[str]] = {}
        self.loaded: list[str] = []
        self._row: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "tr":
            self._row = self.rows.setdefault(given.get("id") or "", [])
        elif tag in {"td", "th"}:
            self._row.append("")
        elif tag in {"link", "script", "img", "iframe"}:
            self.loaded += [
                value for name, value in given.items() if name in {"href", "src"} and value
            ]

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self._row = []

    def handle_data(self, data: str) -> None:
        if self._row:
            self._row[-1] += data

    def cells(self, name: str) -> list[str]:
        """The texts of a row."""
        return [cell.strip() for cell in self.rows[name]]


@pytest.mark.behaviour("gateway.page")
def test_the_page_says_what_runs_where_and_how_it_is(
    running: PlatformProcess, gateway: Raw
) -> None:
    answer = gateway("GET", "/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.body.decode())
    for service in ("gateway", *SERVICES):
        name, health, address, about, links = page.cells(service)
        assert (name, health, address) == (service, "ok", getattr(running, f"{service}_url"))
        assert about
        assert links.split() == ["health", "metrics", "openapi.json"]


@pytest.mark.behaviour("gateway.page")
def test_the_page_needs_nothing_from_elsewhere_and_allows_nothing_else(gateway: Raw) -> None:
    answer = gateway("GET", "/")
    text, policy = answer.body.decode(), answer.headers["content-security-policy"]
    assert Page(text).loaded == ["data:,"]
    for kind in ("style", "script"):
        (part,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"\bon\w+=|style=", text), "inline handlers and styles would be blocked"


# what is not there, and who is not meant


@pytest.mark.behaviour("gateway.one-entrance", "http.no-such-path")
@pytest.mark.parametrize(
    "path", ["/nowhere", "/v1", "/v1/", "/v1/memory", "/v1/memoryx/working", "//v1/memory/working"]
)
def test_an_unknown_path_is_told_where_things_are(gateway: Raw, path: str) -> None:
    answer = gateway("GET", path)
    assert (answer.status, answer.code) == (404, "not_found")
    for hint in ("/v1/memory/…", "/v1/events/…", "/v1/registry/…", "GET /openapi.json"):
        assert hint in answer.json["detail"]


@pytest.mark.behaviour("http.no-such-method")
def test_an_unknown_method_is_told_which_there_are(gateway: Raw) -> None:
    answer = gateway("POST", "/")
    assert (answer.status, answer.code, answer.headers["allow"]) == (
        405,
        "method_not_allowed",
        "GET, HEAD",
    )


@pytest.mark.behaviour("security.host", "security.origin")
@pytest.mark.parametrize("path", ["/", "/health", "/v1/memory/working", "/v1/events/groups"])
@pytest.mark.parametrize("headers", [{"Host": "example.com"}, {"Origin": "http://example.com"}])
def test_web_pages_stay_out(gateway: Raw, path: str, headers: dict[str, str]) -> None:
    assert gateway("GET", path, **headers).status == 403


@pytest.mark.behaviour("gateway.one-entrance")
async def test_there_is_one_socket_and_no_other(running: PlatformProcess) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{running.gateway_url}/v1/events/other")
        async with session.ws_connect(f"{running.gateway_url}/v1/events/connect") as socket:
            await socket.send_bytes(b'{"frame":"drain"}')
            assert json.loads((await socket.receive()).data)["frame"] == "goodbye"


def scope_of(raw: Raw) -> dict[str, str]:
    return {"tenant_id": raw.headers["X-Tenant-ID"], "user_id": raw.headers["X-User-ID"]}
