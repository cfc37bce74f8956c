"""Joining a group, whose new subscriptions take recent events that no group took.

They do so in steps, so that no transaction is long. Events published meanwhile queue behind these.
"""

from __future__ import annotations

import msgspec

from soorma_common.delivery import Subscription
from soorma_common.names import All, Owner
from soorma_platform.engine.commands import Decision, Need, Snapshot, Writes
from soorma_platform.engine.rows.groups import (
    Cursor,
    GroupFound,
    GroupJoined,
    GroupNeed,
    Joined,
    Taken,
    UntakenFound,
    UntakenNeed,
    UntakenRow,
)

UNTAKEN_SECONDS = 600
"""Seconds for which an event that no group took waits for the first that subscribes."""
STEP = 500
"""Events examined in one transaction."""
STEP_BYTES = 2 * 1024 * 1024
"""Bytes of events marked as taken in one transaction, which rewrites them."""
LEAST = 8
"""Events examined of each type, at least, if there are many."""


class JoinOutcome(msgspec.Struct):
    """A group that a replica has joined.

    `following` is where the next step continues; None if there is none.
    """

    group: GroupJoined
    patterns: dict[int, tuple[str, str]]
    """(type, topic) by id, of the subscriptions that the group had before"""
    following: Cursor | None


class JoinGroup:
    """The creation or refresh of a group with subscriptions.

    New ones take recent events that no group took.
    """

    def __init__(
        self,
        owner: Owner,
        name: str,
        subscriptions: list[Subscription],
        after: Cursor | None = None,
    ) -> None:
        self.scope = owner
        self._name = name
        self._subscriptions = {(one.type, one.topic): one for one in subscriptions}
        self._after = after

    def needs(self) -> list[Need]:
        subscriptions = list(self._subscriptions.values())
        return [
            GroupNeed(self._name),
            UntakenNeed(subscriptions, UNTAKEN_SECONDS * 1000, self._after, STEP, LEAST),
        ]

    def decide(self, found: Snapshot) -> Decision[JoinOutcome]:
        group = GroupJoined(self._name, list(self._subscriptions.values()), found.now, found.uptime)
        known = {(one.type, one.topic): one for one in found.part(GroupFound).subscriptions}
        new = [
            one
            for pattern, one in self._subscriptions.items()
            if pattern not in known or known[pattern].joining
        ]
        writes: Writes = [group]
        following = self._take(writes, group, new, found) if new else None
        if new and following is None:
            writes.append(Joined(group, new))
        patterns = {one.id: pattern for pattern, one in known.items()}
        return Decision(JoinOutcome(group, patterns, following), writes)

    def _take(
        self, writes: Writes, group: GroupJoined, new: list[Subscription], found: Snapshot
    ) -> Cursor | None:
        """Takes events, for any of the subscriptions, in the order of the log and so of lanes."""
        untaken = found.part(UntakenFound)
        by_pattern = {(one.type, one.topic): one for one in new}
        busy, size = set(untaken.busy), 0
        for number, event in enumerate(untaken.events, 1):
            if (taker := self._taker(event, by_pattern)) is not None:
                lane = event.lane if taker.ordered else None
                # The oldest event leads its lane, unless the lane existed before.
                ready_at = None if lane in busy else found.uptime
                if lane is not None:
                    busy.add(lane)
                writes.append(Taken(group, taker, event.position, lane, ready_at))
                size += event.size
            if size > STEP_BYTES and number < len(untaken.events):
                return event.cursor
        return None if untaken.is_all else untaken.events[-1].cursor

    def _taker(
        self, event: UntakenRow, new: dict[tuple[str, str], Subscription]
    ) -> Subscription | None:
        """Returns the subscription that takes an event, chosen as when an event is published."""
        if self.scope is not All.TENANTS and self.scope != event.tenant_id:
            return None
        kind, topic = event.type, event.topic
        patterns = ((kind, topic), (kind, "*"), ("*", topic), ("*", "*"))
        return next((found for pattern in patterns if (found := new.get(pattern))), None)
