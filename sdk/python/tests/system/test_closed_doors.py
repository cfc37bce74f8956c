"""Every endpoint and socket of a closed platform, with every kind of credential.

The cases are made from the tables of endpoints, so that a new endpoint is tested by being there.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

import pytest
from platform_process import PlatformProcess
from running import WAIT, Raw, unique

from soorma_common.identity import DELIVERIES, ROLES
from soorma_platform.assembly import Platform
from soorma_platform.http import Application, Endpoint
from soorma_platform.identity import Access
from soorma_platform.identity.credentials import fresh_key
from soorma_platform.settings import Settings

KEYS = {
    "operator": "",
    "tenants operator": 'tenant_id = "acme"',
    "app": 'tenant_id = "acme"',
    "users app": 'tenant_id = "acme"\nuser_id = "ann"',
    "viewer": 'tenant_id = "acme"',
    "other app": 'tenant_id = "umbrella"',
    "agent": 'tenant_id = "acme"\nagents = ["*"]\nsubscribe = ["*"]\npublish = ["*"]',
    "expired": 'tenant_id = "acme"\nexpires_in = 0.001',
}
ROLE = {"tenants operator": "operator", "users app": "app", "other app": "app", "expired": "app"}
ANN = {"X_Tenant_ID": "acme", "X_User_ID": "ann"}


class Door(NamedTuple):
    """An endpoint, and the service that has it."""

    service: str
    endpoint: Endpoint

    @property
    def name(self) -> str:
        return f"{self.service} {self.endpoint.method} {self.endpoint.path}"

    @property
    def path(self) -> str:
        """Its path, with a name that nothing has."""
        names = {"number": "1", "version": "1", "topic": "business-facts", "kind": "skill"}
        parts = [
            names.get(part[1:-1], "x") if part.startswith("{") else part
            for part in self.endpoint.path.split("/")
        ]
        return "/".join(parts)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PlatformProcess, Any]]:
    """A closed platform, and the credentials of `KEYS`."""
    folder = tmp_path_factory.mktemp("closed")
    credentials = {name: fresh_key().credential for name in KEYS}
    file = folder / "keys.toml"
    file.write_text(
        "\n".join(
            f'[[keys]]\nname = "{name}"\nrole = "{ROLE.get(name, name)}"\n{more}\n'
            f'credential = "{credentials[name]}"'
            for name, more in KEYS.items()
        )
    )
    env = {"SOORMA_ACCESS": "closed", "SOORMA_BOOTSTRAP_KEYS_FILE": str(file)}
    # Each reason is to be told, not only that there were many.
    env["SOORMA_FAILED_ATTEMPTS"] = "1000000"
    with PlatformProcess(folder, env) as platform:
        yield platform, credentials


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> list[Door]:
    settings = Settings(database=tmp_path_factory.mktemp("doors") / "soorma.db", access="open")

    async def look() -> list[Door]:
        async with Platform(settings) as platform:
            return [
                Door(name, endpoint)
                for name, service in platform.services.items()
                for endpoint in cast("Application", service).endpoints
            ]

    return asyncio.run(look())


class Knock(NamedTuple):
    """The response to a request with a credential."""

    status: int
    code: str
    body: bytes


def knock(platform: PlatformProcess, door: Door, credential: str | None, **more: str) -> Knock:
    """Makes a request without a body; a stream is read no further than its head."""
    url = getattr(platform, f"{door.service}_url")
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    if credential is not None:
        headers["Authorization"] = f"Bearer {credential}"
    if door.endpoint.method in ("POST", "PUT", "PATCH"):
        headers["Content-Type"] = "application/json"
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=WAIT)) as connection:
        connection.request(door.endpoint.method, door.path, headers=headers)
        answer = connection.getresponse()
        if answer.status == 200 and door.endpoint.streams:
            return Knock(200, "", b"")
        body = answer.read()
    is_problem = answer.getheader("content-type") == "application/problem+json"
    return Knock(answer.status, json.loads(body)["code"] if is_problem else "", body)


def is_admitted(door: Door, name: str) -> bool:
    """Whether a key is to get in with the headers of a user: said anew, from the specification."""
    endpoint, scopes = door.endpoint, ROLES[cast("Any", ROLE.get(name, name))]
    access, scope = endpoint.access, endpoint.entrance.scope
    if name == "agent":
        return Access.AGENT in access or scope is None
    if scope is None:
        return True
    if scope not in scopes:
        return False
    if Access.USER in access:
        return True
    if name == "users app":
        return False
    return Access.TENANT in access or (name == "operator" and Access.OPERATOR in access)


@pytest.mark.behaviour("identity.keys")
def test_without_a_valid_credential_nothing_is_said(
    closed: tuple[PlatformProcess, Any], doors: list[Door]
) -> None:
    platform, credentials = closed
    good = credentials["app"]
    wrong = {
        "none": None,
        "another scheme": None,
        "no key": "abc",
        "unknown": fresh_key().credential,
        "another secret": "_".join((*good.split("_")[:2], fresh_key().credential.split("_")[2])),
        "cut": good[:-1],
        "upper": good.upper(),
        "expired": credentials["expired"],
    }
    for door in doors:
        if Access.PUBLIC in door.endpoint.access:
            continue
        for what, credential in wrong.items():
            basic = {"Authorization": "Basic YTpi"} if what == "another scheme" else {}
            found = knock(platform, door, credential, **ANN, **basic)
            assert (found.status, found.code) == (401, "unauthorized"), (door.name, what)
            if credential is not None:
                assert credential.encode() not in found.body, (door.name, what)


@pytest.mark.behaviour("identity.roles", "identity.deliveries")
@pytest.mark.parametrize("name", [name for name in KEYS if name not in ("expired", "other app")])
def test_each_key_opens_what_its_role_permits(
    closed: tuple[PlatformProcess, Any], doors: list[Door], name: str
) -> None:
    platform, credentials = closed
    for door in doors:
        if Access.PUBLIC in door.endpoint.access:
            continue
        found = knock(platform, door, credentials[name], **ANN)
        assert found.status != 401, door.name
        assert (found.code != "forbidden") is is_admitted(door, name), (door.name, found)


@pytest.mark.behaviour("identity.scope", "identity.tenants")
def test_another_tenants_key_is_refused_whatever_there_is(
    closed: tuple[PlatformProcess, Any], doors: list[Door]
) -> None:
    platform, credentials = closed
    for door in doors:
        if door.endpoint.entrance.scope is None:
            continue
        found = knock(platform, door, credentials["other app"], **ANN)
        assert (found.status, found.code) == (403, "forbidden"), door.name


@pytest.mark.behaviour("identity.deliveries")
def test_a_fence_that_is_not_in_its_hands_opens_nothing(
    closed: tuple[PlatformProcess, Any], doors: list[Door]
) -> None:
    platform, credentials = closed
    fence = {"X_Soorma_Fence": "0" * 32}
    for door in doors:
        access = door.endpoint.access
        if Access.DELIVERY not in access or door.endpoint.entrance.scope is None:
            continue
        found = knock(platform, door, credentials["agent"], **ANN, **fence)
        assert found.code == "fenced", (door.name, found)


@pytest.mark.behaviour("identity.keys")
@pytest.mark.parametrize(
    ("name", "status"),
    [(None, 401), ("expired", 401), ("app", 403), ("viewer", 403), ("agent", 101)],
)
def test_the_socket_is_for_agents(
    closed: tuple[PlatformProcess, Any], name: str | None, status: int
) -> None:
    platform, credentials = closed
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "c29vcm1hIGlzIHRoZXJlIQ==",
    }  # fmt: skip
    if name is not None:
        headers["Authorization"] = f"Bearer {credentials[name]}"
    address = urlsplit(platform.events_url).netloc
    with closing(http.client.HTTPConnection(address, timeout=WAIT)) as connection:
        connection.request("GET", "/v1/events/connect", headers=headers)
        assert connection.getresponse().status == status


@pytest.mark.behaviour("identity.tenants", "identity.no-escalation")
def test_an_operator_of_a_tenant_stays_there(closed: tuple[PlatformProcess, Any]) -> None:
    platform, credentials = closed
    path = "/v1/identity/keys"
    everywhere = Raw(platform.identity_url)
    everywhere.headers["Authorization"] = f"Bearer {credentials['operator']}"
    local = Raw(platform.identity_url)
    local.headers["Authorization"] = f"Bearer {credentials['tenants operator']}"
    seen = local("GET", path).json["keys"]
    assert {key["tenant_id"] for key in seen} == {"acme"}
    others = [key for key in everywhere("GET", path).json["keys"] if key not in seen]
    assert {key.get("tenant_id") for key in others} == {None, "umbrella"}
    for key in others:
        for method, more in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
            own = local(method, f"{path}/{key['id']}{more}", *([{}] if more else []))
            none = local(method, f"{path}/0000000000000000{more}", *([{}] if more else []))
            assert (own.status, none.status) == (404, 404)
            assert own.json["detail"].replace(key["id"], "") == none.json["detail"].replace(
                "0000000000000000", ""
            )
    for body in ({"tenant_id": "umbrella"}, {"tenant_id": "acme", "role": "operator"}):
        answer = local("POST", path, {"name": "x", "role": "app", **body})
        assert answer.status == (403 if body["tenant_id"] == "umbrella" else 200), answer.body
    # Without a tenant it is for that of its creator, never for all.
    assert local("POST", path, {"name": "x", "role": "app"}).json["key"]["tenant_id"] == "acme"


@pytest.mark.behaviour("identity.no-escalation")
def test_nobody_hands_out_more_than_he_has(closed: tuple[PlatformProcess, Any]) -> None:
    platform, credentials = closed
    everywhere = Raw(platform.identity_url)
    everywhere.headers["Authorization"] = f"Bearer {credentials['operator']}"
    scopes = ["identity:manage", "identity:read", "memory:read"]
    path = "/v1/identity/keys"
    clerk_key = everywhere("POST", path, {"name": "clerk", "scopes": scopes}).json["credential"]
    clerk = Raw(platform.identity_url)
    clerk.headers["Authorization"] = f"Bearer {clerk_key}"
    for body in ({"role": "app"}, {"role": "operator"}, {"scopes": ["memory:write"]}):
        answer = clerk("POST", path, {"name": "more", **body})
        assert answer.status == 403, answer.body
    assert clerk("POST", path, {"name": "less", "scopes": ["memory:read"]}).status == 200
    agent = {"role": "agent", "agents": ["a"], "subscribe": ["*"]}
    assert clerk("POST", path, {"name": "agent", **agent}).status == 200
    for key in everywhere("GET", path).json["keys"]:
        is_more = bool(set(key["scopes"]) - {*scopes, DELIVERIES})
        if is_more:
            identity = f"{path}/{quote(key['id'])}"
            assert clerk("DELETE", identity).status == 403
            assert clerk("POST", f"{identity}/rotate", {}).status == 403


@pytest.mark.behaviour("identity.health")
def test_health_says_little_to_strangers(closed: tuple[PlatformProcess, Any]) -> None:
    platform, credentials = closed
    app = credentials["app"]
    for service in ("gateway", "registry", "events", "memory", "identity"):
        raw = Raw(getattr(platform, f"{service}_url"))
        for shown in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": f"Bearer {app}"},
        ):
            assert raw("GET", "/health", **shown).json == {"service": service, "status": "ok"}
        viewer = raw("GET", "/health", Authorization=f"Bearer {credentials['viewer']}").json
        assert viewer["store"] == {"status": "ok"}


@pytest.mark.behaviour("identity.secret")
def test_no_secret_reaches_the_log(closed: tuple[PlatformProcess, Any]) -> None:
    platform, credentials = closed
    raw = Raw(platform.memory_url, "acme", unique("user"))
    for credential in credentials.values():
        raw("GET", "/v1/memory/working", Authorization=f"Bearer {credential}")
    log = Path(platform.log).read_text("utf-8")
    for credential in credentials.values():
        assert credential.rpartition("_")[2] not in log
