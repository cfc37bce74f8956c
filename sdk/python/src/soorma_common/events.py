"""The event envelope, and the form in which a handler sees it.

On the wire and in the record an event is an `Envelope`; a handler gets an `Event`, a dict whose
fields are attributes too. `to_cloudevent` and `from_cloudevent` translate to CloudEvents 1.0 and
back.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec

from soorma_common.errors import InvalidRequest
from soorma_common.json_text import check, decode
from soorma_common.names import Name, check_name
from soorma_common.times import FIRST_TIME, LAST_TIME, RFC_3339, Time, is_in_range
from soorma_common.topics import TopicName, check_topic

if TYPE_CHECKING:
    from typing_extensions import TypeForm

LONGEST_DELAY = 10 * 365 * 86_400.0

Delay: TypeAlias = Annotated[
    float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": LONGEST_DELAY})
]
"""Seconds from now, in a message."""

DEAD_LETTERED = "event.dead_lettered"
"""Type of the event published on system-events, in the same transaction, for each dead letter."""


class Envelope(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """An event: what happened (`type`, `data`), its `topic`, and what it belongs to (the ids).

    `time` is RFC 3339 in UTC. A field that is None, and unset data, is absent on the wire. Missing
    ids are filled in when the event is published.
    """

    type: Name
    topic: TopicName
    id: Name | None = None
    source: Name | None = None
    time: Time | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    subject: Name | None = None
    tenant_id: Name | None = None
    user_id: Name | None = None
    session_id: Name | None = None
    plan_id: Name | None = None
    correlation_id: Name | None = None
    response_event: Name | None = None
    response_topic: TopicName | None = None
    trace_id: Name | None = None
    parent_event_id: Name | None = None
    payload_schema_name: Name | None = None


class TimerInfo(msgspec.Struct, omit_defaults=True):
    """An event that waits to be published."""

    id: str
    due_at: datetime
    type: str
    topic: str
    plan_id: str | None = None
    while_active: bool = False
    """true if the end of its plan cancels it"""


class Timer(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """An event to publish `delay` seconds after its commit, or `at` a time (RFC 3339)."""

    event: Envelope
    delay: Delay | msgspec.UnsetType = msgspec.UNSET
    at: Time | msgspec.UnsetType = msgspec.UNSET


TimerBody: TypeAlias = Annotated[
    Timer,
    msgspec.Meta(extra_json_schema={"oneOf": [{"required": ["delay"]}, {"required": ["at"]}]}),
]
"""A timer in a message: it has either `delay` or `at`."""

FIELDS = Envelope.__struct_fields__
_FIELDS = frozenset(FIELDS)
_NAMES = tuple(
    field for field in FIELDS if field not in ("type", "topic", "data", "time", "response_topic")
)
_names = attrgetter(*_NAMES)
_decoder = msgspec.json.Decoder(Envelope)


def check_envelope(event: Envelope) -> Envelope:
    """Returns `event` if its names, topics and data are valid, else raises InvalidRequest."""
    check_name("type", event.type)
    check_topic(event.topic)
    if event.response_topic is not None:
        check_topic(event.response_topic)
    for field, value in zip(_NAMES, _names(event), strict=True):
        if value is not None:
            check_name(field, value)
    if event.time is not None:
        _check_time("time", event.time)
    if event.data is not msgspec.UNSET:
        check(event.data, "data")
    return event


def check_timer(timer: Timer) -> Timer:
    """Returns `timer` if it has one of `delay` and `at` and a valid event.

    Raises InvalidRequest otherwise.
    """
    if (timer.delay is msgspec.UNSET) is (timer.at is msgspec.UNSET):
        raise InvalidRequest("a timer says when: either delay, in seconds, or at, a time")
    if timer.delay is not msgspec.UNSET and not 0 <= timer.delay <= LONGEST_DELAY:
        raise InvalidRequest(
            f"delay must be from 0 to {LONGEST_DELAY:.0f} seconds, not {timer.delay}"
        )
    if timer.at is not msgspec.UNSET:
        _check_time("at", timer.at)
        if not is_in_range(timer.at):
            raise InvalidRequest(
                f"at must be from {FIRST_TIME} to {LAST_TIME}, not {timer.at}; what is never to "
                "come needs no timer"
            )
    check_envelope(timer.event)
    return timer


def _check_time(name: str, text: str) -> None:
    try:
        moment = datetime.fromisoformat(text)
        is_time = RFC_3339.fullmatch(text) is not None and moment.tzinfo is not None
        moment.astimezone(UTC)
    except (ValueError, OverflowError):  # outside the years 1 to 9999 in UTC
        is_time = False
    if not is_time:
        raise InvalidRequest(
            f"{name} must be RFC 3339 with a time zone, as 2026-01-31T12:00:00Z, not {text!r}"
        )


def plan_of(event: Envelope) -> str | None:
    """Returns the plan of an event: its `plan_id`, else a string `plan_id` in its data."""
    if (
        event.plan_id is not None
        or event.data is msgspec.UNSET
        or bytes(event.data).find(b'"plan_id"') < 0  # `in` tries first whether it is a number
    ):
        return event.plan_id
    data = decode(bytes(event.data))
    plan = data.get("plan_id") if isinstance(data, dict) else None
    return check_name("data.plan_id", plan) if isinstance(plan, str) and plan else None


def encode_envelope(event: Envelope) -> str:
    """Encodes the event as JSON text."""
    return msgspec.json.encode(event).decode()


T = TypeVar("T")


class Event(dict[str, Any]):
    """An event as a handler gets it: a dict whose envelope fields are attributes, too.

    It can be serialised as JSON. `event["type"]` and `event.type` are the same; an unset field is
    absent from the dict and None as an attribute. The platform sets the fields that are declared
    without None.
    """

    __slots__ = ()

    type: str
    topic: str
    id: str
    source: str
    time: str
    data: Any
    subject: str | None
    tenant_id: str
    user_id: str
    session_id: str | None
    plan_id: str | None
    correlation_id: str
    response_event: str | None
    response_topic: str | None
    trace_id: str
    parent_event_id: str | None
    payload_schema_name: str | None

    if not TYPE_CHECKING:  # a type checker knows the fields above, and finds any other name

        def __getattr__(self, name):  # noqa: ANN001, ANN204
            if name in _FIELDS:
                return self.get(name)
            raise AttributeError(
                f"an event has no field {name!r}; its fields are {', '.join(FIELDS)}"
            )

    def data_as(self, kind: TypeForm[T]) -> T:
        """Returns the payload as an instance of a type; raises InvalidValue if it does not fit.

        The type is a pydantic model, dataclass or other type.
        """
        from soorma_common.values import convert  # noqa: PLC0415 - the platform starts without it

        value: T = convert(self.get("data"), kind)
        return value

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """Makes an event from the JSON text of its envelope."""
        return cls(decode(text))


_TRACE = re.compile(r"[0-9a-f]{32}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_SAME_NAME = ("id", "source", "type", "time", "subject", "data")
_EXTENSIONS = {
    field: field.replace("_", "")
    for field in FIELDS
    if field not in _SAME_NAME and field != "trace_id"
}

_JSON_TYPE = re.compile(r"application/([!-.0-~]+\+)?json( *;.*)?")
_JsonType = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{_JSON_TYPE.pattern}$"})]


class CloudEvent(msgspec.Struct):
    """An event in the JSON format of CloudEvents 1.0.

    Its extension attributes are the ids of the envelope; others are not kept. Data is JSON.
    """

    specversion: Literal["1.0"]
    id: Name
    source: Name
    type: Name
    topic: TopicName
    data: Any = None
    datacontenttype: _JsonType | None = None
    time: Time | None = None
    subject: Name | None = None
    tenantid: Name | None = None
    userid: Name | None = None
    sessionid: Name | None = None
    planid: Name | None = None
    correlationid: Name | None = None
    responseevent: Name | None = None
    responsetopic: TopicName | None = None
    parenteventid: Name | None = None
    payloadschemaname: Name | None = None
    traceparent: str | None = None
    traceid: Name | None = None


def to_cloudevent(event: Event) -> dict[str, Any]:
    """Converts the event to the JSON format of CloudEvents 1.0.

    Soorma's ids become extension attributes: a trace id in W3C form `traceparent`, with a span
    derived from the event's id, any other `traceid`.
    """
    cloud: dict[str, Any] = {"specversion": "1.0", "datacontenttype": "application/json"}
    cloud.update({name: event[name] for name in _SAME_NAME if name in event})
    cloud.setdefault("source", "soorma")
    cloud.update({there: event[here] for here, there in _EXTENSIONS.items() if here in event})
    if trace := event.trace_id:
        if _TRACE.fullmatch(trace):
            span = hashlib.blake2b(str(event.id).encode(), digest_size=8).hexdigest()
            cloud["traceparent"] = f"00-{trace}-{span}-01"
        else:
            cloud["traceid"] = trace
    return cloud


def from_cloudevent(cloud: dict[str, Any]) -> Envelope:
    """Converts a CloudEvent in JSON format to an envelope.

    Raises InvalidRequest if it is invalid, has no `topic`, or its data is not JSON.
    """
    if cloud.get("specversion") != "1.0":
        raise InvalidRequest("this is no CloudEvent 1.0: 'specversion' must be \"1.0\"")
    for name in ("id", "source", "type", "topic"):
        if not isinstance(cloud.get(name), str):
            raise InvalidRequest(
                f"the CloudEvent needs {name!r}, a string (Soorma reads the extension 'topic' too)"
            )
    try:
        checked = msgspec.convert(cloud, CloudEvent)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"this is no CloudEvent 1.0 that Soorma takes: {error}") from error
    if "data_base64" in cloud or not _is_json(checked.datacontenttype):
        raise InvalidRequest(
            "the data of an event is JSON: send it in 'data', as datacontenttype application/json"
        )
    fields = {name: cloud[name] for name in _SAME_NAME if name in cloud}
    fields.update({here: cloud[there] for here, there in _EXTENSIONS.items() if there in cloud})
    parent = _TRACEPARENT.fullmatch(checked.traceparent or "")
    if parent or "traceid" in cloud:
        fields["trace_id"] = parent[1] if parent else cloud["traceid"]
    return decode_envelope(msgspec.json.encode(fields))


def _is_json(content_type: str | None) -> bool:
    return content_type is None or _JSON_TYPE.fullmatch(content_type) is not None


def decode_envelope(body: bytes | str) -> Envelope:
    """Decodes and checks an envelope; raises InvalidRequest, which names what is wrong with it."""
    try:
        event = _decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"this is no event envelope: {error}") from error
    return check_envelope(event)
