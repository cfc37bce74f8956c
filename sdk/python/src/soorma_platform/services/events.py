"""The event service: publishing, the agents' connections, and readers of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from soorma_common.errors import (
    Conflict,
    EventIdConflict,
    Fenced,
    HistoryGone,
    IdempotencyMismatch,
    InvalidPayload,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    PlanEnded,
    ReentrantRequest,
)
from soorma_common.events import (
    DEAD_LETTERED,
    CloudEvent,
    Envelope,
    Event,
    decode_envelope,
    from_cloudevent,
    to_cloudevent,
)
from soorma_common.groups import DeadLetterInfo, GroupInfo
from soorma_common.identity import DELIVERIES
from soorma_common.json_text import decode
from soorma_common.memory import Commit
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER, All, Scope, check_name
from soorma_common.topics import Topic, check_topic
from soorma_platform import http
from soorma_platform.buses.protocol import Bus, correlation_bell
from soorma_platform.engine.dead_letters import ReplayDeadLetter
from soorma_platform.engine.rows.events import LogEntry
from soorma_platform.http import (
    ANYBODY_KNOWN,
    TENANT_ID,
    USER_ID,
    Endpoint,
    Request,
    Response,
    SocketEndpoint,
)
from soorma_platform.http.asgi import WebSocket
from soorma_platform.identity import Access, Door, Principal
from soorma_platform.metrics import Metrics
from soorma_platform.services.agents import AgentConnection
from soorma_platform.services.directory import Directory
from soorma_platform.services.groups import dead_letter_info, group_info, unsubscribe
from soorma_platform.services.log import Filter, LogReader
from soorma_platform.services.timers import timer_endpoints
from soorma_platform.stores.ports import Store
from soorma_platform.work.committer import Committer
from soorma_platform.work.history import log_from

LONGEST_WAIT = 60
CANCELLED = "plan.cancelled"
CORRELATED_PAGE = 1_000
MOST_FENCES = 20_000
CLOUD, CLOUDS = "application/cloudevents+json", "application/cloudevents-batch+json"


class RenewBody(msgspec.Struct, forbid_unknown_fields=True):
    """The deliveries that an agent is still working on."""

    replica: str
    fences: list[str]


class Renewed(msgspec.Struct):
    """The fences that are still valid."""

    kept: list[str]


class Published(msgspec.Struct):
    """The id of the published event."""

    id: str


class PublishedBatch(msgspec.Struct):
    """The ids of the published events."""

    ids: list[str]


class RequestAnswer(msgspec.Struct):
    """The response to a request; null if none has come yet."""

    event: Envelope | None


class Groups(msgspec.Struct):
    """The groups that serve a tenant."""

    groups: list[GroupInfo]


class DeadLetterPage(msgspec.Struct):
    """Dead letters by id."""

    dead_letters: list[DeadLetterInfo]
    next: int | None


class Unsubscribed(msgspec.Struct):
    """The number of events that had waited for a subscription that was ended."""

    waited: int


class Replayed(msgspec.Struct):
    """The number of the dead letter that was delivered to its group again."""

    replayed: int


Batch = Annotated[list[Envelope], msgspec.Meta(extra_json_schema={"minItems": 1})]
CloudBatch = Annotated[list[CloudEvent], msgspec.Meta(extra_json_schema={"minItems": 1})]

_BODIES = {http.JSON: Envelope | Batch, CLOUD: CloudEvent, CLOUDS: CloudBatch}
_AN_EVENT = {"type": "order.placed", "topic": "business-facts", "data": {"order": 7}}
_A_CLOUDEVENT = {**_AN_EVENT, "specversion": "1.0", "id": "order-7-placed", "source": "shop"}
_EXAMPLES = {http.JSON: _AN_EVENT, CLOUD: _A_CLOUDEVENT, CLOUDS: [_A_CLOUDEVENT]}

_renew_body = msgspec.json.Decoder(RenewBody)
_batch = msgspec.json.Decoder(list[Envelope])
_cloud = msgspec.json.Decoder(dict[str, Any])
_clouds = msgspec.json.Decoder(list[dict[str, Any]])

_TOPICS = http.Names(
    "topics", "Of these topics only, separated by commas.", check_topic, tuple(Topic)
)
_TYPES = http.Names(
    "types", "Of these types only, separated by commas.", lambda name: check_name("type", name)
)
_CORRELATION = http.Text("correlation_id", "Of this correlation id only.")
_FROM_NOW = http.Number("after", "From behind this position of the log; without it from now on.")
_FORMAT = http.Choice("format", "The form of each event.", ("envelope", "cloudevents"))
_TIMEOUT = http.Number("timeout", "Seconds to wait.", most=LONGEST_WAIT, default=30)
_AWAITED = http.Choice(
    "awaited", "Whether the sender waits for the response to this request.", ("false", "true")
)
_GROUP = http.Text("group", "Of this group only.")
_AFTER_LETTER = http.Number(
    "after", "From behind this dead letter: `next` of the page before.", default=0
)
_LIMIT = http.page_limit(most=100)
_NUMBER = http.Number("number", "The dead letter.")
_TOPIC = http.Choice("topic", "The topic of the subscription; * for any.", ("*", *Topic))
_WAITING = http.Choice(
    "waiting", "What becomes of the events that wait for it.", ("dead-letters", "drop")
)
_LAST_ID = http.Header("Last-Event-ID", "Resume behind this position.", r"^[0-9]{1,18}$")
_OF_USER = frozenset({Access.USER, Access.DELIVERY})
_OF_TENANT = frozenset({Access.TENANT, Access.OPERATOR})
_READERS = frozenset({Access.USER, Access.TENANT, Access.OPERATOR})
_PUBLISHERS = frozenset({*_READERS, Access.DELIVERY})
_AGENTS = frozenset({Access.AGENT})


def event_service(
    store: Store,
    directory: Directory,
    bus: Bus,
    committer: Committer,
    metrics: Metrics,
    door: Door | None = None,
    *,
    lease: float,
    is_stopping: Callable[[], bool],
) -> http.Application:
    """Returns the service as an ASGI application.

    `lease` is how long, in seconds, a silent agent keeps a delivery. While `is_stopping`, agents
    that lose their connection keep what they have in hand.
    """
    faces = _Events(store, directory, bus, committer, lease=lease, is_stopping=is_stopping)
    letters = "/v1/events/dead-letters"
    return http.Application(
        "events",
        [
            Endpoint("POST", "/v1/events/publish", _PUBLISHERS, faces.publish,
                     Published | PublishedBatch, _BODIES, query=(_AWAITED,), headers=(http.FENCE,),
                     idempotent=True, examples=_EXAMPLES,
                     gives={"event_id": "$response.body#/id"},
                     errors=(EventIdConflict, Fenced, InvalidPayload, LimitExceeded,
                             IdempotencyMismatch, ReentrantRequest)),
            Endpoint("GET", "/v1/events/stream", _READERS, faces.stream, Envelope | CloudEvent,
                     streams=True,
                     query=(TENANT_ID, USER_ID, _TOPICS, _TYPES, _CORRELATION, _FROM_NOW, _FORMAT),
                     headers=(_LAST_ID,), errors=(NotFound, HistoryGone)),
            Endpoint("GET", "/v1/events/answer/{event_id}", _OF_USER, faces.answer, RequestAnswer,
                     query=(_TIMEOUT,), errors=(NotFound,), waits=True),
            Endpoint("GET", "/v1/events/groups", _OF_TENANT | _AGENTS, faces.groups, Groups,
                     query=(TENANT_ID,)),
            Endpoint("DELETE", "/v1/events/groups/{group}/subscriptions/{type}", _OF_TENANT,
                     faces.unsubscribe, Unsubscribed, query=(TENANT_ID, _TOPIC, _WAITING),
                     errors=(NotFound, Conflict)),
            Endpoint("GET", letters, _OF_TENANT, faces.dead_letters, DeadLetterPage,
                     query=(TENANT_ID, _GROUP, _AFTER_LETTER, _LIMIT)),
            Endpoint("POST", f"{letters}/{{number}}/replay", _OF_TENANT, faces.replay, Replayed,
                     query=(TENANT_ID,), parts=(_NUMBER,),
                     errors=(NotFound, PlanEnded, Conflict), idempotent=True),
            *timer_endpoints(store.timers, committer),
            Endpoint("POST", "/v1/events/renew", _AGENTS, faces.renew, Renewed, RenewBody),
            Endpoint("GET", "/asyncapi.json", ANYBODY_KNOWN, faces.asyncapi, dict[str, Any]),
        ],
        store.health,
        {"/v1/events/connect": SocketEndpoint(_AGENTS, DELIVERIES, faces.connect)},
        metrics,
        about=__doc__ or "",
        door=door,
    )  # fmt: skip


class _Events:
    def __init__(
        self,
        store: Store,
        directory: Directory,
        bus: Bus,
        committer: Committer,
        *,
        lease: float,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._store = store
        self._directory = directory
        self._bus = bus
        self._committer = committer
        self._lease = lease
        self._is_stopping = is_stopping
        self._agents: set[AgentConnection] = set()
        self._cancelling: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Lock()
        bus.subscribe(self._hear)

    async def publish(self, request: Request) -> Response:
        """Publishes an event, or a list of them as one. It is durable when the response is sent.

        CloudEvents are accepted, too, as application/cloudevents+json and
        application/cloudevents-batch+json. A request whose sender waits for the response says
        `awaited=true`: it is handled even though its plan has ended, and refused if all who take it
        wait for its response themselves.
        """
        body = await request.body()
        try:
            return await self._publish(request, body)
        except EventIdConflict:
            if body == request.sent:
                raise
            # An earlier version kept the whitespace between an event's tokens: the stored event may
            # have it.
            return await self._publish(request, request.sent)

    async def _publish(self, request: Request, body: bytes) -> Response:
        events, is_batch = _published(request.media_type, body)
        scopes = {_scope_of(event, request.principal) for event in events}
        if len(scopes) > 1:
            raise InvalidRequest(
                "the events of one request belong to one tenant and user; send one request for each"
            )
        commit = Commit(events=events)
        key = request.idempotency_key
        if all(event.id for event in events) and request.principal.fence is None:
            key = None  # ids do as well, but do not show that a handler was not fenced
        awaited = _AWAITED.of(request) == "true"
        if awaited and (is_batch or events[0].response_event is None):
            raise InvalidRequest("awaited=true is for one event that names its response_event")
        scope = scopes.pop()
        done = await self._committer.commit_request(
            request.principal, scope, commit, request.sent, key, awaited=awaited
        )
        return http.json_response(
            PublishedBatch(done.events) if is_batch else Published(done.events[0])
        )

    async def stream(self, request: Request) -> Response:
        """Streams the log as server-sent events `event`, without a gap.

        An event's id is its position; sent as Last-Event-ID, it resumes the stream behind it.
        """
        filter_ = Filter(
            owner=TENANT_ID.owner(request),
            user_id=USER_ID.user(request),
            topics=_TOPICS.of(request),
            types=_TYPES.of(request),
            correlation_id=_CORRELATION.of(request),
        )
        as_cloudevents = _FORMAT.of(request) == "cloudevents"
        end = await self._store.log.end()
        after = _FROM_NOW.value(request, end)
        if (resumed := request.header("Last-Event-ID")) is not None:
            after = http.whole("Last-Event-ID", resumed)
        if after > end:
            raise NotFound(f"the log ends at position {end}, it cannot be read from {after} on")
        await log_from(self._store.log, after, 1)  # HistoryGone before the stream begins
        reader = LogReader(self._store.log, self._bus, filter_, after, self._turns)
        write = _cloudevent if as_cloudevents else _envelope
        return http.ServerSent(http.follow(reader, "event", write, b"reading from here"))

    async def answer(self, request: Request) -> Response:
        """Waits for the response to a request, or for its dead letter.

        The response is the first event behind the request that has its correlation id, response
        event and response topic.
        """
        event_id, scope = request.name("event_id"), request.scope
        entry = await self._store.log.event(scope.tenant_id, event_id)
        if entry is None or entry.user_id != scope.user_id:
            raise NotFound(f"there is no event {event_id!r}")
        envelope = decode_envelope(entry.envelope)
        if envelope.response_event is None:
            raise NotFound(f"event {event_id!r} requests no response: it names no response_event")
        deadline = asyncio.get_running_loop().time() + _TIMEOUT.value(request)
        found = await self._await_response(scope, entry, envelope, deadline)
        return http.json_response(
            {"event": None if found is None else msgspec.Raw(found.envelope.encode())}
        )

    async def _await_response(
        self, scope: Scope, request: LogEntry, envelope: Envelope, deadline: float
    ) -> LogEntry | None:
        after = request.position
        loop = asyncio.get_running_loop()
        with self._bus.bell(correlation_bell(scope, request.correlation_id)) as bell:
            while True:
                entries = await self._store.log.correlated(
                    scope, request.correlation_id, after, CORRELATED_PAGE
                )
                for entry in entries:
                    if _ends_wait(entry, envelope):
                        return entry
                    after = entry.position
                left = deadline - loop.time()
                if left <= 0:
                    return None
                await bell.wait(min(left, 1.0))

    async def renew(self, request: Request) -> Response:
        """Renews the leases of an agent's deliveries."""
        body = http.decode(await request.body(), _renew_body)
        if len(body.fences) > MOST_FENCES:
            raise InvalidRequest(
                f"at most {MOST_FENCES} leases are renewed at once, not {len(body.fences)}"
            )
        credential = request.principal.credential
        family = None if credential is None else credential.family
        kept = await self._store.deliveries.renew(body.replica, body.fences, self._lease, family)
        self._committer.reservations.renew(kept, lost=set(body.fences).difference(kept))
        return http.json_response(Renewed(kept))

    async def groups(self, request: Request) -> Response:
        """Lists the groups that take events, and what waits for them: an agent sees its own."""
        found = await self._store.groups.list(TENANT_ID.owner(request))
        credential = request.principal.credential
        return http.json_response(
            Groups(
                [
                    group_info(one)
                    for one in found
                    if credential is None or credential.sees_group(one.group.name)
                ]
            )
        )

    async def unsubscribe(self, request: Request) -> Response:
        """Ends a group's subscription to a type, unless a connected agent handles it.

        The events that wait for it become dead letters of the group; with `waiting=drop` they are
        dropped, and so are the dead letters that it has.
        """
        group, kind, topic = request.name("group"), request.name("type"), _TOPIC.of(request)
        drop = _WAITING.of(request) == "drop"
        waited = await unsubscribe(
            self._store.groups,
            TENANT_ID.owner(request),
            group,
            kind,
            topic,
            drop=drop,
            author=request.principal.author,
        )
        if waited is None:
            raise NotFound(f"group {group!r} has no subscription to {kind!r} on topic {topic!r}")
        return http.json_response(Unsubscribed(waited))

    async def dead_letters(self, request: Request) -> Response:
        """Lists the events that groups gave up, and why."""
        size = _LIMIT.size(request)
        owner, group, after = (
            TENANT_ID.owner(request),
            _GROUP.of(request),
            _AFTER_LETTER.value(request),
        )
        rows = await self._store.groups.dead_letters(owner, group, after, size.to_read)
        page, following = size.cut(rows, lambda row: row.id)
        return http.json_response(
            DeadLetterPage([dead_letter_info(row) for row in page], following)
        )

    async def replay(self, request: Request) -> Response:
        """Delivers a dead letter to its group again, as if it came now."""
        letter = request.names["number"]
        is_number = letter.isascii() and letter.isdigit() and len(letter) <= 18
        owner, key = TENANT_ID.owner(request), request.idempotency_key
        if not is_number or not await self._store.transact(
            ReplayDeadLetter(owner, int(letter), key, author=request.principal.author)
        ):
            raise NotFound(
                f"there is no dead letter {letter}; GET /v1/events/dead-letters lists them"
            )
        return http.json_response(Replayed(int(letter)))

    async def asyncapi(self, request: Request) -> Response:
        """Returns the AsyncAPI 3.0 document.

        It describes the topics, their events, the registered event types and the agents' WebSocket.
        """
        from soorma_platform.services import asyncapi  # noqa: PLC0415 - only its requests pay for it

        return await asyncapi.respond(self._directory, request)

    async def connect(self, socket: WebSocket, principal: Principal) -> None:
        """Serves an agent."""
        agent = AgentConnection(
            socket,
            principal,
            self._store,
            self._bus,
            self._committer,
            lease=self._lease,
            is_stopping=self._is_stopping,
        )
        self._agents.add(agent)
        try:
            await agent.serve()
        finally:
            self._agents.discard(agent)

    def _hear(self, entries: list[LogEntry]) -> None:
        """Tells the agents of cancelled plans, on which some of them may be at work."""
        for entry in entries:
            if entry.type == CANCELLED and entry.topic == Topic.PLAN_EVENTS:
                plan_id = decode_envelope(entry.envelope).plan_id or ""
                for agent in self._agents:
                    task = asyncio.create_task(
                        agent.cancel(Scope(entry.tenant_id, entry.user_id), plan_id)
                    )
                    self._cancelling.add(task)
                    task.add_done_callback(self._cancelling.discard)


def _published(kind: str, body: bytes) -> tuple[list[Envelope], bool]:
    if kind == CLOUD:
        return [from_cloudevent(http.decode(body, _cloud))], False
    if kind == CLOUDS:
        batch = http.decode(body, _clouds)
        if not batch:
            raise InvalidRequest("a batch of CloudEvents is a list of at least one")
        return [from_cloudevent(cloud) for cloud in batch], True
    if body.lstrip()[:1] == b"[":
        events = http.decode(body, _batch)
        if not events:
            raise InvalidRequest("a batch holds at least one event")
        return events, True  # each is checked with their commit
    return [decode_envelope(body)], False


def _scope_of(event: Envelope, principal: Principal) -> Scope:
    """Returns the tenant and user of an event.

    They are those it names, else those its publisher acts for, else, on an open platform, the
    default ones.
    """
    owner = principal.owner_among("tenant_id of the event", event.tenant_id)
    user = principal.user_among("user_id of the event", event.user_id)
    if principal.credential is not None and (owner is All.TENANTS or user is None):
        raise InvalidRequest(
            f"say whose event it is: name its tenant_id and user_id, as {principal.credential} is "
            "for more"
        )
    return Scope(
        DEFAULT_TENANT if owner is All.TENANTS else owner, DEFAULT_USER if user is None else user
    )


def _envelope(entry: LogEntry) -> tuple[int, bytes]:
    return entry.position, entry.envelope.encode()


def _cloudevent(entry: LogEntry) -> tuple[int, bytes]:
    return entry.position, msgspec.json.encode(to_cloudevent(Event.from_json(entry.envelope)))


def _ends_wait(entry: LogEntry, request: Envelope) -> bool:
    """Returns True if an event is the response, or says that there will be none."""
    if entry.type == DEAD_LETTERED and entry.topic == Topic.SYSTEM_EVENTS:
        data = decode(entry.envelope).get("data", {})
        return bool(data.get("event_id") == request.id)
    topic = request.response_topic or Topic.ACTION_RESULTS
    return entry.type == request.response_event and entry.topic == topic
