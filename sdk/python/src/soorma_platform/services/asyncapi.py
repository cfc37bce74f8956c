"""The AsyncAPI 3.0 document: the topics and their events, and the WebSocket of the agents."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from inspect import getdoc
from typing import Any

import msgspec

from soorma_common import __version__
from soorma_common.delivery import AgentFrame, ServiceFrame
from soorma_common.events import CloudEvent, Envelope
from soorma_common.names import Owner
from soorma_common.protocol import PROTOCOL
from soorma_common.registry import EventInfo, EventPage
from soorma_common.topics import Topic
from soorma_platform.http import Request, WholeResponse
from soorma_platform.http.openapi import LICENSE, SCHEMAS, Types
from soorma_platform.services.directory import Directory

MOST_TYPES = 1_000
JSON_SCHEMA = "application/schema+json;version=draft-2020-12"
SOCKET = "/v1/events/connect"

_MESSAGES = "#/components/messages/"
_ABOUT = (
    f"Events flow through eight topics. Agents take part over a WebSocket, {SOCKET}; all others "
    "publish with\n"
    "POST /v1/events/publish and reads with GET /v1/events/stream; OpenAPI describes both (GET "
    "/openapi.json).\n"
    "Operations are told as the platform sees them: it receives what is published, and sends it to "
    "who subscribes."
)
_TOPICS = {
    Topic.BUSINESS_FACTS: "Facts about the business.",
    Topic.ACTION_REQUESTS: "Requests to agents.",
    Topic.ACTION_RESULTS: "Results of requests.",
    Topic.BILLING_EVENTS: "Usage and cost.",
    Topic.NOTIFICATION_EVENTS: "Notifications for people.",
    Topic.SYSTEM_EVENTS: "Events of the platform itself, such as dead letters.",
    Topic.PLAN_EVENTS: "Progress of plans.",
    Topic.TASK_EVENTS: "Progress of tasks.",
}
_EXAMPLE = {
    "type": "order.placed",
    "topic": "business-facts",
    "data": {"order": 7},
    "plan_id": "plan-1",
}
_CLOUD_EXAMPLE = {"specversion": "1.0", "id": "order-7-placed", "source": "shop", **_EXAMPLE}
_HELLO_EXAMPLE = {
    "frame": "hello",
    "agent": "worker",
    "instance": "worker-1",
    "subscriptions": [{"type": "order.placed", "topic": "business-facts"}],
    "protocol": PROTOCOL,
}


async def respond(directory: Directory, request: Request) -> WholeResponse:
    """Returns the document, with the event types of the request's tenant if it names one."""
    return WholeResponse(
        await document(directory, request.principal.owner, request.header("Host") or "localhost")
    )


async def document(directory: Directory, owner: Owner, host: str) -> bytes:
    """Returns the document as JSON text.

    It has the event types that are registered for a tenant, or for all of them.
    """
    page = await directory.definitions(owner, None, None, "", MOST_TYPES)
    return await asyncio.to_thread(_document, page, host)


def _document(page: EventPage, host: str) -> bytes:
    about = _ABOUT
    if page.next is not None:
        about += (
            f"\nOf the registered event types these are the first {MOST_TYPES:,}; GET "
            "/v1/registry/events has all."
        )
    return msgspec.json.encode(
        {
            "asyncapi": "3.0.0",
            "info": {
                "title": "Soorma: events",
                "version": __version__,
                "description": about,
                "license": {"name": LICENSE["name"]},
            },
            "defaultContentType": "application/json",
            "servers": {
                "events": {"host": host, "protocol": "ws", "description": "The event service."}
            },
            "channels": {**_topics(page.events), "agents": _agents()},
            "operations": {**_operations(), **_frame_operations()},
            "components": {
                "messages": {**_messages(), **_registered(page.events)},
                "schemas": _schemas(),
            },
        }
    )


# topics


def _topics(types: Iterable[EventInfo]) -> dict[str, Any]:
    channels: dict[str, Any] = {
        topic.value: {
            "address": topic.value,
            "description": about,
            "messages": _refs("event", "cloudevent"),
        }
        for topic, about in _TOPICS.items()
    }
    for one in types:
        channels[one.topic]["messages"] |= _refs(_key(one))
    return channels


def _operations() -> dict[str, Any]:
    made = {}
    for topic in Topic:
        channel = {"$ref": f"#/channels/{topic.value}"}
        made[f"receive-{topic.value}"] = {
            "action": "receive",
            "channel": channel,
            "summary": "Publish an event.",
        }
        made[f"send-{topic.value}"] = {
            "action": "send",
            "channel": channel,
            "summary": "Subscribe to events.",
        }
    return made


def _messages() -> dict[str, Any]:
    kinds = {"event": (Envelope, _EXAMPLE), "cloudevent": (CloudEvent, _CLOUD_EXAMPLE)}
    events = {
        key: {
            **_message(kind),
            "correlationId": {"location": f"$message.payload#/{field}"},
            "examples": [{"payload": example}],
        }
        for (key, (kind, example)), field in zip(
            kinds.items(), ("correlation_id", "correlationid"), strict=True
        )
    }
    events["cloudevent"]["contentType"] = "application/cloudevents+json"
    frames = {_frame(kind): _message(kind) for kind in _frames(AgentFrame, ServiceFrame)}
    frames["hello-frame"]["examples"] = [{"payload": _HELLO_EXAMPLE}]
    return {**events, **frames}


def _message(kind: Any) -> dict[str, Any]:
    summary, _, more = (getdoc(kind) or "").partition("\n\n")
    made = {
        "name": kind.__name__,
        "summary": summary,
        "payload": {"$ref": f"{SCHEMAS}{kind.__name__}"},
    }
    return {**made, "description": more} if more else made


def _refs(*keys: str) -> dict[str, Any]:
    return {key: {"$ref": f"{_MESSAGES}{key}"} for key in keys}


# what the registry knows


def _registered(types: Iterable[EventInfo]) -> dict[str, Any]:
    return {_key(one): _registered_message(one) for one in types}


def _registered_message(one: EventInfo) -> dict[str, Any]:
    exact: dict[str, Any] = {"type": {"const": one.type}, "topic": {"const": one.topic}}
    if one.schema is not None:
        exact["data"] = _with_id(one)
    schema = {"allOf": [{"$ref": f"{SCHEMAS}Envelope"}, {"properties": exact}]}
    return {
        "name": one.type,
        "title": f"{one.type}, version {one.version}",
        "summary": one.description or "Registered.",
        "payload": {"schemaFormat": JSON_SCHEMA, "schema": schema},
        "correlationId": {"location": "$message.payload#/correlation_id"},
    }


def _with_id(one: EventInfo) -> Any:
    """Returns the payload's schema as a resource of its own, so that references stay within it."""
    if not isinstance(one.schema, dict):
        return one.schema
    return {"$id": f"urn:soorma:event:{_key(one)}", **one.schema}


def _key(one: EventInfo) -> str:
    """Returns a key for the document that no other event type has."""
    name = re.sub(r"[^A-Za-z0-9.-]", lambda found: f"_{ord(found[0]):x}_", one.type)
    return f"type-{name}-{one.version}"


# the agents' WebSocket


def _agents() -> dict[str, Any]:
    return {
        "address": SOCKET,
        "title": "Agents",
        "description": "A WebSocket for each agent process. Each binary message is one frame, as "
        "JSON.",
        "messages": _refs(*(_frame(kind) for kind in _frames(AgentFrame, ServiceFrame))),
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }


def _frame_operations() -> dict[str, Any]:
    channel = {"$ref": "#/channels/agents"}
    return {
        "receive-frames": {
            "action": "receive",
            "channel": channel,
            "summary": "A hello, then what became of each delivery.",
            "messages": _frame_refs(_frames(AgentFrame)),
            "reply": {
                "channel": channel,
                "messages": [_frame_ref("welcome-frame"), _frame_ref("answer-frame")],
            },
        },
        "send-frames": {
            "action": "send",
            "channel": channel,
            "summary": "Deliveries, as far as the agent has room.",
            "messages": _frame_refs(_frames(ServiceFrame)),
        },
    }


def _frame_refs(kinds: Iterable[Any]) -> list[dict[str, str]]:
    return [_frame_ref(_frame(kind)) for kind in kinds]


def _frame_ref(key: str) -> dict[str, str]:
    return {"$ref": f"#/channels/agents/messages/{key}"}


def _frames(*unions: Any) -> list[Any]:
    return [kind for union in unions for kind in union.__args__]


def _frame(kind: Any) -> str:
    return f"{kind.__struct_config__.tag}-frame"


# schemas


def _schemas() -> dict[str, Any]:
    """Returns the schemas in the dialect of AsyncAPI, an older one of JSON Schema."""
    types = Types([Envelope, CloudEvent, AgentFrame, ServiceFrame])
    return {name: _older(schema) for name, schema in types.components.items()}


def _older(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_older(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        name: _older(part)
        for name, part in schema.items()
        if name != "discriminator" or "mapping" not in part
    }
    if (parts := made.pop("prefixItems", None)) is not None:
        made["items"] = parts
    return made
