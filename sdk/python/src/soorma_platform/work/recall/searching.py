"""The indexes of collections: kept in memory, brought up to date, and searched."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from soorma_common.errors import InvalidRequest, TimedOut, Unavailable
from soorma_common.names import Scope
from soorma_common.semantic import Mode
from soorma_platform.engine.rows.passages import CollectionRow
from soorma_platform.metrics import Metrics
from soorma_platform.stores.ports.semantic import Collections, SemanticStore
from soorma_platform.work.recall.search import (
    Ask,
    FoundAll,
    FoundPart,
    Meaning,
    Mine,
    Search,
    place_of,
)

if TYPE_CHECKING:
    from soorma_platform.engine.retrieval.index import CollectionIndex
    from soorma_platform.engine.retrieval.vectors import Vector
    from soorma_platform.work.embedding.worker import Embedding

PAGE = 2_000
"""Rows of an index that are read at a time, which takes some milliseconds."""
MANY = 2_000
"""Slots from which an index is searched in a thread: before, that costs more than the search."""
WAIT_SECONDS = 0.02
"""Seconds between two looks at what is embedded, for a search that waits for that."""


class HasCollections(Protocol):
    """A port whose memories are in collections."""

    async def collections(self, scope: Scope) -> Collections:
        """Returns those that a user reads."""
        ...


class Searching:
    """Searches the indexes of collections, of which at most `most_bytes` are kept.

    With an `embedding`, it goes by meaning, too.
    """

    def __init__(
        self,
        passages: SemanticStore,
        most_bytes: int,
        embedding: Embedding | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._metrics.memories.index_bytes_limit = most_bytes
        self._passages = passages
        self._most_bytes = most_bytes
        self._embedding = embedding
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._bytes = 0
        """of all that are kept: counted as they change, as they may be tens of thousands"""

    async def find(
        self,
        rows: Sequence[CollectionRow],
        mine: Mine,
        ask: Ask,
        meaning: Meaning | None,
    ) -> FoundAll:
        """Returns the best parts in these collections, and among a transaction's own."""
        kept = [self._index(row) for row in rows]
        for one in kept:  # in one order everywhere, so that no two searches wait for each other
            await one.lock.acquire()
        try:
            for one, row in zip(kept, rows, strict=True):
                await self._refresh(one, row.model, None if meaning is None else meaning.model)
            indexes = [*(one.index for one in kept), *mine.indexes]
            hidden = [*(mine.hidden for _ in kept), *([] for _ in mine.indexes)]
            search = Search(ask, indexes, hidden, meaning)
            if sum(index.count for index in indexes) > MANY:
                ranked = await asyncio.to_thread(search.run)
            else:
                ranked = search.run()
            parts = [FoundPart(one, *place_of(indexes, one)) for one in ranked]
        finally:
            for one in kept:
                one.lock.release()
        self._weigh(kept)
        return FoundAll(
            parts,
            "text" if meaning is None else ask.mode,
            search.cut.floor,
            None if meaning is None else meaning.name,
            await self._unembedded(rows, meaning),
            meaning is None or meaning.is_calibrated,
        )

    async def near(
        self,
        row: CollectionRow,
        model: int,
        vectors: Sequence[Vector],
        least: float,
        most: int,
        hidden: Sequence[int] = (),
    ) -> list[list[tuple[int, float]]]:
        """Returns, for each vector, the nearest open passages, by number, with their cosines.

        At most `most`, each with a cosine of at least `least`, and with none of the labels
        `hidden`.
        """
        from soorma_platform.engine.retrieval.ranking import nearest  # noqa: PLC0415 - numpy

        kept = self._index(row)
        async with kept.lock:
            await self._refresh(kept, row.model, model)
            if kept.index.count > MANY:
                found = await asyncio.to_thread(nearest, kept.index, vectors, least, most, hidden)
            else:
                found = nearest(kept.index, vectors, least, most, hidden)
        self._weigh([kept])
        return found

    async def standing(
        self, of: HasCollections, scope: Scope, meaning: Meaning | None, wait: float | None
    ) -> Collections:
        """Returns the collections of a user, after waiting for their vectors if that is wanted."""
        standing = await of.collections(scope)
        if meaning is None or wait is None:
            return standing
        await self._wait_for_vectors(standing.rows, meaning.model, wait)
        return await of.collections(scope)  # they may use another model now

    async def meaning(self, scope: Scope, query: str, mode: Mode) -> Meaning | None:
        """Returns the vector of the query; None if the search goes by words alone.

        A search that asks for vectors gets an error if there are none; any other says that it went
        by words.
        """
        if mode == "text":
            return None
        embedding = self._embedding
        if embedding is None:
            if mode == "vector":
                raise InvalidRequest(
                    "no embedding model is in use, so nothing can be found by its vector: install "
                    "the extra soorma-core[embeddings], or set SOORMA_EMBEDDINGS"
                )
            return None
        from soorma_platform.engine.retrieval.ranking import UNKNOWN_MODEL  # noqa: PLC0415 - numpy

        try:
            vector = await embedding.query(scope.tenant_id, scope.user_id, query)
            model = await embedding.model()
        except Unavailable:
            if mode == "vector":
                raise
            return None
        embedder = embedding.embedder
        known = embedder.calibration
        return Meaning(vector, model, embedder.name, known or UNKNOWN_MODEL, known is not None)

    async def _wait_for_vectors(
        self, rows: Sequence[CollectionRow], model: int, seconds: float
    ) -> None:
        """Waits until all that is stored is embedded; TimedOut if that takes longer."""
        assert self._embedding is not None  # noqa: S101 - there is a model
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while sum([await self._embedding.left(row.id, model) for row in rows]):
            if loop.time() > until:
                raise TimedOut(
                    f"not all that is stored is embedded after {seconds:g} s; wait for longer, or "
                    "search by words meanwhile: mode='text'"
                )
            await asyncio.sleep(WAIT_SECONDS)

    async def _unembedded(self, rows: Sequence[CollectionRow], meaning: Meaning | None) -> int:
        if meaning is None or self._embedding is None:
            return 0
        return sum([await self._embedding.left(row.id, meaning.model) for row in rows])

    def _index(self, row: CollectionRow) -> _Kept:
        from soorma_platform.engine.retrieval.index import CollectionIndex  # noqa: PLC0415 - numpy

        kept = self._kept.get(row.id)
        if kept is None:
            kept = self._kept[row.id] = _Kept(row.id, CollectionIndex(), asyncio.Lock())
        self._kept.move_to_end(row.id)
        return kept

    async def _refresh(self, kept: _Kept, model: int, wanted: int | None) -> None:
        """Takes what has changed; vectors only if the collection uses the model `wanted`."""
        index, more = kept.index, False
        while True:
            is_loading = more
            rows = await self._passages.parts(kept.collection, index.change, PAGE)
            if rows is None:
                kept.begin_anew()
                index, more = kept.index, False
                continue
            more = len(rows) == PAGE
            if index.count + len(rows) < MANY:
                index.take(rows)
            elif rows or is_loading:  # a large index may be sorted anew
                await asyncio.to_thread(partial(index.take, rows, more=more))
            if not more:
                break
        if wanted is None:
            return
        if kept.model != wanted or model != wanted:
            index.forget_vectors()
            kept.model = wanted
        if model != wanted:
            return
        while True:
            vectors = await self._passages.vectors(
                kept.collection, wanted, index.vector_change, PAGE
            )
            if len(vectors) < MANY:
                index.take_vectors(vectors)
            else:
                await asyncio.to_thread(index.take_vectors, vectors)
            if len(vectors) < PAGE:
                return

    def _weigh(self, used: Sequence[_Kept]) -> None:
        """Counts what the indexes take that were used, and drops others if there is no room."""
        for one in used:
            if self._kept.get(one.collection) is one:
                size = one.index.nbytes
                self._bytes += size - one.nbytes
                one.nbytes = size
        if self._bytes > self._most_bytes:
            self._drop_some()
        self._metrics.memories.index_bytes = self._bytes

    def _drop_some(self) -> None:
        """Drops the indexes that were not searched for the longest time, but for the last one."""
        dropped = list[_Kept]()
        size = self._bytes
        for one in islice(self._kept.values(), len(self._kept) - 1):
            if size <= self._most_bytes:
                break
            if not one.lock.locked():
                dropped.append(one)
                size -= one.nbytes
        for one in dropped:
            del self._kept[one.collection]
            self._metrics.memories.indexes_dropped.add()
        self._bytes = size


@dataclass
class _Kept:
    """An index in memory; whoever reads or changes it holds its lock."""

    collection: int
    index: CollectionIndex
    lock: asyncio.Lock
    model: int = 0
    """the one whose vectors it has"""
    nbytes: int = 0
    """as it was counted last"""

    def begin_anew(self) -> None:
        """Empties the index: it follows from the start."""
        self.index, self.model = type(self.index)(), 0
