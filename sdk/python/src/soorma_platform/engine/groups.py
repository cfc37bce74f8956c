"""Joining a group: its new subscriptions take the events that nobody took.

They do so in steps, so that no transaction is long. What is published meanwhile waits behind it.
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
"""Time for which an event that no group took waits for the first that subscribes."""
STEP = 500
"""Events that are looked at in one transaction."""
STEP_BYTES = 2 * 1024 * 1024
"""of events that are marked as taken in one, for which they are written anew"""
LEAST = 8
"""of each type, where there are many"""


class JoinOutcome(msgspec.Struct):
    """A group as a replica has joined it: all its subscriptions, and where the next step goes on, if there is one."""

    group: GroupJoined
    patterns: dict[int, tuple[str, str]]
    """(type, topic) by id"""
    following: Cursor | None


class JoinGroup:
    """Makes or refreshes a group with subscriptions, of which the new ones take recent events that nobody took."""

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
        """In the order of the log, whichever subscription takes an event: it is the order of their lanes."""
        untaken = found.part(UntakenFound)
        by_pattern = {(one.type, one.topic): one for one in new}
        busy, size = set(untaken.busy), 0
        for number, event in enumerate(untaken.events, 1):
            if (taker := self._taker(event, by_pattern)) is not None:
                lane = event.lane if taker.ordered else None
                # The eldest of a lane leads it, unless the lane was there before.
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
        """Who takes an event: one that names its type before one that does not, as when it is published."""
        if self.scope is not All.TENANTS and self.scope != event.tenant_id:
            return None
        kind, topic = event.type, event.topic
        patterns = ((kind, topic), (kind, "*"), ("*", topic), ("*", "*"))
        return next((found for pattern in patterns if (found := new.get(pattern))), None)
