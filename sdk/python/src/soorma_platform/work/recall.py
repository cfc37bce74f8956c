"""Searches: the indexes of collections in memory, kept up to date, and what is found with them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from soorma_common.causes import NOBODY
from soorma_common.episodic import LogInteraction, Said, SaidHit, SaidHits, SaidSearch
from soorma_common.errors import InvalidRequest, TimedOut, Unavailable
from soorma_common.json_text import decode
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.semantic import Hit, Hits, Mode, Passage, Place, SearchBody, fields_of, tokens_in
from soorma_common.times import milliseconds, time_of
from soorma_platform.engine import memories
from soorma_platform.engine.episodic import Logging, filters
from soorma_platform.engine.episodic import prepare as prepare_interaction
from soorma_platform.engine.retrieval import terms
from soorma_platform.engine.rows.interactions import InteractionRow
from soorma_platform.engine.rows.passages import (
    ALWAYS,
    NEVER,
    ChangedPassage,
    CollectionRow,
    ForgottenPassage,
    MemoriesFound,
    NewPart,
    NewPassage,
    PartRow,
    PassageRow,
    StoredPassage,
)
from soorma_platform.metrics import Metrics
from soorma_platform.stores.ports.episodic import EpisodicStore
from soorma_platform.stores.ports.semantic import Collections, SemanticStore

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
H = TypeVar("H", Hit, SaidHit)


class Recall:
    """The searches of memories; at most `most_bytes` of indexes are kept.

    With an `embedding`, they go by meaning, too.
    """

    def __init__(
        self,
        passages: SemanticStore,
        interactions: EpisodicStore,
        limits: Limits,
        most_bytes: int,
        embedding: Embedding | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._passages = passages
        self._interactions = interactions
        self._limits = limits
        self._most_bytes = most_bytes
        self._embedding = embedding
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    async def knowledge(self, scope: Scope, body: SearchBody) -> Hits:
        """Returns the best passages for a query that the user may read."""
        meaning = await self._meaning(scope, body)
        standing = await self._standing(self._passages, scope, meaning, body.wait)
        rows = [
            row
            for row in (standing.own, standing.public if body.include_public else None)
            if row is not None
        ]
        as_of = standing.now if body.as_of is None else milliseconds(body.as_of)
        mine = await self._uncommitted(scope, body, standing.now)
        ask = _Ask(
            body.query,
            body.mode,
            body.limit,
            body.min_score,
            terms.labels(body.tags, body.source, fields_of(body.metadata)),
            ALWAYS if body.since is None else milliseconds(body.since),
            NEVER if body.until is None else milliseconds(body.until),
            as_of,
            None if body.known_at is None else milliseconds(body.known_at),
        )
        found = await self._find(rows, mine, ask, meaning)
        texts = await self._passages.texts(found.numbers)
        texts |= mine.passages
        hits = [_hit(texts[one.passage], one) for one in found.parts if one.passage in texts]
        self._metrics.searches.add("semantic", found.mode)
        return Hits(
            hits=_within(hits, body.max_tokens),
            is_known=bool(rows) or bool(mine.passages),
            mode=found.mode,
            min_score=found.floor,
            model=found.model,
            unembedded=found.unembedded,
            is_calibrated=found.is_calibrated,
        )

    async def interactions(self, scope: Scope, body: SaidSearch) -> SaidHits:
        """Returns the best interactions of a user for a query."""
        meaning = await self._meaning(scope, body)
        standing = await self._standing(self._interactions, scope, meaning, body.wait)
        rows = [standing.own] if standing.own is not None else []
        mine = _said_by_transaction(
            [LogInteraction(**msgspec.structs.asdict(one)) for one in body.own], standing.now
        )
        labels = filters(body.agent_id, body.session_id, body.role)
        ask = _Ask(
            body.query,
            body.mode,
            body.limit,
            body.min_score,
            [*labels, *terms.labels((), None, fields_of(body.metadata))],
            ALWAYS if body.since is None else milliseconds(body.since),
            NEVER if body.until is None else milliseconds(body.until),
            standing.now,
            None,
        )
        found = await self._find(rows, mine, ask, meaning)
        said = await self._interactions.said(found.numbers)
        said |= mine.interactions
        hits = [_said_hit(said[one.passage], one) for one in found.parts if one.passage in said]
        self._metrics.searches.add("episodic", found.mode)
        return SaidHits(
            hits=_within(hits, body.max_tokens),
            is_known=bool(rows) or bool(mine.interactions),
            mode=found.mode,
            model=found.model,
            unembedded=found.unembedded,
        )

    async def _find(
        self,
        rows: Sequence[CollectionRow],
        mine: _Mine,
        ask: _Ask,
        meaning: _Meaning | None,
    ) -> _FoundAll:
        """Returns the best parts in these collections, and among a transaction's own."""
        kept = [self._index(row) for row in rows]
        for one in kept:  # in one order everywhere, so that no two searches wait for each other
            await one.lock.acquire()
        try:
            for one, row in zip(kept, rows, strict=True):
                await self._refresh(one, row.model, meaning)
            indexes = [*(one.index for one in kept), *mine.indexes]
            hidden = [*(mine.hidden for _ in kept), *([] for _ in mine.indexes)]
            search = _Search(ask, indexes, hidden, meaning)
            if sum(index.count for index in indexes) > MANY:
                ranked = await asyncio.to_thread(search.run)
            else:
                ranked = search.run()
            parts = [_Found(one, *_place(indexes, one)) for one in ranked]
        finally:
            for one in kept:
                one.lock.release()
        self._forget_some()
        return _FoundAll(
            parts,
            "text" if meaning is None else ask.mode,
            search.cut.floor,
            None if meaning is None else meaning.name,
            await self._unembedded(rows, meaning),
            meaning is None or meaning.is_calibrated,
        )

    async def _standing(
        self,
        of: SemanticStore | EpisodicStore,
        scope: Scope,
        meaning: _Meaning | None,
        wait: float | None,
    ) -> Collections:
        """Returns the collections of a user, after waiting for their vectors if that is wanted."""
        standing = await of.collections(scope)
        if meaning is None or wait is None:
            return standing
        rows = [row for row in (standing.own, standing.public) if row is not None]
        await self._wait_for_vectors(rows, meaning.model, wait)
        return await of.collections(scope)  # they may use another model now

    async def _meaning(self, scope: Scope, ask: SearchBody | SaidSearch) -> _Meaning | None:
        """Returns the vector of the query; None if the search goes by words alone.

        A search that asks for vectors gets an error if there are none; any other says that it went
        by words.
        """
        if ask.mode == "text":
            return None
        embedding = self._embedding
        if embedding is None:
            if ask.mode == "vector":
                raise InvalidRequest(
                    "no embedding model is in use, so nothing can be found by its vector: install "
                    "the extra soorma-core[embeddings], or set SOORMA_EMBEDDINGS"
                )
            return None
        from soorma_platform.engine.retrieval.ranking import UNKNOWN_MODEL  # noqa: PLC0415 - numpy

        try:
            vector = await embedding.query(scope.tenant_id, scope.user_id, ask.query)
            model = await embedding.model()
        except Unavailable:
            if ask.mode == "vector":
                raise
            return None
        embedder = embedding.embedder
        known = embedder.calibration
        return _Meaning(vector, model, embedder.name, known or UNKNOWN_MODEL, known is not None)

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

    async def _unembedded(self, rows: Sequence[CollectionRow], meaning: _Meaning | None) -> int:
        if meaning is None or self._embedding is None:
            return 0
        return sum([await self._embedding.left(row.id, meaning.model) for row in rows])

    async def _uncommitted(self, scope: Scope, body: SearchBody, now: int) -> _Mine:
        """Returns what the operations of a transaction make of the passages, for its own search."""
        if not body.own:
            return _Mine()
        for number, operation in enumerate(body.own):
            operation.id = operation.id or f"{number}"
        changes = [memories.prepare(one) for one in body.own]
        known = await self._passages.known(scope, memories.need_of(changes))
        remembering = memories.Remembering(
            known, now, NOBODY, None, self._limits, by_handler=False, user_id=scope.user_id
        )
        remembering.decide(changes)
        return _changed_by_transaction(remembering.writes(), known)

    def _index(self, row: CollectionRow) -> _Kept:
        from soorma_platform.engine.retrieval.index import CollectionIndex  # noqa: PLC0415 - numpy

        kept = self._kept.get(row.id)
        if kept is None:
            kept = self._kept[row.id] = _Kept(row.id, CollectionIndex(), asyncio.Lock())
        self._kept.move_to_end(row.id)
        return kept

    async def _refresh(self, kept: _Kept, model: int, meaning: _Meaning | None) -> None:
        """Takes what has changed; vectors only if the collection uses the `model` of the query."""
        while True:
            rows = await self._passages.parts(kept.collection, kept.index.change, PAGE)
            if len(rows) < MANY:
                kept.index.take(rows)
            else:
                await asyncio.to_thread(kept.index.take, rows)
            if len(rows) < PAGE:
                break
        if meaning is None:
            return
        index = kept.index
        if kept.model != meaning.model or model != meaning.model:
            index.forget_vectors()
            kept.model = meaning.model
        if model != meaning.model:
            return
        while True:
            vectors = await self._passages.vectors(
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


class _Ask(NamedTuple):
    """What is searched for, of whatever kind of memory; times are in ms."""

    query: str
    mode: Mode
    limit: int
    min_score: float | None
    """None for what the calibration says"""
    labels: list[int]
    since: int
    until: int
    as_of: int
    known_at: int | None


class _FoundAll(NamedTuple):
    """What was found, and how."""

    parts: list[_Found]
    mode: Mode
    floor: float
    model: str | None
    unembedded: int
    is_calibrated: bool

    @property
    def numbers(self) -> list[int]:
        """The numbers of what is committed."""
        return [one.passage for one in self.parts if one.passage >= 0]


@dataclass
class _Kept:
    """An index in memory; whoever reads or changes it holds its lock."""

    collection: int
    index: CollectionIndex
    lock: asyncio.Lock
    model: int = 0
    """the one whose vectors it has"""


class _Mine:
    """What a transaction has not committed yet: its index, its texts, and what it has hidden.

    What it has stored has numbers below 0.
    """

    def __init__(self) -> None:
        self.indexes: list[CollectionIndex] = []
        self.passages: dict[int, StoredPassage] = {}
        self.interactions: dict[int, InteractionRow] = {}
        self.hidden: list[int] = []

    def put(self, rows: Sequence[PartRow]) -> None:
        """Makes an index of rows."""
        from soorma_platform.engine.retrieval.index import CollectionIndex  # noqa: PLC0415 - numpy

        if rows:
            index = CollectionIndex()
            index.take(rows)
            self.indexes.append(index)


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
        ask: _Ask,
        indexes: Sequence[CollectionIndex],
        hidden: Sequence[Sequence[int]],
        meaning: _Meaning | None,
    ) -> None:
        from soorma_platform.engine.retrieval import ranking  # noqa: PLC0415 - numpy

        self._ask = ask
        self._indexes = indexes
        self._hidden = hidden
        self._meaning = meaning
        self._by_vector_alone = meaning is not None and ask.mode == "vector"
        if ask.min_score is not None:
            self.cut = ranking.Cut(ask.min_score, 0.0)
        elif meaning is None:
            self.cut = ranking.TEXT_CUT
        elif self._by_vector_alone:
            self.cut = meaning.calibration.vector_cut
        else:
            self.cut = meaning.calibration.cut

    def run(self) -> list[Ranked]:
        """Returns the best parts, one of each passage."""
        from soorma_platform.engine.retrieval import ranking  # noqa: PLC0415 - numpy

        ask, indexes, meaning = self._ask, self._indexes, self._meaning
        visible = [
            index.visible(ask.known_at, ask.as_of, hidden)
            for index, hidden in zip(indexes, self._hidden, strict=True)
        ]
        eligible = [
            ranking.candidates(index, mask, ask.labels, ask.since, ask.until)
            for index, mask in zip(indexes, visible, strict=True)
        ]
        texts = ranking.text_scores(ranking.Query.of(ask.query), indexes, visible)
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
        return ranking.best(indexes, scores, eligible, ask.limit, self.cut)


def _changed_by_transaction(writes: Iterable[object], known: MemoriesFound) -> _Mine:
    """Returns what a transaction has changed of the passages."""
    mine = _Mine()
    rows: list[PartRow] = []
    parts_of = {**known.own.parts, **known.public.parts}
    for row in writes:
        if isinstance(row, ForgottenPassage | ChangedPassage) and row.row.number is not None:
            number = row.row.number
            if isinstance(row, ForgottenPassage) or not row.row.is_open:
                mine.hidden.append(number)
            elif row.terms is not None:
                mine.hidden.append(number)
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
            number = -1 - len(mine.passages)
            mine.passages[number] = _with_text(row.row, row.content)
            times = (row.row.recorded_at, NEVER, row.row.valid_from, row.row.valid_until)
            rows += _part_rows(number, row.parts, times)
    mine.put(rows)
    return mine


def _said_by_transaction(operations: Sequence[LogInteraction], now: int) -> _Mine:
    """Returns what a transaction has logged."""
    mine = _Mine()
    if not operations:
        return mine
    for number, operation in enumerate(operations):
        operation.id = operation.id or f"{number}"
    logging = Logging(set(), now, NOBODY, None, by_handler=False)
    for operation in operations:
        logging.log(prepare_interaction(operation, None))
    rows: list[PartRow] = []
    for number, new in enumerate(logging.writes, 1):
        mine.interactions[-number] = msgspec.structs.replace(new.row, number=-number)
        rows += _part_rows(-number, new.parts, (now, NEVER, ALWAYS, NEVER))
    mine.put(rows)
    return mine


def _part_rows(
    number: int, parts: Sequence[NewPart], times: tuple[int, int, int, int]
) -> list[PartRow]:
    return [
        PartRow(1, number, one.part, one.starts, one.ends, one.length, *times, one.terms)
        for one in parts
    ]


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


def said_of(row: InteractionRow) -> Said:
    """Returns an interaction as a client sees it."""
    return Said(**_said_fields(row))


def _said_hit(row: InteractionRow, found: _Found) -> SaidHit:
    fields = _said_fields(row)
    fields["content"] = row.content[found.place.start : found.place.end]
    return SaidHit(**fields, score=round(found.ranked.score, 4), place=found.place)


def _said_fields(row: InteractionRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "number": row.number or 0,
        "agent_id": row.agent_id,
        "role": row.role,
        "content": row.content,
        "created_at": time_of(row.recorded_at),
        "trust": row.trust,
        "session_id": row.session_id,
        "metadata": None if row.metadata is None else decode(row.metadata),
        "plan_id": row.plan_id,
        "cause": row.cause,
    }


def _within(hits: list[H], max_tokens: int | None) -> list[H]:
    """Returns the best hits that come to `max_tokens` at most."""
    if max_tokens is None:
        return hits
    left = max_tokens
    for count, hit in enumerate(hits):
        left -= tokens_in(hit.content)
        if left < 0:
            return hits[:count]
    return hits
