"""The registry as any HTTP client sees it, and the payloads that it keeps from being published."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from platform_process import PlatformProcess
from running import Answer, Raw, platform_in, unique

SUM = {
    "name": "sum",
    "description": "Adds up.",
    "input_schema": {"type": "array", "items": {"type": "number"}},
}
ORDER = {
    "type": "object",
    "properties": {
        "amount": {"type": "number", "minimum": 0},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "required": ["amount"],
    "$defs": {
        "line": {
            "type": "object",
            "properties": {"a/b": {"type": "string"}},
            "additionalProperties": False,
        }
    },
}


class Registry:
    """The registry and the event service, for a tenant of its own."""

    def __init__(self, platform: PlatformProcess, tenant: str | None = None) -> None:
        self.tenant = tenant or unique("tenant")
        self.call = Raw(platform.registry_url, self.tenant, "user")
        self.for_all = Raw(platform.registry_url)
        self.events = Raw(platform.events_url, self.tenant, "user")

    def announce(
        self, name: str, instance: str = "i1", *, for_all: bool = False, **announcement: Any
    ) -> Answer:
        path = f"/v1/registry/agents/{quote(name, safe='')}/instances/{quote(instance, safe='')}"
        return (self.for_all if for_all else self.call)("PUT", path, announcement)

    def names(self, **query: Any) -> list[str]:
        text = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
        answer = self.call("GET", f"/v1/registry/agents?{text}")
        assert answer.status == 200, answer.body
        return [agent["name"] for agent in answer.json["agents"]]

    def define(self, event_type: str, schema: Any = None, version: Any = 1, **more: Any) -> Answer:
        body = {"topic": "business-facts", "schema": schema, **more}
        return self.call(
            "PUT", f"/v1/registry/events/{quote(event_type, safe='')}/versions/{version}", body
        )

    def publish(self, event_type: str, data: Any = ..., **more: Any) -> Answer:
        event = {"type": event_type, "topic": "business-facts", **more}
        return self.events(
            "POST", "/v1/events/publish", event if data is ... else {**event, "data": data}
        )


@pytest.fixture
def registry(running: PlatformProcess) -> Registry:
    return Registry(running)


@pytest.fixture
def stranger(running: PlatformProcess) -> Registry:
    return Registry(running)


# agents


@pytest.mark.behaviour("registry.announced", "registry.found")
def test_an_agent_announces_itself_and_is_found(registry: Registry) -> None:
    made = registry.announce(
        "adder",
        description="It adds.",
        capabilities=["count", SUM],
        events_consumed=["add.requested"],
        events_produced=["add.done"],
        ttl=60,
    )
    assert made.status == 200
    agent = registry.call("GET", "/v1/registry/agents/adder").json
    assert agent == made.json == registry.call("GET", "/v1/registry/agents").json["agents"][0]
    assert agent["tenant_id"] == registry.tenant
    assert agent["capabilities"] == [{"name": "count"}, SUM]
    (instance,) = agent["instances"]
    assert (instance["instance"], instance["ttl"]) == ("i1", 60)
    assert instance["announced_at"] == instance["heard_at"] < instance["expires_at"]
    assert registry.names(
        name="adder", capability="sum", consumes="add.requested", produces="add.done"
    ) == ["adder"]
    assert registry.names(capability="sum", consumes="other") == []


@pytest.mark.behaviour("registry.announced")
def test_an_empty_announcement_is_enough(registry: Registry) -> None:
    assert registry.announce("a").status == 200
    agent = registry.call("GET", "/v1/registry/agents/a").json
    assert (agent["description"], agent["capabilities"], agent["events_consumed"]) == ("", [], [])
    assert agent["instances"][0]["ttl"] == 30


@pytest.mark.behaviour("registry.found")
def test_listings_are_paged(registry: Registry) -> None:
    for number in range(5):
        registry.announce(f"a{number}")
    names, after = [], 0
    while after is not None:
        page = registry.call("GET", f"/v1/registry/agents?limit=2&after={after}").json
        names += [agent["name"] for agent in page["agents"]]
        after = page["next"]
    assert names == [f"a{number}" for number in range(5)]


@pytest.mark.behaviour("registry.expires")
def test_a_heartbeat_prolongs_and_after_the_end_it_is_404(registry: Registry) -> None:
    registry.announce("a", ttl=1)
    beat = "/v1/registry/agents/a/instances/i1/heartbeat"
    before = registry.call("GET", "/v1/registry/agents/a").json["instances"][0]
    heard = registry.call("POST", beat)
    assert heard.status == 200
    assert heard.json["expires_at"] >= before["expires_at"]
    deadline = time.monotonic() + 15
    while registry.names():
        assert time.monotonic() < deadline, "it does not expire"
        time.sleep(0.02)
    assert registry.call("GET", "/v1/registry/agents/a").code == "not_found"
    lost = registry.call("POST", beat)
    assert (lost.status, lost.code) == (404, "not_found")
    assert "announce it again" in lost.json["detail"]


@pytest.mark.behaviour("registry.deregistered")
def test_deregistration_is_at_once_and_can_be_repeated(registry: Registry) -> None:
    registry.announce("a", "i1")
    registry.announce("a", "i2")
    path = "/v1/registry/agents/a/instances"
    assert registry.call("DELETE", f"{path}/i1").json == {"deleted": True}
    assert registry.call("DELETE", f"{path}/i1").json == {"deleted": False}
    assert registry.names() == ["a"]
    assert registry.call("DELETE", f"{path}/i2").json == {"deleted": True}
    assert registry.names() == []


@pytest.mark.behaviour("topics.names")
@pytest.mark.parametrize("name", ["a b", "a/b", "a%2Fb", "ключ", "?q=1#f", "x" * 255, "\n"])
def test_names_are_any_text(registry: Registry, name: str) -> None:
    assert registry.announce(name, name, capabilities=[name], events_produced=[name]).status == 200
    assert registry.names(name=name, capability=name, produces=name) == [name]
    assert registry.call("GET", f"/v1/registry/agents/{quote(name, safe='')}").json["name"] == name
    assert registry.define(name, {"type": "object"}).json["type"] == name
    assert registry.publish(name, []).code == "invalid_payload"


@pytest.mark.behaviour("registry.refused")
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"capabilities": [""]}, "invalid_name"),
        ({"capabilities": ["a", "a"]}, "invalid_request"),
        ({"capabilities": ["a", {"name": "a"}]}, "invalid_request"),
        ({"capabilities": [{"name": "a", "other": 1}]}, "invalid_request"),
        ({"capabilities": [{"name": "a", "input_schema": {"type": "nope"}}]}, "invalid_value"),
        ({"capabilities": [{"name": "a", "output_schema": []}]}, "invalid_value"),
        (
            {"capabilities": [{"name": "a", "input_schema": {"title": "x" * 65_536}}]},
            "limit_exceeded",
        ),
        ({"capabilities": [f"c{number}" for number in range(101)]}, "limit_exceeded"),
        ({"events_consumed": ["x", "x"]}, "invalid_request"),
        ({"events_produced": [".."]}, "invalid_name"),
        ({"events_produced": [f"e{number}" for number in range(1001)]}, "limit_exceeded"),
        ({"description": "x" * 4001}, "limit_exceeded"),
        ({"ttl": 0}, "invalid_request"),
        ({"ttl": 1e9}, "invalid_request"),
        ({"other": 1}, "invalid_request"),
        ([], "invalid_request"),
    ],
)
def test_an_announcement_that_is_off_is_refused(registry: Registry, body: Any, code: str) -> None:
    refused = registry.call("PUT", "/v1/registry/agents/a/instances/i1", body)
    assert refused.code == code
    assert refused.status in (413, 422)
    assert registry.names() == []


@pytest.mark.behaviour("registry.refused")
def test_an_announcement_is_bounded_as_a_whole(registry: Registry) -> None:
    large = [{"name": f"c{number}", "input_schema": {"title": "x" * 60_000}} for number in range(5)]
    refused = registry.announce("a", capabilities=large)
    assert (refused.code, refused.json["limit"]) == ("limit_exceeded", "announcement_bytes")


@pytest.mark.behaviour("http.which-ids")
def test_a_read_says_for_whom(registry: Registry) -> None:
    for path in ("agents", "agents/a", "events", "events/x", "events/x/versions/1"):
        asked = registry.for_all("GET", f"/v1/registry/{path}")
        assert asked.code == "invalid_request"
        assert asked.json["missing"] == ["X-Tenant-ID"]
        assert "say which tenant is meant" in asked.json["detail"]
        no_user = registry.for_all("GET", f"/v1/registry/{path}", X_Tenant_ID=registry.tenant)
        assert no_user.status == 200 or no_user.code == "not_found"


# tenants


@pytest.mark.behaviour("registry.tenants")
def test_a_tenant_sees_nothing_of_another(registry: Registry, stranger: Registry) -> None:
    registry.announce("mine", capabilities=["c"], events_consumed=["x"])
    registry.define("mine.made", {"type": "object"})
    assert stranger.names() == stranger.names(name="mine") == stranger.names(capability="c") == []
    assert stranger.call("GET", "/v1/registry/agents/mine").status == 404
    assert stranger.call("POST", "/v1/registry/agents/mine/instances/i1/heartbeat").status == 404
    assert stranger.call("DELETE", "/v1/registry/agents/mine/instances/i1").json == {
        "deleted": False
    }
    assert stranger.call("GET", "/v1/registry/events").json["events"] == []
    assert stranger.call("GET", "/v1/registry/events/mine.made").status == 404
    assert stranger.call("GET", "/v1/registry/events/mine.made/versions/1").status == 404
    assert stranger.call("DELETE", "/v1/registry/events/mine.made/versions/1").json == {
        "deleted": False
    }
    assert stranger.publish("mine.made", "anything").status == 200, (
        "another's schema is not its own"
    )
    assert registry.names() == ["mine"]
    assert registry.publish("mine.made", "anything").code == "invalid_payload"


@pytest.mark.behaviour("registry.tenants")
def test_who_serves_all_tenants_is_seen_by_each_and_changed_by_none(
    registry: Registry, stranger: Registry
) -> None:
    name = unique("agent")
    registry.announce(name, for_all=True)
    for one in (registry, stranger):
        assert one.names(name=name) == [name]
        assert one.call("GET", f"/v1/registry/agents/{name}").json["tenant_id"] is None
        assert one.call("DELETE", f"/v1/registry/agents/{name}/instances/i1").json == {
            "deleted": False
        }
        assert one.call("POST", f"/v1/registry/agents/{name}/instances/i1/heartbeat").status == 404
    assert (
        registry.for_all("POST", f"/v1/registry/agents/{name}/instances/i1/heartbeat").status == 200
    )
    assert registry.for_all("DELETE", f"/v1/registry/agents/{name}/instances/i1").json == {
        "deleted": True
    }
    assert registry.names(name=name) == []


@pytest.mark.behaviour("schemas.of-a-tenant")
def test_a_definition_for_all_counts_until_a_tenant_has_its_own(
    registry: Registry, stranger: Registry
) -> None:
    kind = unique("type")
    path = f"/v1/registry/events/{kind}/versions/1"
    body = {"topic": "business-facts", "schema": {"type": "object"}}
    assert registry.for_all("PUT", path, body).json["tenant_id"] is None
    assert registry.publish(kind, 1).code == stranger.publish(kind, 1).code == "invalid_payload"
    registry.define(kind, {"type": "integer"})
    assert registry.publish(kind, 1).status == 200
    assert registry.publish(kind, {}).code == "invalid_payload"
    assert stranger.publish(kind, 1).code == "invalid_payload"
    assert registry.call("DELETE", path).json == {"deleted": True}
    assert registry.publish(kind, 1).code == "invalid_payload"
    assert registry.call("DELETE", path).json == {"deleted": False}
    assert registry.for_all("DELETE", path).json == {"deleted": True}
    assert registry.publish(kind, 1).status == stranger.publish(kind, 1).status == 200


# event definitions


@pytest.mark.behaviour("schemas.versions")
def test_an_event_is_defined_once_and_read(registry: Registry) -> None:
    made = registry.define("order.made", ORDER, description="An order.", check="warn")
    assert made.status == 200
    assert made.json["schema"] == ORDER
    assert (
        registry.define("order.made", ORDER, description="An order.", check="warn").json
        == made.json
    )
    assert registry.call("GET", "/v1/registry/events/order.made").json == made.json
    assert registry.call(
        "GET", "/v1/registry/events?type=order.made&topic=business-facts"
    ).json == {
        "events": [made.json],
        "next": None,
    }
    other = registry.define("order.made", True)
    assert (other.status, other.code) == (409, "definition_conflict")
    assert (other.json["event_type"], other.json["version"]) == ("order.made", 1)
    second = registry.define("order.made", True, 2).json
    assert second["versions"] == [1, 2]
    assert registry.call("GET", "/v1/registry/events/order.made").json == second
    assert registry.call("GET", "/v1/registry/events/order.made/versions/1").json["schema"] == ORDER
    missing = registry.call("GET", "/v1/registry/events/order.made/versions/3")
    assert (missing.status, missing.code) == (404, "not_found")


@pytest.mark.behaviour("schemas.listed")
def test_event_types_are_paged(registry: Registry) -> None:
    for number in range(5):
        registry.define(f"x{number}")
    first = registry.call("GET", "/v1/registry/events?limit=3").json
    rest = registry.call("GET", f"/v1/registry/events?limit=3&after={first['next']}").json
    assert [event["type"] for event in first["events"] + rest["events"]] == [
        f"x{number}" for number in range(5)
    ]
    assert rest["next"] is None


@pytest.mark.behaviour("registry.refused")
@pytest.mark.parametrize(
    ("version", "more", "code"),
    [
        (0, {}, "invalid_request"),
        ("one", {}, "invalid_request"),
        (-1, {}, "invalid_request"),
        ("9" * 18, {}, "invalid_request"),
        (1, {"topic": "nowhere"}, "invalid_name"),
        (1, {"check": "perhaps"}, "invalid_request"),
        (1, {"description": "x" * 4001}, "limit_exceeded"),
        (1, {"schema": 5}, "invalid_value"),
        (1, {"schema": {"type": "nope"}}, "invalid_value"),
        (1, {"schema": {"pattern": "("}}, "invalid_value"),
        (1, {"schema": {"title": "x" * 65_536}}, "limit_exceeded"),
        (1, {"schema": {"$schema": "http://json-schema.org/draft-07/schema#"}}, "invalid_value"),
        (1, {"schema": {"$ref": "#/$defs/nothing"}}, "invalid_value"),
        (1, {"schema": {"$ref": "#"}}, "invalid_value"),
    ],
)
def test_a_definition_that_is_off_is_refused(
    registry: Registry, version: Any, more: Any, code: str
) -> None:
    assert registry.define("x", version=version, **more).code == code
    assert registry.call("GET", "/v1/registry/events").json["events"] == []


@contextmanager
def _listening() -> Iterator[tuple[str, list[bytes]]]:
    """A web server that notes who calls it."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    caller, _ = server.accept()
                except TimeoutError:
                    continue
                with caller:
                    heard.append(caller.recv(1000))
                    caller.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: "
                        b"application/json\r\n\r\n{}"
                    )

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/schema.json", heard
        finally:
            done.set()
            thread.join()


@pytest.mark.behaviour("schemas.bounded")
def test_no_schema_is_fetched_from_anywhere(registry: Registry, tmp_path: Path) -> None:
    secret = tmp_path / "schema.json"
    secret.write_text('{"type": "object"}')
    with _listening() as (url, heard):
        for schema in (
            {"$ref": url},
            {"$ref": secret.as_uri()},
            {"$id": url, "$ref": "other.json"},
            {"properties": {"a": {"items": {"$ref": url}}}},
            {"$defs": {"a": {"$ref": url}}},
            {"$schema": url},
            {"$dynamicRef": url},
            {
                "$defs": {"a": {"$id": url, "$ref": "other.json"}},
                "properties": {"a": {"$ref": "#/$defs/a"}},
            },
        ):
            assert registry.define("x", schema).code == "invalid_value", schema
            refused = registry.announce("a", capabilities=[{"name": "c", "input_schema": schema}])
            assert refused.code == "invalid_value", schema
    assert heard == []


# payloads


@pytest.mark.behaviour("schemas.enforced")
def test_a_payload_that_does_not_fit_is_refused_with_its_path(registry: Registry) -> None:
    registry.define("order.made", ORDER)
    assert registry.publish("order.made", {"amount": 5, "lines": [{"a/b": "x"}]}).status == 200
    for data, path in (
        ({"amount": "five"}, "/amount"),
        ({"amount": -1}, "/amount"),
        ({"lines": []}, ""),
        ({"amount": 1, "lines": [{}, {"a/b": 5}]}, "/lines/1/a~1b"),
        ({"amount": 1, "lines": [{"c": 5}]}, "/lines/0"),
        (None, ""),
        (..., ""),
    ):
        refused = registry.publish("order.made", data)
        assert (refused.status, refused.code, refused.json["path"]) == (
            422,
            "invalid_payload",
            path,
        ), data
        assert refused.json["schema"] == "order.made@1"
        assert refused.json["detail"]


@pytest.mark.behaviour("schemas.enforced")
def test_a_refusal_does_not_repeat_the_payload(registry: Registry) -> None:
    registry.define("x", {"additionalProperties": False, "properties": {"a": {"type": "integer"}}})
    for data in (
        {"a": "secret" * 10_000},
        {"secret" * 10_000: 1},
        {f"secret-{number}": 1 for number in range(10_000)},
    ):
        refused = registry.publish("x", data)
        assert refused.code == "invalid_payload"
        assert len(refused.body) < 2_000
    assert b"secret" not in registry.publish("x", {"a": "secret"}).body


@pytest.mark.behaviour("schemas.enforced", "events.all-or-nothing")
def test_a_batch_names_the_event_and_publishes_none(registry: Registry) -> None:
    registry.define("x", {"type": "object"})
    identity = unique("event")
    events = [{"type": "x", "topic": "business-facts", "data": data} for data in ({}, 5, {})]
    events[0]["id"] = identity
    refused = registry.events("POST", "/v1/events/publish", events)
    assert refused.code == "invalid_payload"
    assert "event 2 of 3" in refused.json["detail"]
    events[1]["data"] = {}
    events[0]["data"] = {"other": "content"}
    assert registry.events("POST", "/v1/events/publish", events).status == 200, (
        "nothing of the first was published"
    )


@pytest.mark.behaviour("schemas.enforced")
def test_a_commit_of_memory_and_events_is_refused_as_a_whole(
    running: PlatformProcess, registry: Registry
) -> None:
    memory = Raw(running.memory_url, registry.tenant, "user")
    registry.define("x", {"type": "object"})
    commit = {
        "plans": [{"plan_id": "p", "operations": [{"op": "set", "key": "k", "value": 1}]}],
        "events": [{"type": "x", "topic": "business-facts", "data": 5}],
    }
    assert memory("POST", "/v1/memory/commit", commit).code == "invalid_payload"
    assert memory("GET", "/v1/memory/working/p/k").code == "key_missing"


@pytest.mark.behaviour("schemas.enforced")
def test_cloud_events_are_checked_too(registry: Registry) -> None:
    registry.define("x", {"type": "object"})
    cloud = {
        "specversion": "1.0",
        "id": unique("id"),
        "source": "s",
        "type": "x",
        "topic": "business-facts",
        "data": 5,
    }
    body = json.dumps(cloud).encode()
    refused = registry.events(
        "POST", "/v1/events/publish", body=body, Content_Type="application/cloudevents+json"
    )
    assert refused.code == "invalid_payload"


@pytest.mark.behaviour("schemas.versions")
def test_the_newest_version_counts_unless_the_event_names_another(registry: Registry) -> None:
    registry.define("x", {"type": "integer"}, 1)
    assert registry.publish("x", 5).status == 200
    registry.define("x", {"type": "string"}, 2)
    assert registry.publish("x", 5).code == "invalid_payload"
    assert registry.publish("x", "5").status == 200
    assert registry.publish("x", 5, payload_schema_name="x@1").status == 200
    assert registry.publish("x", "5", payload_schema_name="x@1").code == "invalid_payload"
    assert registry.publish("x", "5", payload_schema_name="x").status == 200
    unknown = registry.publish("x", "5", payload_schema_name="x@3")
    assert unknown.code == "invalid_payload"
    assert "no version 3" in unknown.json["detail"]


@pytest.mark.behaviour("schemas.versions")
def test_an_event_may_name_the_schema_of_another(registry: Registry) -> None:
    registry.define("money", {"type": "number"})
    assert registry.publish("paid", "five", payload_schema_name="money").code == "invalid_payload"
    assert registry.publish("paid", 5, payload_schema_name="money").status == 200
    assert registry.publish("paid", "five").status == 200


@pytest.mark.behaviour("schemas.enforced")
def test_a_name_nobody_defined_does_not_lead_past_the_types_own_schema(registry: Registry) -> None:
    registry.define("x", {"type": "object"})
    assert registry.publish("x", 5, payload_schema_name="nothing").code == "invalid_payload"
    assert registry.publish("x", 5, payload_schema_name="nothing@1").code == "invalid_payload"
    assert registry.publish("x", {}, payload_schema_name="nothing").status == 200
    assert registry.publish("undefined", 5, payload_schema_name="nothing@1").status == 200


@pytest.mark.behaviour("schemas.off-and-warn")
def test_off_and_warn_let_pass(running: PlatformProcess, registry: Registry) -> None:
    quiet, loud = unique("quiet"), unique("loud")
    registry.define(quiet, {"type": "object"}, check="off")
    registry.define(loud, {"properties": {"a": {"type": "integer"}}}, check="warn")
    assert registry.publish(quiet, 5).status == 200
    published = registry.publish(loud, {"a": "secret"})
    assert published.status == 200
    log = running.log.read_text("utf-8")
    (line,) = [line for line in log.splitlines() if loud in line]
    told = json.loads(line)
    assert (told["level"], told["path"], told["event_id"]) == (
        "warning",
        "/a",
        published.json["id"],
    )
    assert registry.tenant in line
    assert quiet not in log
    assert "secret" not in line


@pytest.mark.behaviour("schemas.off-and-warn")
@pytest.mark.parametrize("mode", ["off", "warn"])
def test_the_setting_counts_where_a_definition_says_nothing(tmp_path: Path, mode: str) -> None:
    with platform_in(tmp_path, SOORMA_PAYLOAD_CHECK=mode) as platform:
        registry = Registry(platform)
        registry.define("x", {"type": "object"})
        registry.define("strict", {"type": "object"}, check="enforce")
        assert registry.publish("x", 5).status == 200
        assert registry.publish("strict", 5).code == "invalid_payload"
        assert ("payload does not fit" in platform.log.read_text("utf-8")) is (mode == "warn")


@pytest.mark.behaviour("schemas.off-and-warn")
def test_a_changed_definition_counts_at_once(registry: Registry) -> None:
    assert registry.publish("x", 5).status == 200
    registry.define("x", {"type": "object"})
    assert registry.publish("x", 5).code == "invalid_payload"
    registry.call("DELETE", "/v1/registry/events/x/versions/1")
    assert registry.publish("x", 5).status == 200


# schemas that would never end


def _doubling(turns: int) -> Any:
    parts = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(turns)}
    return {"$ref": "#/$defs/d0", "$defs": {**parts, f"d{turns}": {"minimum": 0}}}


@pytest.mark.behaviour("schemas.bounded")
def test_a_schema_that_doubles_at_each_turn_is_refused(registry: Registry) -> None:
    refused = registry.define("x", _doubling(30))
    assert refused.code == "invalid_value"
    assert "make it simpler" in refused.json["detail"]
    assert registry.define("x", _doubling(5)).status == 200


@pytest.mark.behaviour("schemas.bounded")
def test_a_long_chain_of_references_is_refused(registry: Registry) -> None:
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(1500)}
    assert (
        registry.define("x", {"$ref": "#/$defs/d0", "$defs": {**chain, "d1500": {}}}).code
        == "invalid_value"
    )


@pytest.mark.behaviour("schemas.bounded")
def test_a_schema_of_itself_is_fine(registry: Registry) -> None:
    tree = {
        "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}},
        "additionalProperties": False,
    }
    registry.define("tree", tree)
    deep: Any = {}
    for _ in range(100):
        deep = {"left": deep, "right": {}}
    assert registry.publish("tree", deep).status == 200
    bottom = deep
    for _ in range(100):
        bottom = bottom["left"]
    bottom["other"] = 1
    assert registry.publish("tree", deep).json["path"] == "/left" * 100


@pytest.mark.behaviour("schemas.bounded")
def test_a_schema_that_branches_at_each_level_checks_no_deep_payload(registry: Registry) -> None:
    kinds = [{"properties": {"kind": {"type": "string"}, "of": {"$ref": "#"}}}] * 2
    assert registry.define("union", {"anyOf": [{"not": kinds[0]}, *kinds]}).status == 200
    payload: Any = {"kind": "x"}
    for _ in range(100):
        payload = {"kind": "x", "of": payload}
    assert registry.publish("union", {"kind": "x", "of": {"kind": "y"}}).status == 200
    begun = time.monotonic()
    refused = registry.publish("union", payload)
    assert refused.code == "invalid_payload"
    assert "nested less deeply" in refused.json["detail"]
    assert time.monotonic() - begun < 5


@pytest.mark.behaviour("schemas.bounded")
def test_a_pattern_that_backtracks_for_ever_does_not(registry: Registry) -> None:
    registry.define("x", {"pattern": r"^(a*)*\1b$"})
    registry.define("y", {"pattern": r"^(a+)+$"})
    begun = time.monotonic()
    assert registry.publish("x", "a" * 5_000).code == "invalid_payload"
    assert registry.publish("y", "a" * 5_000 + "!").code == "invalid_payload"
    assert time.monotonic() - begun < 5
