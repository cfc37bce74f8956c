"""Rows of events: the log, and the subscribers."""

from __future__ import annotations

import msgspec

from soorma_common.names import Scope
from soorma_platform.engine.commands import Need
from soorma_platform.engine.rows.timers import TimerRow


class SubscriptionRow(msgspec.Struct, frozen=True):
    """A group's interest in a type and topic (`*`: any)."""

    id: int
    group_id: int
    group: str
    type: str
    topic: str
    ordered: bool


class NewDelivery(msgspec.Struct):
    """A delivery to add; `ready_at` (uptime) is None if it waits behind another of its lane."""

    group_id: int
    subscription_id: int
    lane: str | None
    ready_at: int | None


class EventRow(msgspec.Struct):
    """An event to add to the log `at` an uptime, and its deliveries.

    `lane` is its plan's, None without a plan. With `outlives` it is handled even though its plan
    has ended.
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


class LogEntry(msgspec.Struct):
    """An event in the log, with what readers filter by. Positions rise in the order of commits."""

    position: int
    tenant_id: str
    user_id: str
    topic: str
    type: str
    correlation_id: str
    envelope: str


class EventsNeed(Need):
    """Events to publish, whose audience and earlier uses of their ids must be known."""

    events: list[tuple[str, str, str]]
    """(id, topic, type) of each"""
    lanes: set[str] = set()
    """of those events"""

    @property
    def rows(self) -> int:
        return len(self.events)


class KnownIds(msgspec.Struct):
    """Earlier uses of event ids."""

    published: dict[str, str] = {}
    """fingerprints of events in the log"""
    timers: dict[str, TimerRow] = {}
    """timers that wait"""
    looked_up: set[str] = set()
    """all ids that were looked up"""


class Audience(msgspec.Struct):
    """The subscribers of events."""

    subscribers: dict[tuple[str, str], list[SubscriptionRow]] = {}
    """by (topic, type)"""
    busy: set[tuple[int, str]] = set()
    """(group id, lane) where a delivery is waiting or in hand"""
    looked_at: set[tuple[int, str]] = set()
    """all such pairs that were looked up"""
