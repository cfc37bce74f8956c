"""Searches of procedural memory: what applies, is about a context, and has succeeded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from soorma_common.json_text import decode
from soorma_common.names import Scope
from soorma_common.procedural import (
    ProcedureHit,
    ProcedureHits,
    ProcedureVersion,
    RelevantBody,
    VersionInfo,
    applies,
    lower_bound,
)
from soorma_common.semantic import MOST_HITS, fields_of
from soorma_common.times import time_of
from soorma_platform.engine.procedural import kind_label
from soorma_platform.engine.quarantine import hidden_labels
from soorma_platform.engine.rows.passages import ALWAYS, NEVER
from soorma_platform.engine.rows.procedures import ActiveRow, StoredVersion
from soorma_platform.stores.ports.procedural import ProceduralStore
from soorma_platform.stores.ports.semantic import Collections
from soorma_platform.work.recall.search import Ask, FoundAll, Meaning, Mine, within
from soorma_platform.work.recall.searching import Searching


class ProcedureSearch:
    """Finds active procedures for an agent."""

    def __init__(self, searching: Searching, store: ProceduralStore) -> None:
        self._searching = searching
        self._store = store

    async def search(self, scope: Scope, body: RelevantBody) -> ProcedureHits:
        """Returns those that apply and are about the context, the most successful first."""
        meaning = None
        if body.context is not None:
            meaning = await self._searching.meaning(scope, body.context, body.mode)
        standing = await self._searching.standing(self._store, scope, meaning, body.wait)
        active = await self._store.active(scope, standing.rows, body.kind)
        applying = _applying(active, body)
        if body.context is None:
            ranked: dict[int, float | None] = {row.passage: None for row in applying}
            found = FoundAll([], "text", 0.0, None, 0, is_calibrated=True)
        else:
            others = {row.passage for row in active} - {row.passage for row in applying}
            found = await self._about(body, body.context, meaning, standing, [*others])
            ranked = {one.passage: round(one.ranked.score, 4) for one in found.parts}
        rows = [row for row in applying if row.passage in ranked]
        best = sorted(rows, key=lambda row: _rank(row, ranked[row.passage]))[: body.limit]
        stored = await self._store.stored([row.passage for row in best])
        hits = [
            ProcedureHit(**_fields(one), content=one.content[one.head :], score=ranked[number])
            for number, one in stored.items()
        ]
        return ProcedureHits(
            procedures=within(hits, body.max_tokens),
            applying=len(applying),
            mode=found.mode,
            min_score=found.floor,
            model=found.model,
            unembedded=found.unembedded,
            is_calibrated=found.is_calibrated,
        )

    async def _about(
        self,
        body: RelevantBody,
        context: str,
        meaning: Meaning | None,
        standing: Collections,
        others: list[int],
    ) -> FoundAll:
        """Returns what is about a context, but for `others`: the most similar first."""
        labels = [kind_label(body.kind)]
        bounds = (body.mode, MOST_HITS, body.min_score, labels, ALWAYS, NEVER, standing.now)
        ask = Ask(context, *bounds, hidden=hidden_labels(standing.quarantined))
        return await self._searching.find(standing.rows, Mine(others), ask, meaning)


def _applying(active: Sequence[ActiveRow], body: RelevantBody) -> list[ActiveRow]:
    """Returns what applies; what the user has takes the place of what the tenant calls the same."""
    facts = fields_of(body.facts) or {}
    own = {row.name for row in active if not row.is_public}
    return [
        row
        for row in active
        if (not row.is_public or row.name not in own)
        and applies(
            decode(row.agents),
            {} if row.conditions is None else decode(row.conditions),
            body.agent_id,
            facts,
        )
    ]


def _rank(row: ActiveRow, score: float | None) -> tuple[float, int, float, str]:
    """Sorts by success, and what was never tried before what has failed."""
    return -lower_bound(row.succeeded, row.failed), row.failed, -(score or 0.0), row.name


def success_of(succeeded: int, failed: int) -> float:
    """Returns the lower bound of a success rate as a client sees it."""
    return round(lower_bound(succeeded, failed), 4)


def info_of(row: StoredVersion) -> VersionInfo:
    """Returns a version without its content as a client sees it."""
    return VersionInfo(**_fields(row))


def version_of(row: StoredVersion) -> ProcedureVersion:
    """Returns a version as a client sees it."""
    return ProcedureVersion(**_fields(row), content=row.content[row.head :])


def _fields(row: StoredVersion) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "name": row.name,
        "version": row.version,
        "is_active": row.closed_at == NEVER,
        "created_at": time_of(row.recorded_at),
        "updated_at": time_of(row.updated_at),
        "trust": row.trust,
        "description": row.description,
        "agents": decode(row.agents),
        "conditions": None if row.conditions is None else decode(row.conditions),
        "tags": decode(row.tags),
        "metadata": None if row.metadata is None else decode(row.metadata),
        "source": row.source,
        "files": decode(row.sizes),
        "is_public": row.is_public,
        "is_proposed": row.is_proposed,
        "succeeded": row.succeeded,
        "failed": row.failed,
        "success": success_of(row.succeeded, row.failed),
        "derived_from": decode(row.derived_from),
        "plan_id": row.plan_id,
        "cause": row.cause,
    }
