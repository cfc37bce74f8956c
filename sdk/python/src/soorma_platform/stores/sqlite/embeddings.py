"""Embeddings: the vectors of parts, and which model a collection uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import apsw

from soorma_platform.engine.rows.passages import UnembeddedPart
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value


class _Pending(NamedTuple):
    collection: int
    passage: int
    part: int
    starts: int
    ends: int


class _Model(NamedTuple):
    id: int
    newest: int


_oldest = Select("oldest_unembedded", _Pending)
_newest = Select("newest_unembedded", _Pending)
_model = Select("embedding_model", _Model)
_put = Mutation("put_vector", "collection", "change", "model", UnembeddedPart, "vector")


class SqliteEmbeddings:
    """The port of embeddings."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def model(self, name: str) -> int:
        def job(connection: apsw.Connection) -> int:
            found = _model.one(connection, name)
            if found is None:
                return int(value(connection, "add_embedding_model", name))
            if found.id == found.newest:
                return found.id
            return int(value(connection, "renew_embedding_model", found.id))

        return await self._connections.change(job)

    async def unembedded(self, model: int, limit: int) -> list[UnembeddedPart]:
        with self._connections.reads(together=True) as connection:
            rows = _newest.all(connection, limit // 2)
            known = {(row.passage, row.part) for row in rows}
            rows += [
                row
                for row in _oldest.all(connection, model, limit)
                if (row.passage, row.part) not in known
            ]
            return [_with_text(connection, row) for row in rows[:limit]]

    async def put(self, model: int, vectors: Sequence[tuple[UnembeddedPart, bytes]]) -> None:
        def job(connection: apsw.Connection) -> None:
            touched: set[int] = set()
            for part, vector in vectors:
                collection = value(connection, "embed_part", part.passage, part.part, model)
                if collection is None:
                    continue  # forgotten meanwhile, or embedded already
                touched.add(collection)
                if not vector:
                    continue  # the model does not take it
                change = value(connection, "count_changes", collection, 1, 0)
                _put.run(connection, collection, change, model, part, vector)
            for collection in touched:
                _switch(connection, collection, model)

        await self._connections.change(job, durable=False)  # after a crash, it is made again

    async def sweep(self, model: int, limit: int) -> bool:
        def job(connection: apsw.Connection) -> bool:
            before = connection.total_changes()
            execute(connection, "sweep_vectors", model, limit)
            return connection.total_changes() - before >= limit

        return await self._connections.change(job)

    async def count(self, model: int, limit: int, collection: int | None = None) -> int:
        with self._connections.reads() as connection:
            if collection is None:
                return int(value(connection, "count_unembedded", model, limit))
            return int(value(connection, "unembedded_of", collection, model, limit))


def _with_text(connection: apsw.Connection, row: _Pending) -> UnembeddedPart:
    text = value(connection, "part_content", row.passage, row.starts, row.ends - row.starts)
    return UnembeddedPart(row.collection, row.passage, row.part, text or "")


def _switch(connection: apsw.Connection, collection: int, model: int) -> None:
    """Makes a collection use a model: at once if it uses none, else if all of it is embedded."""
    used = value(connection, "model_of_collection", collection)
    if used == model:
        return
    if used == 0 or value(connection, "unembedded_of", collection, model, 1) == 0:
        execute(connection, "switch_model", collection, model)
