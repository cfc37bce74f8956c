"""The port of health: the state of the record, and the faults that end it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from soorma_platform.metrics import Distribution


class GroupStanding(msgspec.Struct):
    """The state of a group.

    `events` are those it has yet to handle, by lanes: the first event of a lane is `ready`,
    `delayed` (it failed and waits for its retry), `in_hand` of an agent, or `parked`.
    `oldest_seconds` is the age of the oldest event; None if there is none.
    """

    group_id: int
    name: str
    events: int
    ready: int
    delayed: int
    in_hand: int
    parked: int
    replicas: int
    dead_letters: int
    oldest_seconds: float | None


class ClockStanding(msgspec.Struct):
    """The state of the record's clock.

    `jumps` counts how often the system's clock jumped since the platform started, or just before.
    For `settles_in` seconds, nothing that has expired is removed; 0 if it is being removed.
    """

    jumps: int = 0
    settles_in: float = 0.0


class Standing(msgspec.Struct):
    """The state of the record.

    `sizes` are bytes by file; `batches`, `seconds` and `held` describe the transactions of this
    process. For `erasure_waits` seconds, bytes of removed memories have waited to be overwritten.
    """

    groups: list[GroupStanding]
    log_end: int
    log_horizon: int
    sizes: dict[str, int]
    batches: Distribution
    seconds: Distribution
    clock: ClockStanding
    held: Distribution
    erasure_waits: float


class HealthStore(Protocol):
    """The state of the record and of its clock."""

    async def standing(self) -> Standing:
        """Returns the state of the record, for metrics.

        Takes time in proportion to the events that wait, but blocks nobody.
        """
        ...

    def look_at_clock(self) -> None:
        """Checks whether the system's clock has jumped.

        Must be called about once a second, or the record's time stands still.
        """
        ...

    def clock(self) -> ClockStanding:
        """Returns the state of the record's clock."""
        ...

    async def check(self) -> None:
        """Raises Unavailable if the record cannot be read."""
        ...

    def hopeless(self) -> str | None:
        """Returns the permanent fault for which the platform must end; None if there is none."""
        ...
