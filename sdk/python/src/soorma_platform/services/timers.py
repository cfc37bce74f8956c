"""Timers over HTTP: events to be published later, a part of the event service."""

from __future__ import annotations

import msgspec

from soorma_common.errors import (
    EventIdConflict,
    Fenced,
    IdempotencyMismatch,
    InvalidPayload,
    LimitExceeded,
)
from soorma_common.events import Timer, TimerBody, TimerInfo, check_timer, decode_envelope
from soorma_common.memory import Commit
from soorma_common.names import check_name
from soorma_common.times import time_of
from soorma_platform import http
from soorma_platform.engine.rows.timers import TimerRow
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access
from soorma_platform.stores.ports.timers import TimerStore
from soorma_platform.work.committer import Committer

_PLAN = http.Text("plan_id", "Of this plan only.")
_AFTER = http.Number("after", "From behind this row: `next` of the page before.", default=0)
_LIMIT = http.page_limit()
_OF_USER = frozenset({Access.USER, Access.DELIVERY})
_timer = msgspec.json.Decoder(Timer)


class Timed(msgspec.Struct):
    """The id of the event that will be published."""

    id: str


class TimerPage(msgspec.Struct):
    """Timers of a user in the order they were set."""

    timers: list[TimerInfo]
    next: int | None


class Cancelled(msgspec.Struct):
    """The result of a cancellation: `cancelled` is true if the timer was still waiting."""

    cancelled: bool


def timer_endpoints(timers: TimerStore, committer: Committer) -> list[Endpoint]:
    """Returns the endpoints of timers, a part of the event service."""
    faces = _Timers(timers, committer)
    path = "/v1/events/timers"
    return [
        Endpoint("POST", path, _OF_USER, faces.set, Timed, TimerBody, headers=(http.FENCE,),
                 idempotent=True,
                 errors=(EventIdConflict, Fenced, InvalidPayload, LimitExceeded,
                         IdempotencyMismatch)),
        Endpoint("GET", path, _OF_USER, faces.list, TimerPage, query=(_PLAN, _AFTER, _LIMIT)),
        Endpoint("DELETE", f"{path}/{{event_id}}", _OF_USER, faces.cancel, Cancelled,
                 headers=(http.FENCE,), idempotent=True, errors=(Fenced, IdempotencyMismatch)),
    ]  # fmt: skip


class _Timers:
    def __init__(self, timers: TimerStore, committer: Committer) -> None:
        self._timers = timers
        self._committer = committer

    async def set(self, request: Request) -> Response:
        """Sets a timer. It is durable when the response is sent.

        Its event is published `delay` seconds from now, or `at` a time.
        """
        timer = check_timer(http.decode(await request.body(), _timer))
        key = request.idempotency_key
        if timer.event.id and request.principal.fence is None:
            key = None  # an id does as well, but does not show that a handler was not fenced
        commit = Commit(timers=[timer])
        done = await self._committer.commit_request(
            request.principal, request.scope, commit, request.sent, key
        )
        return http.json_response(Timed(done.events[0]))

    async def list(self, request: Request) -> Response:
        """Lists the events that wait to be published, in the order they were set."""
        scope, size = request.scope, _LIMIT.size(request)
        rows = await self._timers.list(
            scope, _PLAN.of(request), _AFTER.value(request), size.to_read
        )
        page, following = size.cut(rows, lambda row: row.id)
        return http.json_response(TimerPage([_info(row) for row in page], following))

    async def cancel(self, request: Request) -> Response:
        """Cancels a timer, and returns whether it was still waiting."""
        scope = request.scope
        event_id = check_name("event_id", request.names["event_id"])
        what, key = f"cancel {event_id}".encode(), request.idempotency_key
        done = await self._committer.commit_request(
            request.principal, scope, Commit(cancels=[event_id]), what, key
        )
        return http.json_response(Cancelled(event_id in done.cancelled))


def _info(row: TimerRow) -> TimerInfo:
    event, is_deadline = decode_envelope(row.envelope), row.incarnation is not None
    return TimerInfo(
        row.event_id, time_of(row.due_at), event.type, event.topic, row.plan_id, is_deadline
    )
