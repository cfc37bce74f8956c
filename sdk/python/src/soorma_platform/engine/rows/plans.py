"""Rows of plans: what a decision reads and writes of them."""

from __future__ import annotations

from typing import NamedTuple, cast

import msgspec

from soorma_common.memory import Cause
from soorma_common.names import PlanStatus
from soorma_platform.engine.commands import MANY, Need
from soorma_platform.engine.rows.sagas import CompensationRow

FRESH = ("set", "delete", "expire")
"""Operations that build on no earlier value of their key."""
MOVING = ("active", "failed")
"""Statuses of a plan that has something left to do: a failed one undoes its work."""


class PlanRow(msgspec.Struct):
    """A plan.

    `incarnation` changes when it is cleaned up, so that its old rows can go in bounded steps.

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
    """how many compensations and deadlines were registered for it"""
    past_position: int = 0
    """events of the plan up to this position of the log are not handled any more: it was
    cancelled, or purged"""
    past_timer: int = 0
    """timers of the plan up to this row are not fired any more, for the same reason"""
    updated_uptime: int = 0
    ended_uptime: int | None = None
    end_position: int = 0
    """events of the plan up to this position of the log were published before it ended"""
    ended_by: int | None = None
    """the group whose handler ended it"""

    @property
    def is_active(self) -> bool:
        """True while it has not ended."""
        return self.status == "active"

    def life(self, now: int) -> PlanStatus:
        """Its status as a reader sees it; `missing` where nothing of it is there."""
        has_expired = self.expires_at is not None and self.expires_at <= now
        return cast("PlanStatus", self.status) if self.live and not has_expired else "missing"

    @property
    def is_stalled(self) -> bool:
        """True where it was reported as stalled, and has not moved since."""
        return self.status in MOVING and 0 < self.revision == self.stalled


class EntryRow(msgspec.Struct):
    """A key and its value, as of its last write."""

    key: str
    value: str
    revision: int
    updated_at: int
    expires_at: int | None = None


class HistoryRow(msgspec.Struct):
    """One operation of one commit; `action` numbers the plan's actions and is None for any other operation."""

    revision: int
    seq: int
    op: str
    key: str | None
    argument: str | None
    at: int
    cause: Cause
    action: int | None = None


class KeyPast(msgspec.Struct):
    """A key as its history leads to it: rows, newest first, back to one that builds on no earlier value (FRESH).

    `base` is the value before the oldest row that is kept; None: it was missing.
    """

    key: str
    rows: list[HistoryRow] = []
    base: str | None = None


class Origin(msgspec.Struct):
    """A plan as of a revision of its past, for one that begins with its keys; none of them, where that is not kept.

    `entries` are those that were not written since, `pasts` those that were.
    """

    row: PlanRow
    revision: int
    entries: list[EntryRow] = []
    pasts: list[KeyPast] = []


class HiddenKeys(NamedTuple):
    """Keys that have expired and are not to be swept yet, and their bytes: they do not count for the limits."""

    keys: int
    size: int


class LoadedPlan(msgspec.Struct):
    """A plan as loaded: its row, its entries under the keys that are needed, what else is needed."""

    row: PlanRow
    entries: dict[str, EntryRow]
    expired: list[str] = []
    """keys whose time to live is over and that are to be swept by the next commit; they are in
    `entries`"""
    hidden: HiddenKeys = HiddenKeys(0, 0)
    live_keys: int = 0
    origin: Origin | None = None
    """what a fork begins with; None where it is to be none"""
    log_end: int = 0
    """position of the last event of the log; loaded where all events of the plan up to it are
    discarded"""
    last_timer: int = 0
    """row of the last timer that was set; loaded where all timers of the plan up to it are
    discarded"""


class PlansNeed(Need):
    """Plans by id, with the keys to look at."""

    keys: dict[str, set[str]]
    counted: set[str] = set()
    """plans whose live keys are to be counted"""
    lines: dict[str, dict[str, int]] = {}
    """by plan: beginnings of keys, with the number of live keys to load of each, the first ones"""
    closing: set[str] = set()
    """plans whose events and timers so far are to be discarded"""
    forks: dict[str, tuple[str, int | None]] = {}
    """by new plan that is a fork: its origin, and the revision of that (None: the current one)"""

    @property
    def rows(self) -> int:
        return MANY if self.counted or self.forks else sum(map(len, self.keys.values()))


class PlansFound(msgspec.Struct):
    """Plans that were found, or would be made."""

    states: dict[str, LoadedPlan] = {}


class PlanChange(msgspec.Struct):
    """Rows to write of a plan; `cleared` are the incarnations to be swept, `bases` values at its horizon.

    With `purged`, the timers, deliveries and dead letters of its past are to be swept too.

    With `lives_on`, as after most changes, the row differs in its counts, revision and time alone,
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
    """whether its history has become too long, and is to be trimmed"""
