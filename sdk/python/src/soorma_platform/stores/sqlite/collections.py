"""Collections, and the parts that their indexes follow: what all kinds of memories share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import apsw

from soorma_common.names import Scope
from soorma_platform.engine.rows.passages import (
    KEPT_CHANGES,
    PROCEDURAL,
    SEMANTIC,
    CollectionRow,
    NewPart,
    PartRow,
    PassageRow,
)
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value, values
from soorma_platform.stores.sqlite.transactions import Writing

collection = Select("collection", CollectionRow)
passage = Select("passage", PassageRow)
insert = Mutation("insert_passage", PassageRow, "content")
part_row = Select("parts_of", PartRow)
_insert_part = Mutation("insert_part", "collection", PartRow)
_NO_PART = -1
"""Stands for the parts of a passage that is gone, in the row that says so."""


def of(connection: apsw.Connection, tenant_id: str, user_id: str | None, kind: int) -> int:
    """Returns a collection, which is made if nothing was stored in it before."""
    found = collection.one(connection, tenant_id, user_id, kind)
    if found is not None:
        return found.id
    added: int = value(connection, "add_collection", tenant_id, user_id, kind)
    return added


def put_parts(
    writing: Writing,
    within: int,
    number: int,
    parts: Sequence[NewPart],
    times: tuple[int, int, int, int],
) -> None:
    """Stores the parts of a passage, with when it counts and when it is true."""
    last = value(writing.connection, "count_changes", within, len(parts), len(parts))
    rows = []
    for change, part in enumerate(parts, last - len(parts) + 1):
        place = (part.part, part.starts, part.ends, part.length)
        rows.append((within, PartRow(change, number, *place, *times, part.terms)))
    _insert_part.many(writing.connection, rows)
    writing.notice.memories = True


def change_parts(
    connection: apsw.Connection,
    within: int,
    number: int,
    times: tuple[int, int, int],
    terms: Mapping[int, bytes],
    until_before: bytes | None = None,
) -> None:
    """Changes the parts of a passage: until when it counts, when it is true, and these terms."""
    parts = values(connection, "part_numbers", number)
    last = value(connection, "count_changes", within, len(parts), 0)
    for change, part in enumerate(parts, last - len(parts) + 1):
        execute(
            connection, "update_part", number, part, change, *times, until_before, terms.get(part)
        )


def add_terms(connection: apsw.Connection, number: int, terms: bytes) -> None:
    """Adds terms to all parts of a passage, wherever it is."""
    within = value(connection, "collection_of", number)
    parts = part_row.all(connection, number)
    last = value(connection, "count_changes", within, len(parts), 0)
    for change, part in enumerate(parts, last - len(parts) + 1):
        execute(connection, "replace_terms", number, part.part, change, (part.terms or b"") + terms)


def derived_places(connection: apsw.Connection, scope: Scope) -> list[int | None]:
    """Returns the collections in which something may be derived from what a user reads."""
    found = (
        collection.one(connection, scope.tenant_id, user_id, kind)
        for kind in (SEMANTIC, PROCEDURAL)
        for user_id in (scope.user_id, None)
    )
    return [None if row is None else row.id for row in found]


def remove_parts(connection: apsw.Connection, within: int, number: int) -> None:
    """Removes the parts and vectors of a passage.

    What is left is its number, which an index has to drop.
    """
    parts = len(values(connection, "part_numbers", number))
    execute(connection, "remove_vectors", number)
    execute(connection, "remove_parts", number)
    _note_gone(connection, within, number, parts)


def _note_gone(connection: apsw.Connection, within: int, number: int, parts: int) -> None:
    change = value(connection, "count_changes", within, 1, -parts)
    _insert_part.run(connection, within, PartRow(change, number, part=_NO_PART))
    # Two for each that is added, so that they become no more than are kept.
    removed = values(connection, "remove_old_removals", within, change - KEPT_CHANGES)
    if removed:
        execute(connection, "raise_whole_from", within, max(removed))


def move_parts(connection: apsw.Connection, before: int, row: PassageRow) -> None:
    """Moves the parts and vectors of a passage to the collection that it is in now."""
    after, number = row.collection or 0, row.number or 0
    parts = values(connection, "part_numbers", number)
    last = value(connection, "count_changes", after, len(parts), len(parts))
    for change, part in enumerate(parts, last - len(parts) + 1):
        execute(connection, "move_part", number, part, after, change, row.valid_until)
    rows = values(connection, "vector_rows", number)
    last = value(connection, "count_changes", after, len(rows), 0)
    for change, vector in enumerate(rows, last - len(rows) + 1):
        execute(connection, "move_vector", vector, after, change)
    execute(connection, "use_first_model", after)
    _note_gone(connection, before, number, len(parts))
