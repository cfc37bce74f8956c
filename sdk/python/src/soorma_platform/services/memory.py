"""The memory service: plans, their keys, history, actions and changes as they happen."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from soorma_common.errors import Conflict, InvalidRequest, KeyMissing, SoormaError, to_problem
from soorma_common.identity import entry_id
from soorma_common.limits import Limits
from soorma_common.memory import Action, Change, Commit, Entry, PlanCommit, PlanInfo
from soorma_common.names import Scope, check_name
from soorma_common.operations import AnyOperation, Cleanup, Delete, Set
from soorma_common.times import rfc3339
from soorma_platform.buses.protocol import Bus, plan_bell
from soorma_platform.engine.rows import EntryRow, HistoryRow, PlanRow
from soorma_platform.services import http
from soorma_platform.services.committer import Committer
from soorma_platform.stores.protocol import Store

LONGEST_PAGE = 1_000
_COLLAPSED = 1_000_000


class PutBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a PUT: a value, and the seconds it lives."""

    value: msgspec.Raw
    ttl: float | None = None


class ManyBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which keys to read at once."""

    keys: list[str]


_put_body = msgspec.json.Decoder(PutBody)
_many_body = msgspec.json.Decoder(ManyBody)
_commit_body = msgspec.json.Decoder(Commit)


def memory_service(store: Store, bus: Bus, limits: Limits) -> ASGIApp:
    """The service as an ASGI application."""
    faces = _Memory(store, bus, Committer(store, limits))
    plan, key = "/v1/memory/working/{plan_id}", "/v1/memory/working/{plan_id}/{key}"
    return http.application(
        "memory",
        [
            Route(key, faces.get, methods=["GET"]),
            Route(key, faces.put, methods=["PUT"]),
            Route(key, faces.delete, methods=["DELETE"]),
            Route("/v1/memory/commit", faces.commit, methods=["POST"]),
            Route("/v1/memory/many/{plan_id}", faces.many, methods=["POST"]),
            Route(plan, faces.entries, methods=["GET"]),
            Route(plan, faces.cleanup, methods=["DELETE"]),
            Route("/v1/memory/working", faces.plans, methods=["GET"]),
            Route("/v1/memory/history/{plan_id}", faces.history, methods=["GET"]),
            Route("/v1/memory/actions/{plan_id}", faces.actions, methods=["GET"]),
            Route("/v1/memory/watch/{plan_id}", faces.watch, methods=["GET"]),
        ],
        store,
    )


class _Memory:
    def __init__(self, store: Store, bus: Bus, committer: Committer) -> None:
        self._store = store
        self._bus = bus
        self._committer = committer

    async def get(self, request: Request) -> Response:
        scope, plan_id, key = http.scope_of(request), _plan_id(request), _key(request)
        if "revision" in request.query_params:
            return await self._get_at(request, scope, plan_id, key)
        row = await self._store.entry(scope, plan_id, key)
        if row is None:
            raise _missing(plan_id, key)
        tag = f'"{row.revision}"'
        known = request.headers.get("if-none-match", "").replace("W/", "")
        if tag in [one.strip() for one in known.split(",")]:
            return Response(status_code=304, headers={"etag": tag})
        return http.answer(_entry(scope, plan_id, row), headers={"etag": tag})

    async def _get_at(self, request: Request, scope: Scope, plan_id: str, key: str) -> Response:
        revision = http.number(request, "revision", 0)
        current = (await self._store.plan(scope, plan_id, set())).row.revision
        if revision > current:
            raise InvalidRequest(f"plan {plan_id!r} is at revision {current}, there is no revision {revision} yet")
        text = await self._store.value_at(scope, plan_id, key, revision, _COLLAPSED)
        if text is None:
            raise _missing(plan_id, key, f" at revision {revision}")
        return http.answer({"planId": plan_id, "key": key, "value": msgspec.Raw(text.encode()), "at": revision})

    async def put(self, request: Request) -> Response:
        scope, plan_id, key = http.scope_of(request), _plan_id(request), _key(request)
        body = await http.body_of(request)
        wanted = http.decode_body(body, _put_body)
        expected = _expected_revision(request)
        operation = Set(key=key, value=wanted.value, ttl=wanted.ttl, expected_revision=expected)
        row = await self._one(request, scope, plan_id, operation, body)
        if isinstance(row, Response):
            return row
        revision, at, _ = row
        expires = None if wanted.ttl is None else at + round(wanted.ttl * 1000)
        entry = EntryRow(key, bytes(wanted.value).decode(), revision, at, expires)
        return http.answer(_entry(scope, plan_id, entry), headers={"etag": f'"{revision}"'})

    async def delete(self, request: Request) -> Response:
        scope, plan_id, key = http.scope_of(request), _plan_id(request), _key(request)
        operation = Delete(key=key, expected_revision=_expected_revision(request))
        row = await self._one(request, scope, plan_id, operation, b"")
        return row if isinstance(row, Response) else http.answer({"deleted": row[2] == b"true", "revision": row[0]})

    async def cleanup(self, request: Request) -> Response:
        scope, plan_id = http.scope_of(request), _plan_id(request)
        row = await self._one(request, scope, plan_id, Cleanup(), b"")
        return row if isinstance(row, Response) else http.answer({"deleted": int(row[2]), "revision": row[0]})

    async def _one(
        self, request: Request, scope: Scope, plan_id: str, operation: AnyOperation, body: bytes
    ) -> tuple[int, int, bytes] | Response:
        """Commits one operation: the plan's revision, the time and the result, or the refusal of a precondition."""
        commit = Commit(plans=[PlanCommit(plan_id, [operation])])
        conditions = [request.headers.get(name) for name in ("if-match", "if-none-match")]
        what = msgspec.json.encode([request.method, request.url.path, *conditions]) + body
        try:
            done = await self._committer.commit(scope, commit, body=what, key=http.idempotency_key(request))
        except Conflict as conflict:  # a precondition of HTTP has a status of its own (RFC 9110, 13.1)
            return http.problem(conflict, 412)
        return done.plans[0].revision, done.at, bytes(done.plans[0].results[0])

    async def commit(self, request: Request) -> Response:
        scope = http.scope_of(request)
        body = await http.body_of(request)
        commit = http.decode_body(body, _commit_body)
        return http.answer(await self._committer.commit(scope, commit, body=body, key=http.idempotency_key(request)))

    async def many(self, request: Request) -> Response:
        scope, plan_id = http.scope_of(request), _plan_id(request)
        keys = http.decode_body(await http.body_of(request), _many_body).keys
        if len(keys) > LONGEST_PAGE:
            raise InvalidRequest(f"at most {LONGEST_PAGE} keys can be read at once, not {len(keys)}")
        state = await self._store.plan(scope, plan_id, {check_name("key", key) for key in keys})
        entries = {key: _entry(scope, plan_id, row) for key, row in state.entries.items()}
        return http.answer({"planId": plan_id, "revision": state.row.revision, "entries": entries})

    async def entries(self, request: Request) -> Response:
        scope, plan_id = http.scope_of(request), _plan_id(request)
        limit = http.number(request, "limit", 100, most=LONGEST_PAGE, least=1)
        query = request.query_params
        prefix, after = query.get("prefix", ""), query.get("after", "")
        plan, rows = await self._store.entries(scope, plan_id, prefix, after, limit + 1)
        page = rows[:limit]
        entries = [_entry(scope, plan_id, row) for row in page]
        if query.get("values") == "false":
            return http.answer(
                {"planId": plan_id, "revision": plan.revision, "keys": [row.key for row in page],
                 "next": page[-1].key if len(rows) > limit else None}
            )  # fmt: skip
        following = page[-1].key if len(rows) > limit else None
        return http.answer({"planId": plan_id, "revision": plan.revision, "entries": entries, "next": following})

    async def plans(self, request: Request) -> Response:
        scope = http.scope_of(request)
        limit = http.number(request, "limit", 100, most=LONGEST_PAGE, least=1)
        rows = await self._store.plans(scope, request.query_params.get("after", ""), limit + 1)
        following = rows[limit - 1].plan_id if len(rows) > limit else None
        return http.answer({"plans": [_plan_info(row) for row in rows[:limit]], "next": following})

    async def history(self, request: Request) -> Response:
        scope, plan_id = http.scope_of(request), _plan_id(request)
        limit = http.number(request, "limit", 100, most=LONGEST_PAGE, least=1)
        after = http.number(request, "after", -1)
        key = request.query_params.get("key")
        if after < 0:
            after = (await self._store.plan(scope, plan_id, set())).row.horizon
        plan, rows = await self._store.history(scope, plan_id, key, after, None, limit)
        following = rows[-1].revision if rows and rows[-1].revision < plan.revision else None
        return http.answer(
            {"planId": plan_id, "revision": plan.revision, "horizon": plan.horizon,
             "changes": [_change(row) for row in rows], "next": following}
        )  # fmt: skip

    async def actions(self, request: Request) -> Response:
        scope, plan_id = http.scope_of(request), _plan_id(request)
        limit = http.number(request, "limit", LONGEST_PAGE, most=LONGEST_PAGE, least=1)
        rows = await self._store.actions(scope, plan_id, http.number(request, "after", 0), limit + 1)
        following = rows[limit - 1].action if len(rows) > limit else None
        return http.answer({"planId": plan_id, "actions": [_action(row) for row in rows[:limit]], "next": following})

    async def watch(self, request: Request) -> Response:
        scope, plan_id = http.scope_of(request), _plan_id(request)
        current = (await self._store.plan(scope, plan_id, set())).row.revision
        after = http.number(request, "after", current)
        if resumed := request.headers.get("last-event-id"):
            after = http.whole("Last-Event-ID", resumed)
        if after > current:
            raise InvalidRequest(f"plan {plan_id!r} is at revision {current}, it cannot be watched from {after} on")
        await self._store.history(scope, plan_id, None, after, None, 1)  # HistoryGone before the stream begins
        return http.server_sent(self._changes(scope, plan_id, after))

    async def _changes(self, scope: Scope, plan_id: str, after: int) -> AsyncIterator[bytes]:
        with self._bus.bell(plan_bell(scope, plan_id)) as bell:
            silent = 0.0
            yield b"id: %d\n: watching from here\n\n" % after
            while True:
                try:
                    _, rows = await self._store.history(scope, plan_id, None, after, None, LONGEST_PAGE)
                except SoormaError as error:
                    yield http.sent_event("problem", msgspec.json.encode(to_problem(error)))
                    return
                for revision in sorted({row.revision for row in rows}):
                    changes = [_change(row) for row in rows if row.revision == revision]
                    data = msgspec.json.encode({"revision": revision, "changes": changes})
                    yield http.sent_event("commit", data, revision)
                    after = revision
                if rows:
                    silent = 0.0
                elif not await bell.wait(1.0):
                    silent += 1.0
                    if silent >= http.PING_SECONDS:
                        silent = 0.0
                        yield b": still here\n\n"


def _plan_id(request: Request) -> str:
    return check_name("plan_id", http.path_name(request, "plan_id"))


def _key(request: Request) -> str:
    return check_name("key", http.path_name(request, "key"))


def _missing(plan_id: str, key: str, when: str = "") -> KeyMissing:
    return KeyMissing(f"plan {plan_id!r} has no key {key!r}{when}", plan_id=plan_id, key=key)


def _expected_revision(request: Request) -> int | None:
    """The revision that If-Match or If-None-Match asks for; None without either (RFC 9110, 13.1)."""
    if (none := request.headers.get("if-none-match")) is not None:
        if none != "*":
            raise InvalidRequest("If-None-Match of a change takes only *: the key must be missing")
        return 0
    match = request.headers.get("if-match")
    if match is None:
        return None
    return http.whole("If-Match (the ETag of a key, its revision in quotes)", match.strip('"'))


def _entry(scope: Scope, plan_id: str, row: EntryRow) -> Entry:
    return Entry(
        id=entry_id(scope, plan_id, row.key),
        tenant_id=scope.tenant_id,
        user_id=scope.user_id,
        plan_id=plan_id,
        key=row.key,
        value=msgspec.Raw(row.value.encode()),
        updated_at=rfc3339(row.updated_at),
        revision=row.revision,
        expires_at=None if row.expires_at is None else rfc3339(row.expires_at),
    )


def _plan_info(row: PlanRow) -> PlanInfo:
    return PlanInfo(
        plan_id=row.plan_id,
        revision=row.revision,
        keys=row.keys,
        actions=row.actions,
        size_bytes=row.size,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
        expires_at=None if row.expires_at is None else rfc3339(row.expires_at),
    )


def _change(row: HistoryRow) -> Change:
    why = row.cause
    return Change(
        revision=row.revision,
        op=row.op,
        at=rfc3339(row.at),
        key=row.key,
        argument=None if row.argument is None else msgspec.Raw(row.argument.encode()),
        actor=why.actor,
        instance=why.instance,
        event_id=why.event_id,
        correlation_id=why.correlation_id,
        trace_id=why.trace_id,
    )


def _action(row: HistoryRow) -> Action:
    why = row.cause
    return Action(
        number=row.action or 0,
        name=msgspec.json.decode(row.argument or '""', type=str),
        at=rfc3339(row.at),
        revision=row.revision,
        actor=why.actor,
        instance=why.instance,
        event_id=why.event_id,
        correlation_id=why.correlation_id,
        trace_id=why.trace_id,
    )
