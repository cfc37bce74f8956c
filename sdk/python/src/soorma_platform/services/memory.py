"""The memory service: plans, their keys, history, actions and changes as they happen."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from soorma_common.entry_ids import entry_id
from soorma_common.errors import (
    Conflict,
    EventIdConflict,
    Fenced,
    HistoryGone,
    IdempotencyMismatch,
    InvalidPayload,
    InvalidRequest,
    KeyMissing,
    LimitExceeded,
    NotFound,
    PlanEnded,
    PlanExists,
    WrongType,
)
from soorma_common.memory import (
    STATUSES,
    Action,
    ActionPage,
    Change,
    ChangePage,
    Commit,
    CommitSeen,
    Committed,
    Entries,
    Entry,
    EntryPage,
    KeyDeleted,
    KeyEntry,
    KeyPage,
    PastEntry,
    PastPage,
    PlanCleaned,
    PlanCommit,
    PlanInfo,
    PlanPage,
    ValueAt,
)
from soorma_common.names import Name, Scope, check_name
from soorma_common.operations import AnyOperation, Cleanup, Delete, Set, Ttl
from soorma_common.times import time_of
from soorma_platform import http
from soorma_platform.buses.protocol import Bus
from soorma_platform.engine.history import check_past
from soorma_platform.engine.rows.plans import EntryRow, HistoryRow, PlanRow
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access, Door
from soorma_platform.metrics import Metrics
from soorma_platform.services.episodic import episodic_endpoints
from soorma_platform.services.memory_audit import audit_endpoints
from soorma_platform.services.procedural import procedural_endpoints
from soorma_platform.services.quarantines import quarantine_endpoints
from soorma_platform.services.semantic import semantic_endpoints
from soorma_platform.services.tenants import tenant_endpoints
from soorma_platform.services.watch import PlanReader
from soorma_platform.stores.ports import Store
from soorma_platform.stores.ports.plans import PlanStore
from soorma_platform.work.committer import Committer
from soorma_platform.work.forgetting import Forgetting
from soorma_platform.work.history import history_of, value_at, values_at
from soorma_platform.work.recall import Recall

E = TypeVar("E", Entry, KeyEntry)
_COLLAPSED = 1_000_000

_LIMIT = http.page_limit()
_MANY = http.page_limit(default=http.LONGEST_PAGE)
_PREFIX = http.Text("prefix", "Only keys that begin with this text.", is_name=False)
_AFTER_KEY = http.Text("after", "From behind this key: `next` of the page before.")
_AFTER_PLAN = http.Text("after", "From behind this plan: `next` of the page before.")
_AFTER_ACTION = http.Number(
    "after", "From behind this action: `next` of the page before.", default=0
)
_VALUES = http.Choice("values", "Whether to include the values.", ("true", "false"))
_STATUS = http.Choice("status", "Plans of this status only.", ("any", *STATUSES))
_REVISION = http.Number("revision", "As it was after this revision of the plan.")
_STALLED = http.Choice(
    "stalled",
    "Only plans that were reported as stalled, and have not moved since.",
    ("false", "true"),
)
_SINCE = http.Number("after", "From behind this revision; without it from the oldest one kept.")
_FROM_NOW = http.Number("after", "From behind this revision; without it from now on.")
_KEY = http.Text("key", "Of this key only.")

_IF_MATCH = http.Header(
    "If-Match", "The key must be at this revision: its ETag.", r'^"?[0-9]{1,18}"?$'
)
_IF_MISSING = http.Header("If-None-Match", "`*`: the key must be missing.", word="*")
_IF_CHANGED = http.Header(
    "If-None-Match", "304 if the key is still at this revision: its ETag.", ".*"
)
_LAST_ID = http.Header("Last-Event-ID", "Resume behind this revision.", r"^[0-9]{1,18}$")


class PutBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a PUT: a value, and its time to live in seconds."""

    value: msgspec.Raw
    ttl: Ttl | None = None


class ManyBody(msgspec.Struct, forbid_unknown_fields=True):
    """The keys to read at once."""

    keys: Annotated[list[Name], msgspec.Meta(extra_json_schema={"maxItems": http.LONGEST_PAGE})]


_A_PUT = {"value": {"text": "Plan a trip"}, "ttl": 3600}
_A_COMMIT = {
    "plans": [
        {
            "plan_id": "plan-1",
            "operations": [{"op": "increment", "key": "count"}],
            "reads": {"goal": 0},
        }
    ],
    "events": [{"type": "order.placed", "topic": "business-facts", "data": {"order": 7}}],
}

_put_body = msgspec.json.Decoder(PutBody)
_many_body = msgspec.json.Decoder(ManyBody)
_commit_body = msgspec.json.Decoder(Commit)
_encode = msgspec.json.Encoder().encode
_OF_USER = frozenset({Access.USER, Access.DELIVERY})


def memory_service(
    store: Store,
    bus: Bus,
    committer: Committer,
    recall: Recall,
    metrics: Metrics,
    door: Door | None = None,
) -> http.Application:
    """Returns the service as an ASGI application."""
    faces, forgetting = _Memory(store.plans, bus, committer), Forgetting(store)
    plan, key = "/v1/memory/working/{plan_id}", "/v1/memory/working/{plan_id}/{key}"
    return http.Application(
        "memory",
        [
            Endpoint("GET", key, _OF_USER, faces.get, KeyEntry | ValueAt, query=(_REVISION,),
                     headers=(_IF_CHANGED,), tagged=True,
                     errors=(KeyMissing, NotFound, HistoryGone)),
            Endpoint("PUT", key, _OF_USER, faces.put, KeyEntry, PutBody,
                     headers=(_IF_MATCH, _IF_MISSING, http.FENCE), tagged=True, conditional=True,
                     idempotent=True, examples={http.JSON: _A_PUT},
                     errors=(Conflict, Fenced, LimitExceeded, IdempotencyMismatch)),
            Endpoint("DELETE", key, _OF_USER, faces.delete, KeyDeleted,
                     headers=(_IF_MATCH, _IF_MISSING, http.FENCE), conditional=True,
                     idempotent=True, errors=(Conflict, Fenced, IdempotencyMismatch)),
            Endpoint("POST", "/v1/memory/commit", _OF_USER, faces.commit, Committed, Commit,
                     headers=(http.FENCE,), idempotent=True,
                     errors=(Conflict, Fenced, PlanEnded, PlanExists, NotFound, HistoryGone,
                             EventIdConflict, InvalidPayload, LimitExceeded, WrongType,
                             IdempotencyMismatch),
                     examples={http.JSON: _A_COMMIT}),
            Endpoint("POST", "/v1/memory/many/{plan_id}", _OF_USER, faces.many, Entries, ManyBody,
                     examples={http.JSON: {"keys": ["goal", "count"]}}, safe=True),
            Endpoint("GET", plan, _OF_USER, faces.entries, EntryPage | KeyPage | PastPage,
                     query=(_PREFIX, _AFTER_KEY, _LIMIT, _VALUES, _REVISION),
                     errors=(NotFound, HistoryGone)),
            Endpoint("DELETE", plan, _OF_USER, faces.cleanup, PlanCleaned, headers=(http.FENCE,),
                     idempotent=True, errors=(Fenced, IdempotencyMismatch)),
            Endpoint("GET", "/v1/memory/working", _OF_USER, faces.plans, PlanPage,
                     query=(_AFTER_PLAN, _LIMIT, _STATUS, _STALLED)),
            Endpoint("GET", "/v1/memory/plans/{plan_id}", _OF_USER, faces.plan, PlanInfo,
                     errors=(NotFound,)),
            Endpoint("GET", "/v1/memory/history/{plan_id}", _OF_USER, faces.history, ChangePage,
                     query=(_KEY, _SINCE, _LIMIT), errors=(HistoryGone,)),
            Endpoint("GET", "/v1/memory/actions/{plan_id}", _OF_USER, faces.actions, ActionPage,
                     query=(_AFTER_ACTION, _MANY)),
            Endpoint("GET", "/v1/memory/watch/{plan_id}", _OF_USER, faces.watch, CommitSeen,
                     query=(_FROM_NOW,), headers=(_LAST_ID,), errors=(NotFound, HistoryGone),
                     streams=True),
            *semantic_endpoints(store.memories, recall, forgetting, committer),
            *episodic_endpoints(store, recall, forgetting, committer),
            *audit_endpoints(store.memories.audit, committer.secrets),
            *quarantine_endpoints(store),
            *procedural_endpoints(store.memories, recall, forgetting, committer),
            *tenant_endpoints(forgetting),
        ],
        store.health,
        metrics=metrics,
        about=__doc__ or "",
        door=door,
    )  # fmt: skip


class _Memory:
    def __init__(self, plans: PlanStore, bus: Bus, committer: Committer) -> None:
        self._plans = plans
        self._bus = bus
        self._committer = committer

    async def get(self, request: Request) -> Response:
        """Reads a key, now or as it was at a revision."""
        scope, plan_id, key = request.scope, request.name("plan_id"), request.name("key")
        if (revision := _REVISION.of(request)) is not None:
            return await self._get_at(scope, plan_id, key, revision)
        row = await self._plans.entry(scope, plan_id, key)
        if row is None:
            raise _missing(plan_id, key)
        tag = b'"%d"' % row.revision
        if (known := request.header("If-None-Match")) is not None and _holds(known, tag):
            return http.WholeResponse(b"", 304, tag=tag)
        return http.WholeResponse(_encode(_entry(KeyEntry, scope, plan_id, row)), tag=tag)

    async def _get_at(self, scope: Scope, plan_id: str, key: str, revision: int) -> Response:
        check_past((await self._plans.get(scope, plan_id, set())).row, revision)
        text = await value_at(self._plans, scope, plan_id, key, revision, _COLLAPSED)
        if text is None:
            raise _missing(plan_id, key, f" at revision {revision}")
        return http.json_response(ValueAt(plan_id, key, msgspec.Raw(text.encode()), revision))

    async def put(self, request: Request) -> Response:
        """Sets a key. The change is durable when the response is sent."""
        scope, plan_id, key = request.scope, request.name("plan_id"), request.name("key")
        body = http.decode(await request.body(), _put_body)
        operation = Set(key, body.value, body.ttl, expected_revision=_expected_revision(request))
        done = await self._one(request, plan_id, operation, request.sent)
        if not isinstance(done, Committed):
            return done
        revision, expires = (
            done.plans[0].revision,
            None if body.ttl is None else done.at + round(body.ttl * 1000),
        )
        entry = _entry_of(KeyEntry, scope, plan_id, key, body.value, revision, done.at, expires)
        return http.WholeResponse(_encode(entry), tag=b'"%d"' % revision)

    async def delete(self, request: Request) -> Response:
        """Removes a key, and returns whether it was there."""
        operation = Delete(request.name("key"), expected_revision=_expected_revision(request))
        done = await self._one(request, request.name("plan_id"), operation, b"")
        if not isinstance(done, Committed):
            return done
        return http.json_response(
            KeyDeleted(bytes(done.plans[0].results[0]) == b"true", done.plans[0].revision)
        )

    async def cleanup(self, request: Request) -> Response:
        """Removes everything of a plan in one commit: keys, actions, history."""
        done = await self._one(request, request.name("plan_id"), Cleanup(), b"")
        if not isinstance(done, Committed):
            return done
        return http.json_response(
            PlanCleaned(int(bytes(done.plans[0].results[0])), done.plans[0].revision)
        )

    async def _one(
        self, request: Request, plan_id: str, operation: AnyOperation, body: bytes
    ) -> Committed | http.WholeResponse:
        """Commits one operation.

        A failed precondition has a status of its own (RFC 9110, 13.1).
        """
        commit = Commit(plans=[PlanCommit(plan_id, [operation])])
        key = request.idempotency_key
        if key is not None:
            conditions = [request.header(name) for name in ("If-Match", "If-None-Match")]
            body = _encode([request.method, request.path, *conditions]) + body
        try:
            return await self._committer.commit_request(
                request.principal, request.scope, commit, body, key
            )
        except Conflict as conflict:
            return http.problem(conflict, 412)

    async def commit(self, request: Request) -> Response:
        """Changes, forks and ends plans, and publishes events, all or nothing."""
        commit = http.decode(await request.body(), _commit_body)
        sent, key = request.sent, request.idempotency_key
        return http.json_response(
            await self._committer.commit_request(
                request.principal, request.scope, commit, sent, key
            )
        )

    async def many(self, request: Request) -> Response:
        """Reads up to 1,000 keys of a plan, as of one revision."""
        scope, plan_id = request.scope, request.name("plan_id")
        keys = http.decode(await request.body(), _many_body).keys
        if len(keys) > http.LONGEST_PAGE:
            raise InvalidRequest(
                f"at most {http.LONGEST_PAGE} keys can be read at once, not {len(keys)}"
            )
        state = await self._plans.get(scope, plan_id, {check_name("key", key) for key in keys})
        entries = {key: _entry(Entry, scope, plan_id, row) for key, row in state.entries.items()}
        size = sum(len(row.value) for row in state.entries.values())
        return await http.large_json_response(Entries(plan_id, state.row.revision, entries), size)

    async def entries(self, request: Request) -> Response:
        """Lists the keys of a plan, in order, as they are or as they were at a revision."""
        scope, plan_id = request.scope, request.name("plan_id")
        if (revision := _REVISION.of(request)) is not None:
            return await self._entries_at(request, scope, plan_id, revision)
        size = _LIMIT.size(request)
        prefix, after = _PREFIX.of(request) or "", _AFTER_KEY.of(request) or ""
        plan, rows = await self._plans.entries(scope, plan_id, prefix, after, size.to_read)
        page, following = size.cut(rows, lambda row: row.key)
        if _VALUES.of(request) == "false":
            return http.json_response(
                KeyPage(plan_id, plan.revision, [row.key for row in page], following)
            )
        entries = [_entry(Entry, scope, plan_id, row) for row in page]
        length = sum(len(row.value) for row in page)
        return await http.large_json_response(
            EntryPage(plan_id, plan.revision, entries, following), length
        )

    async def _entries_at(
        self, request: Request, scope: Scope, plan_id: str, revision: int
    ) -> Response:
        prefix, after = _PREFIX.of(request) or "", _AFTER_KEY.of(request) or ""
        page = await values_at(
            self._plans, scope, plan_id, revision, prefix, after, _LIMIT.value(request)
        )
        if _VALUES.of(request) == "false":
            return http.json_response(
                KeyPage(plan_id, revision, [key for key, _ in page.values], page.next)
            )
        entries = [PastEntry(key, msgspec.Raw(text.encode())) for key, text in page.values]
        size = sum(len(text) for _, text in page.values)
        return await http.large_json_response(PastPage(plan_id, revision, entries, page.next), size)

    async def plans(self, request: Request) -> Response:
        """Lists the plans of a user that hold something, by id."""
        scope, size = request.scope, _LIMIT.size(request)
        status = _STATUS.of(request)
        stalled = _STALLED.of(request) == "true"
        after = _AFTER_PLAN.of(request) or ""
        rows = await self._plans.list(
            scope, after, size.to_read, None if status == "any" else status, stalled=stalled
        )
        page, following = size.cut(rows, lambda row: row.plan_id)
        return http.json_response(PlanPage([_plan_info(row) for row in page], following))

    async def plan(self, request: Request) -> Response:
        """Returns a plan: its status, how it ended, its revision, sizes and times."""
        plan_id = request.name("plan_id")
        row = (await self._plans.get(request.scope, plan_id, set())).row
        if not row.live:
            raise NotFound(
                f"there is no plan {plan_id!r}, or nothing is left of it", plan_id=plan_id
            )
        return http.json_response(_plan_info(row))

    async def history(self, request: Request) -> Response:
        """Returns the changes of a plan, or of one of its keys, oldest first."""
        scope, plan_id, limit = request.scope, request.name("plan_id"), _LIMIT.value(request)
        after = _SINCE.of(request)
        plan, rows = await history_of(self._plans, scope, plan_id, _KEY.of(request), after, limit)
        following = rows[-1].revision if rows and rows[-1].revision < plan.revision else None
        changes = [_change(row) for row in rows]
        size = sum(len(row.argument or "") for row in rows)
        return await http.large_json_response(
            ChangePage(plan_id, plan.revision, plan.horizon, changes, following), size
        )

    async def actions(self, request: Request) -> Response:
        """Returns the recorded actions of a plan, in order."""
        scope, plan_id, size = request.scope, request.name("plan_id"), _MANY.size(request)
        rows = await self._plans.actions(scope, plan_id, _AFTER_ACTION.value(request), size.to_read)
        page, following = size.cut(rows, lambda row: row.action)
        return http.json_response(ActionPage(plan_id, [_action(row) for row in page], following))

    async def watch(self, request: Request) -> Response:
        """Streams the commits of a plan as server-sent events `commit`, without a gap.

        An event's id is the revision; sent as Last-Event-ID, it resumes the stream behind it.
        """
        scope, plan_id = request.scope, request.name("plan_id")
        current = (await self._plans.get(scope, plan_id, set())).row.revision
        after = _FROM_NOW.value(request, current)
        if (resumed := request.header("Last-Event-ID")) is not None:
            after = http.whole("Last-Event-ID", resumed)
        if after > current:
            raise NotFound(
                f"plan {plan_id!r} is at revision {current}, it cannot be watched from {after} on"
            )
        # Raises HistoryGone before the stream begins.
        await history_of(self._plans, scope, plan_id, None, after, 1)
        reader = PlanReader(self._plans, self._bus, scope, plan_id, after)
        return http.ServerSent(http.follow(reader, "commit", _commit_seen, b"watching from here"))


def _missing(plan_id: str, key: str, when: str = "") -> KeyMissing:
    return KeyMissing(f"plan {plan_id!r} has no key {key!r}{when}", plan_id=plan_id, key=key)


def _holds(known: str, tag: bytes) -> bool:
    """Returns True if a list of ETags holds this one, weak or strong (RFC 9110, 13.1.2)."""
    return tag.decode() in [one.strip() for one in known.replace("W/", "").split(",")]


def _expected_revision(request: Request) -> int | None:
    """Returns the revision that If-Match or If-None-Match requires (RFC 9110, 13.1).

    Returns None without either.
    """
    none, match = request.header("If-None-Match"), request.header("If-Match")
    if none not in (None, "*"):
        raise InvalidRequest("If-None-Match of a change takes only *: the key must be missing")
    if match is None:
        return None if none is None else 0
    revision = http.whole("If-Match (the ETag of a key, its revision in quotes)", match.strip('"'))
    if none is not None and revision:
        raise InvalidRequest("no key fulfils both If-Match and If-None-Match: send one of them")
    return revision


def _entry(kind: type[E], scope: Scope, plan_id: str, row: EntryRow) -> E:
    value = msgspec.Raw(row.value.encode())
    return _entry_of(
        kind, scope, plan_id, row.key, value, row.revision, row.updated_at, row.expires_at
    )


def _entry_of(
    kind: type[E],
    scope: Scope,
    plan_id: str,
    key: str,
    value: msgspec.Raw,
    revision: int,
    at: int,
    expires: int | None,
) -> E:
    return kind(
        entry_id(scope, plan_id, key),
        scope.tenant_id,
        scope.user_id,
        plan_id,
        key,
        value,
        time_of(at),
        revision,
        None if expires is None else time_of(expires),
    )


def _plan_info(row: PlanRow) -> PlanInfo:
    return PlanInfo(
        plan_id=row.plan_id,
        revision=row.revision,
        keys=row.keys,
        actions=row.actions,
        size_bytes=row.size,
        created_at=time_of(row.created_at),
        updated_at=time_of(row.updated_at),
        expires_at=None if row.expires_at is None else time_of(row.expires_at),
        status=row.status,
        ended_at=None if row.ended_at is None else time_of(row.ended_at),
        result=msgspec.Raw(row.outcome.encode())
        if row.outcome and row.status == "completed"
        else None,
        reason=msgspec.json.decode(row.outcome)
        if row.outcome and row.status in ("failed", "cancelled")
        else None,
        stalled=row.is_stalled,
    )


def _change(row: HistoryRow) -> Change:
    why = row.cause
    return Change(
        revision=row.revision,
        op=row.op,
        at=time_of(row.at),
        key=row.key,
        argument=None if row.argument is None else msgspec.Raw(row.argument.encode()),
        actor=why.actor,
        instance=why.instance,
        event_id=why.event_id,
        correlation_id=why.correlation_id,
        trace_id=why.trace_id,
    )


def _commit_seen(commit: tuple[int, list[HistoryRow]]) -> tuple[int, bytes]:
    revision, rows = commit
    return revision, _encode(CommitSeen(revision, [_change(row) for row in rows]))


def _action(row: HistoryRow) -> Action:
    why = row.cause
    return Action(
        number=row.action or 0,
        name=msgspec.json.decode(row.argument or '""', type=str),
        at=time_of(row.at),
        revision=row.revision,
        actor=why.actor,
        instance=why.instance,
        event_id=why.event_id,
        correlation_id=why.correlation_id,
        trace_id=why.trace_id,
    )
