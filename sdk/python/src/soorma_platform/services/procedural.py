"""Procedural memory over HTTP, a part of the memory service."""

from __future__ import annotations

from typing import Any

import msgspec

from soorma_common.errors import (
    Fenced,
    Forbidden,
    IdempotencyMismatch,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    TimedOut,
)
from soorma_common.forgetting import Receipt
from soorma_common.memories import AnyMemoryOperation
from soorma_common.names import Scope
from soorma_common.procedural import (
    KINDS,
    PATH_SCHEMA,
    ActivateBody,
    ActivateProcedure,
    CountOutcome,
    OutcomeBody,
    ProcedureBody,
    ProcedureFile,
    ProcedureHits,
    ProcedureInfo,
    ProcedurePage,
    ProcedureVersion,
    RelevantBody,
    RetireProcedure,
    RollBackProcedure,
    StoreProcedure,
    VersionPage,
    Which,
    check_named,
    check_path,
    check_relevant,
)
from soorma_common.semantic import KnowledgeStored, MemoryDone
from soorma_common.times import time_of
from soorma_platform import http
from soorma_platform.engine.quarantine import first_in, origins_of, told
from soorma_platform.engine.rows.procedures import (
    ProcedureInfoRow,
    ProcedureKey,
    StoredVersion,
)
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access
from soorma_platform.services.memory_commits import remember
from soorma_platform.stores.ports.store import MemoryStores
from soorma_platform.work.committer import Committer
from soorma_platform.work.forgetting import Forgetting
from soorma_platform.work.recall import Recall
from soorma_platform.work.recall.procedures import info_of, success_of, version_of

_KIND = http.Text("kind", "Of this kind only.", one_of=KINDS)
_AFTER = http.Number("after", "From behind this procedure: `next` of the page before.", default=0)
_BEFORE = http.Number("before", "Older than this version: `next` of the page before.", least=1)
_LIMIT = http.page_limit()
_PROPOSED = http.Choice(
    "proposed", "Only those of which a handler has proposed a version.", ("false", "true")
)
_QUARANTINED = http.Choice(
    "quarantined", "Those in quarantine, instead of those that count.", ("false", "true")
)
_WHOSE = http.Choice(
    "whose", "The user's own, the tenant's, or the first of these.", ("any", "own", "public")
)
# Not "any": what is forgotten is gone, and the tenant's must not be so for want of a user's own.
_OWNER = http.Choice("whose", "The user's own, or the tenant's.", ("own", "public"))
_VERSION = http.Number("version", "This one; without it, the active one.", least=1)
_A_KIND = http.Part("kind", "What it is.", {"enum": list(KINDS)})
_A_PATH = http.Part("path", "Its path in the folder of the skill.", PATH_SCHEMA)
_OF_USER = frozenset({Access.USER, Access.DELIVERY})
_body = msgspec.json.Decoder(ProcedureBody)
_relevant_body = msgspec.json.Decoder(RelevantBody)
_activate_body = msgspec.json.Decoder(ActivateBody)
_which_body = msgspec.json.Decoder(Which)
_outcome_body = msgspec.json.Decoder(OutcomeBody)
_OWN, _PUBLIC = (False,), (True,)
_PLACES = {"any": (*_OWN, *_PUBLIC), "own": _OWN, "public": _PUBLIC}

_A_SKILL = {
    "procedures": [
        {
            "name": "refund-an-order",
            "description": "How a refund is made, and who has to agree.",
            "content": "Up to 50 EUR: refund at once. Above: ask the team lead first.",
            "agents": ["support"],
        }
    ]
}
_A_CONTEXT = {"agent_id": "support", "context": "The customer wants her money back."}


def procedural_endpoints(
    store: MemoryStores, recall: Recall, forgetting: Forgetting, committer: Committer
) -> list[Endpoint]:
    """Returns the endpoints of procedural memory."""
    faces = _Procedural(store, recall, forgetting, committer)
    path = "/v1/memory/procedural"
    one = f"{path}/{{kind}}/{{name}}"
    changes = (Fenced, Forbidden, LimitExceeded, IdempotencyMismatch)

    def change(action: str, face: Any, body: type[Any]) -> Endpoint:
        return Endpoint("POST", f"{one}/{action}", _OF_USER, face, MemoryDone, body,
                        headers=(http.FENCE,), parts=(_A_KIND,), idempotent=True,
                        errors=(*changes, NotFound))  # fmt: skip

    return [
        Endpoint("POST", path, _OF_USER, faces.store_procedures, KnowledgeStored, ProcedureBody,
                 headers=(http.FENCE,), idempotent=True, errors=changes,
                 examples={http.JSON: _A_SKILL}),
        Endpoint("GET", path, _OF_USER, faces.list_procedures, ProcedurePage,
                 query=(_KIND, _AFTER, _LIMIT, _PROPOSED)),
        Endpoint("POST", f"{path}/relevant", _OF_USER, faces.relevant_procedures, ProcedureHits,
                 RelevantBody, examples={http.JSON: _A_CONTEXT}, errors=(TimedOut,),
                 safe=True, waits=True),
        Endpoint("GET", one, _OF_USER, faces.get_procedure, ProcedureVersion,
                 query=(_WHOSE, _VERSION), parts=(_A_KIND,), errors=(NotFound,)),
        Endpoint("DELETE", one, _OF_USER, faces.delete_procedure, Receipt, query=(_OWNER,),
                 parts=(_A_KIND,), headers=(http.FENCE,), errors=(Forbidden, NotFound)),
        Endpoint("GET", f"{one}/versions", _OF_USER, faces.list_versions, VersionPage,
                 query=(_WHOSE, _BEFORE, _LIMIT, _QUARANTINED), parts=(_A_KIND,),
                 errors=(NotFound,)),
        Endpoint("GET", f"{one}/files/{{path}}", _OF_USER, faces.get_procedure_file, ProcedureFile,
                 query=(_WHOSE, _VERSION), parts=(_A_KIND, _A_PATH), errors=(NotFound,)),
        change("activate", faces.activate_procedure, ActivateBody),
        change("roll-back", faces.roll_back_procedure, Which),
        change("retire", faces.retire_procedure, Which),
        change("outcome", faces.count_outcome, OutcomeBody),
    ]  # fmt: skip


class _Procedural:
    def __init__(
        self,
        store: MemoryStores,
        recall: Recall,
        forgetting: Forgetting,
        committer: Committer,
    ) -> None:
        self._procedures = store.procedural
        self._quarantines = store.quarantines
        self._recall = recall
        self._forgetting = forgetting
        self._committer = committer

    async def store_procedures(self, request: Request) -> Response:
        """Stores procedures or new versions, all or none; from a handler these are proposals."""
        body = http.decode(await request.body(), _body)
        if not body.procedures:
            raise InvalidRequest("procedures is empty: there is nothing to store")
        operations: list[AnyMemoryOperation] = [
            StoreProcedure(**msgspec.structs.asdict(one)) for one in body.procedures
        ]
        done = await remember(self._committer, request, operations, request.sent)
        return http.json_response(KnowledgeStored(done))

    async def list_procedures(self, request: Request) -> Response:
        """Lists the procedures of the user and the tenant, by when they were first stored."""
        size = _LIMIT.size(request)
        rows = await self._procedures.list(
            request.scope,
            _kind_of(request),
            _AFTER.value(request),
            size.to_read,
            proposed=_PROPOSED.of(request) == "true",
        )
        page, following = size.cut(rows, lambda row: row.number)
        return http.json_response(ProcedurePage([_info(row) for row in page], following))

    async def relevant_procedures(self, request: Request) -> Response:
        """Returns the active procedures that apply and are about a context.

        Those with the highest lower bound of their success come first.
        """
        body = http.decode(await request.body(), _relevant_body)
        check_relevant(body)
        hits = await self._recall.procedures(request.scope, body)
        size = sum(len(one.content) for one in hits)
        return await http.large_json_response(hits, size)

    async def get_procedure(self, request: Request) -> Response:
        """Returns a version of a procedure with its content, the active one without a number."""
        row = await self._version(request)
        return await http.large_json_response(version_of(row), len(row.content))

    async def list_versions(self, request: Request) -> Response:
        """Lists the versions of a procedure without their content, the newest first."""
        size = _LIMIT.size(request)
        for is_public in _PLACES[_WHOSE.of(request)]:
            rows = await self._procedures.versions(
                request.scope, _key(request, is_public), _BEFORE.of(request), size.to_read,
                quarantined=_QUARANTINED.of(request) == "true",
            )  # fmt: skip
            if rows:
                page, following = size.cut(rows, lambda row: row.version)
                return http.json_response(VersionPage([info_of(row) for row in page], following))
        raise _missing(request)

    async def get_procedure_file(self, request: Request) -> Response:
        """Returns a file of a version of a skill."""
        path = request.names["path"]
        check_path(path)
        row = await self._version(request)
        content = await self._procedures.file(row.number, path)
        if content is None:
            raise NotFound(f"{row.kind} {row.name!r} has no file {path!r} in version {row.version}")
        return await http.large_json_response(ProcedureFile(path, content), len(content))

    async def activate_procedure(self, request: Request) -> Response:
        """Makes a version the active one."""
        body = http.decode(await request.body(), _activate_body)
        kind, name = _named(request)
        return await self._change(
            request,
            ActivateProcedure(name=name, kind=kind, is_public=body.is_public, version=body.version),
        )

    async def roll_back_procedure(self, request: Request) -> Response:
        """Makes active what was active before."""
        body = http.decode(await request.body(), _which_body)
        kind, name = _named(request)
        return await self._change(
            request, RollBackProcedure(name=name, kind=kind, is_public=body.is_public)
        )

    async def retire_procedure(self, request: Request) -> Response:
        """Makes no version of a procedure active."""
        body = http.decode(await request.body(), _which_body)
        kind, name = _named(request)
        return await self._change(
            request, RetireProcedure(name=name, kind=kind, is_public=body.is_public)
        )

    async def count_outcome(self, request: Request) -> Response:
        """Counts that what a version says has succeeded, or failed."""
        body = http.decode(await request.body(), _outcome_body)
        kind, name = _named(request)
        return await self._change(
            request,
            CountOutcome(
                name=name,
                kind=kind,
                is_public=body.is_public,
                version=body.version,
                succeeded=body.succeeded,
            ),
        )

    async def delete_procedure(self, request: Request) -> Response:
        """Forgets a procedure with all its versions, and all that was derived from them."""
        if request.principal.fence is not None:
            raise Forbidden("a handler forgets no procedure: an application may")
        is_public = _OWNER.of(request) == "public"
        numbers = await self._procedures.numbers(request.scope, _key(request, is_public))
        if not numbers:
            raise _missing(request)
        receipt = await self._forgetting.forget_numbers(
            request.scope, numbers, request.principal.author, "a procedure"
        )
        return http.json_response(receipt)

    async def _version(self, request: Request) -> StoredVersion:
        number, hidden = _VERSION.of(request), None
        quarantined = await self._quarantines.origins(request.scope)
        for is_public in _PLACES[_WHOSE.of(request)]:
            row = await self._procedures.version(request.scope, _key(request, is_public), number)
            if row is None:
                continue
            if (origin := first_in(quarantined, origins_of(row))) is None:
                return row
            hidden = NotFound(
                f"version {row.version} of {row.kind} {row.name!r} is in quarantine, because it "
                f"comes from {told(origin)}: name another version, or release that"
            )
        raise hidden or await self._not_there(request, request.scope, number)

    async def _not_there(self, request: Request, scope: Scope, number: int | None) -> NotFound:
        """Returns the error that says what there is of a procedure."""
        kind, name = _named(request)
        for is_public in _PLACES[_WHOSE.of(request)]:
            newest = await self._procedures.versions(scope, _key(request, is_public), None, 1)
            if newest and number is None:
                return NotFound(
                    f"no version of {kind} {name!r} is active; its newest is {newest[0].version}: "
                    "activate one, or name one"
                )
            if newest:
                return NotFound(
                    f"{kind} {name!r} has no version {number}; its newest is {newest[0].version}"
                )
        return _missing(request)

    async def _change(self, request: Request, operation: AnyMemoryOperation) -> Response:
        # The body alone does not say which procedure is meant.
        sent = msgspec.json.encode(operation)
        (done,) = await remember(self._committer, request, [operation], sent)
        return http.json_response(done)


def _kind_of(request: Request) -> str | None:
    kind = _KIND.of(request)
    if kind and kind not in KINDS:
        raise InvalidRequest(f"kind is one of {', '.join(KINDS)}, not {kind!r:.40}")
    return kind or None


def _named(request: Request) -> tuple[Any, str]:
    """Returns the kind and the name in the path."""
    kind, name = request.name("kind"), request.name("name")
    check_named(kind, name)
    return kind, name


def _key(request: Request, is_public: bool) -> ProcedureKey:
    return ProcedureKey(is_public, *_named(request))


def _missing(request: Request) -> NotFound:
    kind, name = _named(request)
    return NotFound(f"there is no {kind} {name!r}: it was never stored, or forgotten")


def _info(row: ProcedureInfoRow) -> ProcedureInfo:
    return ProcedureInfo(
        number=row.number,
        kind=row.kind,
        name=row.name,
        versions=row.versions,
        newest=row.newest,
        active=row.active,
        proposed=row.proposed,
        succeeded=row.succeeded,
        failed=row.failed,
        success=success_of(row.succeeded, row.failed),
        is_public=row.is_public,
        description=row.description,
        updated_at=time_of(row.updated_at),
    )
