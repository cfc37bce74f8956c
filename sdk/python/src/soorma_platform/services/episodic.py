"""Episodic memory over HTTP, a part of the memory service."""

from __future__ import annotations

import msgspec

from soorma_common.episodic import (
    MOST_MESSAGES,
    History,
    LogBody,
    Logged,
    LogInteraction,
    NameSession,
    Said,
    SaidHits,
    SaidSearch,
    SessionInfo,
    SessionName,
    SessionPage,
    check_page,
    check_said_search,
    within,
)
from soorma_common.errors import (
    Fenced,
    Forbidden,
    IdempotencyMismatch,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    TimedOut,
)
from soorma_common.forgetting import ForgetBody, Receipt
from soorma_common.memories import AnyMemoryOperation
from soorma_common.times import time_of
from soorma_platform import http
from soorma_platform.engine.quarantine import first_in, origins_of, told
from soorma_platform.engine.rows.interactions import SessionRow
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access
from soorma_platform.services.memory_commits import forget_by, remember
from soorma_platform.stores.ports import Store
from soorma_platform.work.committer import Committer
from soorma_platform.work.forgetting import Forgetting
from soorma_platform.work.recall import Recall
from soorma_platform.work.recall.interactions import said_of

_SESSION = http.Text("session_id", "Of this session only.")
_AGENT = http.Text("agent_id", "Of this agent only.")
_BEFORE = http.Number("before", "Older than this: `next` of the page before.", least=1)
_LIMIT = http.page_limit(most=MOST_MESSAGES, default=50)
_SESSIONS = http.page_limit()
_TOKENS = http.Number("max_tokens", "About how many tokens they may come to.", least=1)
_OF_USER = frozenset({Access.USER, Access.DELIVERY})
_log_body = msgspec.json.Decoder(LogBody)
_search_body = msgspec.json.Decoder(SaidSearch)
_name_body = msgspec.json.Decoder(SessionName)

_A_LOG = {
    "interactions": [
        {"role": "user", "content": "I am a vegetarian.", "session_id": "s-1", "agent_id": "cook"}
    ]
}


def episodic_endpoints(
    store: Store, recall: Recall, forgetting: Forgetting, committer: Committer
) -> list[Endpoint]:
    """Returns the endpoints of episodic memory."""
    faces = _Episodic(store, recall, forgetting, committer)
    path = "/v1/memory/episodic"
    session = "/v1/memory/sessions/{session_id}"
    return [
        Endpoint("POST", path, _OF_USER, faces.log, Logged, LogBody, headers=(http.FENCE,),
                 idempotent=True,
                 errors=(Fenced, Forbidden, LimitExceeded, IdempotencyMismatch),
                 examples={http.JSON: _A_LOG}),
        Endpoint("GET", path, _OF_USER, faces.recent, History,
                 query=(_SESSION, _AGENT, _BEFORE, _LIMIT, _TOKENS)),
        Endpoint("POST", f"{path}/search", _OF_USER, faces.search_interactions, SaidHits,
                 SaidSearch, examples={http.JSON: {"query": "What does the user eat?"}},
                 errors=(LimitExceeded, TimedOut), safe=True, waits=True),
        Endpoint("GET", f"{path}/{{interaction_id}}", _OF_USER, faces.interaction, Said,
                 errors=(NotFound,)),
        Endpoint("GET", "/v1/memory/sessions", _OF_USER, faces.sessions, SessionPage,
                 query=(_BEFORE, _SESSIONS)),
        Endpoint("GET", session, _OF_USER, faces.session, SessionInfo, errors=(NotFound,)),
        Endpoint("DELETE", session, _OF_USER, faces.delete_session, Receipt,
                 headers=(http.FENCE,),
                 errors=(Forbidden, NotFound)),
        Endpoint("PATCH", session, _OF_USER, faces.name_session, SessionInfo, SessionName,
                 headers=(http.FENCE,), idempotent=True,
                 errors=(Fenced, IdempotencyMismatch, LimitExceeded, NotFound)),
    ]  # fmt: skip


class _Episodic:
    def __init__(
        self, store: Store, recall: Recall, forgetting: Forgetting, committer: Committer
    ) -> None:
        self._store = store
        self._recall = recall
        self._forgetting = forgetting
        self._committer = committer

    async def log(self, request: Request) -> Response:
        """Logs interactions, all or none, in their order."""
        body = http.decode(await request.body(), _log_body)
        if not body.interactions:
            raise InvalidRequest("interactions is empty: there is nothing to log")
        operations: list[AnyMemoryOperation] = [
            LogInteraction(**msgspec.structs.asdict(one)) for one in body.interactions
        ]
        done = await remember(self._committer, request, operations, request.sent)
        return http.json_response(Logged([one.id for one in done]))

    async def recent(self, request: Request) -> Response:
        """Returns the newest interactions, in the order in which they happened."""
        limit, most = _LIMIT.value(request), _TOKENS.of(request)
        check_page(limit, most)
        rows, more = await self._store.memories.episodic.history(
            request.scope,
            _SESSION.of(request),
            _AGENT.of(request),
            _BEFORE.of(request),
            limit,
        )
        newest = [said_of(row) for row in rows]
        kept = within(newest, most)
        following = None
        if kept and (more or len(newest) > len(kept)):
            following = kept[-1].number
        elif newest and not kept:  # the newest alone exceeds the bound: older ones may not
            following = newest[0].number
        length = sum(len(one.content) for one in kept)
        return await http.large_json_response(History(kept[::-1], following), length)

    async def interaction(self, request: Request) -> Response:
        """Returns an interaction as it was logged."""
        interaction_id = request.name("interaction_id")
        row = await self._store.memories.episodic.interaction(request.scope, interaction_id)
        if row is None:
            raise NotFound(
                f"there is no interaction {interaction_id!r}: it was never logged, or forgotten"
            )
        quarantined = await self._store.memories.quarantines.origins(request.scope)
        if origin := first_in(quarantined, origins_of(row)):
            raise NotFound(
                f"interaction {interaction_id!r} is in quarantine, because it comes from "
                f"{told(origin)}: release that to read it"
            )
        return await http.large_json_response(said_of(row), len(row.content))

    async def search_interactions(self, request: Request) -> Response:
        """Finds interactions by what was said, the best first, as many as asked for."""
        body = http.decode(await request.body(), _search_body)
        check_said_search(body, self._committer.limits)
        hits = await self._recall.interactions(request.scope, body)
        size = sum(len(hit.content) for hit in hits.hits)
        return await http.large_json_response(hits, size)

    async def sessions(self, request: Request) -> Response:
        """Lists a user's sessions, the newest first."""
        size = _SESSIONS.size(request)
        rows = await self._store.memories.episodic.sessions(
            request.scope, _BEFORE.of(request), size.to_read
        )
        page, following = size.cut(rows, lambda row: row.number)
        return http.json_response(SessionPage([_session_info(row) for row in page], following))

    async def session(self, request: Request) -> Response:
        """Returns a session: its name, how many interactions it has, and when."""
        return http.json_response(await self._session(request))

    async def name_session(self, request: Request) -> Response:
        """Names a session, or takes its name away."""
        session_id = request.name("session_id")
        body = http.decode(await request.body(), _name_body)
        sent = session_id.encode() + b"\0" + request.sent
        naming = NameSession(id=session_id, name=body.name)
        await remember(self._committer, request, [naming], sent)
        return http.json_response(await self._session(request))

    async def delete_session(self, request: Request) -> Response:
        """Forgets a session with all its interactions."""
        session = await self._session(request)
        body = ForgetBody(kind="interactions", session_id=session.session_id)
        return http.json_response(await forget_by(request, self._forgetting, body))

    async def _session(self, request: Request) -> SessionInfo:
        session_id = request.name("session_id")
        row = await self._store.memories.episodic.session(request.scope, session_id)
        if row is None:
            raise NotFound(f"there is no session {session_id!r}: nothing was logged in it")
        return _session_info(row)


def _session_info(row: SessionRow) -> SessionInfo:
    return SessionInfo(
        session_id=row.session_id,
        number=row.number,
        interactions=row.interactions,
        created_at=time_of(row.created_at),
        updated_at=time_of(row.updated_at),
        name=row.name,
    )
