"""Rows of deliveries: events that groups have yet to handle."""

from __future__ import annotations

import msgspec

from soorma_common.names import Scope
from soorma_common.retry import RetryPolicy
from soorma_platform.engine.commands import Need
from soorma_platform.engine.rows.plans import PlanRow


class DeliveryRow(msgspec.Struct):
    """An event that a group has yet to handle; `next_in_lane` waits behind it."""

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
    """the lane of its event's plan, in which this group may take it out of order"""
    attempt: int
    retry: RetryPolicy
    envelope: str
    type: str
    outlives: bool = False
    ended_plans: bool = False
    failures: int = 0
    deaths: int = 0
    """of processes that were handling it"""
    silences: int = 0
    """deaths by silence; in the others, the connection was closed"""
    cleared: int = 0
    """deaths that were another event's fault"""
    died_alone: bool = False
    """true if the process that died last was handling nothing else"""
    cohort: str | None = None
    """the process that died last while handling more than this"""
    is_suspect: bool = False
    next_in_lane: int | None = None


class HolderRow(msgspec.Struct):
    """The agent that holds a delivery, the family of its key, and its event."""

    agent: str
    instance: str | None
    envelope: str
    scope: Scope
    family: str | None


class Waiter(msgspec.Struct, frozen=True):
    """A delivery whose handler waits for a request's response, or for what depends on it."""

    event_id: str
    type: str
    group_id: int
    group: str
    lane: str | None


class DeliveryNeed(Need):
    """The delivery in hand under a fence, with its plan."""

    fence: str


class InHand(msgspec.Struct):
    """A delivery in hand; None if it was settled, or is in other hands."""

    delivery: DeliveryRow | None = None
    plan: PlanRow | None = None
    """of its event"""
    others: int = 0
    """the number of other groups yet to handle that event; counted if its plan has failed"""


class FenceNeed(Need):
    """The user for whom the holder of a fence acts."""

    fence: str


class FenceFound(msgspec.Struct):
    """The scope of the event whose delivery is in hand under a fence; None if none is."""

    scope: Scope | None = None


class WaitersNeed(Need):
    """The handlers that wait for the response to a request.

    They are its sender, the handler that waits for a response of that sender, and so on.
    """

    event_id: str
    """of the event that the sender handles"""
    agent: str
    links: int
    """the most to follow"""


class WaitersFound(msgspec.Struct):
    """Handlers that wait for a response."""

    found: list[Waiter] = []
    places: dict[int, int] = {}
    """by group of a waiter, how many events its connected replicas handle at once"""


class Settled(msgspec.Struct):
    """A delivery that is over; the next of its lane, if any, is ready `at` an uptime."""

    delivery: DeliveryRow
    at: int


class Retried(msgspec.Struct):
    """A delivery whose attempt has failed, ready again at an uptime.

    With `is_deferred` it was postponed, and the attempt does not count.
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
