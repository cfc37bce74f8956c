"""Values of the past, rebuilt from a plan's history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from soorma_common.errors import HistoryGone, NotFound
from soorma_common.operations import apply, from_history
from soorma_platform.engine.rows import HistoryRow, PlanRow

BEGINNINGS = ("cleanup", "expire", "purge", "fork")
"""Operations of a whole plan behind which nothing of its earlier history counts."""
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


def rebuild_all(newest_first: Iterable[HistoryRow], bases: Mapping[str, str | None]) -> dict[str, str | None]:
    """The same for the keys of `bases` at once, of their rows in one sequence, which is read as far as they need it."""
    rows: dict[str, list[HistoryRow]] = {key: [] for key in bases}
    wanted = set(bases)
    for row in newest_first:
        if row.key not in wanted:
            continue
        rows[row.key].append(row)
        if row.op in _FRESH:
            wanted.discard(row.key)
            if not wanted:
                break
    return {key: rebuild(own, bases[key]) for key, own in rows.items()}


def replay(row: HistoryRow, value: str | None) -> str | None:
    """The text of a key's value after one of its history rows."""
    return None if row.op == "expire" else apply(from_history(row.op, row.key or "", row.argument), value)


def check_horizon(what: str, asked: int, horizon: int) -> None:
    """Raises HistoryGone if `asked` lies before the oldest revision or position still kept."""
    if asked < horizon:
        raise HistoryGone(
            f"{what} {asked} lies before {horizon}, the oldest one still kept; start from there",
            horizon=horizon,
        )


def check_past(row: PlanRow, revision: int) -> None:
    """Raises NotFound if the plan has not come to that revision yet, HistoryGone if it is no longer kept."""
    plan_id, current = row.plan_id, row.revision
    if revision > current:
        raise NotFound(f"plan {plan_id!r} is at revision {current}, there is no revision {revision} yet")
    check_horizon(f"of plan {plan_id!r} revision", revision, row.horizon)
