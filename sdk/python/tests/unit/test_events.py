"""The envelope, the handler's view of it, and CloudEvents."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from soorma import Event
from soorma_common.errors import InvalidName, InvalidRequest, InvalidValue
from soorma_common.events import (
    FIELDS,
    decode_envelope,
    encode_envelope,
    from_cloudevent,
    plan_of,
    to_cloudevent,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
FULL = {
    "type": "goal.received",
    "topic": "business-facts",
    "id": "1",
    "source": "planner",
    "time": "2026-01-31T12:00:00.000Z",
    "data": {"goal": "ä", "n": 2**70},
    "subject": "s",
    "tenant_id": "t",
    "user_id": "u",
    "session_id": "se",
    "plan_id": "p",
    "correlation_id": "c",
    "response_event": "goal.done",
    "response_topic": "action-results",
    "trace_id": TRACE,
    "parent_event_id": "0",
    "payload_schema_name": "goal_v1",
}


def _decoded(**changes: Any) -> Any:
    return decode_envelope(msgspec.json.encode({**FULL, **changes}))


@pytest.mark.behaviour("events.round-trip")
def test_the_fields_are_the_documented_ones() -> None:
    assert set(FIELDS) == set(FULL)


@pytest.mark.behaviour("events.round-trip")
def test_an_envelope_comes_back_as_it_went_in() -> None:
    text = encode_envelope(_decoded())
    assert json.loads(text) == FULL
    assert encode_envelope(decode_envelope(text)) == text


@pytest.mark.behaviour("events.round-trip")
def test_what_is_unset_is_absent() -> None:
    event = Event.from_json(encode_envelope(decode_envelope('{"type":"e","topic":"plan-events"}')))
    assert event == {"type": "e", "topic": "plan-events"}
    assert event.data is None
    assert event.get("data", {}) == {}
    assert event.plan_id is None


@pytest.mark.behaviour("events.dict-with-attributes")
def test_an_event_is_a_dict_with_attributes() -> None:
    event = Event.from_json(encode_envelope(_decoded()))
    for field in FIELDS:
        assert getattr(event, field) == event[field] == FULL[field]
    assert json.loads(json.dumps(event)) == FULL
    with pytest.raises(AttributeError, match="tenant_id"):
        _ = event.tenant
    assert event.copy() == event
    assert isinstance(event, dict)
    assert set(Event.__annotations__) == set(FIELDS), "what a type checker knows of"


def test_null_data_is_data() -> None:
    event = Event.from_json(encode_envelope(_decoded(data=None)))
    assert "data" in event
    assert event.data is None


@pytest.mark.behaviour("events.refused")
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"topic": "gossip"}, InvalidName),
        ({"response_topic": "gossip"}, InvalidName),
        ({"type": ""}, InvalidName),
        ({"id": ".."}, InvalidName),
        ({"plan_id": "x" * 256}, InvalidName),
        ({"tenant_id": ""}, InvalidName),
        ({"unknown": 1}, InvalidRequest),
        ({"id": 5}, InvalidRequest),
        ({"time": "yesterday"}, InvalidRequest),
        ({"time": "2026-01-31T12:00:00"}, InvalidRequest),
        ({"time": "20260131T120000Z"}, InvalidRequest),
    ],
)
def test_what_is_no_envelope_is_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        _decoded(**changes)


@pytest.mark.behaviour("events.refused")
@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"type":"e"}', '{"topic":"plan-events"}', "nonsense", "null"]
)
def test_what_is_no_json_of_an_envelope_is_refused(body: str) -> None:
    with pytest.raises(InvalidRequest):
        decode_envelope(body)


@pytest.mark.behaviour("events.refused")
def test_data_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises((InvalidValue, InvalidRequest)):
        decode_envelope(b'{"type":"e","topic":"plan-events","data":1e400}')
    with pytest.raises((InvalidValue, InvalidRequest)):
        decode_envelope(
            b'{"type":"e","topic":"plan-events","data":' + b"[" * 200 + b"]" * 200 + b"}"
        )


@pytest.mark.behaviour("ids.plan-of-an-event")
@pytest.mark.parametrize(
    ("changes", "plan"),
    [
        ({}, "p"),
        ({"plan_id": None, "data": {"plan_id": "q"}}, "q"),
        ({"plan_id": None, "data": {"plan_id": 5}}, None),
        ({"plan_id": None, "data": {"plan_id": None}}, None),
        ({"plan_id": None, "data": {"in": {"plan_id": "q"}}}, None),
        ({"plan_id": None, "data": "plan_id"}, None),
        ({"plan_id": None, "data": None}, None),
    ],
)
def test_an_events_plan(changes: dict[str, Any], plan: str | None) -> None:
    assert plan_of(_decoded(**changes)) == plan


# CloudEvents


@pytest.mark.behaviour("events.cloudevents")
def test_an_event_as_a_cloudevent_and_back() -> None:
    event = Event.from_json(encode_envelope(_decoded()))
    cloud = to_cloudevent(event)
    assert cloud["specversion"] == "1.0"
    assert cloud["datacontenttype"] == "application/json"
    assert {cloud["tenantid"], cloud["userid"], cloud["planid"], cloud["correlationid"]} == {
        "t",
        "u",
        "p",
        "c",
    }
    assert cloud["traceparent"].split("-")[:2] == ["00", TRACE]
    assert all(name.isalnum() and name.islower() and name.isascii() for name in cloud)
    again = from_cloudevent(json.loads(json.dumps(cloud)))
    assert json.loads(encode_envelope(again)) == FULL


@pytest.mark.behaviour("events.cloudevents")
def test_a_trace_id_of_another_form_survives() -> None:
    event = Event({**FULL, "trace_id": "my trace"})
    cloud = to_cloudevent(event)
    assert "traceparent" not in cloud
    assert from_cloudevent(cloud).trace_id == "my trace"


@pytest.mark.behaviour("events.cloudevents")
def test_a_small_event_is_a_whole_cloudevent() -> None:
    cloud = to_cloudevent(Event({"type": "e", "topic": "plan-events", "id": "1"}))
    assert all(cloud[name] for name in ("specversion", "id", "source", "type", "topic"))
    assert "data" not in cloud


@pytest.mark.behaviour("events.cloudevents-strict")
@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "0.3"},
        {"id": None},
        {"source": 5},
        {"type": None},
        {"topic": None},
        {"topic": "gossip"},
    ],
)
def test_what_is_no_cloudevent_is_refused(change: dict[str, Any]) -> None:
    good = {"specversion": "1.0", "id": "1", "source": "s", "type": "e", "topic": "plan-events"}
    assert from_cloudevent(good).type == "e"
    with pytest.raises(InvalidRequest):
        from_cloudevent({**good, **change})
