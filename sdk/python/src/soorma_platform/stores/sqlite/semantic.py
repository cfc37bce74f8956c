"""Semantic memory: collections of passages, loaded and written for commands, and read."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import apsw

from soorma_common.names import Scope
from soorma_platform.engine.rows.passages import (
    ChangedPassage,
    CollectionFound,
    CollectionRow,
    ForgottenPassage,
    MemoriesFound,
    MemoriesNeed,
    NewPassage,
    PartRow,
    PassageRow,
    Restatement,
    StoredPassage,
    VectorRow,
)
from soorma_platform.stores.ports.semantic import Collections
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value, values
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_collection = Select("collection", CollectionRow)
_passage = Select("passage", PassageRow)
_text = Select("passage_text", StoredPassage)
_after = Select("passages_after", StoredPassage)
_parts = Select("parts_of", PartRow)
_changes = Select("parts_after", PartRow)
_vectors = Select("vectors_after", VectorRow)
_insert = Mutation("insert_passage", PassageRow, "content")
_update = Mutation("update_passage", PassageRow)
_insert_part = Mutation("insert_part", "collection", PartRow)
_insert_restatement = Mutation("insert_restatement", "collection", "passage", Restatement)
_REMOVALS = ("remove_vectors", "remove_parts", "remove_restatements", "remove_sources",
             "remove_passage")  # fmt: skip


def load(loading: Loading, need: MemoriesNeed) -> None:
    """Loads the passages that a commit may touch."""
    _load(loading.connection, loading.scope, need, loading.found.part(MemoriesFound))


def _load(
    connection: apsw.Connection, scope: Scope, need: MemoriesNeed, found: MemoriesFound
) -> None:
    for user_id, part in ((scope.user_id, found.own), (None, found.public)):
        part.row = _collection.one(connection, scope.tenant_id, user_id)
        if part.row is not None:
            _load_collection(connection, part.row.id, need, part)


def _load_collection(
    connection: apsw.Connection, collection: int, need: MemoriesNeed, part: CollectionFound
) -> None:
    def note(number: int, *, with_parts: bool = False) -> None:
        if number not in part.passages and (row := _passage.one(connection, number)) is not None:
            part.passages[number] = row
        if with_parts and number not in part.parts:
            part.parts[number] = _parts.all(connection, number)

    for passage_id in need.ids | need.relabelled:
        number = _number_of(connection, collection, passage_id)
        if number is not None:
            part.names[passage_id] = number
            note(number, with_parts=passage_id in need.relabelled)
    for digest, adds in need.digests.items():
        for number in values(connection, "passages_by_digest", collection, digest):
            note(number, with_parts=adds)
    for external_id in need.external_ids:
        for number in values(connection, "passages_by_external_id", collection, external_id):
            note(number)
    for pair in need.pairs:
        for number in values(connection, "passages_by_subject", collection, *pair):
            note(number)
    for passage_id in need.forgotten & part.names.keys():
        doomed = values(connection, "doomed_passages", collection, part.names[passage_id])
        part.doomed[passage_id] = doomed
        for number in doomed:
            note(number)


def _number_of(connection: apsw.Connection, collection: int, passage_id: str) -> int | None:
    number: int | None = value(connection, "passage_by_id", collection, passage_id)
    return number or value(connection, "restated_as", collection, passage_id)


def insert(writing: Writing, new: NewPassage) -> None:
    """Stores a passage with its parts."""
    connection, row = writing.connection, new.row
    collection = row.collection = _collection_of(writing, row)
    number = row.number = _insert.value(connection, row, new.content)
    last = value(connection, "count_changes", collection, len(new.parts), len(new.parts))
    times = (row.recorded_at, row.closed_at, row.valid_from, row.valid_until)
    rows = []
    for change, part in enumerate(new.parts, last - len(new.parts) + 1):
        place = (part.part, part.starts, part.ends, part.length)
        rows.append((collection, PartRow(change, number, *place, *times, part.terms)))
    _insert_part.many(connection, rows)
    writing.notice.memories = True
    for source in new.sources:
        execute(connection, "insert_source", collection, source, number)
    _restate(connection, row, new.restated)


def _collection_of(writing: Writing, row: PassageRow) -> int:
    scope = writing.scope
    user_id = None if row.is_public else scope.user_id
    found = _collection.one(writing.connection, scope.tenant_id, user_id)
    if found is not None:
        return found.id
    added: int = value(writing.connection, "add_collection", scope.tenant_id, user_id)
    return added


def update(writing: Writing, changed: ChangedPassage) -> None:
    """Writes what has changed of a passage."""
    connection, row = writing.connection, changed.row
    _update.run(connection, row)
    if changed.is_indexed:
        numbers = values(connection, "part_numbers", row.number)
        last = value(connection, "count_changes", row.collection, len(numbers), 0)
        terms = changed.terms or {}
        for change, part in enumerate(numbers, last - len(numbers) + 1):
            execute(connection, "update_part", row.number, part, change, row.closed_at,
                    row.valid_from, row.valid_until, terms.get(part))  # fmt: skip
    _restate(connection, row, changed.restated)


def _restate(connection: apsw.Connection, row: PassageRow, restated: list[Restatement]) -> None:
    for one in restated:
        _insert_restatement.run(connection, row.collection, row.number, one)


def forget(writing: Writing, forgotten: ForgottenPassage) -> None:
    """Removes a passage; what is left of it is the number that an index has to drop."""
    connection, row = writing.connection, forgotten.row
    parts = len(values(connection, "part_numbers", row.number))
    for statement in _REMOVALS:
        execute(connection, statement, row.number)
    change = value(connection, "count_changes", row.collection, 1, -parts)
    _insert_part.run(connection, row.collection, PartRow(change, row.number or 0))


class SqliteSemantic:
    """The port of semantic memory."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def collections(self, scope: Scope) -> Collections:
        with self._connections.reads() as connection:
            own = _collection.one(connection, scope.tenant_id, scope.user_id)
            public = _collection.one(connection, scope.tenant_id, None)
        return Collections(own, public, self._connections.now())

    async def parts(self, collection: int, after: int, limit: int) -> builtins.list[PartRow]:
        with self._connections.reads() as connection:
            return _changes.all(connection, collection, after, limit)

    async def vectors(
        self, collection: int, model: int, after: int, limit: int
    ) -> builtins.list[VectorRow]:
        with self._connections.reads() as connection:
            return _vectors.all(connection, collection, model, after, limit)

    async def texts(self, numbers: Sequence[int]) -> dict[int, StoredPassage]:
        with self._connections.reads() as connection:
            found = (_text.one(connection, number) for number in numbers)
            return {row.number: row for row in found if row is not None and row.number is not None}

    async def passage(self, scope: Scope, passage_id: str) -> StoredPassage | None:
        with self._connections.reads(together=True) as connection:
            for user_id in (scope.user_id, None):
                row = _collection.one(connection, scope.tenant_id, user_id)
                number = row and _number_of(connection, row.id, passage_id)
                if number is not None:
                    return _text.one(connection, number)
        return None

    async def list(self, scope: Scope, after: int, limit: int) -> builtins.list[StoredPassage]:
        with self._connections.reads(together=True) as connection:
            own = _collection.one(connection, scope.tenant_id, scope.user_id)
            if own is None:
                return []
            rows, _ = _after.page(connection, own.id, after, limit, size=_size)
            return rows

    async def known(self, scope: Scope, need: MemoriesNeed) -> MemoriesFound:
        found = MemoriesFound()
        with self._connections.reads(together=True) as connection:
            _load(connection, scope, need, found)
        return found


def _size(row: StoredPassage) -> int:
    return len(row.content)


LOADERS: dict[type[Any], Any] = {MemoriesNeed: load}
WRITERS: dict[type[Any], Any] = {
    NewPassage: insert,
    ChangedPassage: update,
    ForgottenPassage: forget,
}
