"""Rows of events: the log, and who takes them."""

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
    """Events to publish, for which their audience and earlier uses of their ids have to be known."""

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
    """all ids that were looked for"""


class Audience(msgspec.Struct):
    """Who takes events."""

    subscribers: dict[tuple[str, str], list[SubscriptionRow]] = {}
    """by (topic, type)"""
    busy: set[tuple[int, str]] = set()
    """(group id, lane) where a delivery is waiting or in hand"""
    looked_at: set[tuple[int, str]] = set()
    """all such places that were looked at"""
