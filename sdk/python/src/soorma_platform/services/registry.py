"""The registry: agents and what they can do, event types and the schemas of their payloads."""

from __future__ import annotations

import msgspec

from soorma_common.errors import DefinitionConflict, InvalidValue, LimitExceeded, NotFound
from soorma_common.names import All, Owner
from soorma_common.registry import (
    LARGEST_VERSION,
    AgentFilter,
    AgentInfo,
    AgentPage,
    Announcement,
    Capability,
    DefinitionBody,
    EventDefinition,
    EventInfo,
    EventPage,
    InstanceInfo,
    check_announcement,
    check_definition,
)
from soorma_common.topics import Topic, check_topic
from soorma_platform import http
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access, Door
from soorma_platform.metrics import Metrics
from soorma_platform.services.directory import Directory
from soorma_platform.stores.ports.health import HealthStore
from soorma_platform.work.payloads import PayloadCheck

_NAME = http.Text("name", "Agents of this name only.")
_CAPABILITY = http.Text("capability", "Agents with this capability only.")
_CONSUMES = http.Text("consumes", "Agents that take events of this type only.")
_PRODUCES = http.Text("produces", "Agents that publish events of this type only.")
_AFTER_AGENT = http.Number("after", "From behind this agent: `next` of the page before.", default=0)
_TYPE = http.Text("type", "This event type only.")
_TOPIC = http.Text("topic", "Event types of this topic only.", one_of=tuple(Topic))
_AFTER_TYPE = http.Text("after", "From behind this event type: `next` of the page before.")
_VERSION = http.Number("version", "The version.", least=1, most=LARGEST_VERSION)
_LIMIT = http.page_limit()
_READERS = frozenset({Access.TENANT, Access.DELIVERY})
_AGENTS = frozenset({Access.AGENT})
_AUTHORS = frozenset({Access.AGENT, Access.TENANT, Access.OPERATOR})
_EDITORS = frozenset({Access.TENANT, Access.OPERATOR})


class Removed(msgspec.Struct):
    """The result of a removal: `deleted` is false if there was nothing to remove."""

    deleted: bool


_AN_ANNOUNCEMENT = {
    "description": "Sums up texts",
    "capabilities": [
        "sum-up",
        {"name": "translate", "input_schema": {"type": "object", "required": ["text"]}},
    ],
    "events_consumed": ["text.came"],
    "events_produced": ["text.done"],
}
_A_DEFINITION = {
    "topic": "business-facts",
    "description": "Somebody has ordered",
    "schema": {"type": "object", "properties": {"order": {"type": "integer"}}},
}

_announcement = msgspec.json.Decoder(Announcement)
_definition = msgspec.json.Decoder(DefinitionBody)


def registry_service(
    directory: Directory,
    health: HealthStore,
    payloads: PayloadCheck,
    metrics: Metrics,
    door: Door | None = None,
) -> http.Application:
    """Returns the service as an ASGI application.

    `payloads` forgets the definitions it knows when one changes.
    """
    faces = _Registry(directory, payloads)
    agents, events = "/v1/registry/agents", "/v1/registry/events"
    instance, version = (
        f"{agents}/{{name}}/instances/{{instance}}",
        f"{events}/{{type}}/versions/{{version}}",
    )
    return http.Application(
        "registry",
        [
            Endpoint("GET", agents, _READERS, faces.agents, AgentPage,
                     query=(_NAME, _CAPABILITY, _CONSUMES, _PRODUCES, _AFTER_AGENT, _LIMIT)),
            Endpoint("GET", f"{agents}/{{name}}", _READERS, faces.agent, AgentInfo,
                     errors=(NotFound,)),
            Endpoint("PUT", instance, _AGENTS, faces.announce, AgentInfo, Announcement,
                     examples={http.JSON: _AN_ANNOUNCEMENT},
                     errors=(InvalidValue, LimitExceeded)),
            Endpoint("POST", f"{instance}/heartbeat", _AGENTS, faces.heartbeat, InstanceInfo,
                     errors=(NotFound,)),
            Endpoint("DELETE", instance, _AGENTS, faces.deregister, Removed),
            Endpoint("GET", events, _READERS, faces.events, EventPage,
                     query=(_TYPE, _TOPIC, _AFTER_TYPE, _LIMIT)),
            Endpoint("GET", f"{events}/{{type}}", _READERS, faces.event, EventInfo,
                     errors=(NotFound,)),
            Endpoint("GET", version, _READERS, faces.event_version, EventInfo,
                     parts=(_VERSION,), errors=(NotFound,)),
            Endpoint("PUT", version, _AUTHORS, faces.define, EventInfo, DefinitionBody,
                     parts=(_VERSION,), examples={http.JSON: _A_DEFINITION},
                     errors=(DefinitionConflict, InvalidValue, LimitExceeded)),
            Endpoint("DELETE", version, _EDITORS, faces.undefine, Removed,
                     parts=(_VERSION,)),
        ],
        health,
        metrics=metrics,
        about=__doc__ or "",
        door=door,
    )  # fmt: skip


class _Registry:
    def __init__(self, directory: Directory, payloads: PayloadCheck) -> None:
        self._directory = directory
        self._payloads = payloads

    async def agents(self, request: Request) -> Response:
        """Finds the agents that are alive, serve the tenant and match all filters.

        They are in the order in which they first announced themselves.
        """
        filters = AgentFilter(
            name=_NAME.of(request),
            capability=_CAPABILITY.of(request),
            consumes=_CONSUMES.of(request),
            produces=_PRODUCES.of(request),
        )
        tenant_id, after = _tenant(request), _AFTER_AGENT.value(request)
        return http.json_response(
            await self._directory.agents(tenant_id, filters, after, _LIMIT.value(request))
        )

    async def agent(self, request: Request) -> Response:
        """Returns an agent that is alive and serves the tenant.

        The tenant's own goes before one that serves all.
        """
        tenant_id, name = _tenant(request), request.name("name")
        found = await self._directory.agent(tenant_id, name)
        if found is None:
            raise NotFound(f"no agent {name!r} is running for tenant {tenant_id!r}", name=name)
        return http.json_response(found)

    async def announce(self, request: Request) -> Response:
        """Announces a running instance of an agent; the latest announcement describes the agent.

        The instance counts as alive for `ttl` seconds, and as long again with each heartbeat.
        """
        owner, name, instance = _instance(request)
        announcement = check_announcement(http.decode(await request.body(), _announcement))
        for capability in announcement.capabilities:
            await self._check_schemas(capability)
        return http.json_response(
            await self._directory.announce(owner, name, instance, announcement)
        )

    async def _check_schemas(self, capability: str | Capability) -> None:
        if isinstance(capability, str):
            return
        for what, schema in (
            ("input", capability.input_schema),
            ("output", capability.output_schema),
        ):
            if schema is not None:
                await self._payloads.check_schema(
                    f"the {what} schema of capability {capability.name!r}", schema
                )

    async def heartbeat(self, request: Request) -> Response:
        """Records that an instance is alive.

        404 if it is not known, or has expired: announce it again.
        """
        owner, name, instance = _instance(request)
        found = await self._directory.heartbeat(owner, name, instance)
        if found is None:
            raise NotFound(
                f"instance {instance!r} of agent {name!r} is not registered; announce it again",
                name=name,
            )
        return http.json_response(found)

    async def deregister(self, request: Request) -> Response:
        """Removes an instance; with its last one, the agent is gone."""
        owner, name, instance = _instance(request)
        return http.json_response(Removed(await self._directory.deregister(owner, name, instance)))

    async def events(self, request: Request) -> Response:
        """Lists the event types of the tenant, by name, each in its newest version."""
        topic = _TOPIC.of(request)
        topic = None if topic is None else check_topic(topic)
        after, limit = _AFTER_TYPE.of(request) or "", _LIMIT.value(request)
        tenant_id = _tenant(request)
        return http.json_response(
            await self._directory.definitions(tenant_id, _TYPE.of(request), topic, after, limit)
        )

    async def event(self, request: Request) -> Response:
        """Returns the newest version of an event type."""
        return await self._event(request, None)

    async def event_version(self, request: Request) -> Response:
        """Returns a version of an event type."""
        return await self._event(request, _version(request))

    async def _event(self, request: Request, version: int | None) -> Response:
        tenant_id, event_type = _tenant(request), request.name("type")
        found = await self._directory.definition(tenant_id, event_type, version)
        if found is None:
            which = "" if version is None else f" in version {version}"
            raise NotFound(
                f"event type {event_type!r} is not defined{which}", event_type=event_type
            )
        return http.json_response(found)

    async def define(self, request: Request) -> Response:
        """Defines a version of an event type.

        Defining the same again is fine; other content needs another version.
        """
        owner, event_type, version = (
            request.principal.owner,
            request.name("type"),
            _version(request),
        )
        body = http.decode(await request.body(), _definition)
        definition = EventDefinition(
            event_type, check_topic(body.topic), version, body.description, body.schema, body.check
        )
        check_definition(definition)
        if (credential := request.principal.credential) and credential.takes_deliveries:
            credential.check_definition(event_type, definition.topic)
        if definition.schema is not None:
            await self._payloads.check_schema(
                f"the schema of event {event_type!r}", definition.schema
            )
        found = await self._directory.define(owner, definition)
        self._payloads.forget()
        return http.json_response(found)

    async def undefine(self, request: Request) -> Response:
        """Removes a version of an event type."""
        done = await self._directory.undefine(
            request.principal.owner, request.name("type"), _version(request)
        )
        self._payloads.forget()
        return http.json_response(Removed(done))


def _tenant(request: Request) -> str:
    """Returns the tenant that a reader acts for."""
    tenant = request.principal.owner
    assert tenant is not All.TENANTS  # noqa: S101 - the door has seen to it
    return tenant


def _instance(request: Request) -> tuple[Owner, str, str]:
    """Returns whose instance is meant: of which tenant, of which agent, and its name.

    An agent speaks for agents of the names in its key only.
    """
    name, credential = request.name("name"), request.principal.credential
    if credential is not None:
        credential.check_agent(name)
    return request.principal.owner, name, request.name("instance")


def _version(request: Request) -> int:
    return http.whole("version", request.names["version"], 1, LARGEST_VERSION)
