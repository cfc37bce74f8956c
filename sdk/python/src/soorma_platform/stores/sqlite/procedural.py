"""Procedural memory: procedures and their versions, loaded and written for commands, and read."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import apsw

from soorma_common.names import Scope
from soorma_platform.engine.rows.passages import ALWAYS, NEVER, PROCEDURAL, CollectionRow
from soorma_platform.engine.rows.procedures import (
    ActiveRow,
    ChangedProcedure,
    CountedOutcome,
    NewVersion,
    PlanOutcome,
    ProcedureFound,
    ProcedureInfoRow,
    ProcedureKey,
    ProcedureRow,
    ProceduresFound,
    ProceduresNeed,
    StoredVersion,
    SwitchedVersion,
    UsedVersion,
    VersionRow,
)
from soorma_platform.stores.ports.semantic import Collections
from soorma_platform.stores.sqlite import collections
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.quarantines import origins_for
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value, values
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_procedure = Select("procedure", ProcedureRow)
_versions = Select("versions_for_decision", VersionRow)
_active = Select("active_versions", ActiveRow)
_stored = Select("stored_version", StoredVersion)
_before = Select("versions_before", StoredVersion)
_after = Select("procedures_after", ProcedureInfoRow)
_add = Mutation("add_procedure", ProcedureRow)
_update = Mutation("update_procedure", ProcedureRow)
_REMOVALS = ("remove_version", "remove_files", "remove_uses")


def load(loading: Loading, need: ProceduresNeed) -> None:
    """Loads procedures with their versions."""
    connection, found = loading.connection, loading.found.part(ProceduresFound)
    for key in need.keys:
        within = _collection(connection, loading.scope, key.is_public)
        one = found.procedures[key] = ProcedureFound()
        if within is None:
            continue
        found.counts[key.is_public] = value(connection, "count_procedures", within.id)
        one.row = _procedure.one(connection, within.id, key.kind, key.name)
        if one.row is not None:
            rows = _versions.all(connection, one.row.number)
            one.versions = {row.version: row for row in rows}
    for is_public, version_id in need.ids:
        within = _collection(connection, loading.scope, is_public)
        if within and value(connection, "passage_by_id", within.id, version_id) is not None:
            found.taken.add((is_public, version_id))


def insert(writing: Writing, new: NewVersion) -> None:
    """Stores a version, with its procedure if that is new."""
    connection, scope = writing.connection, writing.scope
    passage, procedure = new.passage, new.procedure
    user_id = None if passage.is_public else scope.user_id
    within = collections.of(connection, scope.tenant_id, user_id, PROCEDURAL)
    passage.collection = procedure.collection = within
    if procedure.number is None:
        procedure.number = _add.value(connection, procedure)
    else:
        _update.run(connection, procedure)
    number = new.version.passage = collections.insert.value(connection, passage, new.content)
    execute(
        connection, "insert_version", number, procedure.number, new.version.version, new.head,
        new.description, new.agents, new.conditions, new.sizes,
    )  # fmt: skip
    for path, content in new.files.items():
        execute(connection, "insert_procedure_file", number, path, content)
    for source in new.sources:
        execute(connection, "insert_source", within, source, number)
    times = (passage.recorded_at, passage.closed_at, ALWAYS, NEVER)
    collections.put_parts(writing, within, number, new.parts, times)


def switch(writing: Writing, switched: SwitchedVersion) -> None:
    """Makes a version active, or no longer so: an index follows."""
    connection, version = writing.connection, switched.version
    within = value(
        connection, "switch_version", version.passage, version.closed_at, version.is_proposed,
        switched.updated_at,
    )  # fmt: skip
    times = (version.closed_at, ALWAYS, NEVER)
    collections.change_parts(connection, within, version.passage, times, {})


def change(writing: Writing, changed: ChangedProcedure) -> None:
    """Stores what has changed of a procedure."""
    _update.run(writing.connection, changed.row)


def use(writing: Writing, used: UsedVersion) -> None:
    """Notes what a plan has used."""
    connection, scope = writing.connection, writing.scope
    rows = (_collection(connection, scope, is_public) for is_public in (False, True))
    places = [None if row is None else row.id for row in rows]
    execute(connection, "use_version", *_plan(scope, used.plan_id), used.version_id, *places)


def count(writing: Writing, counted: CountedOutcome) -> None:
    """Counts a success or a failure."""
    _count(writing.connection, counted.passage, succeeded=counted.succeeded)


def count_plan(writing: Writing, outcome: PlanOutcome) -> None:
    """Counts the end of a plan for what it has used."""
    connection, plan = writing.connection, _plan(writing.scope, outcome.plan_id)
    used = values(connection, "versions_used", *plan)
    if outcome.succeeded is not None:
        for passage in used:
            _count(connection, passage, succeeded=outcome.succeeded)
    if used:
        execute(connection, "end_uses", *plan)


def end_uses(connection: apsw.Connection, scope: Scope, plan_id: str) -> None:
    """Removes what a plan has used, as it begins anew."""
    execute(connection, "end_uses", *_plan(scope, plan_id))


def remove(connection: apsw.Connection, number: int) -> None:
    """Removes what makes a passage a version; a procedure without any goes with it."""
    procedure = value(connection, "procedure_of", number)
    if procedure is None:
        return
    for statement in _REMOVALS:
        execute(connection, statement, number)
    execute(connection, "remove_empty_procedure", procedure)


def _plan(scope: Scope, plan_id: str) -> tuple[str, str, str]:
    return scope.tenant_id, scope.user_id, plan_id


def _count(connection: apsw.Connection, passage: int, *, succeeded: bool) -> None:
    execute(connection, "count_outcome", passage, succeeded, not succeeded)


def _collection(connection: apsw.Connection, scope: Scope, is_public: bool) -> CollectionRow | None:
    user_id = None if is_public else scope.user_id
    return collections.collection.one(connection, scope.tenant_id, user_id, PROCEDURAL)


class SqliteProcedural:
    """The port of procedural memory."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def collections(self, scope: Scope) -> Collections:
        with self._connections.reads(together=True) as connection:
            own, public = (_collection(connection, scope, public) for public in (False, True))
            quarantined = origins_for(connection, scope)
        return Collections(own, public, self._connections.now(), quarantined)

    async def active(
        self, scope: Scope, within: Sequence[CollectionRow], kind: str
    ) -> builtins.list[ActiveRow]:
        whose = (scope.tenant_id, scope.user_id)
        with self._connections.reads(together=True) as connection:
            return [row for one in within for row in _active.all(connection, one.id, kind, *whose)]

    async def stored(self, numbers: Sequence[int]) -> dict[int, StoredVersion]:
        with self._connections.reads(together=True) as connection:
            found = (_stored.one(connection, number) for number in numbers)
            return {row.number: row for row in found if row is not None}

    async def version(
        self, scope: Scope, key: ProcedureKey, version: int | None
    ) -> StoredVersion | None:
        with self._connections.reads(together=True) as connection:
            procedure = _number(connection, scope, key)
            if version is None:
                passage = value(connection, "active_version", procedure)
            else:
                passage = value(connection, "numbered_version", procedure, version, scope.user_id)
            return None if passage is None else _stored.one(connection, passage)

    async def versions(
        self,
        scope: Scope,
        key: ProcedureKey,
        before: int | None,
        limit: int,
        *,
        quarantined: bool = False,
    ) -> builtins.list[StoredVersion]:
        until = NEVER if before is None else before
        with self._connections.reads(together=True) as connection:
            procedure = _number(connection, scope, key)
            return _before.all(
                connection, procedure, until, scope.user_id, limit, scope.tenant_id, quarantined
            )

    async def numbers(self, scope: Scope, key: ProcedureKey) -> builtins.list[int]:
        with self._connections.reads(together=True) as connection:
            procedure = _number(connection, scope, key)
            return values(connection, "versions_of", procedure, scope.user_id)

    async def list(
        self, scope: Scope, kind: str | None, after: int, limit: int, *, proposed: bool = False
    ) -> builtins.list[ProcedureInfoRow]:
        def look(connection: apsw.Connection) -> builtins.list[ProcedureInfoRow]:
            rows = [_collection(connection, scope, public) for public in (False, True)]
            places = [None if row is None else row.id for row in rows]
            return _after.all(
                connection, *places, after, kind, scope.user_id, proposed, limit, scope.tenant_id
            )

        return await self._connections.overview.look(look)

    async def file(self, number: int, path: str) -> bytes | None:
        with self._connections.reads() as connection:
            content: bytes | None = value(connection, "procedure_file", number, path)
            return content


def _number(connection: apsw.Connection, scope: Scope, key: ProcedureKey) -> int | None:
    within = _collection(connection, scope, key.is_public)
    found = within and _procedure.one(connection, within.id, key.kind, key.name)
    return found.number if found else None


LOADERS: dict[type[Any], Any] = {ProceduresNeed: load}
WRITERS: dict[type[Any], Any] = {
    NewVersion: insert,
    SwitchedVersion: switch,
    ChangedProcedure: change,
    UsedVersion: use,
    CountedOutcome: count,
    PlanOutcome: count_plan,
}
