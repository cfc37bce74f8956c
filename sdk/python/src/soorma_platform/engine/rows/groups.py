"""Rows of groups: who subscribes to what, and events that nobody took so far."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from soorma_common.delivery import Subscription
from soorma_platform.engine.commands import MANY, Need


class Cursor(NamedTuple):
    """A place among the events that nobody took: an uptime and a position of the log."""

    at: int
    position: int


class KnownSubscription(NamedTuple):
    """A subscription that a group has.

    One that is `joining` has not taken all yet that waited for it.
    """

    id: int
    type: str
    topic: str
    joining: bool


class GroupNeed(Need):
    """A group that is about to be joined."""

    name: str


class GroupFound(msgspec.Struct):
    """A group and its subscriptions; none, where it is new."""

    id: int | None = None
    subscriptions: list[KnownSubscription] = []


class UntakenRow(NamedTuple):
    """An event that nobody took, and the bytes of its envelope."""

    at: int
    position: int
    lane: str | None
    type: str
    topic: str
    tenant_id: str
    size: int

    @property
    def cursor(self) -> Cursor:
        """Where it stands."""
        return Cursor(self.at, self.position)


class UntakenNeed(Need):
    """Events of the last milliseconds that nobody took and that new subscriptions of a group may, from behind a place.

    None of them, where the group that was asked for before has no new ones.
    """

    subscriptions: list[Subscription]
    within: int
    after: Cursor | None
    limit: int
    least: int
    """of each type, where there are many"""

    @property
    def rows(self) -> int:
        return MANY


class UntakenFound(msgspec.Struct):
    """Events that nobody took, in the order of their places."""

    events: list[UntakenRow] = []
    is_all: bool = True
    """whether there are no others"""
    busy: set[str] = set()
    """lanes of theirs in which something waits for the group"""


class GroupJoined(msgspec.Struct):
    """A group with subscriptions of a replica, at a time and uptime.

    It gets its `id` and `ids` as it is written.
    """

    name: str
    subscriptions: list[Subscription]
    at: int
    uptime: int
    id: int = 0
    ids: dict[tuple[str, str], int] = {}
    """by (type, topic)"""


class Taken(msgspec.Struct):
    """An event that a subscription of a group takes; `ready_at` is None where it waits behind another of its lane."""

    group: GroupJoined
    by: Subscription
    position: int
    lane: str | None
    ready_at: int | None


class Joined(msgspec.Struct):
    """Subscriptions of a group that have taken all that waited for them."""

    group: GroupJoined
    subscriptions: list[Subscription]
