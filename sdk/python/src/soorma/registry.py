"""The client of the registry: running agents, their capabilities, and event definitions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from enum import Enum
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from soorma.awaits import awaited
from soorma.bus import type_name
from soorma.config import ClientConfig
from soorma.local import shown
from soorma.transport.calls import Caller, caller_for, segment
from soorma_common.errors import InvalidRequest, NotFound
from soorma_common.names import Scope, check_name
from soorma_common.registry import (
    AgentInfo,
    AgentPage,
    Capability,
    DefinitionBody,
    EventDefinition,
    EventInfo,
    EventPage,
    InstanceInfo,
    Mode,
    check_definition,
    schema_of,
)
from soorma_common.topics import Topic, TopicLike, check_topic

PAGE = 1_000
T = TypeVar("T")

_agent_page = msgspec.json.Decoder(AgentPage)
_agent = msgspec.json.Decoder(AgentInfo)
_event_page = msgspec.json.Decoder(EventPage)
_event = msgspec.json.Decoder(EventInfo)


@awaited
class RegistryClient:
    """Client of the registry, for one tenant.

    The tenant is that of SOORMA_TENANT_ID, else the default one; in a handler, that of its event.
    `RegistryClient()` finds the service through SOORMA_REGISTRY_URL (default
    http://localhost:8081). Close it, or use it as an asynchronous context manager.
    """

    def __init__(self, *, config: ClientConfig | None = None) -> None:
        self._config = config = config or ClientConfig.from_env()
        self._caller = caller_for(config)
        self._scope = config.scope(None, None)
        self._guard: Callable[[Scope], None] | None = None

    @staticmethod
    def on(
        config: ClientConfig, caller: Caller, guard: Callable[[Scope], None] | None = None
    ) -> RegistryClient:
        """Returns a client on the connections of `caller`, which it does not own.

        In a handler, `guard` raises an error once the handler has ended.
        """
        return _BorrowedRegistry(config, caller, guard)

    def __repr__(self) -> str:
        return f"RegistryClient({shown(self._config.registry_url)})"

    async def close(self) -> None:
        """Closes the client's connections."""
        await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # agents

    async def find(
        self,
        *,
        name: str | None = None,
        capability: str | None = None,
        consumes: str | Enum | None = None,
        produces: str | Enum | None = None,
    ) -> list[AgentInfo]:
        """The running agents that serve the tenant and match all parameters, by name."""
        query = {
            "name": name,
            "capability": capability,
            "consumes": _type_of(consumes),
            "produces": _type_of(produces),
        }
        given = {
            what: check_name(what, value) for what, value in query.items() if value is not None
        }
        pages = self._pages("agents", _agent_page, **given)
        found = [agent async for page in pages for agent in page.agents]
        return sorted(found, key=lambda agent: agent.name)

    async def get(self, name: str) -> AgentInfo | None:
        """The running agent of that name, None if there is none."""
        try:
            return await self._read(f"agents/{segment(check_name('name', name))}", _agent)
        except NotFound:
            return None

    # events

    async def define_event(
        self,
        event: EventDefinition | str | Enum,
        topic: TopicLike = Topic.BUSINESS_FACTS,
        *,
        schema: Any = None,
        version: int = 1,
        description: str = "",
        check: Mode | None = None,
    ) -> EventInfo:
        """Defines a version of an event type for the tenant; its payloads are checked from then on.

        `schema` is a JSON Schema, or a pydantic model, dataclass or msgspec struct. Repeating a
        definition changes nothing; other content under an existing version raises
        DefinitionConflict.
        """
        if self._guard is not None:
            raise InvalidRequest(
                "a handler's commit cannot define events: define them when the agent starts, with "
                "events_produced=[EventDefinition(…)], or through context.immediate.registry"
            )
        if not isinstance(event, EventDefinition):
            event = EventDefinition(
                type_name(event), check_topic(topic), version, description, schema, check
            )
        path, body = put_of(event)
        answer = await self._caller.call("registry", "PUT", path, scope=self._scope, body=body)
        return _event.decode(answer)

    async def event(self, event_type: str | Enum, version: int | None = None) -> EventInfo | None:
        """A version of an event type, by default the newest; None if it is not defined."""
        path = f"events/{segment(check_name('event_type', type_name(event_type)))}"
        try:
            return await self._read(
                path if version is None else f"{path}/versions/{version}", _event
            )
        except NotFound:
            return None

    async def events(self, *, topic: TopicLike | None = None) -> list[EventInfo]:
        """The event types defined for the tenant, by name, each in its newest version."""
        where = None if topic is None else check_topic(topic)
        pages = self._pages("events", _event_page, topic=where)
        return [event async for page in pages for event in page.events]

    async def _read(self, path: str, decoder: msgspec.json.Decoder[T]) -> T:
        if self._guard is not None:
            self._guard(self._scope)
        return await self._caller.get("registry", f"/v1/registry/{path}", self._scope, decoder)

    def _pages(
        self, path: str, decoder: msgspec.json.Decoder[T], **query: Any
    ) -> AsyncGenerator[T, None]:
        if self._guard is not None:
            self._guard(self._scope)
        return self._caller.pages(
            "registry", f"/v1/registry/{path}", self._scope, decoder, limit=PAGE, **query
        )


class _BorrowedRegistry(RegistryClient):
    """A client on connections that it does not own."""

    def __init__(
        self, config: ClientConfig, caller: Caller, guard: Callable[[Scope], None] | None
    ) -> None:
        self._config = config
        self._caller = caller
        self._scope = config.scope(None, None)
        self._guard = guard


def put_of(definition: EventDefinition) -> tuple[str, bytes]:
    """Returns the path and body of the request that defines an event."""
    whole = check_definition(plain_definition(definition))
    body = DefinitionBody(whole.topic, whole.description, whole.schema, whole.check)
    return (
        f"/v1/registry/events/{segment(whole.type)}/versions/{whole.version}",
        msgspec.json.encode(body),
    )


def plain_definition(definition: EventDefinition) -> EventDefinition:
    """Returns the definition with type and topic as text, and its schema as a JSON Schema."""
    return msgspec.structs.replace(
        definition,
        type=type_name(definition.type),
        topic=check_topic(definition.topic),
        schema=schema_of(definition.schema),
    )


def plain_capabilities(given: Iterable[Any]) -> list[str | Capability]:
    """Returns capabilities as announced: text, or a `Capability` with JSON Schemas."""
    if isinstance(given, str | Capability):
        raise InvalidRequest(f"a list of capabilities is meant, as [{given!r}], not {given!r}")
    return [one if isinstance(one, str) else _plain_capability(one) for one in given]


def _plain_capability(given: Any) -> Capability:
    if not isinstance(given, Capability):
        raise InvalidRequest(f"a capability is text or a soorma.Capability, not {given!r}")
    return msgspec.structs.replace(
        given,
        input_schema=schema_of(given.input_schema),
        output_schema=schema_of(given.output_schema),
    )


def _type_of(event_type: str | Enum | None) -> str | None:
    return None if event_type is None else type_name(event_type)


__all__ = [
    "AgentInfo",
    "Capability",
    "EventDefinition",
    "EventInfo",
    "InstanceInfo",
    "RegistryClient",
]
