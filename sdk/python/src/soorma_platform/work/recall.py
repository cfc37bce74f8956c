"""Searches: the indexes of collections in memory, kept up to date, and what is found with them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from soorma_common.causes import NOBODY
from soorma_common.errors import InvalidRequest, Unavailable
from soorma_common.json_text import decode
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.semantic import Hit, Hits, Passage, Place, SearchBody, fields_of
from soorma_common.times import milliseconds, time_of
from soorma_platform.engine import semantic
from soorma_platform.engine.retrieval import terms
from soorma_platform.engine.rows.passages import (
    ALWAYS,
    NEVER,
    ChangedPassage,
    CollectionRow,
    ForgottenPassage,
    MemoriesFound,
    NewPassage,
    PartRow,
    PassageRow,
    StoredPassage,
)
from soorma_platform.stores.ports.semantic import SemanticStore

if TYPE_CHECKING:
    from soorma_platform.engine.retrieval.index import CollectionIndex
    from soorma_platform.engine.retrieval.ranking import Calibration, Ranked
    from soorma_platform.engine.retrieval.vectors import Vector
    from soorma_platform.work.embedding.worker import Embedding

PAGE = 2_000
"""Rows of an index that are read at a time, which takes some milliseconds."""
MANY = 2_000
"""Slots from which an index is searched in a thread: before, that costs more than the search."""
WAIT_SECONDS = 0.02
"""Seconds between two looks at what is embedded, for a search that waits for that."""
CHARACTERS_PER_TOKEN = 4
"""Characters of a token of a language model, roughly; `max_tokens` counts UTF-8 bytes by it."""


class Recall:
    """The searches of semantic memory; at most `most_bytes` of indexes are kept.

    With an `embedding`, they go by meaning, too.
    """

    def __init__(
        self,
        store: SemanticStore,
        limits: Limits,
        most_bytes: int,
        embedding: Embedding | None = None,
    ) -> None:
        self._store = store
        self._limits = limits
        self._most_bytes = most_bytes
        self._embedding = embedding
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    async def search(self, scope: Scope, body: SearchBody) -> Hits:
        """Returns the best passages for a query that the user may read."""
        meaning = await self._meaning(scope, body)
        standing = await self._store.collections(scope)
        rows = [
            row
            for row in (standing.own, standing.public if body.include_public else None)
            if row is not None
        ]
        if meaning is not None and body.wait is not None:
            await self._wait_for_vectors(rows, meaning.model, body.wait)
            standing = await self._store.collections(scope)
        as_of = standing.now if body.as_of is None else milliseconds(body.as_of)
        mine = await self._uncommitted(scope, body, standing.now)
        kept = [self._index(row) for row in rows]
        for one in kept:  # in one order everywhere, so that no two searches wait for each other
            await one.lock.acquire()
        try:
            for one in kept:
                await self._refresh(one, meaning)
            indexes = [*(one.index for one in kept), *mine.indexes]
            hidden = [*(mine.hidden for _ in kept), *([] for _ in mine.indexes)]
            search = _Search(body, indexes, hidden, as_of, meaning)
            if sum(index.count for index in indexes) > MANY:
                ranked = await asyncio.to_thread(search.run)
            else:
                ranked = search.run()
            found = [_Found(one, *_place(indexes, one)) for one in ranked]
        finally:
            for one in kept:
                one.lock.release()
        self._forget_some()
        texts = await self._store.texts([one.passage for one in found if one.passage >= 0])
        texts |= mine.texts
        hits = [_hit(texts[one.passage], one) for one in found if one.passage in texts]
        return Hits(
            hits=_within(hits, body.max_tokens),
            is_known=bool(rows) or bool(mine.texts),
            mode="text" if meaning is None else body.mode,
            min_score=search.cut.floor,
            model=None if meaning is None else meaning.name,
            unembedded=await self._unembedded(rows, meaning),
            is_calibrated=meaning is None or meaning.is_calibrated,
        )

    async def _meaning(self, scope: Scope, body: SearchBody) -> _Meaning | None:
        """Returns the vector of the query; None if the search goes by words alone.

        A search that asks for vectors gets an error if there are none; any other says that it went
        by words.
        """
        if body.mode == "text":
            return None
        embedding = self._embedding
        if embedding is None:
            if body.mode == "vector":
                raise InvalidRequest(
                    "no embedding model is in use, so nothing can be found by its vector: install "
                    "the extra soorma-core[embeddings], or set SOORMA_EMBEDDINGS"
                )
            return None
        from soorma_platform.engine.retrieval.ranking import UNKNOWN_MODEL  # noqa: PLC0415 - numpy

        try:
            vector = await embedding.query(scope.tenant_id, scope.user_id, body.query)
            model = await embedding.model()
        except Unavailable:
            if body.mode == "vector":
                raise
            return None
        embedder = embedding.embedder
        known = embedder.calibration
        return _Meaning(vector, model, embedder.name, known or UNKNOWN_MODEL, known is not None)

    async def _wait_for_vectors(
        self, rows: Sequence[CollectionRow], model: int, seconds: float
    ) -> None:
        """Waits until all that is stored is embedded; Unavailable if that takes longer."""
        assert self._embedding is not None  # noqa: S101 - there is a model
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while sum([await self._embedding.left(row.id, model) for row in rows]):
            if loop.time() > until:
                raise Unavailable(
                    f"not all that is stored is embedded after {seconds:g} s; wait for longer, or "
                    "search by words meanwhile: mode='text'"
                )
            await asyncio.sleep(WAIT_SECONDS)

    async def _unembedded(self, rows: Sequence[CollectionRow], meaning: _Meaning | None) -> int:
        if meaning is None or self._embedding is None:
            return 0
        return sum([await self._embedding.left(row.id, meaning.model) for row in rows])

    async def _uncommitted(self, scope: Scope, body: SearchBody, now: int) -> _Mine:
        """Returns what the operations of a transaction make of the passages, for its own search."""
        if not body.own:
            return _Mine([], {}, [])
        from soorma_platform.engine.retrieval.index import CollectionIndex  # noqa: PLC0415 - numpy

        for number, operation in enumerate(body.own):
            operation.id = operation.id or f"{number}"
        changes = [semantic.prepare(one, by_handler=False) for one in body.own]
        known = await self._store.known(scope, semantic.need_of(changes))
        remembering = semantic.Remembering(known, now, NOBODY, None, self._limits, by_handler=False)
        remembering.decide(changes)
        return _mine(remembering.writes(), known, CollectionIndex())

    def _index(self, row: CollectionRow) -> _Kept:
        from soorma_platform.engine.retrieval.index import CollectionIndex  # noqa: PLC0415 - numpy

        kept = self._kept.get(row.id)
        if kept is None:
            kept = self._kept[row.id] = _Kept(row.id, CollectionIndex(), asyncio.Lock())
        self._kept.move_to_end(row.id)
        return kept

    async def _refresh(self, kept: _Kept, meaning: _Meaning | None) -> None:
        while True:
            rows = await self._store.parts(kept.collection, kept.index.change, PAGE)
            if len(rows) < MANY:
                kept.index.take(rows)
            else:
                await asyncio.to_thread(kept.index.take, rows)
            if len(rows) < PAGE:
                break
        if meaning is None:
            return
        index = kept.index
        if kept.model != meaning.model:  # nothing of another model is compared with it
            index.forget_vectors()
            kept.model = meaning.model
        while True:
            vectors = await self._store.vectors(
                kept.collection, meaning.model, index.vector_change, PAGE
            )
            if len(vectors) < MANY:
                index.take_vectors(vectors)
            else:
                await asyncio.to_thread(index.take_vectors, vectors)
            if len(vectors) < PAGE:
                return

    def _forget_some(self) -> None:
        """Drops the indexes that were not searched for the longest time, if there is no room."""
        size = sum(one.index.nbytes for one in self._kept.values())
        for collection, one in list(self._kept.items())[:-1]:
            if size <= self._most_bytes:
                return
            if not one.lock.locked():
                size -= one.index.nbytes
                del self._kept[collection]


@dataclass
class _Kept:
    """An index in memory; whoever reads or changes it holds its lock."""

    collection: int
    index: CollectionIndex
    lock: asyncio.Lock
    model: int = 0
    """the one whose vectors it has"""


class _Mine(NamedTuple):
    """What a transaction has not committed yet: its index, its texts, and what it has hidden."""

    indexes: list[CollectionIndex]
    texts: dict[int, StoredPassage]
    """by numbers below 0"""
    hidden: list[int]


class _Found(NamedTuple):
    ranked: Ranked
    passage: int
    place: Place


@dataclass(frozen=True)
class _Meaning:
    """The vector of a query, of length 1, with the model that made it."""

    vector: Vector
    model: int
    name: str
    calibration: Calibration
    is_calibrated: bool


class _Search:
    """A search over indexes that nobody changes meanwhile."""

    def __init__(
        self,
        body: SearchBody,
        indexes: Sequence[CollectionIndex],
        hidden: Sequence[Sequence[int]],
        as_of: int,
        meaning: _Meaning | None,
    ) -> None:
        from soorma_platform.engine.retrieval import ranking  # noqa: PLC0415 - numpy

        self._body = body
        self._indexes = indexes
        self._hidden = hidden
        self._as_of = as_of
        self._meaning = meaning
        self._by_vector_alone = meaning is not None and body.mode == "vector"
        if body.min_score is not None:
            self.cut = ranking.Cut(body.min_score, 0.0)
        elif meaning is None:
            self.cut = ranking.TEXT_CUT
        elif self._by_vector_alone:
            self.cut = meaning.calibration.vector_cut
        else:
            self.cut = meaning.calibration.cut

    def run(self) -> list[Ranked]:
        """Returns the best parts, one of each passage."""
        from soorma_platform.engine.retrieval import ranking  # noqa: PLC0415 - numpy

        body, indexes, meaning = self._body, self._indexes, self._meaning
        labels = terms.labels(body.tags, body.source, fields_of(body.metadata))
        since = ALWAYS if body.since is None else milliseconds(body.since)
        until = NEVER if body.until is None else milliseconds(body.until)
        known_at = None if body.known_at is None else milliseconds(body.known_at)
        visible = [
            index.visible(known_at, self._as_of, hidden)
            for index, hidden in zip(indexes, self._hidden, strict=True)
        ]
        eligible = [
            ranking.candidates(index, mask, labels, since, until)
            for index, mask in zip(indexes, visible, strict=True)
        ]
        texts = ranking.text_scores(ranking.Query.of(body.query), indexes, visible)
        scores = []
        for index, mask, text in zip(indexes, eligible, texts, strict=True):
            vectors = (
                None
                if meaning is None
                else ranking.vector_scores(index, meaning.vector, text, mask)
            )
            calibration = ranking.UNKNOWN_MODEL if meaning is None else meaning.calibration
            scores.append(
                ranking.final_scores(
                    text, vectors, calibration, by_vector_alone=self._by_vector_alone
                )
            )
        return ranking.best(indexes, scores, eligible, body.limit, self.cut)


def _mine(writes: Iterable[object], known: MemoriesFound, index: CollectionIndex) -> _Mine:
    """Returns what a transaction has changed, as an index of its own; its numbers are below 0."""
    texts: dict[int, StoredPassage] = {}
    rows: list[PartRow] = []
    hidden: list[int] = []
    parts_of = {**known.own.parts, **known.public.parts}
    for row in writes:
        if isinstance(row, ForgottenPassage | ChangedPassage) and row.row.number is not None:
            number = row.row.number
            if isinstance(row, ForgottenPassage) or not row.row.is_open:
                hidden.append(number)
            elif row.terms is not None:
                hidden.append(number)
                rows += [
                    msgspec.structs.replace(
                        part,
                        terms=row.terms[part.part],
                        valid_from=row.row.valid_from,
                        valid_until=row.row.valid_until,
                    )
                    for part in parts_of[number]
                ]
        elif isinstance(row, NewPassage):
            number = -1 - len(texts)
            texts[number] = _with_text(row.row, row.content)
            times = (row.row.recorded_at, NEVER, row.row.valid_from, row.row.valid_until)
            rows += [
                PartRow(1, number, one.part, one.starts, one.ends, one.length, *times, one.terms)
                for one in row.parts
            ]
    index.take(rows)
    return _Mine([index] if rows else [], texts, hidden)


def _with_text(row: PassageRow, content: str) -> StoredPassage:
    return StoredPassage(
        **{name: getattr(row, name) for name in PassageRow.__struct_fields__}, content=content
    )


def _place(indexes: Sequence[CollectionIndex], one: Ranked) -> tuple[int, Place]:
    """Returns the passage of a part that was found, and where the part stands in it."""
    index = indexes[one.collection]
    passage, part, start, end = (
        int(index.column(name)[one.slot]) for name in ("passage", "part", "starts", "ends")
    )
    return passage, Place(part, start, end)


def passage_of(row: StoredPassage) -> Passage:
    """Returns a passage as a client sees it."""
    return Passage(**_fields(row))


def _hit(row: StoredPassage, found: _Found) -> Hit:
    fields = _fields(row)
    fields["content"] = row.content[found.place.start : found.place.end]
    return Hit(**fields, score=round(found.ranked.score, 4), place=found.place)


def _fields(row: StoredPassage) -> dict[str, Any]:
    return {
        "id": row.id,
        "content": row.content,
        "revision": row.revision,
        "created_at": time_of(row.recorded_at),
        "updated_at": time_of(row.updated_at),
        "trust": row.trust,
        "stated": row.stated,
        "external_id": row.external_id,
        "aliases": decode(row.aliases),
        "tags": decode(row.tags),
        "metadata": None if row.metadata is None else decode(row.metadata),
        "source": row.source,
        "is_public": row.is_public,
        "is_proposed": row.is_proposed,
        "valid_from": None if row.valid_from == ALWAYS else time_of(row.valid_from),
        "valid_until": None if row.valid_until == NEVER else time_of(row.valid_until),
        "subject": row.subject,
        "attribute": row.attribute,
        "closed_at": None if row.is_open else time_of(row.closed_at),
        "closed_by": row.closed_by,
        "derived_from": decode(row.derived_from),
        "plan_id": row.plan_id,
        "cause": row.cause,
    }


def _within(hits: list[Hit], max_tokens: int | None) -> list[Hit]:
    """Returns the best hits that come to `max_tokens` at most."""
    if max_tokens is None:
        return hits
    kept, left = [], max_tokens
    for hit in hits:
        left -= -(-len(hit.content.encode()) // CHARACTERS_PER_TOKEN)
        if left < 0:
            break
        kept.append(hit)
    return kept
