"""The port of groups: their subscriptions, connected replicas and waiting events.

Joining a group and replaying a dead letter are commands.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection
from typing import NamedTuple, Protocol

import msgspec

from soorma_common.names import Owner
from soorma_platform.engine.rows.audit_log import Author
from soorma_platform.stores.ports.health import GroupStanding

CONNECTED_SECONDS = 180.0
"""Seconds for which a subscription counts as connected; services renew this each minute."""


class Unserved(msgspec.Struct):
    """A subscription for which no connected replica of its group has a handler.

    `waiting` is the number of its events that are set aside.
    """

    type: str
    topic: str
    waiting: int


class Survey(msgspec.Struct):
    """The subscriptions that nobody serves in a group.

    `more` is true if there are more events to set aside, or to return to their places.
    """

    unserved: list[Unserved]
    more: bool


class Pattern(NamedTuple):
    """The events that a subscription of a group takes."""

    id: int
    type: str
    topic: str


class GroupRow(NamedTuple):
    """A group; `tenant_id` is empty if it serves all tenants."""

    id: int
    tenant_id: str
    name: str
    created_at: int


class SubscriptionState(msgspec.Struct):
    """A subscription, when a replica with it was last connected, and how many events are set aside.

    It is served unless replicas of its group are connected and none of them has a handler for it.
    """

    id: int
    type: str
    topic: str
    ordered: bool
    seen_at: int
    is_served: bool = True
    set_aside: int = 0


class ReplicaRow(NamedTuple):
    """A connected agent process of a group."""

    id: str
    instance: str
    max_concurrency: int
    connected_at: int


class GroupState(msgspec.Struct):
    """A group, its standing, its subscriptions and its connected replicas, as of a time."""

    group: GroupRow
    standing: GroupStanding
    subscriptions: list[SubscriptionState]
    replicas: list[ReplicaRow]
    at: int


class LetterState(msgspec.Struct):
    """A dead letter with its event."""

    id: int
    group: str
    event_id: str
    type: str
    topic: str
    tenant_id: str
    user_id: str
    plan_id: str | None
    attempts: int
    """begun and not released"""
    failures: int
    deaths: int
    """of processes that had it in hand"""
    reason: str
    at: int
    parked: bool
    envelope: str


class EndedSubscription(NamedTuple):
    """The outcome of ending a subscription; it is not ended while an agent serves it.

    `waited` is the number of events that had waited for it.
    """

    waited: int
    is_served: bool


class Replica(NamedTuple):
    """A replica that connects: the `connection`-th of its agent.

    Replicas of one process die together.
    """

    id: str
    instance: str
    max_concurrency: int
    process: str = ""
    connection: int = 0


class GroupStore(Protocol):
    """Groups, their subscriptions and replicas."""

    async def join(self, group_id: int, replica: Replica, running: Collection[str] = ()) -> bool:
        """Notes a connected replica.

        Returns False, and notes nothing, if its agent has connected again since.

        If the replica names its `process` and was connected before, deliveries that were sent to it
        and are not `running` were lost on the way: they are released at once.
        """
        ...

    async def drain(self, replica: str) -> None:
        """Notes that a replica is about to stop: its end no longer counts as a death."""
        ...

    async def leave(self, replica: str) -> None:
        """Forgets a replica; its deliveries may be claimed at once.

        Until they are, it may still settle them. Deliveries that were claimed for it and not sent
        yet may be claimed too. Unless it was draining, its end counts as a death of each delivery,
        as far as can be known; `resume` takes the death back if only the connection was lost.
        """
        ...

    async def survey(self, group_id: int) -> Survey:
        """Sets aside what no connected replica serves, and puts back what one serves again.

        One step of bounded size. Call it whenever a replica of the group comes, goes, or serves
        something else. A replica is connected while it is `prefetching`, and serves the
        subscriptions of its prefetch.
        """
        ...

    async def unsubscribe(
        self,
        owner: Owner,
        group: str,
        event_type: str,
        topic: str,
        *,
        drop: bool,
        author: Author,
    ) -> EndedSubscription | None:
        """Ends a subscription, unless a connected agent serves it; None if it does not exist.

        The events that wait for it become dead letters of the group or, with `drop`, are dropped
        along with its dead letters. The audit says that the `author` did it.
        """
        ...

    async def seen(self, subscription_ids: builtins.list[int]) -> None:
        """Notes that a replica with these subscriptions is connected now."""
        ...

    async def patterns(self, group_id: int) -> builtins.list[Pattern]:
        """Lists the patterns of the group's subscriptions."""
        ...

    async def list(self, owner: Owner) -> builtins.list[GroupState]:
        """Lists the groups that serve a tenant, or all groups."""
        ...

    async def dead_letters(
        self, owner: Owner, group: str | None, after: int, limit: int
    ) -> builtins.list[LetterState]:
        """Lists dead letters by id, those above `after`."""
        ...
