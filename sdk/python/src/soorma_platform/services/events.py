"""The event service: publishing, the agents' connections, and readers of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from soorma_common.errors import InvalidRequest, NotFound, SoormaError, to_problem
from soorma_common.events import (
    DEAD_LETTERED,
    Envelope,
    Event,
    check_envelope,
    decode_envelope,
    from_cloudevent,
    to_cloudevent,
)
from soorma_common.limits import Limits
from soorma_common.memory import Commit
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER, Scope, check_name, check_scope
from soorma_common.topics import Topic, check_topic
from soorma_common.values import decode
from soorma_platform.buses.protocol import Bus, correlation_bell
from soorma_platform.engine.rows import LogEntry
from soorma_platform.services import http
from soorma_platform.services.agents import AgentConnection
from soorma_platform.services.committer import Committer
from soorma_platform.services.log import Filter, LogReader
from soorma_platform.stores.protocol import Store

LONGEST_WAIT = 60
LONGEST_PAGE = 1_000
MOST_FENCES = 20_000


class RenewBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which deliveries an agent is still working on."""

    replica: str
    fences: list[str]


_renew_body = msgspec.json.Decoder(RenewBody)
_batch = msgspec.json.Decoder(list[Envelope])
_cloud = msgspec.json.Decoder(dict[str, Any])
_clouds = msgspec.json.Decoder(list[dict[str, Any]])


def event_service(store: Store, bus: Bus, limits: Limits, *, lease: float, is_stopping: Callable[[], bool]) -> ASGIApp:
    """The service as an ASGI application; `lease` in seconds is how long a silent agent keeps a delivery.

    While `is_stopping`, agents that lose their connection keep what they have in hand.
    """
    faces = _Events(store, bus, Committer(store, limits), lease, is_stopping)
    return http.application(
        "events",
        [
            Route("/v1/events/publish", faces.publish, methods=["POST"]),
            Route("/v1/events/stream", faces.stream, methods=["GET"]),
            Route("/v1/events/renew", faces.renew, methods=["POST"]),
            Route("/v1/events/groups", faces.groups, methods=["GET"]),
            Route("/v1/events/dead-letters", faces.dead_letters, methods=["GET"]),
            Route("/v1/events/dead-letters/{number}/replay", faces.replay, methods=["POST"]),
            Route("/v1/events/answer/{event_id}", faces.answer, methods=["GET"]),
            WebSocketRoute("/v1/events/connect", faces.connect),
        ],
        store,
    )


class _Events:
    def __init__(
        self, store: Store, bus: Bus, committer: Committer, lease: float, is_stopping: Callable[[], bool]
    ) -> None:
        self._store = store
        self._bus = bus
        self._committer = committer
        self._lease = lease
        self._is_stopping = is_stopping

    async def publish(self, request: Request) -> Response:
        """One envelope or a list of them, which is published as one; CloudEvents too, by their media types."""
        body = await http.body_of(request)
        events, is_batch = _published(request.headers.get("content-type", ""), body)
        scopes = {_scope_of_event(request, event) for event in events}
        if len(scopes) > 1:
            raise InvalidRequest("the events of one request belong to one tenant and user; send one request for each")
        commit = Commit(events=events)
        key = None if all(event.id for event in events) else http.idempotency_key(request)  # an id says as much
        done = await self._committer.commit(scopes.pop(), commit, body=body, key=key)
        return http.answer({"ids": done.events} if is_batch else {"id": done.events[0]})

    async def stream(self, request: Request) -> Response:
        """The log as server-sent events, from the newest on, or from `after` or Last-Event-ID on."""
        query = request.query_params
        wanted = Filter(
            tenant_id=query.get("tenant_id"),
            user_id=query.get("user_id"),
            topics=_names(query.get("topics"), check_topic),
            types=_names(query.get("types"), lambda name: check_name("type", name)),
            correlation_id=query.get("correlation_id"),
        )
        end = await self._store.log_end()
        after = http.number(request, "after", end)
        if resumed := request.headers.get("last-event-id"):
            after = http.whole("Last-Event-ID", resumed)
        if after > end:
            raise InvalidRequest(f"the log ends at position {end}, it cannot be read from {after} on")
        await self._store.log(after, 1)  # HistoryGone before the stream begins
        return http.server_sent(self._follow(wanted, after, as_cloudevents=query.get("format") == "cloudevents"))

    async def _follow(self, wanted: Filter, after: int, *, as_cloudevents: bool) -> AsyncIterator[bytes]:
        with LogReader(self._store, self._bus, wanted, after) as reader:
            yield b"id: %d\n: reading from here\n\n" % after
            told, silent = after, 0.0
            while True:
                try:
                    entries = await reader.next(1.0)
                except SoormaError as error:
                    yield http.sent_event("problem", msgspec.json.encode(to_problem(error)))
                    return
                for entry in entries:
                    yield http.sent_event("event", _shown(entry, as_cloudevents=as_cloudevents), entry.position)
                    told = entry.position
                silent = 0.0 if entries else silent + 1.0
                if silent >= http.PING_SECONDS:
                    silent = 0.0
                    if reader.position > told:  # so that a quiet reader resumes from where it was, not from long ago
                        told = reader.position
                        yield b"id: %d\n: still here\n\n" % told
                    else:
                        yield b": still here\n\n"

    async def answer(self, request: Request) -> Response:
        """Waits up to `timeout` seconds for the answer to a request, or for its dead letter.

        200 with `event` (null if none came in time). The answer is the first event behind the request of its
        correlation id, response event and response topic.
        """
        event_id = http.path_name(request, "event_id")
        scope = http.scope_of(request)
        asked = await self._store.event(scope.tenant_id, event_id)
        if asked is None or asked.user_id != scope.user_id:
            raise NotFound(f"there is no event {event_id!r}")
        envelope = decode_envelope(asked.envelope)
        if envelope.response_event is None:
            raise InvalidRequest(f"event {event_id!r} asks for no answer: it names no response_event")
        limit = min(float(http.number(request, "timeout", 30)), LONGEST_WAIT)
        deadline = asyncio.get_running_loop().time() + limit
        found = await self._await_answer(scope, asked, envelope, deadline)
        return http.answer({"event": None if found is None else msgspec.Raw(found.envelope.encode())})

    async def _await_answer(
        self, scope: Scope, asked: LogEntry, envelope: Envelope, deadline: float
    ) -> LogEntry | None:
        after = asked.position
        loop = asyncio.get_running_loop()
        with self._bus.bell(correlation_bell(scope, asked.correlation_id)) as bell:
            while True:
                entries = await self._store.correlated(scope, asked.correlation_id, after, LONGEST_PAGE)
                for entry in entries:
                    if _answers(entry, envelope):
                        return entry
                    after = entry.position
                left = deadline - loop.time()
                if left <= 0:
                    return None
                await bell.wait(min(left, 1.0))

    async def renew(self, request: Request) -> Response:
        body = http.decode_body(await http.body_of(request), _renew_body)
        if len(body.fences) > MOST_FENCES:
            raise InvalidRequest(f"at most {MOST_FENCES} leases are renewed at once, not {len(body.fences)}")
        return http.answer({"kept": await self._store.renew(body.replica, body.fences, self._lease)})

    async def groups(self, request: Request) -> Response:
        return http.answer({"groups": await self._store.groups(request.query_params.get("tenant_id"))})

    async def dead_letters(self, request: Request) -> Response:
        query = request.query_params
        limit = http.number(request, "limit", 100, most=100, least=1)
        after = http.number(request, "after", 0)
        rows = await self._store.dead_letters(query.get("tenant_id"), query.get("group"), after, limit + 1)
        following = rows[limit - 1].id if len(rows) > limit else None
        return http.answer({"deadLetters": rows[:limit], "next": following})

    async def replay(self, request: Request) -> Response:
        letter = request.path_params["number"]
        is_number = letter.isascii() and letter.isdigit() and len(letter) <= 18
        if not is_number or not await self._store.replay(request.query_params.get("tenant_id"), int(letter)):
            raise NotFound(f"there is no dead letter {letter}; GET /v1/events/dead-letters lists them")
        return http.answer({"replayed": int(letter)})

    async def connect(self, socket: WebSocket) -> None:
        agent = AgentConnection(
            socket, self._store, self._bus, self._committer, lease=self._lease, is_stopping=self._is_stopping
        )
        await agent.serve()


def _published(content_type: str, body: bytes) -> tuple[list[Envelope], bool]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/cloudevents+json":
        return [from_cloudevent(http.decode_body(body, _cloud))], False
    if kind == "application/cloudevents-batch+json":
        batch = http.decode_body(body, _clouds)
        if not batch:
            raise InvalidRequest("a batch of CloudEvents is a list of at least one")
        return [from_cloudevent(cloud) for cloud in batch], True
    if body.lstrip()[:1] == b"[":
        events = http.decode_body(body, _batch)
        if not events:
            raise InvalidRequest("a batch holds at least one event")
        return [check_envelope(event) for event in events], True
    return [decode_envelope(body)], False


def _scope_of_event(request: Request, event: Envelope) -> Scope:
    """Whose event it is: what it names, else what the headers name, else the default tenant and user."""
    tenant_id = event.tenant_id or http.header_text(request, "X-Tenant-ID") or DEFAULT_TENANT
    user_id = event.user_id or http.header_text(request, "X-User-ID") or DEFAULT_USER
    return check_scope(tenant_id, user_id)


def _names(text: str | None, check: Any) -> frozenset[str] | None:
    return None if not text else frozenset(check(name) for name in text.split(","))


def _shown(entry: LogEntry, *, as_cloudevents: bool) -> bytes:
    if not as_cloudevents:
        return entry.envelope.encode()
    return msgspec.json.encode(to_cloudevent(Event.from_json(entry.envelope)))


def _answers(entry: LogEntry, asked: Envelope) -> bool:
    """Whether an event ends the wait for the answer: it is one, or says that there will be none."""
    if entry.type == DEAD_LETTERED and entry.topic == Topic.SYSTEM_EVENTS:
        data = decode(entry.envelope).get("data", {})
        return bool(data.get("event_id") == asked.id)
    topic = asked.response_topic or Topic.ACTION_RESULTS
    return entry.type == asked.response_event and entry.topic == topic
