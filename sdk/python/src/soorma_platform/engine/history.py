"""Values of the past, rebuilt from a plan's history."""

from __future__ import annotations

from soorma_common.errors import HistoryGone, NotFound
from soorma_common.operations import apply, from_history
from soorma_platform.engine.rows.plans import HistoryRow, KeyPast, PlanRow

BEGINNINGS = ("cleanup", "expire", "purge", "fork")
"""Operations on a whole plan that make its earlier history irrelevant."""


def rebuild(past: KeyPast) -> str | None:
    """Returns a key's value, as JSON text, as of the newest of its rows; None if it was missing."""
    value = past.base
    for row in reversed(past.rows):
        value = replay(row, value)
    return value


def replay(row: HistoryRow, value: str | None) -> str | None:
    """Returns a key's value, as JSON text, after one of its history rows; None if it is missing."""
    return (
        None
        if row.op == "expire"
        else apply(from_history(row.op, row.key or "", row.argument), value)
    )


def check_horizon(what: str, requested: int, horizon: int) -> None:
    """Raises HistoryGone if `requested` lies before the oldest revision or position still kept."""
    if requested < horizon:
        raise HistoryGone(
            f"{what} {requested} lies before {horizon}, the oldest one still kept; start from "
            "there",
            horizon=horizon,
        )


def check_past(row: PlanRow, revision: int) -> None:
    """Raises NotFound for a revision still to come, HistoryGone for one no longer kept."""
    plan_id, current = row.plan_id, row.revision
    if revision > current:
        raise NotFound(
            f"plan {plan_id!r} is at revision {current}, there is no revision {revision} yet"
        )
    check_horizon(f"of plan {plan_id!r} revision", revision, row.horizon)
