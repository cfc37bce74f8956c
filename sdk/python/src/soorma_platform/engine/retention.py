"""Retention: histories are trimmed to their limits, unused subscriptions are removed."""

from __future__ import annotations

from enum import Enum, auto
from itertools import groupby

import msgspec

from soorma_common.limits import Limits
from soorma_common.names import All, Owner
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.history import replay
from soorma_platform.engine.plans import ROW_OVERHEAD
from soorma_platform.engine.rows.history import OldestFound, OldestNeed, TrimmedHistory
from soorma_platform.engine.rows.plans import HistoryRow

STEP = 500
"""Rows that one step of upkeep may touch: few enough that nobody waits for it."""
STEP_BYTES = 2 * 1024 * 1024
"""Bytes of text that one step may touch."""


KEPT_AUDIT = 400 * 86_400_000
"""Milliseconds for which the audit is kept: a year, and time to look at it afterwards."""


class Retention(msgspec.Struct, frozen=True):
    """Seconds for which data is kept: of uptime; of memories by the wall clock, None: for ever."""

    events: float = 7 * 86_400.0
    groups: float = 7 * 86_400.0
    plans: float = 30 * 86_400.0
    """after the end of a plan"""
    interactions: float | None = None
    knowledge: float | None = None
    """since a passage was last stored or changed"""
    closed_knowledge: float | None = None
    """since a passage was closed"""


class Fate(Enum):
    """The fate of a subscription that nobody uses."""

    KEPT = auto()
    WARNED_OF = auto()
    REMOVED = auto()


def warn_before(retention: Retention, now: int) -> int:
    """Returns the uptime since which a subscription must have been used to be left alone."""
    return now - round(retention.groups * 1000) * 6 // 7


def fate(seen: int, retention: Retention, now: int) -> Fate:
    """Returns the fate of a subscription that was last used at the uptime `seen`."""
    if seen < now - round(retention.groups * 1000):
        return Fate.REMOVED
    return Fate.WARNED_OF if seen < warn_before(retention, now) else Fate.KEPT


class TrimHistory:
    """The folding of a history's oldest revisions into the values they lead to.

    The outcome is True if the history is within its limits, or the plan was cleaned up since.
    """

    scope: Owner = All.TENANTS

    def __init__(self, plan: int, incarnation: int, *, limits: Limits) -> None:
        self._plan = plan
        self._incarnation = incarnation
        self._limits = limits

    def needs(self) -> list[Need]:
        return [OldestNeed(self._plan, self._incarnation, STEP, STEP_BYTES)]

    def decide(self, found: Snapshot) -> Decision[bool]:
        oldest = found.part(OldestFound)
        if oldest.plan is None or oldest.plan.incarnation != self._incarnation:
            return _over
        row = oldest.plan
        surplus = max(row.revision - row.horizon - self._limits.history_revisions, 0)
        excess = row.history_size - self._limits.history_bytes
        until, rows, freed = _surplus(oldest.rows, row.horizon + surplus, excess)
        if until <= row.horizon:
            return _over
        values: dict[str, str | None] = {}
        for past in rows:
            if past.key is not None:
                values[past.key] = replay(past, values.get(past.key, oldest.bases.get(past.key)))
        return Decision(
            False, [TrimmedHistory(self._plan, self._incarnation, until, freed, values)]
        )


_over = Decision(True)


def _surplus(
    oldest: list[HistoryRow], until: int, excess: int
) -> tuple[int, list[HistoryRow], int]:
    """Selects the oldest rows up to revision `until`, and more that free up to `excess` bytes.

    Only whole revisions are selected. Returns the revision to which the history is trimmed, the
    rows, and the bytes they free.
    """
    taken: list[HistoryRow] = []
    freed = 0
    for revision, of_revision in groupby(oldest, key=lambda row: row.revision):
        group = list(of_revision)
        size = sum(ROW_OVERHEAD + len((row.argument or "").encode()) for row in group)
        if revision > until and freed + size > excess:
            return max(until, taken[-1].revision if taken else 0), taken, freed
        taken += group
        freed += size
    return (taken[-1].revision if taken else 0), taken, freed
