"""The rows a decision reads and writes: the language between the engine and a store.

Times are integers, milliseconds since 1970 UTC by the wall clock; those whose names end in `uptime`, and a few of which
it is said, are by that clock (see `engine/moments.py`). Values, envelopes and arguments are JSON text.
"""

from __future__ import annotations

from typing import cast

import msgspec

from soorma_common.delivery import RetryPolicy
from soorma_common.memory import Cause, Committed
from soorma_common.names import PlanStatus, Scope
from soorma_platform.engine.moments import Moment

MOVING = ("active", "failed")
"""Statuses of a plan that has something left to do: a failed one undoes its work."""


class PlanRow(msgspec.Struct):
    """A plan. `incarnation` changes when it is cleaned up, so that its old rows can go in bounded steps.

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
    """events of the plan up to this position of the log are not handled any more: it was cancelled, or purged"""
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
        """Whether it has not ended."""
        return self.status == "active"

    def life(self, now: int) -> PlanStatus:
        """Its status as a reader sees it; `missing` where nothing of it is there."""
        has_expired = self.expires_at is not None and self.expires_at <= now
        return cast("PlanStatus", self.status) if self.live and not has_expired else "missing"

    @property
    def is_stalled(self) -> bool:
        """Whether it was reported as stalled, and has not moved since."""
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


class Origin(msgspec.Struct):
    """A plan as of a revision of its past, for one that begins with its keys; none, where that is not kept."""

    row: PlanRow
    revision: int
    entries: list[EntryRow]


class PlanState(msgspec.Struct):
    """What the store has of a plan: its row, those of the asked keys, and, if asked, the count of live keys."""

    row: PlanRow
    entries: dict[str, EntryRow]
    expired: list[str] = []
    """keys whose time to live is over and that are to be swept by the next commit; they are in `entries`"""
    hidden: tuple[int, int] = (0, 0)
    """how many keys have expired and are not to be swept yet, and their bytes: they do not count for the limits"""
    live_keys: int = 0
    origin: Origin | None = None
    """what it is to begin with, if it is to be a fork"""
    log_end: int = 0
    """position of the last event in the log, if what was published for the plan before is to be dropped"""
    last_timer: int = 0
    """row of the last timer that was set, likewise"""


class CompensationRow(msgspec.Struct):
    """An event that undoes a part of a plan's work; it waits, was published, or was done."""

    seq: int
    event_id: str
    state: int
    envelope: str


WAITS, PUBLISHED, DONE = 0, 1, 2
"""States of a compensation."""


class Saga(msgspec.Struct):
    """How far the undoing of a failed plan has come."""

    following: CompensationRow | None
    """the next to be published"""
    under_way: CompensationRow | None
    """the one that was published and is not done"""
    count: int = 0
    """how many are registered"""
    known: dict[str, str] = {}
    """envelopes, by event id, of those that are registered already and that the commit names again"""


class PlanChange(msgspec.Struct):
    """What is to be written of a plan; `cleared` are the incarnations to be swept, `bases` values at its horizon.

    `purged` where its timers, deliveries and dead letters are to be swept too, as far as they are of its past.

    `lives_on` where the row differs in its counts, revision and time only, as after most changes: its incarnation and
    horizon, whether it is live, when it expires, and how far its life has come are as they were.
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


class SubscriptionRow(msgspec.Struct, frozen=True):
    """A group's interest in a type and topic (`*`: any)."""

    id: int
    group_id: int
    group: str
    type: str
    topic: str
    ordered: bool


class DeliveryRow(msgspec.Struct):
    """An event that a group has yet to handle, with the event; `next_in_lane` waits behind it."""

    id: int
    group_id: int
    group: str
    subscription_id: int
    event_id: str
    position: int
    tenant_id: str
    user_id: str
    plan_id: str | None
    lane: str | None
    attempt: int
    retry: RetryPolicy
    envelope: str
    type: str
    outlives: bool = False
    ended_plans: bool = False
    failures: int = 0
    deaths: int = 0
    """of processes that had it in hand"""
    silences: int = 0
    """how many of these gave no sign of life, the others closed their connection"""
    cleared: int = 0
    """how many of these were another event's fault"""
    died_alone: bool = False
    """whether the process that died last had nothing else in hand"""
    cohort: str | None = None
    """the process that died last with more than this in hand"""
    is_suspect: bool = False
    next_in_lane: int | None = None


class HolderRow(msgspec.Struct):
    """Who has a delivery in hand, and its event."""

    agent: str
    instance: str | None
    envelope: str


class NewDelivery(msgspec.Struct):
    """A delivery to be added; `ready_at` (uptime) is None where it waits behind another of its lane."""

    group_id: int
    subscription_id: int
    lane: str | None
    ready_at: int | None


class EventRow(msgspec.Struct):
    """An event to be added to the log at an uptime, and its deliveries; `lane` is its plan's, None without a plan.

    It `outlives` its plan where it is to be handled though that has ended.
    """

    event_id: str
    scope: Scope
    plan_id: str | None
    lane: str | None
    topic: str
    type: str
    correlation_id: str
    at: int
    envelope: str
    fingerprint: str
    deliveries: list[NewDelivery]
    outlives: bool = False


class TimerRow(msgspec.Struct):
    """An event that is published when it is due; a deadline only in this `incarnation` of its plan, if that is active.

    `asked` is the time as it was asked for: the same event at another time is not the same timer. `due_at` is by the
    steady clock if it `is_delay`, else by the wall clock.
    """

    event_id: str
    scope: Scope
    plan_id: str | None
    due_at: int
    incarnation: int | None
    asked: str
    fingerprint: str
    envelope: str
    id: int | None = None
    is_delay: bool = False
    outlives: bool = False

    def left(self, now: Moment) -> int:
        """Milliseconds until it is due, less than 0 if it is overdue."""
        return self.due_at - (now.steady if self.is_delay else now.wall)


class StepRow(msgspec.Struct):
    """The result of a step of an event's handling by a group, as JSON text."""

    group_id: int
    position: int
    name: str
    occurrence: int
    at: int
    result: str


class Waiter(msgspec.Struct, frozen=True):
    """A delivery in hand whose handler waits for the response to a request, or for what depends on it."""

    event_id: str
    type: str
    group_id: int
    group: str
    lane: str | None


class DeadLetterRow(msgspec.Struct):
    """A delivery that was given up; `parked` keeps its lane waiting."""

    delivery: DeliveryRow
    reason: str
    at: int
    parked: bool


class StoredAnswer(msgspec.Struct):
    """The first answer to an idempotency key (or fence), for whoever asks again until the uptime `expires_at`."""

    key: str
    fingerprint: str
    committed: Committed
    expires_at: int


class Needs(msgspec.Struct):
    """What a decision has to look at. `counted` names the plans whose live keys are to be counted.

    `closing` names those of which all that was published or timed so far is to be dropped.
    """

    scope: Scope
    plans: dict[str, set[str]] = {}
    counted: set[str] = set()
    answer_key: str | None = None
    fence: str | None = None
    settles: bool = False
    """whether the delivery under the fence is to be settled: while it stands, no answer to that is kept"""
    events: list[tuple[str, str, str]] = []
    """(id, topic, type) of the events about to be published"""
    lanes: set[str] = set()
    """lanes of those events"""
    step: tuple[str, int] | None = None
    """(name, occurrence) of the step about to be recorded under the fence"""
    timers: set[str] = set()
    """ids of the events about to be timed, cancelled or fired"""
    timed_plans: set[str | None] = set()
    """plans whose timers are to be counted"""
    sagas: dict[str, set[str]] = {}
    """plans that may begin to undo their work, with the ids of compensations about to be registered"""
    closing: set[str] = set()
    asked_by: tuple[str, str] | None = None
    """(event id, agent) of the handler that waits for the response to the request about to be published"""
    lines: dict[str, dict[str, int]] = {}
    """by plan: what the keys begin with of which the first live ones are wanted, and how many"""
    forks: dict[str, tuple[str, int | None]] = {}
    """by plan that is to begin as a fork: of which one, at which revision (None: now)"""


class Snapshot(msgspec.Struct):
    """What was found, inside the transaction that will write the decision, at a moment of the store's clock."""

    moment: Moment
    plans: dict[str, PlanState] = {}
    answer: StoredAnswer | None = None
    delivery: DeliveryRow | None = None
    delivery_plan: PlanRow | None = None
    """the plan of the delivery's event"""
    other_deliveries: int = 0
    """how many other groups have yet to handle that event; told where its plan has failed"""
    published: dict[str, str] = {}
    """fingerprints of the events of the asked ids that are in the log already"""
    subscribers: dict[tuple[str, str], list[SubscriptionRow]] = {}
    """by (topic, type)"""
    busy: set[tuple[int, str]] = set()
    """(group id, lane) where a delivery is waiting or in hand"""
    recorded: str | None = None
    """the result of the asked step, if it was recorded before"""
    steps_so_far: tuple[int, int] = (0, 0)
    """count and bytes of the delivery's recorded steps"""
    timers: dict[str, TimerRow] = {}
    """waiting timers of the asked ids"""
    timers_of: dict[str | None, int] = {}
    """count of a plan's timers"""
    sagas: dict[str, Saga] = {}
    """by plan"""
    waiters: list[Waiter] = []
    """who waits for the response to the request about to be published"""
    places: dict[int, int] = {}
    """by group of a waiter, how many events its connected replicas handle at once"""

    @property
    def now(self) -> int:
        """The wall clock's time, which users see."""
        return self.moment.wall

    @property
    def uptime(self) -> int:
        """The time by which leases, backoff and retention go."""
        return self.moment.uptime


class Decision(msgspec.Struct):
    """What is to be written. An empty one writes nothing."""

    committed: Committed | None = None
    replayed: StoredAnswer | None = None
    plans: list[PlanChange] = []
    events: list[EventRow] = []
    settled: DeliveryRow | None = None
    ready: list[tuple[int, int]] = []
    """(delivery id, ready at uptime) of waiting deliveries that now lead their lane"""
    retried: tuple[DeliveryRow, int, str] | None = None
    """a failed delivery, the uptime at which it is ready again, and why it failed"""
    deferred: bool = False
    """whether that one has not failed, and its attempt does not count"""
    dead_letter: DeadLetterRow | None = None
    step: StepRow | None = None
    timers: list[TimerRow] = []
    unset: list[int] = []
    """ids of timer rows that have fired or were cancelled"""
    answer: StoredAnswer | None = None


class LogEntry(msgspec.Struct):
    """An event in the log, with what readers filter by. Positions rise in the order of commits."""

    position: int
    tenant_id: str
    user_id: str
    topic: str
    type: str
    correlation_id: str
    envelope: str


class Notice(msgspec.Struct):
    """What a commit changed, for those who wait for it: plans, groups with deliveries, the log."""

    plans: list[tuple[Scope, str]] = []
    groups: set[int] = set()
    entries: list[LogEntry] = []
    timers: bool = False
