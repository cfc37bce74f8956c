"""Searches of semantic memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from soorma_common.causes import NOBODY
from soorma_common.errors import InvalidRequest
from soorma_common.json_text import decode
from soorma_common.likeness import AlikeBody, AlikePassage
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.semantic import Hit, Hits, Passage, SearchBody, fields_of
from soorma_common.times import milliseconds, time_of
from soorma_platform.engine import semantic
from soorma_platform.engine.memories import stored_by
from soorma_platform.engine.quarantine import first_in, hidden_labels, origins_of
from soorma_platform.engine.retrieval import terms
from soorma_platform.engine.retrieval.likeness import may_restate
from soorma_platform.engine.retrieval.splitting import split
from soorma_platform.engine.rows.passages import (
    ALWAYS,
    NEVER,
    ChangedPassage,
    ForgottenPassage,
    MemoriesFound,
    MemoriesNeed,
    NewPassage,
    PartRow,
    PassageRow,
    StoredPassage,
)
from soorma_platform.engine.rows.quarantines import OriginsFound
from soorma_platform.stores.ports.semantic import Collections, SemanticStore
from soorma_platform.work.recall.search import Ask, FoundPart, Mine, part_rows, within
from soorma_platform.work.recall.searching import Searching

MOST_ALIKE = 20
"""Passages that are named as alike to one."""


class KnowledgeSearch:
    """Finds passages for a user."""

    def __init__(self, searching: Searching, store: SemanticStore, limits: Limits) -> None:
        self._searching = searching
        self._store = store
        self._limits = limits

    async def search(self, scope: Scope, body: SearchBody) -> Hits:
        """Returns the best passages for a query that the user may read."""
        meaning = await self._searching.meaning(scope, body.query, body.mode)
        standing = await self._searching.standing(self._store, scope, meaning, body.wait)
        rows = standing.rows
        if not body.include_public:
            rows = [row for row in rows if row.user_id is not None]
        as_of = standing.now if body.as_of is None else milliseconds(body.as_of)
        mine, texts = await self._uncommitted(scope, body, standing)
        labels = terms.labels(body.tags, body.source, fields_of(body.metadata))
        hidden = hidden_labels(standing.quarantined)
        ask = Ask.of(body, labels, as_of, body.known_at, hidden)
        found = await self._searching.find(rows, mine, ask, meaning)
        texts |= await self._visible(found.numbers, standing.quarantined)
        hits = [_hit(texts[one.passage], one) for one in found.parts if one.passage in texts]
        return Hits(
            hits=within(hits, body.max_tokens),
            is_known=bool(rows) or bool(mine.indexes),
            mode=found.mode,
            min_score=found.floor,
            model=found.model,
            unembedded=found.unembedded,
            is_calibrated=found.is_calibrated,
        )

    async def alike(self, scope: Scope, body: AlikeBody) -> list[AlikePassage]:
        """Returns passages that seem to state the same as a text, the nearest first.

        A text that would be stored in several parts is like none.
        """
        content = body.content.strip()
        meaning = await self._searching.meaning(scope, content, "vector")
        if meaning is None or not meaning.is_calibrated:
            raise InvalidRequest(
                "nobody has measured from which cosine on two texts of this embedding model state "
                "the same: the offline model can compare them"
            )
        if len(split(content)) > 1:
            return []
        standing = await self._searching.standing(self._store, scope, meaning, body.wait)
        found: list[tuple[int, float]] = []
        hidden = hidden_labels(standing.quarantined)
        for row in standing.rows:
            if row.model == meaning.model:
                least = meaning.calibration.alike
                (near,) = await self._searching.near(
                    row, meaning.model, [meaning.vector], least, MOST_ALIKE, hidden
                )
                found += near
        texts = await self._visible([number for number, _ in found], standing.quarantined)
        return [
            AlikePassage(other.id, other.content, round(cosine, 4), other.is_public)
            for number, cosine in sorted(found, key=lambda one: -one[1])
            if (other := texts.get(number)) is not None and may_restate(content, other.content)
        ]

    async def _visible(
        self, numbers: Sequence[int], quarantined: frozenset[str]
    ) -> dict[int, StoredPassage]:
        """Returns passages, but none in quarantine: an index may not know all of their origins."""
        found = await self._store.texts(numbers)
        if not quarantined:
            return found
        return {
            number: row
            for number, row in found.items()
            if first_in(quarantined, origins_of(row)) is None
        }

    async def _uncommitted(
        self, scope: Scope, body: SearchBody, standing: Collections
    ) -> tuple[Mine, dict[int, StoredPassage]]:
        """Returns what the operations of a transaction make of the passages, for its own search."""
        if not body.own:
            return Mine(), {}
        for number, operation in enumerate(body.own):
            operation.id = operation.id or f"{number}"
        changes = [semantic.prepare(one) for one in body.own]
        need = MemoriesNeed()
        for change in changes:
            semantic.add_need(need, change)
        known = await self._store.known(scope, need)
        knowing = semantic.Knowing(
            known,
            OriginsFound(standing.quarantined),
            standing.now,
            NOBODY,
            None,
            self._limits,
            by_handler=False,
            user_id=scope.user_id,
            stored=stored_by(changes),
        )
        for change in changes:
            knowing.decide(change)
        return _changed_by_transaction(knowing.writes(), known, body, standing.now)


def _changed_by_transaction(
    writes: Iterable[object], known: MemoriesFound, body: SearchBody, now: int
) -> tuple[Mine, dict[int, StoredPassage]]:
    """Returns what a transaction has changed of the passages, and those that it has stored."""
    mine = Mine()
    passages: dict[int, StoredPassage] = {}
    rows: list[PartRow] = []
    parts_of = {**known.own.parts, **known.public.parts}
    as_of = now if body.as_of is None else milliseconds(body.as_of)
    is_of_past = body.known_at is not None and milliseconds(body.known_at) < now
    for row in writes:
        if isinstance(row, ForgottenPassage | ChangedPassage) and row.row.number is not None:
            number = row.row.number
            is_over = not row.row.is_open or row.row.valid_until <= as_of
            if isinstance(row, ForgottenPassage) or (is_over and not is_of_past):
                mine.hidden.append(number)
            elif row.terms is not None:
                mine.hidden.append(number)
                rows += _relabelled(row, parts_of[number])
        elif isinstance(row, NewPassage):
            number = -1 - len(passages)
            passages[number] = _with_text(row.row, row.content)
            times = (row.row.recorded_at, NEVER, row.row.valid_from, row.row.valid_until)
            rows += part_rows(number, row.parts, times)
    mine.put(rows)
    return mine, passages


def _relabelled(changed: ChangedPassage, parts: list[PartRow]) -> list[PartRow]:
    row, terms_of = changed.row, changed.terms or {}
    return [
        msgspec.structs.replace(
            part,
            terms=terms_of[part.part],
            valid_from=row.valid_from,
            valid_until=row.valid_until,
            until_before=row.until_before,
        )
        for part in parts
    ]


def _with_text(row: PassageRow, content: str) -> StoredPassage:
    return StoredPassage(
        **{name: getattr(row, name) for name in PassageRow.__struct_fields__}, content=content
    )


def passage_of(row: StoredPassage) -> Passage:
    """Returns a passage as a client sees it."""
    return Passage(**_fields(row))


def _hit(row: StoredPassage, found: FoundPart) -> Hit:
    fields = _fields(row)
    fields["content"] = row.content[found.place.start : found.place.end]
    return Hit(**fields, score=round(found.ranked.score, 4), place=found.place)


def _fields(row: StoredPassage) -> dict[str, Any]:
    is_stored = row.number is not None
    return {
        "id": row.id,
        "content": row.content,
        "revision": row.revision if is_stored else 0,
        "created_at": time_of(row.recorded_at) if is_stored else None,
        "updated_at": time_of(row.updated_at) if is_stored else None,
        "trust": row.trust,
        "stated": row.stated,
        "is_recalled": row.is_recalled,
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
