"""Collections, and the parts that their indexes follow: what all kinds of memories share."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from soorma_platform.engine.rows.passages import CollectionRow, NewPart, PartRow, PassageRow
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value, values
from soorma_platform.stores.sqlite.transactions import Writing

collection = Select("collection", CollectionRow)
insert = Mutation("insert_passage", PassageRow, "content")
_insert_part = Mutation("insert_part", "collection", PartRow)


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


def remove_parts(connection: apsw.Connection, within: int, number: int) -> None:
    """Removes the parts and vectors of a passage.

    What is left is its number, which an index has to drop.
    """
    parts = len(values(connection, "part_numbers", number))
    execute(connection, "remove_vectors", number)
    execute(connection, "remove_parts", number)
    change = value(connection, "count_changes", within, 1, -parts)
    _insert_part.run(connection, within, PartRow(change, number))
