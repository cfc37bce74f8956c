"""The port of health: how the record stands, and whether it can be kept."""

from __future__ import annotations

from typing import Protocol

import msgspec

from soorma_platform.metrics import Distribution


class GroupStanding(msgspec.Struct):
    """The state of a group. `events` are those it has not done with, by lanes: a lane's first event is `ready`,
    `delayed` (it failed, and waits to be tried again), `in_hand` of an agent, or `parked`.

    `oldest_seconds` is the age of the oldest of the events, None without any.
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
    """The state of the record's clock: how often the system's clock jumped since the platform started, or just before.

    For `settles_in` seconds nothing that has expired is removed; 0 where it is.
    """

    jumps: int = 0
    settles_in: float = 0.0


class Standing(msgspec.Struct):
    """The state of the record.

    `sizes` in bytes by file; `batches` and `seconds` of the transactions of this process.
    """

    groups: list[GroupStanding]
    log_end: int
    log_horizon: int
    sizes: dict[str, int]
    batches: Distribution
    seconds: Distribution
    clock: ClockStanding
    held: Distribution


class HealthStore(Protocol):
    """The state of the record and of its clock."""

    async def standing(self) -> Standing:
        """Returns the state of the record, for metrics.

        Costs time in proportion to what waits, but holds up nobody.
        """
        ...

    def look_at_clock(self) -> None:
        """Sees whether the system's clock has jumped.

        To be called about each second, or time stands still.
        """
        ...

    def clock(self) -> ClockStanding:
        """Returns the state of the record's clock."""
        ...

    async def check(self) -> None:
        """Raises Unavailable if the record cannot be read."""
        ...

    def hopeless(self) -> str | None:
        """Why the record cannot be kept any more, whatever is waited for; None while it can."""
        ...
