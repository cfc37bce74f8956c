"""The rows a decision reads and writes: the language between the engine and a store.

Times are integers, milliseconds since 1970 UTC. Values, envelopes and arguments are JSON text.
"""

from __future__ import annotations

import msgspec

from soorma_common.delivery import RetryPolicy
from soorma_common.memory import Cause, Committed
from soorma_common.names import Scope


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


class PlanState(msgspec.Struct):
    """What the store has of a plan: its row, those of the asked keys, and, if asked, the count of live keys."""

    row: PlanRow
    entries: dict[str, EntryRow]
    expired: list[str] = []
    """keys whose time to live is over and that are to be swept by the next commit; they are in `entries`"""
    live_keys: int = 0


class PlanChange(msgspec.Struct):
    """What is to be written of a plan; `cleared` are the incarnations to be swept."""

    row: PlanRow
    puts: dict[str, EntryRow]
    removals: set[str]
    history: list[HistoryRow]
    cleared: list[int]


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
    next_in_lane: int | None = None


class NewDelivery(msgspec.Struct):
    """A delivery to be added; `ready_at` is None where it waits behind another of its lane."""

    group_id: int
    subscription_id: int
    lane: str | None
    ready_at: int | None


class EventRow(msgspec.Struct):
    """An event to be added to the log, and its deliveries; `lane` is its plan's, None without a plan."""

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


class DeadLetterRow(msgspec.Struct):
    """A delivery that was given up; `parked` keeps its lane waiting."""

    delivery: DeliveryRow
    reason: str
    at: int
    parked: bool


class StoredAnswer(msgspec.Struct):
    """The first answer to an idempotency key (or fence), for whoever asks again until `expires_at`."""

    key: str
    fingerprint: str
    committed: Committed
    expires_at: int


class Needs(msgspec.Struct):
    """What a decision has to look at. `counted` names the plans whose live keys are to be counted."""

    scope: Scope
    plans: dict[str, set[str]] = {}
    counted: set[str] = set()
    answer_key: str | None = None
    fence: str | None = None
    events: list[tuple[str, str, str]] = []
    """(id, topic, type) of the events about to be published"""
    lanes: set[str] = set()
    """lanes of those events"""


class Snapshot(msgspec.Struct):
    """What was found, inside the transaction that will write the decision. `now` is the store's clock."""

    now: int
    plans: dict[str, PlanState] = {}
    answer: StoredAnswer | None = None
    delivery: DeliveryRow | None = None
    published: dict[str, str] = {}
    """fingerprints of the events of the asked ids that are in the log already"""
    subscribers: dict[tuple[str, str], list[SubscriptionRow]] = {}
    """by (topic, type)"""
    busy: set[tuple[int, str]] = set()
    """(group id, lane) where a delivery is waiting or in hand"""


class Decision(msgspec.Struct):
    """What is to be written. An empty one writes nothing."""

    committed: Committed | None = None
    replayed: StoredAnswer | None = None
    plans: list[PlanChange] = []
    events: list[EventRow] = []
    settled: DeliveryRow | None = None
    ready: list[tuple[int, int]] = []
    """(delivery id, ready at) of waiting deliveries that now lead their lane"""
    retried: tuple[DeliveryRow, int, str] | None = None
    """a failed delivery, when it is ready again, and why it failed"""
    dead_letter: DeadLetterRow | None = None
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
