"""The port of groups: who subscribes to what, which replicas are connected, and what waits for them.

Joining a group and replaying a dead letter are commands.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection
from typing import NamedTuple, Protocol

import msgspec

from soorma_common.names import Owner
from soorma_platform.stores.ports.health import GroupStanding

CONNECTED_SECONDS = 180.0
"""For how long a subscription counts as one of a connected replica: the services say so each
minute."""


class Unserved(msgspec.Struct):
    """A subscription that no connected replica of its group has a handler for, and how many events are set aside."""

    type: str
    topic: str
    waiting: int


class Survey(msgspec.Struct):
    """The subscriptions that nobody serves in a group; `more`: there is more to set aside, or to
    put into its place again.
    """

    unserved: list[Unserved]
    more: bool


class Pattern(NamedTuple):
    """The events that a subscription of a group takes."""

    id: int
    type: str
    topic: str


class GroupRow(NamedTuple):
    """A group; `tenant_id` is empty where it serves all tenants."""

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
    """A group, how it stands, what it subscribes to and who of it is connected, as of a time."""

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
    """begun and not given back"""
    failures: int
    deaths: int
    """of processes that had it in hand"""
    reason: str
    at: int
    parked: bool
    envelope: str


class EndedSubscription(NamedTuple):
    """The outcome of ending a subscription: how many events had waited for it; it is not ended
    while an agent serves it.
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

        Where it names its `process` and was connected before, deliveries that it was sent and is
        not `running` were lost on the way: they are released at once.
        """
        ...

    async def drain(self, replica: str) -> None:
        """Notes that a replica is about to stop: its end is no death of its deliveries from now on."""
        ...

    async def leave(self, replica: str) -> None:
        """Forgets a replica.

        Its deliveries may be claimed at once; until then it may still settle them.

        So may those that were claimed for it and not sent yet. Unless it was draining, that counts
        as a death of each delivery, as far as can be known; `resume` takes the death back where
        only the connection was lost.
        """
        ...

    async def survey(self, group_id: int) -> Survey:
        """Sets aside what no connected replica serves, and puts back what one serves again.

        One step of bounded size. Call it whenever a replica of the group comes, goes, or serves
        something else. A replica is connected while it is `prefetching`, and serves what its
        prefetch names.
        """
        ...

    async def unsubscribe(
        self, owner: Owner, group: str, event_type: str, topic: str, *, drop: bool
    ) -> EndedSubscription | None:
        """Ends a subscription, unless an agent is connected that serves it; None if there is no such one.

        The events that wait for it become dead letters of the group, or are dropped with the dead
        letters that it has.
        """
        ...

    async def seen(self, subscription_ids: builtins.list[int]) -> None:
        """Notes that a replica with these subscriptions is connected now."""
        ...

    async def patterns(self, group_id: int) -> builtins.list[Pattern]:
        """Lists what the group's subscriptions take."""
        ...

    async def list(self, owner: Owner) -> builtins.list[GroupState]:
        """Lists the groups that serve a tenant, or any."""
        ...

    async def dead_letters(
        self, owner: Owner, group: str | None, after: int, limit: int
    ) -> builtins.list[LetterState]:
        """Lists dead letters by id, from behind `after`."""
        ...
