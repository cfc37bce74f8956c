"""Rows of groups: their subscriptions, and events that no group has taken."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from soorma_common.delivery import Subscription
from soorma_platform.engine.commands import MANY, Need


class Cursor(NamedTuple):
    """A place among the events that no group took: an uptime and a position of the log."""

    at: int
    position: int


class KnownSubscription(NamedTuple):
    """A subscription that a group has.

    While it is `joining`, it has not yet taken all events that waited for it.
    """

    id: int
    type: str
    topic: str
    joining: bool


class GroupNeed(Need):
    """A group that is about to be joined."""

    name: str


class GroupFound(msgspec.Struct):
    """A group and its subscriptions; empty if it is new."""

    id: int | None = None
    subscriptions: list[KnownSubscription] = []


class UntakenRow(NamedTuple):
    """An event that no group took, and the bytes of its envelope."""

    at: int
    position: int
    lane: str | None
    type: str
    topic: str
    tenant_id: str
    size: int

    @property
    def cursor(self) -> Cursor:
        """The event's place."""
        return Cursor(self.at, self.position)


class UntakenNeed(Need):
    """Recent events that no group took and that new subscriptions of a group may take.

    They are of the last `within` milliseconds, behind the place `after`. None are loaded if the
    group needed before has no new subscriptions.
    """

    subscriptions: list[Subscription]
    within: int
    after: Cursor | None
    limit: int
    least: int
    """of each type, if there are many"""

    @property
    def rows(self) -> int:
        return MANY


class UntakenFound(msgspec.Struct):
    """Events that no group took, in the order of their places."""

    events: list[UntakenRow] = []
    is_all: bool = True
    """true if there are no others"""
    busy: set[str] = set()
    """their lanes in which something waits for the group"""


class GroupJoined(msgspec.Struct):
    """A group with a replica's subscriptions, at a time and uptime.

    Its `id` and `ids` are set when it is written.
    """

    name: str
    subscriptions: list[Subscription]
    at: int
    uptime: int
    id: int = 0
    ids: dict[tuple[str, str], int] = {}
    """by (type, topic)"""


class Taken(msgspec.Struct):
    """An event that a group's subscription takes.

    `ready_at` is None if it waits behind another of its lane.
    """

    group: GroupJoined
    by: Subscription
    position: int
    lane: str | None
    ready_at: int | None


class Joined(msgspec.Struct):
    """Subscriptions of a group that have taken all events that waited for them."""

    group: GroupJoined
    subscriptions: list[Subscription]
