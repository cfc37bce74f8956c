"""The documents: OpenAPI of every service, AsyncAPI of topics, events and the agents' WebSocket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from platform_process import PlatformProcess
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7, DRAFT202012
from running import Answer, Raw, path_of, unique

from soorma import Topic
from soorma_common.delivery import AgentFrame, ServiceFrame

SERVICES = ("gateway", "registry", "events", "memory", "identity")
METHODS = {"get", "put", "post", "patch", "delete"}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def document(running: PlatformProcess, service: str) -> Any:
    return document_of(running, service)


def document_of(running: PlatformProcess, service: str, name: str = "openapi", **scope: str) -> Any:
    answer = Raw(getattr(running, f"{service}_url"), **scope)("GET", f"/{name}.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


# OpenAPI


@pytest.mark.behaviour("api.openapi")
def test_the_document_is_openapi_3_1(document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


@pytest.mark.behaviour("api.openapi")
def test_each_operation_says_what_it_does_and_how_it_can_end(document: Any) -> None:
    found = list(operations(document))
    ids = [operation["operationId"] for _, _, operation in found]
    assert len(set(ids)) == len(ids)
    for method, path, operation in found:
        assert method in METHODS, path
        assert operation["summary"].endswith("."), path
        assert {"200", "403", "500", "503"} <= operation["responses"].keys(), path
        for status, answer in operation["responses"].items():
            assert resolved(document, answer)["description"], (path, status)
        assert ("415" in operation["responses"]) == ("requestBody" in operation), path


IN_CAMEL_CASE = {"KeyEntry", "ValueAt"}
"""The responses of PUT and GET of one key."""


@pytest.mark.behaviour("http.names")
def test_names_are_in_snake_case_but_for_the_responses_of_one_key(document: Any) -> None:
    schemas: dict[str, Any] = document["components"]["schemas"]
    names = {
        (schema, name) for schema, one in schemas.items() for name in one.get("properties", ())
    }
    names |= {("query", one["name"]) for _, _, found in operations(document)
              for one in found.get("parameters", ())
              if one.get("in") == "query"}  # fmt: skip
    assert len(names) > 5
    assert {
        schema for schema, name in names if not name.replace("_", "").islower()
    } == IN_CAMEL_CASE & schemas.keys()
    assert not {(schema, name) for schema, name in names if schema in IN_CAMEL_CASE and "_" in name}


@pytest.mark.behaviour("api.openapi")
def test_problems_name_their_codes(document: Any) -> None:
    for _, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            content = resolved(document, answer).get("content", {})
            if "application/problem+json" in content:
                exact = content["application/problem+json"]["schema"]["allOf"][1]["properties"]
                assert exact["status"]["const"] == int(status), path
                assert exact["code"]["enum"], path


@pytest.mark.behaviour("api.openapi")
def test_each_example_fits_its_schema(document: Any) -> None:
    shown = 0
    for _, path, operation in operations(document):
        for parameter in (resolved(document, one) for one in operation.get("parameters", [])):
            if "example" in parameter:
                check(document, parameter["schema"], parameter["example"])
        for content in operation.get("requestBody", {}).get("content", {}).values():
            if "example" in content:
                check(document, content["schema"], content["example"])
                shown += 1
        if "{" in path:
            assert any("example" in resolved(document, one) for one in operation["parameters"]), (
                path
            )
    assert shown or not any("requestBody" in operation for _, _, operation in operations(document))


@pytest.mark.behaviour("api.openapi")
def test_each_example_is_taken(running: PlatformProcess, service: str, document: Any) -> None:
    url = getattr(running, f"{service}_url")
    for method, path, operation in operations(document):
        parameters = [resolved(document, one) for one in operation.get("parameters", [])]
        names = {one["name"]: one["example"] for one in parameters if one["in"] == "path"}
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            if "example" in content:
                raw = Raw(url, unique("tenant"), "ann")
                answer = raw(
                    method.upper(), path.format(**names), content["example"], Content_Type=media
                )
                assert answer.status == 200, (path, media, answer.body)


@pytest.mark.behaviour("api.openapi", "gateway.one-entrance")
def test_the_gateways_document_holds_those_of_all(running: PlatformProcess) -> None:
    merged = document_of(running, "gateway")
    for service in SERVICES[1:]:
        own = document_of(running, service)
        for path, methods in own["paths"].items():
            if path.startswith("/v1/"):
                assert merged["paths"][path] == methods
        for name, schema in own["components"]["schemas"].items():
            if name != "Health":
                assert merged["components"]["schemas"][name] == schema


@pytest.mark.behaviour("api.openapi")
def test_links_lead_from_a_put_to_what_it_made(running: PlatformProcess) -> None:
    put = document_of(running, "memory")["paths"]["/v1/memory/working/{plan_id}/{key}"]["put"]
    link = put["responses"]["200"]["links"]["memory_get"]
    assert link["parameters"] == {
        "path.plan_id": "$request.path.plan_id",
        "path.key": "$request.path.key",
        "header.X-Tenant-ID": "$request.header.X-Tenant-ID",
        "header.X-User-ID": "$request.header.X-User-ID",
    }


def resolved(document: Any, part: Any) -> Any:
    while "$ref" in part:
        target = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        part = target
    return part


def check(document: Any, schema: Any, value: Any) -> None:
    whole = Resource(document, DRAFT202012)
    registry = Registry().with_resource("urn:document", whole)
    Draft202012Validator(absolute(schema), registry=registry).validate(value)


def absolute(schema: Any) -> Any:
    """The schema with its references into the document it was taken from."""
    if isinstance(schema, list):
        return [absolute(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: f"urn:document{part}"
        if name == "$ref" and part.startswith("#/components")
        else absolute(part)
        for name, part in schema.items()
    }


# AsyncAPI

FIELDS = {
    "": {
        "asyncapi",
        "info",
        "defaultContentType",
        "servers",
        "channels",
        "operations",
        "components",
    },
    "servers": {"host", "protocol", "description"},
    "channels": {"address", "title", "description", "messages", "bindings"},
    "operations": {"action", "channel", "summary", "messages", "reply"},
    "messages": {
        *(
            "name",
            "title",
            "summary",
            "description",
            "contentType",
            "payload",
            "correlationId",
            "examples",
        ),
    },
}
"""The keywords of AsyncAPI 3.0 that this document uses: anything else would be a slip."""


@pytest.fixture(params=["gateway", "events"])
def topics(request: pytest.FixtureRequest, running: PlatformProcess) -> Any:
    return document_of(running, str(request.param), "asyncapi")


@pytest.mark.behaviour("api.asyncapi")
def test_the_document_is_asyncapi_3_0(running: PlatformProcess, topics: Any) -> None:
    assert topics["asyncapi"] == "3.0.0"
    assert topics.keys() == FIELDS[""]
    assert topics["info"].keys() == {"title", "version", "description", "license"}
    assert topics["servers"]["events"]["host"].startswith("127.0.0.1:")
    groups = {**topics, **topics["components"]}
    for group in ("servers", "channels", "operations", "messages"):
        for key, one in groups[group].items():
            assert one.keys() <= FIELDS[group], key
    for schema in topics["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


@pytest.mark.behaviour("api.asyncapi")
def test_each_reference_leads_somewhere_it_may(topics: Any) -> None:
    for reference in references(topics):
        assert resolved(topics, {"$ref": reference})
    for name, operation in topics["operations"].items():
        assert operation["action"] in {"send", "receive"}
        channel = operation["channel"]["$ref"]
        assert resolved(topics, operation["channel"])
        for message in [
            *operation.get("messages", []),
            *operation.get("reply", {}).get("messages", []),
        ]:
            assert message["$ref"].startswith(f"{channel}/messages/"), name


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


@pytest.mark.behaviour("api.asyncapi", "topics.eight")
def test_its_channels_are_the_eight_topics_and_the_agents_socket(topics: Any) -> None:
    addresses = {channel["address"] for channel in topics["channels"].values()}
    assert addresses == {*Topic, "/v1/events/connect"}
    for topic in Topic:
        assert topics["channels"][topic]["messages"].keys() >= {"event", "cloudevent"}
        assert topics["operations"][f"receive-{topic}"]["action"] == "receive"
        assert topics["operations"][f"send-{topic}"]["action"] == "send"


@pytest.mark.behaviour("api.asyncapi")
def test_the_sockets_frames_are_all_there(topics: Any) -> None:
    frames = {
        f"{kind.__struct_config__.tag}-frame"
        for union in (AgentFrame, ServiceFrame)
        for kind in union.__args__
    }
    assert topics["channels"]["agents"]["messages"].keys() == frames


@pytest.mark.behaviour("api.asyncapi")
def test_examples_of_messages_fit_their_payloads(topics: Any) -> None:
    shown = {
        key: message
        for key, message in topics["components"]["messages"].items()
        if "examples" in message
    }
    assert shown.keys() >= {"event", "cloudevent", "hello-frame"}
    for message in shown.values():
        for example in message["examples"]:
            validator(topics, message["payload"]).validate(example["payload"])


@pytest.mark.behaviour("api.asyncapi", "http.agents-socket")
async def test_the_frames_of_a_real_agent_fit(running: PlatformProcess, topics: Any) -> None:
    messages = topics["components"]["messages"]
    hello = {
        **messages["hello-frame"]["examples"][0]["payload"],
        "agent": unique("agent"),
        "tenant_id": unique("t"),
    }
    events = Raw(running.events_url, hello["tenant_id"], "ann")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{running.events_url}/v1/events/connect") as socket,
    ):
        await socket.send_bytes(json.dumps(hello).encode())
        welcome = json.loads((await socket.receive()).data)
        assert (
            events("POST", "/v1/events/publish", messages["event"]["examples"][0]["payload"]).status
            == 200
        )
        delivered = json.loads((await socket.receive()).data)
        commit = {"frame": "commit", "number": 1, "tenant_id": hello["tenant_id"], "user_id": "ann"}
        commit["commit"] = {"fence": delivered["fence"], "plans": [plan_of(delivered)]}
        await socket.send_bytes(json.dumps(commit).encode())
        answer = json.loads((await socket.receive()).data)
    assert "problem" not in answer
    for frame in (hello, welcome, delivered, commit, answer):
        validator(topics, messages[f"{frame['frame']}-frame"]["payload"]).validate(frame)


def plan_of(delivered: Any) -> Any:
    plan_id = delivered["event"]["plan_id"]
    assert delivered["plan"]["plan_id"] == plan_id
    return {
        "plan_id": plan_id,
        "operations": [{"op": "set", "key": "k", "value": 1}],
        "reads": {"k": 0},
    }


@pytest.mark.behaviour("api.registered-types")
def test_registered_event_types_are_messages_with_their_schemas(running: PlatformProcess) -> None:
    tenant_id = unique("tenant")
    registry = Raw(running.registry_url, tenant_id, "ann")
    schema = {
        "$ref": "#/$defs/order",
        "$defs": {"order": {"type": "object", "required": ["number"]}},
    }
    body = {"topic": "business-facts", "description": "An order.", "schema": schema}
    assert registry("PUT", "/v1/registry/events/order%20%2Fplaced/versions/3", body).status == 200

    shown = document_of(running, "events", "asyncapi", tenant_id=tenant_id)
    key = "type-order_20__2f_placed-3"
    message = shown["components"]["messages"][key]
    assert shown["channels"]["business-facts"]["messages"][key] == {
        "$ref": f"#/components/messages/{key}"
    }
    assert key not in shown["channels"]["plan-events"]["messages"]
    assert (message["name"], message["summary"]) == ("order /placed", "An order.")
    event = {"type": "order /placed", "topic": "business-facts"}
    fits = validator(shown, message["payload"])
    assert fits.is_valid({**event, "data": {"number": 1}})
    assert not fits.is_valid({**event, "data": {}})
    assert not fits.is_valid({**event, "type": "another", "data": {"number": 1}})

    of_others = document_of(running, "events", "asyncapi", tenant_id=unique("tenant"))
    assert key not in of_others["components"]["messages"]


def validator(document: Any, payload: Any) -> Draft7Validator | Draft202012Validator:
    """Of a payload in the dialect of AsyncAPI, or in the one that it names."""
    kind, dialect = (
        (Draft202012Validator, DRAFT202012)
        if "schemaFormat" in payload
        else (Draft7Validator, DRAFT7)
    )
    registry = Registry().with_resource("urn:document", Resource(absolute(document), dialect))
    return kind(absolute(payload.get("schema", payload)), registry=registry)


# what schemathesis and the documents brought to light


@pytest.fixture
def memory(running: PlatformProcess) -> Raw:
    return Raw(running.memory_url, unique("tenant"), unique("user"))


@pytest.fixture
def events(running: PlatformProcess) -> Raw:
    return Raw(running.events_url, unique("tenant"), unique("user"))


def refused(answer: Answer, code: str = "invalid_request") -> bool:
    return (answer.status, answer.code) == (422, code)


@pytest.mark.behaviour("http.blanks")
def test_blanks_around_a_header_do_not_count(memory: Raw) -> None:
    padded = Raw(
        memory.url, f"{memory.headers['X-Tenant-ID']} \t ", f"{memory.headers['X-User-ID']}  "
    )
    assert padded("PUT", path_of("p", "k"), {"value": 1}, If_None_Match="*  ").status == 200
    assert memory("GET", path_of("p", "k"), If_None_Match='"1"  ').status == 304
    assert refused(memory("GET", path_of("p", "k"), X_Tenant_ID="..  "), "invalid_name")


@pytest.mark.behaviour("conditions.refused", "conditions.if-match")
def test_conditions_that_contradict_each_other_are_refused(memory: Raw) -> None:
    both = {"If_Match": '"1"', "If_None_Match": "*"}
    assert refused(memory("PUT", path_of("p", "k"), {"value": 1}, **both))
    assert (
        memory("PUT", path_of("p", "k"), {"value": 1}, **{**both, "If_Match": '"0"'}).status == 200
    )
    assert refused(memory("DELETE", path_of("p", "k"), **both))
    assert refused(memory("DELETE", path_of("p", "k"), **{**both, "If_Match": "nonsense"}))


@pytest.mark.behaviour("http.encoded-ids")
@pytest.mark.parametrize(
    "tenant", ["100%", "%zz", "%C3", "%C3%28", "caf\u00e9", "%00", "%2e", ".%2E"]
)
def test_a_name_in_a_header_is_ascii_or_percent_encoded(memory: Raw, tenant: str) -> None:
    assert refused(memory("GET", path_of("p", "k"), X_Tenant_ID=tenant), "invalid_name")


@pytest.mark.behaviour("http.garbage")
@pytest.mark.parametrize("query", ["prefix=%FF", "&".join(f"a{number}=1" for number in range(101))])
def test_a_query_that_is_none_is_refused(memory: Raw, query: str) -> None:
    assert refused(memory("GET", f"{path_of('p')}?{query}"))


@pytest.mark.behaviour("http.positions")
def test_what_is_not_there_yet_is_not_found(memory: Raw, events: Raw) -> None:
    memory("PUT", path_of("p", "k"), {"value": 1})
    for raw, path in (
        (memory, f"{path_of('p', 'k')}?revision=2"),
        (memory, "/v1/memory/watch/p?after=2"),
        (events, "/v1/events/stream?after=999999999"),
    ):
        answer = raw("GET", path)
        assert (answer.status, answer.code) == (404, "not_found"), path


@pytest.mark.behaviour("http.positions")
def test_an_empty_position_is_none(memory: Raw, events: Raw) -> None:
    assert refused(memory("GET", "/v1/memory/watch/p", Last_Event_ID=""))
    assert refused(events("GET", "/v1/events/stream", Last_Event_ID=""))


@pytest.mark.behaviour("http.which-ids")
@pytest.mark.parametrize("header", ["X-Tenant-ID", "X-User-ID"])
def test_an_empty_id_is_not_the_default_one(events: Raw, header: str) -> None:
    assert refused(
        events("POST", "/v1/events/publish", {"type": "a", "topic": "plan-events"}, **{header: ""}),
        "invalid_name",
    )


@pytest.mark.behaviour("idempotency.caller")
@pytest.mark.parametrize("key", ["", "k" * 300])
def test_an_idempotency_key_must_be_one_even_where_the_events_id_counts(
    events: Raw, key: str
) -> None:
    event = {"type": "a", "topic": "plan-events", "id": unique("event")}
    timer = {"event": event, "delay": 3600}
    for path, body in (("/v1/events/publish", event), ("/v1/events/timers", timer)):
        assert refused(events("POST", path, body, Idempotency_Key=key), "invalid_name"), path


@pytest.mark.behaviour("events.cloudevents")
@pytest.mark.parametrize(
    "more",
    [
        {"data_base64": "aGVsbG8="},
        {"datacontenttype": "text/plain", "data": "hello"},
        {"datacontenttype": ""},
        {"subject": 5},
        {"traceparent": 5},
    ],
)
def test_a_cloudevent_that_would_lose_something_is_refused(
    events: Raw, more: dict[str, Any]
) -> None:
    cloud = {
        "specversion": "1.0",
        "id": unique("event"),
        "source": "s",
        "type": "a",
        "topic": "plan-events",
        **more,
    }
    assert refused(
        events("POST", "/v1/events/publish", cloud, Content_Type="application/cloudevents+json")
    )
    taken = {
        **cloud,
        "subject": "s",
        "traceparent": "",
        "datacontenttype": "application/json; charset=utf-8",
    }
    taken.pop("data_base64", None)
    assert (
        events(
            "POST", "/v1/events/publish", taken, Content_Type="application/cloudevents+json"
        ).status
        == 200
    )
