"""Likeness: pairs of passages that seem to state the same, written for commands, and read."""

from __future__ import annotations

from typing import Any

import apsw

from soorma_platform.engine.rows.likeness import AlikeRow, Likeness
from soorma_platform.engine.rows.passages import SEMANTIC, CollectionRow
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Select, execute
from soorma_platform.stores.sqlite.transactions import Writing

_collection = Select("collection_by_id", CollectionRow)
_alike = Select("alike", AlikeRow)


def note(writing: Writing, pair: Likeness) -> None:
    """Notes a pair of passages that are still there."""
    execute(writing.connection, "put_likeness", pair.passage, pair.other, pair.cosine)


def remove(connection: apsw.Connection, number: int) -> None:
    """Removes the pairs of a passage."""
    execute(connection, "remove_likeness", number)
    execute(connection, "remove_likeness_of", number)


class SqliteLikeness:
    """The port of likeness."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def collection(self, number: int) -> CollectionRow | None:
        with self._connections.reads() as connection:
            row = _collection.one(connection, number)
        return row if row is not None and row.kind == SEMANTIC else None

    async def alike(self, passage: int, limit: int) -> list[AlikeRow]:
        with self._connections.reads() as connection:
            return _alike.all(connection, passage, limit)


WRITERS: dict[type[Any], Any] = {Likeness: note}
LOADERS: dict[type[Any], Any] = {}
