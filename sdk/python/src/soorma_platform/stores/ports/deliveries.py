"""The port of deliveries: agents take events, keep them for a lease, and give them back."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from soorma_common.delivery import RecordedStep
from soorma_platform.engine.rows.deliveries import DeliveryRow, HolderRow
from soorma_platform.engine.rows.plans import EntryRow, PlanRow

LARGEST_CLAIM = 16
SNAPSHOT_BYTES = 16 * 1024
SNAPSHOT_KEYS = 100
"""A plan up to this size goes along with its event, so that reads in the handler cost no round
trip."""


class Claimed(msgspec.Struct):
    """A delivery in an agent's hands, under `fence`, with its event, as of the wall clock's time `at`."""

    fence: str
    attempt: int
    group_id: int
    subscription_id: int
    position: int
    tenant_id: str
    user_id: str
    plan_id: str | None
    envelope: str
    type: str
    at: int = 0
    lease: float = 0.0
    """seconds for which it is the agent's from the claim on"""
    steps: list[RecordedStep] = []
    """results of steps that earlier attempts have recorded"""
    plan: PlanRow | None = None
    """its plan as of the claim; None without a plan"""
    entries: list[EntryRow] | None = None
    """all live keys of that plan, None where they are more than go along with an event"""
    outlives: bool = False
    """whether it is handled though its plan has ended"""
    suspect: DeliveryRow | None = None
    """the delivery, if processes died with it: its replica gets nothing else until it has ended"""

    @property
    def is_suspect(self) -> bool:
        """True where processes died with it."""
        return self.suspect is not None


class Prefetch:
    """Deliveries that a replica is sent ahead of its handlers, for as long as there is `room`.

    Its connection frees room and takes what was claimed, the store uses room and fills. Each does
    so in a thread of its own, and neither waits for the other: `freed` is written by the connection
    alone, `used` by the store alone, and a deque needs no lock. What the store gives to another
    replica, as nothing was heard of this one, it puts into `lost`; the connection frees its room.
    """

    __slots__ = (
        "_filled",
        "_lost",
        "freed",
        "group_id",
        "has_suspect",
        "lease",
        "most",
        "process",
        "replica",
        "subscription_ids",
        "used",
    )

    def __init__(self, replica: str, lease: float, most: int = 0, process: str = "") -> None:
        self.replica = replica
        self.lease = lease
        """seconds"""
        self.most = most
        """its room while nothing is in its hands"""
        self.process = process or replica
        """replicas of one process die together"""
        self.has_suspect = False
        """whether a suspect was claimed for it, which it may have handled since"""
        self.group_id = 0
        self.subscription_ids: list[int] = []
        """those that it serves, in the order in which they are claimed from"""
        self.freed = 0
        self.used = 0
        self._filled: deque[Claimed] = deque()
        self._lost: deque[str] = deque()

    @property
    def room(self) -> int:
        """The number of deliveries that it can take now."""
        return self.freed - self.used

    @property
    def is_idle(self) -> bool:
        """True while nothing is in its hands."""
        return self.room >= self.most

    @property
    def is_testing(self) -> bool:
        """True while it has a suspect in hand."""
        return self.has_suspect and not self.is_idle

    @property
    def filled(self) -> list[Claimed]:
        """The deliveries that were claimed for it and not taken yet."""
        return list(self._filled)

    def fill(self, claimed: list[Claimed]) -> None:
        """Adds deliveries to the replica's hands, once their claim is committed."""
        self.has_suspect = any(one.is_suspect for one in claimed) or self.is_testing
        self.used += len(claimed)
        self._filled.extend(claimed)

    def lose(self, fences: list[str]) -> None:
        """Notes deliveries that are in its hands no more, once that is committed."""
        self._lost.extend(fences)

    def lost(self) -> list[str]:
        """The fences that were taken from it since the last time."""
        return [self._lost.popleft() for _ in range(len(self._lost))]

    def take(self) -> list[Claimed]:
        """Returns what was claimed for it since the last time."""
        return [self._filled.popleft() for _ in range(len(self._filled))]


class DeliveryStore(Protocol):
    """Deliveries in the hands of agents."""

    def prefetching(self, prefetch: Prefetch) -> AbstractContextManager[None]:
        """Has commits claim what they make ready for a replica, while this is entered.

        The bell of its group rings then. A store may leave that out: whoever hears the bell calls
        `claim`.
        """
        ...

    async def claim(self, prefetch: Prefetch) -> None:
        """Puts ready deliveries into the replica's hands, as many as it has room for, each under a new fence.

        `prefetch.take()` returns them then. At most LARGEST_CLAIM at once, and none for a replica
        that is not noted, or was not heard of for two thirds of its lease: a frozen agent must not
        collect what others could do.

        What a replica holds whose lease has run out becomes ready before: its process is dead or
        frozen, which counts as a death of each. An event with which a process went silent once has
        a shorter lease from then on (`engine.suspects`). A delivery that has died twice goes to a
        replica that has nothing else in hand, and gets nothing else until it has ended.
        """
        ...

    async def next_ready(self, subscription_ids: list[int]) -> float | None:
        """Seconds until the next delivery may be ready, none or less if one is; None if none will be by time alone.

        A lease that runs out counts, whosever it is.
        """
        ...

    async def renew(self, replica: str, fences: list[str], lease: float) -> list[str]:
        """Notes that the replica was heard of, in the registry too, and prolongs leases; the fences that still stand.

        What it was sent and has never named is prolonged too: it waits in the socket of an agent
        that is busy.
        """
        ...

    async def resume(self, fences: list[str], lease: float, replica: str) -> list[Claimed]:
        """Leaves deliveries with an agent that reconnected; returns those whose fences still stand.

        If its end was counted as a death of them, that is taken back.
        """
        ...

    async def release(self, fences: list[str]) -> None:
        """Gives deliveries back untried: they are ready at once, and the attempt does not count."""
        ...

    async def holder(self, fence: str) -> HolderRow | None:
        """Who has the delivery under that fence in hand, with its event."""
        ...
