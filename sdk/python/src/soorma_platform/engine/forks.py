"""Forks: plans that begin with the keys that another had at a revision."""

from __future__ import annotations

import msgspec

from soorma_common.errors import PlanExists
from soorma_common.operations import Fork
from soorma_common.plan_rules import missing_plan
from soorma_platform.engine.history import check_past, rebuild
from soorma_platform.engine.rows.plans import EntryRow, Origin, PlanRow


def check_unused(row: PlanRow) -> None:
    """Raises PlanExists if the plan has a history: it was written, and not cleaned up since."""
    if row.live or row.revision != row.horizon:
        raise PlanExists(
            f"plan {row.plan_id!r} is in use, or was used before: fork into a new one, or clean it "
            "up first",
            plan_id=row.plan_id,
        )


def check_origin(fork: Fork, origin: Origin | None, now: int) -> Origin:
    """Returns the keys that the fork begins with.

    Raises NotFound or HistoryGone if they do not exist or are no longer kept.
    """
    if origin is not None:
        check_past(origin.row, origin.revision)
    if (
        origin is None
        or origin.row.revision == 0
        or (fork.revision is None and not _holds_anything(origin.row, now))
    ):
        raise missing_plan(fork.plan_id)
    rebuilt = ((past.key, rebuild(past)) for past in origin.pasts)
    made = [
        EntryRow(key, text, origin.revision, origin.row.updated_at)
        for key, text in rebuilt
        if text is not None
    ]
    kept = [row for row in origin.entries if row.expires_at is None or row.expires_at > now]
    origin.entries, origin.pasts = sorted(kept + made, key=lambda row: row.key), []
    return origin


def argument_of(origin: Origin) -> str:
    """Returns the argument of a fork in the history, as JSON text."""
    return msgspec.json.encode(
        {"plan_id": origin.row.plan_id, "revision": origin.revision}
    ).decode()


def _holds_anything(row: PlanRow, now: int) -> bool:
    return row.live and (row.expires_at is None or row.expires_at > now)
