"""Rows of deliveries: events that groups have yet to handle."""

from __future__ import annotations

import msgspec

from soorma_common.retry import RetryPolicy
from soorma_platform.engine.commands import Need
from soorma_platform.engine.rows.plans import PlanRow


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
    plan_lane: str | None
    """that of its event's plan, in which this group may take it out of order"""
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


class Waiter(msgspec.Struct, frozen=True):
    """A delivery in hand whose handler waits for the response to a request, or for what depends on it."""

    event_id: str
    type: str
    group_id: int
    group: str
    lane: str | None


class DeliveryNeed(Need):
    """The delivery in hand under a fence, with its plan."""

    fence: str


class InHand(msgspec.Struct):
    """A delivery in hand; None where it was settled, or is in other hands."""

    delivery: DeliveryRow | None = None
    plan: PlanRow | None = None
    """of its event"""
    others: int = 0
    """how many other groups have yet to handle that event; counted where its plan has failed"""


class WaitersNeed(Need):
    """Who waits for the response to a request: the handler that asks, and whoever has asked that, link by link."""

    event_id: str
    """of the event that the handler handles"""
    agent: str
    links: int
    """how many at most"""


class WaitersFound(msgspec.Struct):
    """Handlers that wait for a response."""

    found: list[Waiter] = []
    places: dict[int, int] = {}
    """by group of a waiter, how many events its connected replicas handle at once"""


class Settled(msgspec.Struct):
    """A delivery that is over. The next of its lane, if there is one, is ready `at` an uptime."""

    delivery: DeliveryRow
    at: int


class Retried(msgspec.Struct):
    """A delivery whose attempt has failed, or was put off (`is_deferred`) and does not count.

    Ready at an uptime.
    """

    delivery: DeliveryRow
    ready_at: int
    reason: str
    is_deferred: bool


class DeadLetterRow(msgspec.Struct):
    """A delivery that was given up; `parked` keeps its lane waiting."""

    delivery: DeliveryRow
    reason: str
    at: int
    parked: bool
