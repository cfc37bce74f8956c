"""Plans as they were at a revision: what was not written since stands in the entries, the rest is rebuilt."""

from __future__ import annotations

from typing import NamedTuple

import apsw
import msgspec

from soorma_platform.engine.history import rebuild_all
from soorma_platform.engine.rows import EntryRow, Needs, Origin, PlanRow, Snapshot
from soorma_platform.stores.sqlite.database import SQL
from soorma_platform.stores.sqlite.transactions import one, plan_row, rows_of, to_history

EVERYTHING = -1


class Range(NamedTuple):
    """Keys from behind `after`, within bounds (None: all), at most `limit` (EVERYTHING: all)."""

    after: str = ""
    least: str | None = None
    below: str | None = None
    limit: int = EVERYTHING


def entries_at(
    connection: apsw.Connection, plan: PlanRow, revision: int, keys: Range
) -> tuple[list[EntryRow], str | None]:
    """The keys with the values they had, in order, and the last key looked at, None if that was the last of all.

    Looks at no more than `limit` keys; those that were missing are left out. The time to live is told of a key that was
    not written since; that of another is not kept.
    """
    if plan.id is None:
        return [], None
    where = (plan.id, plan.incarnation, revision, *keys[:3], EVERYTHING if keys.limit < 0 else keys.limit + 1)
    found: dict[str, EntryRow | None] = {
        row[0]: EntryRow(*row) for row in rows_of(connection, "unchanged_entries", where)
    }
    found |= dict.fromkeys(row[0] for row in rows_of(connection, "changed_keys", where))
    looked_at = sorted(found)[: None if keys.limit < 0 else keys.limit]
    following = looked_at[-1] if looked_at and len(found) > len(looked_at) else None
    past = _rebuilt(connection, plan, revision, [key for key in looked_at if found[key] is None])
    found |= {key: EntryRow(key, text, revision, plan.updated_at) for key, text in past.items() if text is not None}
    return [entry for key in looked_at if (entry := found[key])], following


def load_origins(connection: apsw.Connection, needs: Needs, snapshot: Snapshot) -> None:
    """What plans that are to be forks begin with: what others held at a revision, but for what has expired by now."""
    for plan_id, (source, revision) in needs.forks.items():
        if (state := snapshot.plans.get(plan_id)) is not None:
            row = plan_row(connection, needs.scope, source, snapshot.now)
            state.origin = _origin(connection, row, revision, snapshot.now)


def is_fork(connection: apsw.Connection, plan: PlanRow) -> bool:
    """Whether the plan began as a fork, and that is still kept."""
    return one(connection, "began_as_fork", (plan.id, plan.incarnation, plan.horizon)) is not None


def _origin(connection: apsw.Connection, plan: PlanRow, revision: int | None, now: int) -> Origin:
    asked = plan.revision if revision is None else revision
    if not plan.horizon <= asked <= plan.revision:
        return Origin(plan, asked, [])
    entries, _ = entries_at(connection, plan, asked, Range())
    return Origin(plan, asked, [row for row in entries if row.expires_at is None or row.expires_at > now])


def _rebuilt(connection: apsw.Connection, plan: PlanRow, revision: int, keys: list[str]) -> dict[str, str | None]:
    if not keys:
        return {}
    place = (plan.id, plan.incarnation)
    bases = {key: base[0] if (base := one(connection, "base", (*place, key))) else None for key in keys}
    wanted = msgspec.json.encode(keys).decode()
    return rebuild_all(map(to_history, connection.execute(SQL["keys_history"], (*place, revision, wanted))), bases)
