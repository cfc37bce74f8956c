"""The access rules of all endpoints and sockets, as declared and as seen from outside."""

from __future__ import annotations

import http.client
import re
from contextlib import closing
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
from platform_process import PlatformProcess
from running import WAIT, Raw

from soorma_platform.assembly import Platform
from soorma_platform.http import Application
from soorma_platform.settings import Settings

ACCESS = """
events GET /asyncapi.json: agent delivery operator tenant user
events GET /health: public
events GET /metrics: operator
events GET /openapi.json: agent delivery operator tenant user
events DELETE /v1/events/groups/{group}/subscriptions/{type}: operator tenant
events DELETE /v1/events/timers/{event_id}: delivery user
events GET /v1/events/answer/{event_id}: delivery user
events GET /v1/events/dead-letters: operator tenant
events GET /v1/events/groups: agent operator tenant
events GET /v1/events/stream: operator tenant user
events GET /v1/events/timers: delivery user
events POST /v1/events/dead-letters/{number}/replay: operator tenant
events POST /v1/events/publish: delivery operator tenant user
events POST /v1/events/renew: agent
events POST /v1/events/timers: delivery user
events SOCKET /v1/events/connect: agent
identity GET /health: public
identity GET /metrics: operator
identity GET /openapi.json: agent delivery operator tenant user
identity DELETE /v1/identity/blocks/{block_id}: operator tenant
identity DELETE /v1/identity/keys/{key_id}: operator tenant
identity GET /v1/identity/audit: operator tenant
identity GET /v1/identity/blocks/{block_id}: operator tenant
identity GET /v1/identity/blocks: operator tenant
identity POST /v1/identity/blocks: operator tenant
identity GET /v1/identity/keys/{key_id}: operator tenant
identity GET /v1/identity/keys: operator tenant
identity GET /v1/identity/whoami: agent delivery operator tenant user
identity POST /v1/identity/keys/{key_id}/rotate: operator tenant
identity POST /v1/identity/keys: operator tenant
memory GET /health: public
memory GET /metrics: operator
memory GET /openapi.json: agent delivery operator tenant user
memory DELETE /v1/memory/semantic/{passage_id}: delivery user
memory DELETE /v1/memory/sessions/{session_id}: delivery user
memory DELETE /v1/memory/working/{plan_id}/{key}: delivery user
memory DELETE /v1/memory/working/{plan_id}: delivery user
memory GET /v1/memory/actions/{plan_id}: delivery user
memory GET /v1/memory/audit: delivery operator tenant user
memory GET /v1/memory/episodic/{interaction_id}: delivery user
memory GET /v1/memory/episodic: delivery user
memory GET /v1/memory/history/{plan_id}: delivery user
memory GET /v1/memory/plans/{plan_id}: delivery user
memory GET /v1/memory/semantic/{passage_id}: delivery user
memory GET /v1/memory/semantic: delivery user
memory GET /v1/memory/sessions/{session_id}: delivery user
memory GET /v1/memory/sessions: delivery user
memory GET /v1/memory/watch/{plan_id}: delivery user
memory GET /v1/memory/working/{plan_id}/{key}: delivery user
memory GET /v1/memory/working/{plan_id}: delivery user
memory GET /v1/memory/working: delivery user
memory POST /v1/memory/commit: delivery user
memory POST /v1/memory/episodic/search: delivery user
memory POST /v1/memory/episodic: delivery user
memory POST /v1/memory/forget: delivery user
memory POST /v1/memory/many/{plan_id}: delivery user
memory POST /v1/memory/tenant/forget: operator tenant
memory DELETE /v1/memory/quarantines: delivery user
memory DELETE /v1/memory/tenant/quarantines: operator tenant
memory GET /v1/memory/quarantines: delivery user
memory GET /v1/memory/tenant/quarantines: operator tenant
memory POST /v1/memory/quarantines: delivery user
memory POST /v1/memory/tenant/quarantines: operator tenant
memory PATCH /v1/memory/semantic/{passage_id}: delivery user
memory PATCH /v1/memory/sessions/{session_id}: delivery user
memory DELETE /v1/memory/procedural/{kind}/{name}: delivery user
memory GET /v1/memory/procedural/{kind}/{name}/files/{path}: delivery user
memory GET /v1/memory/procedural/{kind}/{name}/versions: delivery user
memory GET /v1/memory/procedural/{kind}/{name}: delivery user
memory GET /v1/memory/procedural: delivery user
memory POST /v1/memory/procedural/relevant: delivery user
memory POST /v1/memory/procedural/{kind}/{name}/activate: delivery user
memory POST /v1/memory/procedural/{kind}/{name}/outcome: delivery user
memory POST /v1/memory/procedural/{kind}/{name}/retire: delivery user
memory POST /v1/memory/procedural/{kind}/{name}/roll-back: delivery user
memory POST /v1/memory/procedural: delivery user
memory POST /v1/memory/semantic/{passage_id}/publish: delivery user
memory POST /v1/memory/semantic/alike: delivery user
memory POST /v1/memory/semantic/search: delivery user
memory POST /v1/memory/semantic: delivery user
memory PUT /v1/memory/working/{plan_id}/{key}: delivery user
registry GET /health: public
registry GET /metrics: operator
registry GET /openapi.json: agent delivery operator tenant user
registry DELETE /v1/registry/agents/{name}/instances/{instance}: agent
registry DELETE /v1/registry/events/{type}/versions/{version}: operator tenant
registry GET /v1/registry/agents/{name}: delivery tenant
registry GET /v1/registry/agents: delivery tenant
registry GET /v1/registry/events/{type}/versions/{version}: delivery tenant
registry GET /v1/registry/events/{type}: delivery tenant
registry GET /v1/registry/events: delivery tenant
registry POST /v1/registry/agents/{name}/instances/{instance}/heartbeat: agent
registry PUT /v1/registry/agents/{name}/instances/{instance}: agent
registry PUT /v1/registry/events/{type}/versions/{version}: agent operator tenant
gateway GET /: public
gateway DELETE /session: public
gateway POST /session: public
gateway GET /asyncapi.json: agent delivery operator tenant user
gateway GET /health: public
gateway GET /metrics: operator
gateway GET /openapi.json: agent delivery operator tenant user
""".strip().splitlines()
"""The rules in full, so that a change which opens a door wider must be made here, too."""

WHO = [{}, {"X-Tenant-ID": "t"}, {"X-User-ID": "u"}, {"X-Tenant-ID": "t", "X-User-ID": "u"}]


@pytest.mark.behaviour("security.access")
async def test_each_endpoint_and_socket_says_whom_it_lets_in(tmp_path: Path) -> None:
    found = []
    async with Platform(Settings(database=tmp_path / "soorma.db", access="open")) as platform:
        for name, service in platform.services.items():
            application = cast("Application", service)
            doors = [(f"{one.method} {one.path}", one.access) for one in application.endpoints]
            doors += [
                (f"SOCKET {path}", socket.access) for path, socket in application.sockets.items()
            ]
            found += [
                f"{name} {what}: {' '.join(sorted(one.value for one in access))}"
                for what, access in doors
            ]
    assert sorted(found) == sorted(ACCESS)


@pytest.mark.behaviour("security.access", "http.which-ids")
@pytest.mark.parametrize("door", [line for line in ACCESS if " SOCKET " not in line])
def test_nobody_gets_through_a_door_who_does_not_say_what_it_asks_for(
    running: PlatformProcess, door: str
) -> None:
    service, method, path, *access = door.replace(":", "").split(" ")
    url = getattr(running, f"{service}_url")
    path = re.sub(r"\{(number|version)\}", "1", path)
    path = re.sub(r"\{\w+\}", "x", path)
    needed: set[str] = set()
    if not {"public", "operator", "agent"} & set(access):
        needed = {"X-Tenant-ID"} if "tenant" in access else {"X-Tenant-ID", "X-User-ID"}
    for who in WHO:
        missing = sorted(needed - who.keys())
        with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=WAIT)) as connection:
            connection.request(method, path, headers=who)
            answer = connection.getresponse()
            is_problem = answer.getheader("content-type") == "application/problem+json"
            body = answer.read() if is_problem else b""  # a stream does not end
        assert (b'"missing"' in body) is bool(missing), (who, body)
        if missing:
            refused = Raw(url)(
                method, path, **{name.replace("-", "_"): value for name, value in who.items()}
            )
            assert (refused.status, refused.code, refused.json["missing"]) == (
                422,
                "invalid_request",
                missing,
            )


@pytest.mark.behaviour("security.access")
@pytest.mark.parametrize(
    ("path", "status"), [("/v1/events/connect", 101), ("/v1/events/other", 403)]
)
def test_a_socket_is_a_door_too(running: PlatformProcess, path: str, status: int) -> None:
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "c29vcm1hIGlzIHRoZXJlIQ==",
    }  # fmt: skip
    said_badly = {"X-Tenant-ID": "%zz"}
    for more, expected in (({}, status), (said_badly, 403)):
        with closing(
            http.client.HTTPConnection(urlsplit(running.events_url).netloc, timeout=WAIT)
        ) as connection:
            connection.request("GET", path, headers=headers | more)
            assert connection.getresponse().status == expected
    with closing(
        http.client.HTTPConnection(urlsplit(running.events_url).netloc, timeout=WAIT)
    ) as connection:
        connection.putrequest("GET", path)
        for name, value in (*headers.items(), ("X-Tenant-ID", "one"), ("X-Tenant-ID", "two")):
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status == 403, (
            "of two, one reader believes the first, another the last"
        )
