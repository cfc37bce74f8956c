"""Counts of the memories in a record, from beside it: within a bounded time, and read only."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from soorma_platform.stores.sqlite.database import FailuresNamed, migrations
from soorma_platform.stores.sqlite.examination import STEPS, read_beside, schema_of
from soorma_platform.stores.sqlite.statements import Select, value
from soorma_platform.stores.tools import (
    Backlog,
    CollectionCount,
    MemoryCounts,
    Proposals,
    SearchSize,
)

T = TypeVar("T")

LARGEST = 5
"""Collections that are named."""
MOST_WAITING = 10_000
MOST_LOOKED_AT = 200_000
"""Passages that are looked at for proposals, as many as by an audit."""

MEMORIES, PROCEDURES, QUARANTINES = 10, 11, 17
"""Migrations that brought the tables of each: an earlier record lacks them."""

_backlog = Select("backlog", Backlog)
_most_parts = Select("most_parts", CollectionCount)
_most_procedures = Select("most_procedures", CollectionCount)
_largest_searches = Select("largest_searches", SearchSize)
_proposals = Select("proposals", Proposals)


def count_memories(database: Path, seconds: float | None) -> MemoryCounts | None:
    """Counts what a record holds of memories, for at most `seconds` (None: as long as it takes).

    Returns None if it is no record, of a newer Soorma, or of one that had no memories yet. Raises
    Unavailable if it cannot be read.
    """
    with FailuresNamed(database):
        return read_beside(database, lambda connection: _counts(connection, seconds))


def _counts(connection: apsw.Connection, seconds: float | None) -> MemoryCounts | None:
    schema, is_ours = schema_of(connection)
    if not is_ours or not MEMORIES <= schema <= len(migrations()):
        return None
    if seconds is not None:
        until = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    has_procedures, has_quarantines = schema >= PROCEDURES, schema >= QUARANTINES
    return MemoryCounts(
        removals=_within(lambda: int(value(connection, "removals"))),
        backlog=_within(lambda: _backlog.one(connection, MOST_WAITING)),
        quarantines=_within(lambda: int(value(connection, "quarantined")))
        if has_quarantines
        else 0,
        passages=_within(lambda: _most_parts.all(connection, LARGEST)),
        searches=_within(lambda: _largest_searches.all(connection, LARGEST)),
        procedures=_within(lambda: _most_procedures.all(connection, LARGEST))
        if has_procedures
        else [],
        # Last: it is the only one that goes through passages.
        proposals=_within(lambda: _proposals.one(connection, MOST_LOOKED_AT)),
    )


def _within(look: Callable[[], T]) -> T | None:
    """Returns what is found; None if the time was over before."""
    try:
        return look()
    except apsw.InterruptError:
        return None
