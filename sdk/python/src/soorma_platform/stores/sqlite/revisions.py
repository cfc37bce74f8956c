"""Plans as they were at a revision.

What was not written since is in the entries, the rest in the history.
"""

from __future__ import annotations

from typing import NamedTuple

import apsw
import msgspec

from soorma_platform.engine.rows.plans import FRESH, EntryRow, HistoryRow, KeyPast, Origin, PlanRow
from soorma_platform.stores.sqlite.statements import Select, value, values

EVERYTHING = -1

_unchanged = Select("unchanged_entries", EntryRow)
_keys_history = Select("keys_history", HistoryRow)
_key_history = Select("key_history", HistoryRow)


class Range(NamedTuple):
    """Keys above `after`, within bounds (None: all), at most `limit` (EVERYTHING: all)."""

    after: str = ""
    least: str | None = None
    below: str | None = None
    limit: int = EVERYTHING


class Keys(NamedTuple):
    """Keys of a plan as of a revision.

    `following` is the last one looked at; None if that was the last of all.
    """

    entries: list[EntryRow]
    """those not written since"""
    pasts: list[KeyPast]
    """the others"""
    following: str | None


def keys_at(connection: apsw.Connection, plan: PlanRow, revision: int, keys: Range) -> Keys:
    """Returns keys as of a revision, after looking at no more than `limit`.

    The time to live of a key that was written since is not kept.
    """
    if plan.id is None:
        return Keys([], [], None)
    bounds = (keys.after, keys.least, keys.below, EVERYTHING if keys.limit < 0 else keys.limit + 1)
    where = (plan.id, plan.incarnation, revision, *bounds)
    found: dict[str, EntryRow | None] = {row.key: row for row in _unchanged.all(connection, *where)}
    found |= dict.fromkeys(values(connection, "changed_keys", *where))
    looked_at = sorted(found)[: None if keys.limit < 0 else keys.limit]
    following = looked_at[-1] if looked_at and len(found) > len(looked_at) else None
    entries = [entry for key in looked_at if (entry := found[key])]
    return Keys(
        entries,
        _pasts(connection, plan, revision, [key for key in looked_at if not found[key]]),
        following,
    )


def key_at(
    connection: apsw.Connection, plan: PlanRow, revision: int, seq: int, key: str
) -> KeyPast:
    """Returns a key as of an operation of a revision."""
    base = value(connection, "base", plan.id, plan.incarnation, key)
    past = KeyPast(key, [], base)
    for row in _key_history.each(connection, plan.id, plan.incarnation, revision, seq, key):
        past.rows.append(row)
        if row.op in FRESH:
            break
    return past


def is_fork(connection: apsw.Connection, plan: PlanRow) -> bool:
    """True if the plan began as a fork, and that is still kept."""
    return value(connection, "began_as_fork", plan.id, plan.incarnation, plan.horizon) is not None


def origin(connection: apsw.Connection, plan: PlanRow, revision: int | None) -> Origin:
    """Returns what a fork begins with: the keys that another plan held at a revision."""
    at = plan.revision if revision is None else revision
    if not plan.horizon <= at <= plan.revision:
        return Origin(plan, at)
    keys = keys_at(connection, plan, at, Range())
    return Origin(plan, at, keys.entries, keys.pasts)


def _pasts(
    connection: apsw.Connection, plan: PlanRow, revision: int, keys: list[str]
) -> list[KeyPast]:
    if not keys:
        return []
    life = (plan.id, plan.incarnation)
    pasts = {key: KeyPast(key, [], value(connection, "base", *life, key)) for key in keys}
    unfinished = set(keys)
    for row in _keys_history.each(connection, *life, revision, msgspec.json.encode(keys).decode()):
        if row.key not in unfinished:
            continue
        pasts[row.key].rows.append(row)
        if row.op in FRESH:
            unfinished.discard(row.key)
            if not unfinished:
                break  # the rest of the history need not be read
    return list(pasts.values())
