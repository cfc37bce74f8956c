"""Searches: the indexes of collections in memory, kept up to date, and what is found with them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from soorma_common.causes import NOBODY
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
    from soorma_platform.engine.retrieval.ranking import Cut, Ranked

PAGE = 2_000
"""Rows of an index that are read at a time, which takes some milliseconds."""
MANY = 2_000
"""Slots from which an index is searched in a thread: before, that costs more than the search."""
CHARACTERS_PER_TOKEN = 4
"""Characters of a token of a language model, roughly; `max_tokens` counts UTF-8 bytes by it."""


class Recall:
    """The searches of semantic memory; at most `most_bytes` of indexes are kept."""

    def __init__(self, store: SemanticStore, limits: Limits, most_bytes: int) -> None:
        self._store = store
        self._limits = limits
        self._most_bytes = most_bytes
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    async def search(self, scope: Scope, body: SearchBody) -> Hits:
        """Returns the best passages for a query that the user may read."""
        from soorma_platform.engine.retrieval.ranking import TEXT_CUT, Cut  # noqa: PLC0415 - numpy

        standing = await self._store.collections(scope)
        as_of = standing.now if body.as_of is None else milliseconds(body.as_of)
        mine = await self._uncommitted(scope, body, standing.now)
        cut = TEXT_CUT if body.min_score is None else Cut(body.min_score, 0.0)
        rows = [standing.own, standing.public if body.include_public else None]
        kept = [self._index(row) for row in rows if row is not None]
        for one in kept:  # in one order everywhere, so that no two searches wait for each other
            await one.lock.acquire()
        try:
            for one in kept:
                await self._refresh(one)
            indexes = [*(one.index for one in kept), *mine.indexes]
            hidden = [*(mine.hidden for _ in kept), *([] for _ in mine.indexes)]
            search = _Search(body, indexes, hidden, as_of, cut)
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
            is_known=any(row is not None for row in rows) or bool(mine.texts),
            mode="text",
            min_score=cut.floor,
        )

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

    async def _refresh(self, kept: _Kept) -> None:
        while True:
            rows = await self._store.parts(kept.collection, kept.index.change, PAGE)
            if len(rows) < MANY:
                kept.index.take(rows)
            else:
                await asyncio.to_thread(kept.index.take, rows)
            if len(rows) < PAGE:
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


class _Search(NamedTuple):
    """A search over indexes that nobody changes meanwhile."""

    body: SearchBody
    indexes: Sequence[CollectionIndex]
    hidden: Sequence[Sequence[int]]
    """by index, the passages that do not count"""
    as_of: int
    cut: Cut

    def run(self) -> list[Ranked]:
        """Returns the best parts, one of each passage."""
        from soorma_platform.engine.retrieval import ranking  # noqa: PLC0415 - numpy

        body, indexes = self.body, self.indexes
        labels = terms.labels(body.tags, body.source, fields_of(body.metadata))
        since = ALWAYS if body.since is None else milliseconds(body.since)
        until = NEVER if body.until is None else milliseconds(body.until)
        known_at = None if body.known_at is None else milliseconds(body.known_at)
        visible = [
            index.visible(known_at, self.as_of, hidden)
            for index, hidden in zip(indexes, self.hidden, strict=True)
        ]
        scores = ranking.text_scores(ranking.Query.of(body.query), indexes, visible)
        eligible = [
            ranking.candidates(index, mask, labels, since, until)
            for index, mask in zip(indexes, visible, strict=True)
        ]
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
