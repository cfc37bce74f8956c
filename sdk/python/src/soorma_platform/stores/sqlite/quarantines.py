"""Quarantines: loaded and written for commands, and read; and the origins of memories."""

from __future__ import annotations

import builtins
from typing import Any

import apsw

from soorma_common.names import Owner, Scope
from soorma_platform.engine.rows.passages import EPISODIC, PROCEDURAL, SEMANTIC
from soorma_platform.engine.rows.quarantines import (
    EVERYBODY,
    AddedOrigins,
    OriginsFound,
    OriginsNeed,
    QuarantineFound,
    QuarantineNeed,
    QuarantineRow,
    ReleasedQuarantine,
)
from soorma_platform.stores.sqlite import collections
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value, values
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_one = Select("quarantine", QuarantineRow)
_all = Select("quarantines_of", QuarantineRow)
_insert = Mutation("insert_quarantine", "tenant_id", QuarantineRow)
_PLACES = (
    (SEMANTIC, True), (SEMANTIC, False), (EPISODIC, False), (PROCEDURAL, True), (PROCEDURAL, False)
)  # fmt: skip
"""Where a memory may be that another is derived from: the kind, and whether it may be public."""


def load(loading: Loading, need: QuarantineNeed) -> None:
    """Loads a quarantine."""
    found, owner = loading.found.part(QuarantineFound), _owner(loading.whose)
    found.row = _one.one(loading.connection, *owner, need.origin)
    found.count = value(loading.connection, "count_quarantines", *owner)


def load_origins(loading: Loading, need: OriginsNeed) -> None:
    """Loads what is in quarantine, and the origins of memories."""
    connection, scope = loading.connection, loading.scope
    found = loading.found.part(OriginsFound)
    found.quarantined = origins_for(connection, scope)
    if found.quarantined:
        found.of_tenant = frozenset(
            values(connection, "quarantined_origins", scope.tenant_id, EVERYBODY)
        )
    if not need.ids:
        return
    rows = [
        collections.collection.one(
            connection, scope.tenant_id, None if is_public else scope.user_id, kind
        )
        for kind, is_public in _PLACES
    ]
    places = [None if row is None else row.id for row in rows]
    found.of = {one: values(connection, "origins_of", one, *places) for one in need.ids}


def origins_for(connection: apsw.Connection, scope: Scope) -> frozenset[str]:
    """Returns the origins that are in quarantine for a user."""
    return frozenset(values(connection, "quarantined_origins", scope.tenant_id, scope.user_id))


def insert(writing: Writing, row: QuarantineRow) -> None:
    """Puts an origin into quarantine."""
    tenant_id, _ = _owner(writing.whose)
    _insert.run(writing.connection, tenant_id, row)


def release(writing: Writing, released: ReleasedQuarantine) -> None:
    """Ends a quarantine."""
    execute(writing.connection, "end_quarantine", *_owner(writing.whose), released.row.origin)


def spread(writing: Writing, added: AddedOrigins) -> None:
    """Adds origins to a passage and to all that is derived from it, wherever that is."""
    connection, row = writing.connection, added.row
    places = collections.derived_places(connection, writing.scope)
    numbers = values(connection, "derived_passages", row.collection, row.number, *places)
    for number in numbers:
        execute(connection, "add_origins", number, added.origins)
        collections.add_terms(connection, number, added.labels)


def _owner(whose: Scope | Owner) -> tuple[str, str]:
    if isinstance(whose, Scope):
        return whose.tenant_id, whose.user_id
    assert isinstance(whose, str)  # noqa: S101 - whoever made the command has seen to it
    return whose, EVERYBODY


class SqliteQuarantines:
    """The port of quarantines."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def list(self, whose: Scope | Owner) -> builtins.list[QuarantineRow]:
        with self._connections.reads() as connection:
            return _all.all(connection, *_owner(whose))

    async def origins(self, scope: Scope) -> frozenset[str]:
        with self._connections.reads() as connection:
            return origins_for(connection, scope)


LOADERS: dict[type[Any], Any] = {QuarantineNeed: load, OriginsNeed: load_origins}
WRITERS: dict[type[Any], Any] = {
    QuarantineRow: insert,
    ReleasedQuarantine: release,
    AddedOrigins: spread,
}
