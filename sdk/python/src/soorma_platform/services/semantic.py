"""Semantic memory over HTTP, a part of the memory service."""

from __future__ import annotations

import msgspec

from soorma_common.errors import (
    Conflict,
    Fenced,
    Forbidden,
    IdempotencyMismatch,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    TimedOut,
)
from soorma_common.forgetting import ForgetBody, Receipt, check_forget
from soorma_common.likeness import AlikeBody, AlikePassages, check_alike
from soorma_common.memories import AnyMemoryOperation
from soorma_common.semantic import (
    ForgetKnowledge,
    Hits,
    KnowledgeStored,
    MemoryDone,
    Passage,
    PassageChange,
    PassagePage,
    PublishKnowledge,
    SearchBody,
    StoreBody,
    StoreKnowledge,
    UpdateKnowledge,
    check_search,
)
from soorma_common.times import check_moment, milliseconds
from soorma_platform import http
from soorma_platform.engine.quarantine import first_in, origins_of, told
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access
from soorma_platform.services.memory_commits import forget_by, remember
from soorma_platform.stores.ports.semantic import Listed
from soorma_platform.stores.ports.store import MemoryStores
from soorma_platform.work.committer import Committer
from soorma_platform.work.forgetting import Forgetting
from soorma_platform.work.recall import Recall
from soorma_platform.work.recall.knowledge import MOST_ALIKE, passage_of

_AFTER = http.Number("after", "From behind this passage: `next` of the page before.", default=0)
_LIMIT = http.page_limit()
_PROPOSED = http.Choice(
    "proposed", "Only those that a handler proposed to make public.", ("false", "true")
)
_PUBLIC = http.Choice(
    "public", "Those that are public in the tenant, instead of the user's own.", ("false", "true")
)
_EXTERNAL_ID = http.Text("external_id", "Of this external id only.")
_SUBJECT = http.Text("subject", "About this subject only.")
_ATTRIBUTE = http.Text("attribute", "About this attribute only.")
_SOURCE = http.Text("source", "Of this source only.")
_TAG = http.Text("tag", "With this tag only.")
_QUARANTINED = http.Choice(
    "quarantined", "Those in quarantine, instead of those that count.", ("false", "true")
)
_AS_OF = http.Text("as_of", "Only what is true at this time, in RFC 3339, or `now`.", is_name=False)
_OF_USER = frozenset({Access.USER, Access.DELIVERY})
_store_body = msgspec.json.Decoder(StoreBody)
_search_body = msgspec.json.Decoder(SearchBody)
_forget_body = msgspec.json.Decoder(ForgetBody)
_alike_body = msgspec.json.Decoder(AlikeBody)
_change_body = msgspec.json.Decoder(PassageChange)

_A_STORE = {
    "passages": [
        {
            "content": "The night train to Lund leaves from platform 4.",
            "tags": ["timetable"],
            "source": "handbook",
        }
    ]
}
_A_SEARCH = {"query": "Where does the night train start?", "limit": 3}


def semantic_endpoints(
    store: MemoryStores, recall: Recall, forgetting: Forgetting, committer: Committer
) -> list[Endpoint]:
    """Returns the endpoints of semantic memory."""
    faces = _Semantic(store, recall, forgetting, committer)
    path = "/v1/memory/semantic"
    one = f"{path}/{{passage_id}}"
    changes = (Conflict, Fenced, LimitExceeded, IdempotencyMismatch)
    return [
        Endpoint("POST", path, _OF_USER, faces.store_knowledge, KnowledgeStored, StoreBody,
                 headers=(http.FENCE,), idempotent=True, errors=(*changes, NotFound),
                 examples={http.JSON: _A_STORE}),
        Endpoint("GET", path, _OF_USER, faces.list_knowledge, PassagePage,
                 query=(_AFTER, _LIMIT, _PROPOSED, _PUBLIC, _EXTERNAL_ID, _SUBJECT, _ATTRIBUTE,
                        _SOURCE, _TAG, _AS_OF, _QUARANTINED)),
        Endpoint("POST", f"{path}/search", _OF_USER, faces.search_knowledge, Hits, SearchBody,
                 examples={http.JSON: _A_SEARCH}, errors=(NotFound, LimitExceeded, TimedOut),
                 safe=True, waits=True),
        Endpoint("POST", f"{path}/alike", _OF_USER, faces.find_alike, AlikePassages, AlikeBody,
                 examples={http.JSON: {"content": "The train to Lund goes from platform 4."}},
                 errors=(LimitExceeded, TimedOut), safe=True, waits=True),
        Endpoint("POST", "/v1/memory/forget", _OF_USER, faces.forget, Receipt, ForgetBody,
                 headers=(http.FENCE,), errors=(Forbidden,),
                 examples={http.JSON: {"plan_id": "plan-1", "preview": True}}),
        Endpoint("GET", one, _OF_USER, faces.get_knowledge, Passage, errors=(NotFound,)),
        Endpoint("POST", f"{one}/publish", _OF_USER, faces.publish_knowledge, MemoryDone,
                 headers=(http.FENCE,), idempotent=True,
                 errors=(*changes, Forbidden, NotFound)),
        Endpoint("PATCH", one, _OF_USER, faces.update_knowledge, Passage, PassageChange,
                 headers=(http.FENCE,), idempotent=True, errors=(*changes, NotFound)),
        Endpoint("DELETE", one, _OF_USER, faces.forget_knowledge, MemoryDone, headers=(http.FENCE,),
                 idempotent=True, errors=changes),
    ]  # fmt: skip


class _Semantic:
    def __init__(
        self,
        store: MemoryStores,
        recall: Recall,
        forgetting: Forgetting,
        committer: Committer,
    ) -> None:
        self._passages = store.semantic
        self._likeness = store.likeness
        self._quarantines = store.quarantines
        self._recall = recall
        self._forgetting = forgetting
        self._committer = committer

    async def store_knowledge(self, request: Request) -> Response:
        """Stores passages, all or none. They are found by their words when the response is sent."""
        body = http.decode(await request.body(), _store_body)
        if not body.passages:
            raise InvalidRequest("passages is empty: there is nothing to store")
        stored: list[AnyMemoryOperation] = [
            StoreKnowledge(**msgspec.structs.asdict(one)) for one in body.passages
        ]
        done = await remember(self._committer, request, stored, request.sent)
        return http.json_response(KnowledgeStored(done))

    async def search_knowledge(self, request: Request) -> Response:
        """Finds passages by what they say. It returns only what is good enough, perhaps nothing."""
        body = http.decode(await request.body(), _search_body)
        check_search(body, self._committer.limits)
        hits = await self._recall.knowledge(request.scope, body)
        size = sum(len(hit.content) for hit in hits.hits)
        return await http.large_json_response(hits, size)

    async def find_alike(self, request: Request) -> Response:
        """Finds passages that seem to state the same as a text, whatever words they use."""
        body = http.decode(await request.body(), _alike_body)
        check_alike(body, self._committer.limits)
        return http.json_response(AlikePassages(await self._recall.alike(request.scope, body)))

    async def list_knowledge(self, request: Request) -> Response:
        """Lists passages that count, the user's own or public ones, as they were stored."""
        as_of = _AS_OF.of(request)
        which = Listed(
            _PUBLIC.of(request) == "true",
            _PROPOSED.of(request) == "true",
            _EXTERNAL_ID.of(request),
            _SUBJECT.of(request),
            _ATTRIBUTE.of(request),
            _SOURCE.of(request),
            _TAG.of(request),
            is_quarantined=_QUARANTINED.of(request) == "true",
        )
        if as_of == "now":
            which = which._replace(as_of=(await self._passages.collections(request.scope)).now)
        elif as_of is not None:
            which = which._replace(as_of=milliseconds(check_moment("as_of", as_of)))
        rows, more = await self._passages.list(
            request.scope, _AFTER.value(request), _LIMIT.value(request), which
        )
        following = rows[-1].number if rows and more else None
        length = sum(len(row.content) for row in rows)
        return await http.large_json_response(
            PassagePage([passage_of(row) for row in rows], following), length
        )

    async def get_knowledge(self, request: Request) -> Response:
        """Returns a passage, also one that counts no more: a newer one has closed it."""
        return http.json_response(await self._passage(request, request.name("passage_id")))

    async def update_knowledge(self, request: Request) -> Response:
        """Changes what is given of a passage: its tags, aliases, metadata, source or validity."""
        passage_id = request.name("passage_id")
        change = http.decode(await request.body(), _change_body)
        operation = UpdateKnowledge(
            id=passage_id,
            **{name: getattr(change, name) for name in PassageChange.__struct_fields__},
        )
        await remember(
            self._committer, request, [operation], passage_id.encode() + b"\0" + request.sent
        )
        return http.json_response(await self._passage(request, passage_id))

    async def publish_knowledge(self, request: Request) -> Response:
        """Shows a passage that a handler has proposed to all users of the tenant."""
        passage_id = request.name("passage_id")
        done = await remember(
            self._committer,
            request,
            [PublishKnowledge(id=passage_id)],
            f"publish {passage_id}".encode(),
        )
        return http.json_response(done[0])

    async def forget_knowledge(self, request: Request) -> Response:
        """Removes a passage, those it has replaced, and all that was derived from them."""
        passage_id = request.name("passage_id")
        done = await remember(
            self._committer,
            request,
            [ForgetKnowledge(id=passage_id)],
            f"forget {passage_id}".encode(),
        )
        return http.json_response(done[0])

    async def forget(self, request: Request) -> Response:
        """Forgets what a user has stored and fits a description, or counts it for a preview.

        It takes several commits: what is stored meanwhile may stay. A repeated request forgets what
        is left.
        """
        body = http.decode(await request.body(), _forget_body)
        check_forget(body)
        return http.json_response(await forget_by(request, self._forgetting, body))

    async def _passage(self, request: Request, passage_id: str) -> Passage:
        row = await self._passages.passage(request.scope, passage_id)
        if row is None:
            raise NotFound(f"there is no passage {passage_id!r}: it was never stored, or forgotten")
        quarantined = await self._quarantines.origins(request.scope)
        if origin := first_in(quarantined, origins_of(row)):
            raise NotFound(
                f"passage {passage_id!r} is in quarantine, because it comes from {told(origin)}: "
                "list what is in quarantine, or release it"
            )
        passage = passage_of(row)
        alike = await self._likeness.alike(row.number or 0, MOST_ALIKE)
        passage.alike = [one.id for one in alike if first_in(quarantined, origins_of(one)) is None]
        return passage
