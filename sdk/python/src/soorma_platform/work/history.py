"""History as readers see it: past values are rebuilt, or HistoryGone is raised."""

from __future__ import annotations

import msgspec

from soorma_common.names import Scope
from soorma_platform.engine.history import BEGINNINGS, check_horizon, check_past, rebuild
from soorma_platform.engine.rows.events import LogEntry
from soorma_platform.engine.rows.plans import HistoryRow, PlanRow
from soorma_platform.stores.ports.log import LogStore
from soorma_platform.stores.ports.plans import PlanStore


class PastValues(msgspec.Struct):
    """Keys of a plan with their past values, as JSON text.

    There may be more behind the key `next`.
    """

    values: list[tuple[str, str]]
    next: str | None


async def history_of(
    plans: PlanStore,
    scope: Scope,
    plan_id: str,
    key: str | None,
    after: int | None,
    limit: int,
    until: int | None = None,
) -> tuple[PlanRow, list[HistoryRow]]:
    """Returns the plan, and its rows of revisions in (after, until], oldest first.

    Without `after`, they are all that is kept. Returns about `limit` rows, in whole revisions:
    there are more while the last is below the plan's revision. Raises HistoryGone from before the
    horizon.
    """
    page = await plans.history(scope, plan_id, key, after, until, limit)
    plan, rows = page.plan, page.rows
    begins = rows and rows[0].key is None and rows[0].op in BEGINNINGS
    if begins and rows[0].revision == plan.horizon == page.start + 1:
        return plan, rows  # the reader has seen all that there was before everything was removed
    check_horizon(f"of plan {plan_id!r} revision", page.start, plan.horizon)
    return plan, rows


async def value_at(
    plans: PlanStore, scope: Scope, plan_id: str, key: str, revision: int, seq: int
) -> str | None:
    """Returns the key's value after operation `seq` of `revision`, as JSON text.

    Returns None if it was missing. Raises HistoryGone from before the horizon.
    """
    found = await plans.value_at(scope, plan_id, key, revision, seq)
    check_horizon(f"of plan {plan_id!r} revision", revision, found.plan.horizon)
    if found.entry is not None:
        return found.entry.value
    return None if found.past is None else rebuild(found.past)


async def values_at(
    plans: PlanStore, scope: Scope, plan_id: str, revision: int, prefix: str, after: str, limit: int
) -> PastValues:
    """Returns the plan's keys after a revision with their values, in order, from behind `after`.

    Looks at no more than `limit` keys. Raises NotFound for a revision still to come, HistoryGone
    from before the horizon.
    """
    found = await plans.keys_at(scope, plan_id, revision, prefix, after, limit)
    check_past(found.plan, revision)
    values = {row.key: row.value for row in found.entries}
    values |= {past.key: text for past in found.pasts if (text := rebuild(past)) is not None}
    return PastValues(sorted(values.items()), found.next)


async def log_from(log: LogStore, after: int, limit: int) -> list[LogEntry]:
    """Returns the events behind the position `after`, in order.

    Raises HistoryGone from before the log's horizon.
    """
    page = await log.page(after, limit)
    check_horizon("position", after, page.horizon)
    return page.entries
