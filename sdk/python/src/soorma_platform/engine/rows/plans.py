"""Rows of plans: what a decision reads and writes of them."""

from __future__ import annotations

from typing import NamedTuple, cast

import msgspec

from soorma_common.causes import Cause
from soorma_common.names import PlanStatus
from soorma_platform.engine.commands import MANY, Need
from soorma_platform.engine.rows.sagas import CompensationRow

FRESH = ("set", "delete", "expire")
"""Operations that do not build on an earlier value of their key."""
MOVING = ("active", "failed")
"""Statuses of a plan that has something left to do: a failed one undoes its work."""


class PlanRow(msgspec.Struct):
    """A plan.

    `incarnation` changes when it is cleaned up, so that its old rows can be removed in bounded
    steps.

    `horizon` is the oldest revision that can be rebuilt; `live` is false when it holds nothing.
    """

    plan_id: str
    created_at: int
    updated_at: int
    id: int | None = None
    revision: int = 0
    incarnation: int = 0
    live: bool = False
    keys: int = 0
    size: int = 0
    actions: int = 0
    horizon: int = 0
    history_size: int = 0
    expires_at: int | None = None
    status: str = "active"
    ended_at: int | None = None
    outcome: str | None = None
    """its result, or the reason why it has none, as JSON text"""
    stalled: int = 0
    """the revision at which it was reported as stalled"""
    arranged: int = 0
    """the number of compensations and deadlines registered for it"""
    past_position: int = 0
    """position up to which its events are no longer handled: it was cancelled, or purged"""
    past_timer: int = 0
    """row up to which its timers no longer fire, for the same reason"""
    updated_uptime: int = 0
    ended_uptime: int | None = None
    end_position: int = 0
    """position up to which its events were published before it ended"""
    ended_by: int | None = None
    """the group whose handler ended it"""

    @property
    def is_active(self) -> bool:
        """True while it has not ended."""
        return self.status == "active"

    def life(self, now: int) -> PlanStatus:
        """Returns its status as a reader sees it; `missing` if it holds nothing or has expired."""
        has_expired = self.expires_at is not None and self.expires_at <= now
        return cast("PlanStatus", self.status) if self.live and not has_expired else "missing"

    @property
    def is_stalled(self) -> bool:
        """True if it was reported as stalled and has not moved since."""
        return self.status in MOVING and 0 < self.revision == self.stalled


class EntryRow(msgspec.Struct):
    """A key and its value, as of its last write."""

    key: str
    value: str
    revision: int
    updated_at: int
    expires_at: int | None = None


class HistoryRow(msgspec.Struct):
    """One operation of a commit; `action` numbers the plan's actions, None for any other."""

    revision: int
    seq: int
    op: str
    key: str | None
    argument: str | None
    at: int
    cause: Cause
    action: int | None = None


class KeyPast(msgspec.Struct):
    """A key's history rows, newest first, back to one that builds on no earlier value (FRESH).

    `base` is the value before the oldest row kept; None if it was missing.
    """

    key: str
    rows: list[HistoryRow] = []
    base: str | None = None


class Origin(msgspec.Struct):
    """A plan as of an earlier revision, for a fork that begins with its keys.

    `entries` are those not written since, `pasts` those written since. Both are empty if that
    revision is no longer kept.
    """

    row: PlanRow
    revision: int
    entries: list[EntryRow] = []
    pasts: list[KeyPast] = []


class HiddenKeys(NamedTuple):
    """The number and bytes of expired keys that are not swept yet and do not count for limits."""

    keys: int
    size: int


class LoadedPlan(msgspec.Struct):
    """A plan as loaded: its row, its entries of the needed keys, and what else is needed."""

    row: PlanRow
    entries: dict[str, EntryRow]
    expired: list[str] = []
    """keys in `entries` that have expired and that the next commit sweeps"""
    hidden: HiddenKeys = HiddenKeys(0, 0)
    live_keys: int = 0
    origin: Origin | None = None
    """what a fork begins with; None if it is no fork"""
    log_end: int = 0
    """last position of the log; loaded if all the plan's events up to it are discarded"""
    last_timer: int = 0
    """row of the last timer; loaded if all the plan's timers up to it are discarded"""


class PlansNeed(Need):
    """Plans by id, with the keys to look at."""

    keys: dict[str, set[str]]
    counted: set[str] = set()
    """plans whose live keys are to be counted"""
    lines: dict[str, dict[str, int]] = {}
    """by plan: key prefixes, each with how many of its first live keys to load"""
    closing: set[str] = set()
    """plans whose events and timers so far are to be discarded"""
    forks: dict[str, tuple[str, int | None]] = {}
    """by new plan that is a fork: its origin, and the revision of that (None: the current one)"""

    @property
    def rows(self) -> int:
        return MANY if self.counted or self.forks else sum(map(len, self.keys.values()))


class PlansFound(msgspec.Struct):
    """Plans that exist, or would be created."""

    states: dict[str, LoadedPlan] = {}


class PlanChange(msgspec.Struct):
    """Rows of a plan to write.

    `cleared` are incarnations to sweep, `bases` values at its horizon. With `purged`, the timers,
    deliveries and dead letters of its past are swept, too.

    With `lives_on`, as after most changes, only the counts, revision and time of its row differ,
    and a shorter statement writes it.
    """

    row: PlanRow
    puts: dict[str, EntryRow]
    removals: set[str]
    history: list[HistoryRow]
    cleared: list[int]
    compensations: list[CompensationRow] = []
    bases: dict[str, str] = {}
    lives_on: bool = True
    purged: bool = False
    is_overgrown: bool = False
    """true if its history has become too long, and is to be trimmed"""
