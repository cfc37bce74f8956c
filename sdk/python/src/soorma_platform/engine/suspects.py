"""Who tests a suspect: a delivery that was in hand when two processes died, and may be the reason.

A suspect is delivered to a replica with empty hands, which gets nothing else until it has ended. So
a process that dies then names its culprit. Where all replicas are busy one of them takes nothing
new until its hands are empty. That is tried for a bounded time and in turns with ordinary work, so
that neither starves the other.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto

LONGEST_SPAN = 3600_000
"""Milliseconds for which a replica takes nothing new, at most: so long may a handler run that is
waited for."""

FIRST_PAUSE, LONGEST_PAUSE = 250, 5_000
"""Milliseconds between the death of a suspect and its next delivery: a crash loop must not spin, and a connection
that was only lost must have time to come back."""

LEASE_SHARE, SHORTEST_LEASE = 3, 5_000
"""The share of its lease that is left to an event with which a process went silent, and the
milliseconds that are left at least: a machine that stutters is not frozen."""


def short_lease(lease: int) -> int:
    """Milliseconds that an event keeps which one process did not give a sign of life with: it is found out sooner."""
    return max(lease // LEASE_SHARE, min(lease, SHORTEST_LEASE))


class TrialTurn(Enum):
    """The deliveries that a replica may take now."""

    NOTHING = auto()
    WORK = auto()
    SUSPECT = auto()
    WORK_FIRST = auto()
    """a suspect only if there is no other work"""


class Trial:
    """A group that has suspects. Times in milliseconds."""

    def __init__(self) -> None:
        self._quiescing: str | None = None
        self._resting = False
        self._span = self._ends = 0
        self._succeeded = False

    def turn(
        self,
        replica: str,
        now: int,
        lease: int,
        *,
        idle: bool,
        testing: Collection[str],
        standing: Collection[str],
    ) -> TrialTurn:
        """Decides what a replica of the group may take, while a suspect is ready.

        `idle`: nothing is in its process's hands. `testing` are the replicas that have a suspect in
        hand, `standing` all of the group.
        """
        if replica in testing:
            return TrialTurn.NOTHING
        if self._quiescing not in standing:
            self._quiescing = None
        self._move(now, lease)
        if self._resting:
            return TrialTurn.WORK_FIRST if idle else TrialTurn.WORK
        if idle:
            return TrialTurn.SUSPECT
        if testing or self._quiescing not in (None, replica):
            return TrialTurn.WORK
        self._quiescing = replica
        return TrialTurn.NOTHING

    def began(self) -> None:
        """A suspect was taken."""
        self._quiescing, self._succeeded = None, True

    def _move(self, now: int, lease: int) -> None:
        """Testing and ordinary work take turns. A span in which no hands became empty is followed by a longer one:
        however long the handlers are, the suspects' time comes.
        """
        if (
            not self._span or abs(now - self._ends) > 2 * self._span
        ):  # none were ready for long, or the clock jumped
            self._span, self._resting, self._ends = lease, False, now + lease
        elif now >= self._ends:
            if self._resting:
                self._span = (
                    lease if self._succeeded else min(2 * self._span, max(LONGEST_SPAN, lease))
                )
                self._succeeded = False
            self._resting, self._quiescing = not self._resting, None
            self._ends = now + self._span
