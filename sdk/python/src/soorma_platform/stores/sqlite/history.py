"""Trimming of histories: their oldest rows, and the values that these leave behind."""

from __future__ import annotations

from typing import Any

import apsw

from soorma_platform.engine.rows.history import OldestFound, OldestNeed, TrimmedHistory
from soorma_platform.engine.rows.plans import HistoryRow, PlanRow
from soorma_platform.stores.sqlite.statements import Select, execute, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_FAR = 1 << 62
_plan = Select("plan_by_id", PlanRow)
_oldest = Select("oldest_history", HistoryRow)


def load(loading: Loading, need: OldestNeed) -> None:
    """Loads the oldest rows, and the values that they build on."""
    connection, found = loading.connection, loading.found.part(OldestFound)
    found.plan = _plan.one(connection, need.plan)
    if found.plan is None or found.plan.incarnation != need.incarnation:
        return
    life = (need.plan, need.incarnation)
    found.rows = _whole_revisions(connection, need)
    for key in {row.key for row in found.rows if row.key is not None}:
        found.bases[key] = value(connection, "base", *life, key)


def _whole_revisions(connection: apsw.Connection, need: OldestNeed) -> list[HistoryRow]:
    life = (need.plan, need.incarnation)
    rows, more = _oldest.page(connection, *life, _FAR, need.limit, size=text_size, most=need.size)
    if more or len(rows) == need.limit:
        last = rows[-1].revision
        rows = [row for row in rows if row.revision < last] or _oldest.all(
            connection, *life, last, -1
        )
    return rows


def text_size(row: HistoryRow) -> int:
    """Returns about how many bytes a row takes in a page."""
    return len(row.argument or "")


def trim(writing: Writing, row: TrimmedHistory) -> None:
    """Removes the oldest rows of a history, and stores the values that they led to."""
    connection, life = writing.connection, (row.plan, row.incarnation)
    for key, text in row.values.items():
        if text is None:
            execute(connection, "remove_base", *life, key)
        else:
            execute(connection, "put_base", *life, key, text)
    execute(connection, "trim_history", *life, row.until)
    execute(connection, "raise_horizon", row.until, row.freed, row.plan)


LOADERS: dict[type[Any], Any] = {OldestNeed: load}
WRITERS: dict[type[Any], Any] = {TrimmedHistory: trim}
