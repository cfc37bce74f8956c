"""Quarantines over HTTP, a part of the memory service."""

from __future__ import annotations

import msgspec

from soorma_common.errors import Forbidden, InvalidRequest, LimitExceeded, NotFound
from soorma_common.names import All, Owner, Scope
from soorma_common.quarantine import (
    Quarantine,
    QuarantineBody,
    Quarantines,
    check_origin,
    check_quarantine,
    named_in,
)
from soorma_common.times import time_of
from soorma_platform import http
from soorma_platform.engine.quarantine import BeginQuarantine, EndQuarantine, told
from soorma_platform.engine.rows.quarantines import EVERYBODY, QuarantineRow
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access
from soorma_platform.identity.door import FENCE_HEADER
from soorma_platform.logs import Log
from soorma_platform.stores.ports import Store

_OF_USER = frozenset({Access.USER, Access.DELIVERY})
_OF_TENANT = frozenset({Access.TENANT, Access.OPERATOR})
_SOURCE = http.Text("source", "The source that is released.")
_AGENT = http.Text("agent_id", "The agent that is released.")
_body = msgspec.json.Decoder(QuarantineBody)
_AN_ORIGIN = {"source": "mail", "reason": "instructions in its signature"}

log = Log("soorma.memories")


def quarantine_endpoints(store: Store) -> list[Endpoint]:
    """Returns the endpoints of quarantines: a user's own, and those of a whole tenant."""
    faces = _Quarantines(store)
    own, all_users = "/v1/memory/quarantines", "/v1/memory/tenant/quarantines"
    tenant, fence, errors = (http.TENANT_ID,), (http.FENCE,), (Forbidden, LimitExceeded)
    return [
        Endpoint("GET", own, _OF_USER, faces.list_quarantines, Quarantines),
        Endpoint("POST", own, _OF_USER, faces.quarantine, Quarantine, QuarantineBody,
                 headers=fence, errors=errors, examples={http.JSON: _AN_ORIGIN}),
        Endpoint("DELETE", own, _OF_USER, faces.release, Quarantine, query=(_SOURCE, _AGENT),
                 headers=fence, errors=(Forbidden, NotFound)),
        Endpoint("GET", all_users, _OF_TENANT, faces.list_quarantines_of_tenant, Quarantines,
                 query=tenant),
        Endpoint("POST", all_users, _OF_TENANT, faces.quarantine_for_tenant, Quarantine,
                 QuarantineBody, query=tenant, errors=errors,
                 examples={http.JSON: _AN_ORIGIN}),
        Endpoint("DELETE", all_users, _OF_TENANT, faces.release_for_tenant, Quarantine,
                 query=(*tenant, _SOURCE, _AGENT), errors=(Forbidden, NotFound)),
    ]  # fmt: skip


class _Quarantines:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_quarantines(self, request: Request) -> Response:
        """Lists what is in quarantine for a user, with that of the tenant, the oldest first."""
        return await self._list(request.scope)

    async def quarantine(self, request: Request) -> Response:
        """Puts a source or an agent into quarantine: what comes from it counts for nothing.

        That holds for what is stored already, for what will be, and for all that is derived from
        it. One that is in quarantine already stays as it is.
        """
        return await self._begin(request, request.scope)

    async def release(self, request: Request) -> Response:
        """Ends a quarantine: what comes from there counts again, as it was stored."""
        return await self._end(request, request.scope)

    async def list_quarantines_of_tenant(self, request: Request) -> Response:
        """Lists what is in quarantine for all users of a tenant, the oldest first."""
        return await self._list(_tenant_of(request))

    async def quarantine_for_tenant(self, request: Request) -> Response:
        """Puts a source or an agent into quarantine for all users of a tenant."""
        return await self._begin(request, _tenant_of(request))

    async def release_for_tenant(self, request: Request) -> Response:
        """Ends a quarantine of all users of a tenant; those of single users stay."""
        return await self._end(request, _tenant_of(request))

    async def _list(self, whose: Scope | Owner) -> Response:
        rows = await self._store.memories.quarantines.list(whose)
        return http.json_response(Quarantines([_seen(row) for row in rows]))

    async def _begin(self, request: Request, whose: Scope | Owner) -> Response:
        _check_outside(request)
        body = http.decode(await request.body(), _body)
        origin = check_quarantine(body)
        row = await self._store.transact(
            BeginQuarantine(whose, origin, body.reason, author=request.principal.author)
        )
        log.info("memories put into quarantine", **_told_of(whose, origin))
        return http.json_response(_seen(row))

    async def _end(self, request: Request, whose: Scope | Owner) -> Response:
        _check_outside(request)
        origin = check_origin(_SOURCE.of(request), _AGENT.of(request))
        command = EndQuarantine(whose, origin, author=request.principal.author)
        row = await self._store.transact(command)
        log.info("memories released from quarantine", **_told_of(whose, origin))
        return http.json_response(_seen(row))


def _tenant_of(request: Request) -> Owner:
    owner = http.TENANT_ID.owner(request)
    if owner is All.TENANTS:
        raise InvalidRequest(
            "say which tenant is meant, with tenant_id, or in the headers: no quarantine is of all "
            "tenants at once"
        )
    return owner


def _check_outside(request: Request) -> None:
    """Raises Forbidden in a handler: it could hide memories that it dislikes, or free its own."""
    if request.header(FENCE_HEADER):
        raise Forbidden("a handler changes no quarantine: an application or a person does")


def _told_of(whose: Scope | Owner, origin: str) -> dict[str, str]:
    """Returns the fields of a log line: whose quarantine of what."""
    if isinstance(whose, Scope):
        return {"tenant_id": whose.tenant_id, "user_id": whose.user_id, "origin": told(origin)}
    return {"tenant_id": f"{whose}", "user_id": "all", "origin": told(origin)}


def _seen(row: QuarantineRow) -> Quarantine:
    source, agent_id = named_in(row.origin)
    return Quarantine(
        since=time_of(row.since),
        source=source,
        agent_id=agent_id,
        reason=row.reason,
        all_users=row.user_id == EVERYBODY,
    )
