"""Searches of episodic memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from soorma_common.causes import NOBODY
from soorma_common.episodic import LogInteraction, Said, SaidHit, SaidHits, SaidSearch
from soorma_common.json_text import decode
from soorma_common.names import Scope
from soorma_common.semantic import fields_of
from soorma_common.times import time_of
from soorma_platform.engine.episodic import Logging, filters, prepare
from soorma_platform.engine.quarantine import hidden_labels
from soorma_platform.engine.retrieval import terms
from soorma_platform.engine.rows.interactions import InteractionRow, NewInteraction
from soorma_platform.engine.rows.passages import ALWAYS, NEVER, PartRow
from soorma_platform.stores.ports.episodic import EpisodicStore
from soorma_platform.work.recall.search import Ask, FoundPart, Mine, part_rows, within
from soorma_platform.work.recall.searching import Searching


class InteractionSearch:
    """Finds what was said to and by a user."""

    def __init__(self, searching: Searching, store: EpisodicStore) -> None:
        self._searching = searching
        self._store = store

    async def search(self, scope: Scope, body: SaidSearch) -> SaidHits:
        """Returns the best interactions of a user for a query."""
        meaning = await self._searching.meaning(scope, body.query, body.mode)
        standing = await self._searching.standing(self._store, scope, meaning, body.wait)
        own = [LogInteraction(**msgspec.structs.asdict(one)) for one in body.own]
        mine, said = _said_by_transaction(own, standing.now)
        labels = filters(body.agent_id, body.session_id, body.role)
        labels += terms.labels((), None, fields_of(body.metadata))
        hidden = hidden_labels(standing.quarantined)
        ask = Ask.of(body, labels, standing.now, hidden=hidden)
        found = await self._searching.find(standing.rows, mine, ask, meaning)
        said |= await self._store.said(found.numbers)
        hits = [_hit(said[one.passage], one) for one in found.parts if one.passage in said]
        return SaidHits(
            hits=within(hits, body.max_tokens),
            is_known=bool(standing.rows) or bool(mine.indexes),
            mode=found.mode,
            model=found.model,
            unembedded=found.unembedded,
        )


def _said_by_transaction(
    operations: Sequence[LogInteraction], now: int
) -> tuple[Mine, dict[int, InteractionRow]]:
    """Returns what a transaction has logged."""
    mine = Mine()
    interactions: dict[int, InteractionRow] = {}
    for number, operation in enumerate(operations):
        operation.id = operation.id or f"{number}"
    logging = Logging(set(), set(), now, NOBODY, None, by_handler=False)
    for operation in operations:
        logging.log(prepare(operation, None))
    rows: list[PartRow] = []
    logged = [one for one in logging.writes if isinstance(one, NewInteraction)]
    for number, new in enumerate(logged, 1):
        interactions[-number] = msgspec.structs.replace(new.row, number=-number)
        rows += part_rows(-number, new.parts, (now, NEVER, ALWAYS, NEVER))
    mine.put(rows)
    return mine, interactions


def said_of(row: InteractionRow) -> Said:
    """Returns an interaction as a client sees it."""
    return Said(**_fields(row))


def _hit(row: InteractionRow, found: FoundPart) -> SaidHit:
    fields = _fields(row)
    fields["content"] = row.content[found.place.start : found.place.end]
    return SaidHit(**fields, score=round(found.ranked.score, 4), place=found.place)


def _fields(row: InteractionRow) -> dict[str, Any]:
    is_stored = row.number is not None and row.number > 0
    return {
        "id": row.id,
        "number": row.number if is_stored else None,
        "agent_id": row.agent_id,
        "role": row.role,
        "content": row.content,
        "created_at": time_of(row.recorded_at) if is_stored else None,
        "trust": row.trust,
        "session_id": row.session_id,
        "metadata": None if row.metadata is None else decode(row.metadata),
        "plan_id": row.plan_id,
        "cause": row.cause,
    }
