"""The registry's requests and responses: agents, their capabilities, and event types."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec

from soorma_common.errors import InvalidRequest, InvalidValue, LimitExceeded
from soorma_common.json_text import check
from soorma_common.names import Name, check_name
from soorma_common.topics import Topic, TopicLike, TopicName, check_topic

if TYPE_CHECKING:
    DefinedTopic: TypeAlias = TopicLike
else:  # a decoder takes any text: the errors of check_topic say more
    DefinedTopic: TypeAlias = str

Mode: TypeAlias = Literal["off", "warn", "enforce"]
"""The treatment of a payload that does not fit its schema: none, a line in the log, an error."""

MODES: tuple[Mode, ...] = ("off", "warn", "enforce")

TTL_SECONDS = 30.0
"""Seconds for which an instance counts as alive after it was last heard of, by default.

An announcement may set its own, between the bounds below.
"""
SHORTEST_TTL = 1.0
LONGEST_TTL = 86_400.0

SCHEMA_BYTES = 64 * 1024
ANNOUNCEMENT_BYTES = 256 * 1024
DESCRIPTION_CHARACTERS = 4_000
MOST_CAPABILITIES = 100
MOST_EVENTS = 1_000
MOST_INSTANCES = 1_000
MOST_AGENTS = 10_000
MOST_DEFINITIONS = 10_000
LARGEST_VERSION = 1_000_000_000

Description: TypeAlias = Annotated[
    str, msgspec.Meta(extra_json_schema={"maxLength": DESCRIPTION_CHARACTERS})
]
EventTypes: TypeAlias = Annotated[
    list[Name], msgspec.Meta(extra_json_schema={"maxItems": MOST_EVENTS, "uniqueItems": True})
]
JsonSchema: TypeAlias = Annotated[
    Any, msgspec.Meta(extra_json_schema={"type": ["object", "boolean", "null"]})
]

Version: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_VERSION)]


class Capability(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Something an agent can do.

    Its schemas are JSON Schemas (draft 2020-12) of its input and output. In Python a pydantic
    model, dataclass or msgspec struct may stand for its schema.
    """

    name: Name
    description: Description = ""
    input_schema: JsonSchema = None
    output_schema: JsonSchema = None


class Announcement(msgspec.Struct, forbid_unknown_fields=True):
    """An instance's description of its agent.

    The instance counts as alive for `ttl` seconds after it was last heard of.
    """

    description: Description = ""
    capabilities: Annotated[
        list[Name | Capability], msgspec.Meta(extra_json_schema={"maxItems": MOST_CAPABILITIES})
    ] = []
    events_consumed: EventTypes = []
    events_produced: EventTypes = []
    ttl: Annotated[float, msgspec.Meta(ge=SHORTEST_TTL, le=LONGEST_TTL)] = TTL_SECONDS


class InstanceInfo(msgspec.Struct, frozen=True):
    """A running process of an agent; it expires at `expires_at` unless it is heard of before."""

    instance: str
    announced_at: datetime
    heard_at: datetime
    expires_at: datetime
    ttl: float


class AgentInfo(msgspec.Struct, frozen=True):
    """An agent as last announced; `tenant_id` is null if it serves all tenants."""

    name: str
    tenant_id: str | None
    description: str
    capabilities: list[Capability]
    events_consumed: list[str]
    events_produced: list[str]
    announced_at: datetime
    instances: list[InstanceInfo]

    def capability(self, name: str) -> Capability | None:
        """Returns its capability of that name, None if it has none."""
        return next((one for one in self.capabilities if one.name == name), None)


class AgentPage(msgspec.Struct):
    """Agents in the order of their first announcements; more follow after `next`."""

    agents: list[AgentInfo]
    next: int | None


class AgentFilter(msgspec.Struct, frozen=True):
    """A filter for agents: all given conditions must hold."""

    name: str | None = None
    capability: str | None = None
    consumes: str | None = None
    produces: str | None = None


class EventDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """An event type: its topic, its meaning, and the JSON Schema (draft 2020-12) of its payload.

    A version never changes: other content is another version. Payloads are checked against the
    newest one, unless the event names another in `payload_schema_name`, as `type@version`. `check`
    says how a payload that does not fit is treated; without it the platform's setting does. In
    Python a pydantic model, dataclass or msgspec struct may stand for its schema.
    """

    type: str
    topic: DefinedTopic = Topic.BUSINESS_FACTS.value
    version: Version = 1
    description: str = ""
    schema: Any = None
    check: Mode | None = None


class DefinitionBody(msgspec.Struct, forbid_unknown_fields=True):
    """The content of a version of an event type; type and version are in the path."""

    topic: TopicName
    description: Description = ""
    schema: JsonSchema = None
    check: Mode | None = None


class EventInfo(msgspec.Struct, frozen=True):
    """A version of an event type, and the list of all its versions.

    `tenant_id` is null if it applies to all tenants.
    """

    type: str
    version: int
    tenant_id: str | None
    topic: str
    description: str
    schema: Any
    check: Mode | None
    defined_at: datetime
    versions: list[int]


class EventPage(msgspec.Struct):
    """Event types by name, each in its newest version; more follow after `next`."""

    events: list[EventInfo]
    next: str | None


def check_announcement(announcement: Announcement) -> Announcement:
    """Returns the announcement, its capabilities in long form, if names and sizes are valid."""
    _check_description(announcement.description)
    made = [Capability(one) if isinstance(one, str) else one for one in announcement.capabilities]
    _bound(
        "agent_capabilities", MOST_CAPABILITIES, len(made), "the number of an agent's capabilities"
    )
    for capability in made:
        check_name("capability", capability.name)
        _check_description(capability.description)
        check_schema_size(
            f"the input schema of capability {capability.name!r}", capability.input_schema
        )
        check_schema_size(
            f"the output schema of capability {capability.name!r}", capability.output_schema
        )
    _check_distinct("capability", [capability.name for capability in made])
    for what, names in (
        ("consumes", announcement.events_consumed),
        ("produces", announcement.events_produced),
    ):
        _bound("agent_events", MOST_EVENTS, len(names), f"the number of events an agent {what}")
        _check_distinct("event type", [check_name("event type", name) for name in names])
    whole = msgspec.structs.replace(announcement, capabilities=made)
    size = len(msgspec.json.encode(whole))
    _bound("announcement_bytes", ANNOUNCEMENT_BYTES, size, "the announcement, in bytes,")
    return whole


def check_definition(definition: EventDefinition) -> EventDefinition:
    """Returns the definition if its names and sizes are valid.

    Only the platform checks that its schema is a JSON Schema.
    """
    check_name("type", definition.type)
    check_topic(definition.topic)
    _check_description(definition.description)
    check_schema_size(f"the schema of event {definition.type!r}", definition.schema)
    if type(definition.version) is not int or not 1 <= definition.version <= LARGEST_VERSION:
        raise InvalidRequest(
            f"a version is a whole number from 1 to {LARGEST_VERSION:,}, not {definition.version!r}"
        )
    if definition.check is not None and definition.check not in MODES:
        raise InvalidRequest(f"check is one of {', '.join(MODES)}, not {definition.check!r}")
    return definition


def check_schema_size(what: str, schema: Any) -> None:
    """Raises if the schema is too large, or neither an object nor true, false or null."""
    if schema is None:
        return
    if not isinstance(schema, dict | bool):
        raise InvalidValue(
            f"{what} must be a JSON Schema, an object, not {type(schema).__name__}", path="$"
        )
    try:
        text = msgspec.json.encode(schema)
    except RecursionError:
        raise InvalidValue(f"{what} is nested too deeply", path="$") from None
    _bound("schema_bytes", SCHEMA_BYTES, len(text), f"{what}, in bytes,")
    check(text, what)


def exceeds(limit: str, maximum: int, actual: int, what: str) -> LimitExceeded:
    """Returns the error for a limit of the registry that would be exceeded."""
    return LimitExceeded(
        f"{what} would be {actual:,}, and the limit {limit} is {maximum:,}; nothing was changed",
        limit=limit,
        maximum=maximum,
        actual=actual,
    )


def schema_of(kind: Any) -> Any:
    """Returns the JSON Schema of a type's values as they are sent, by the names of the fields.

    A schema, or None, is returned as it is.
    """
    if kind is None or isinstance(kind, dict | bool):
        return kind
    try:
        from soorma_common.models import codec_of  # noqa: PLC0415 - the platform starts without it

        return codec_of(kind).schema()
    except (InvalidRequest, TypeError, ValueError) as error:
        raise InvalidValue(f"{kind!r} is no JSON Schema and has none: {error}", path="$") from error


def _bound(limit: str, maximum: int, actual: int, what: str) -> None:
    if actual > maximum:
        raise exceeds(limit, maximum, actual, what)


def _check_description(text: Any) -> None:
    if not isinstance(text, str):
        raise InvalidRequest(f"a description is text, not {text!r}")
    _bound(
        "description_characters", DESCRIPTION_CHARACTERS, len(text), "a description, in characters,"
    )


def _check_distinct(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidRequest(f"the {what} {name!r} is named twice")
        seen.add(name)
