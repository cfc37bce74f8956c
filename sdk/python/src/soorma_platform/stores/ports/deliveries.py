"""The port of deliveries: agents take events, hold them for a lease, and return them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from soorma_common.delivery import RecordedStep
from soorma_platform.engine.rows.deliveries import DeliveryRow, HolderRow
from soorma_platform.engine.rows.fences import hashed
from soorma_platform.engine.rows.plans import EntryRow, PlanRow

LARGEST_CLAIM = 16
SNAPSHOT_BYTES = 16 * 1024
SNAPSHOT_KEYS = 100
"""A plan up to this size is sent with its event, to save the handler's reads a round trip."""


class Claimed(msgspec.Struct):
    """A delivery in an agent's hands, under `fence`, with its event.

    `at` is the wall clock's time of the claim, in ms.
    """

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
    """seconds from the claim for which the agent keeps it"""
    steps: list[RecordedStep] = []
    """results of steps that earlier attempts recorded"""
    plan: PlanRow | None = None
    """its plan as of the claim; None without a plan"""
    entries: list[EntryRow] | None = None
    """all live keys of that plan; None if they are too many to send with an event"""
    outlives: bool = False
    """true if it is handled even though its plan has ended"""
    suspect: DeliveryRow | None = None
    """the delivery, if it is a suspect: its replica gets nothing else until it has ended"""

    @property
    def is_suspect(self) -> bool:
        """True if processes died with it."""
        return self.suspect is not None


class Prefetch:
    """Deliveries sent to a replica ahead of its handlers, as long as there is `room`.

    Its connection frees room and takes what was claimed; the store uses room and fills it. Each
    runs in a thread of its own, and neither waits for the other: only the connection writes
    `freed`, only the store writes `used`, and a deque needs no lock. Deliveries that the store
    gives to another replica, because this one was silent, go into `lost`; the connection frees
    their room.
    """

    __slots__ = (
        "_filled",
        "_lost",
        "family",
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

    def __init__(
        self,
        replica: str,
        lease: float,
        most: int = 0,
        process: str = "",
        family: str | None = None,
    ) -> None:
        self.replica = replica
        self.family = family
        """of the key by which it takes deliveries; None on an open platform"""
        self.lease = lease
        """seconds"""
        self.most = most
        """its room while it has nothing in hand"""
        self.process = process or replica
        """replicas of one process die together"""
        self.has_suspect = False
        """true if a suspect was claimed for it, which it may have handled since"""
        self.group_id = 0
        self.subscription_ids: list[int] = []
        """the subscriptions that it serves, in the order of claiming"""
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
        """True while it has nothing in hand."""
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
        """Adds deliveries to what the replica has in hand, once their claim is committed."""
        self.has_suspect = any(one.is_suspect for one in claimed) or self.is_testing
        self.used += len(claimed)
        self._filled.extend(claimed)

    def lose(self, fences: list[str]) -> None:
        """Notes deliveries that the replica no longer has in hand, once that is committed.

        Their fences are hashed, as the record has them.
        """
        self._lost.extend(fences)

    def lost(self, in_hand: Iterable[str]) -> list[str]:
        """Returns which of the fences in hand were taken from it since the last call."""
        if not self._lost:
            return []
        gone = {self._lost.popleft() for _ in range(len(self._lost))}
        return [fence for fence in in_hand if hashed(fence) in gone]

    def take(self) -> list[Claimed]:
        """Returns the deliveries claimed for it since the last call."""
        return [self._filled.popleft() for _ in range(len(self._filled))]


class DeliveryStore(Protocol):
    """Deliveries in the hands of agents."""

    def prefetching(self, prefetch: Prefetch) -> AbstractContextManager[None]:
        """Lets commits claim what they make ready for a replica, while the context is entered.

        The bell of its group rings then. A store may omit this: whoever hears the bell calls
        `claim`.
        """
        ...

    async def claim(self, prefetch: Prefetch) -> None:
        """Claims ready deliveries for a replica, up to its room, each under a new fence.

        `prefetch.take()` then returns them. At most LARGEST_CLAIM at once, and none for a replica
        that is not noted, or was silent for two thirds of its lease: a frozen agent must not
        collect what others could do.

        None stays in the same hands for more than 24 h.

        First, deliveries whose lease has expired become ready: their process is dead or frozen,
        which counts as a death of each. An event with which a process went silent once has a
        shorter lease from then on (`engine.suspects`). A delivery with two deaths goes to a replica
        that has nothing else in hand, and that gets nothing else until the delivery has ended.
        """
        ...

    async def next_ready(self, subscription_ids: list[int]) -> float | None:
        """Returns the seconds until a delivery may be ready; None if time alone makes none ready.

        The result is 0 or less if one is ready. A lease that expires counts, whoever holds it.
        """
        ...

    async def renew(
        self, replica: str, fences: list[str], lease: float, family: str | None = None
    ) -> list[str]:
        """Notes a sign of life of the replica and prolongs leases; returns the fences still valid.

        `family` is that of the key by which they were taken: to others they are unknown. The sign
        is noted in the registry too. Deliveries that were sent to the replica, and that it has
        never named, are prolonged too: they wait in the socket of a busy agent.
        """
        ...

    async def resume(
        self,
        fences: list[str],
        lease: float,
        replica: str,
        family: str | None = None,
        group_id: int | None = None,
    ) -> list[Claimed]:
        """Leaves deliveries with an agent that reconnected; returns those with valid fences.

        They are of the group, if it is given, and taken by a key of the `family`. If its end was
        counted as a death of them, the death is taken back.
        """
        ...

    async def release(self, fences: list[str]) -> None:
        """Gives deliveries back untried: they are ready at once, and the attempt does not count."""
        ...

    async def holder(self, fence: str) -> HolderRow | None:
        """Returns who has the delivery under that fence in hand, with its event."""
        ...
