"""Memories that go with a plan when it is purged: loaded to be forgotten."""

from __future__ import annotations

from typing import Any

from soorma_platform.engine.rows.passages import EPISODIC, SEMANTIC
from soorma_platform.engine.rows.plan_memories import PlanMemoriesFound, PlanMemoriesNeed
from soorma_platform.stores.sqlite import collections
from soorma_platform.stores.sqlite.statements import values
from soorma_platform.stores.sqlite.transactions import Loading


def load(loading: Loading, need: PlanMemoriesNeed) -> None:
    """Loads the memories of a plan that do not outlive it: interactions first."""
    found, connection, scope = (
        loading.found.part(PlanMemoriesFound),
        loading.connection,
        loading.scope,
    )
    for kind in _KINDS[need.outliving]:
        within = collections.collection.one(connection, scope.tenant_id, scope.user_id, kind)
        if within is None:
            continue
        left = need.limit - len(found.passages)
        numbers = values(connection, "memories_of_plan", within.id, need.plan_id, left)
        rows = [collections.passage.one(connection, number) for number in numbers]
        found.passages += [row for row in rows if row is not None]
        if kind == EPISODIC:
            found.interactions = len(found.passages)


_KINDS = {"all": (), "knowledge": (EPISODIC,), "promoted": (EPISODIC, SEMANTIC)}
LOADERS: dict[type[Any], Any] = {PlanMemoriesNeed: load}
