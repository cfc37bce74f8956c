"""Values of the past, rebuilt from a plan's history."""

from __future__ import annotations

from collections.abc import Iterable

from soorma_common.operations import apply, from_history
from soorma_platform.engine.rows import HistoryRow

_FRESH = ("set", "delete", "expire")


def rebuild(newest_first: Iterable[HistoryRow], base: str | None) -> str | None:
    """The text of a key's value as of the first of its history rows given; None: it was missing.

    Reads back only to the last row that does not build on an earlier value; `base` is the value before
    the oldest row.
    """
    pending: list[HistoryRow] = []
    value = base
    for row in newest_first:
        pending.append(row)
        if row.op in _FRESH:
            value = None
            break
    for row in reversed(pending):
        value = replay(row, value)
    return value


def replay(row: HistoryRow, value: str | None) -> str | None:
    """The text of a key's value after one of its history rows."""
    return None if row.op == "expire" else apply(from_history(row.op, row.key or "", row.argument), value)
