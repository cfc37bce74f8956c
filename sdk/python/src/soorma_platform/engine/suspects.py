"""Tests of suspects: deliveries in hand when two processes died, and perhaps the reason.

A suspect is delivered to an idle replica, which gets nothing else until it has ended. So if the
process dies then, the suspect is to blame. If all replicas are busy, one of them takes nothing new
until it is idle. This is tried for a bounded time and alternates with ordinary work, so that
neither starves the other.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto

LONGEST_SPAN = 3600_000
"""The longest time, in ms, for which a replica takes nothing new.

A handler may run that long and is still waited for.
"""

FIRST_PAUSE, LONGEST_PAUSE = 250, 5_000
"""Milliseconds between the death of a suspect and its next delivery, at first and at most.

A crash loop must not spin, and a connection that was only lost needs time to come back.
"""

LEASE_SHARE, SHORTEST_LEASE = 3, 5_000
"""The divisor and the minimum (ms) of the lease of an event whose process went silent.

The minimum is there because a machine that stutters is not frozen.
"""


def short_lease(lease: int) -> int:
    """Returns the short lease, in ms, of an event whose process went silent before."""
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
        """Decides what a replica of the group may take while a suspect is ready.

        `idle`: its process handles nothing. `testing`: the replicas that handle a suspect.
        `standing`: all replicas of the group.
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
        """Notes that a suspect was taken."""
        self._quiescing, self._succeeded = None, True

    def _move(self, now: int, lease: int) -> None:
        """Alternates between tests and ordinary work.

        A span in which no replica became idle is followed by a longer one, so that suspects get
        their turn however long the handlers run.
        """
        if not self._span or abs(now - self._ends) > 2 * self._span:
            # No suspect was ready for long, or the clock jumped.
            self._span, self._resting, self._ends = lease, False, now + lease
        elif now >= self._ends:
            if self._resting:
                self._span = (
                    lease if self._succeeded else min(2 * self._span, max(LONGEST_SPAN, lease))
                )
                self._succeeded = False
            self._resting, self._quiescing = not self._resting, None
            self._ends = now + self._span
