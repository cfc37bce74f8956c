"""The port of upkeep: what is no longer needed is found and removed, in bounded steps."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from soorma_common.names import Scope
from soorma_platform.engine.moments import Moment


class DueRow(NamedTuple):
    """A key whose time to live is over, or, without a key, a plan."""

    scope: Scope
    plan_id: str
    key: str | None


class EndedRow(NamedTuple):
    """A plan that has ended."""

    scope: Scope
    plan_id: str


class IdleRow(NamedTuple):
    """A plan that has not moved for a time, and that nothing will move."""

    scope: Scope
    plan_id: str
    revision: int


class ChoreRow(NamedTuple):
    """Work that a change of a plan has left: an incarnation to `sweep` or `purge`, or a history to `trim`.

    A purge removes what waits of the plan's past: up to a position of the log and a row of the
    timers.
    """

    kind: str
    plan: int
    incarnation: int
    position: int
    timer: int


class StaleRow(NamedTuple):
    """A subscription that no replica was connected with for a time; `tenant_id` is empty where it serves all."""

    id: int
    group_id: int
    group: str
    tenant_id: str
    type: str
    topic: str
    seen_at: int
    seen_uptime: int


class UpkeepStore(Protocol):
    """Steps that remove what is no longer needed.

    `limit` is the number of rows that a step may touch.
    """

    async def begin(self) -> Moment:
        """Keeps the record's clock, makes sure now and then that a change gets through, and tells the time."""
        ...

    async def expired(self, wall: int, limit: int) -> list[DueRow]:
        """Finds keys and plans whose time to live was over by then, up to `limit` of each."""
        ...

    async def ended(self, before: int, limit: int) -> list[EndedRow]:
        """Finds plans that had ended by an uptime."""
        ...

    async def idle(self, after: int, until: int, before: int) -> list[IdleRow]:
        """Finds, among the rows of plans in (after, until], those that have not moved since an uptime."""
        ...

    async def last_plan(self) -> int:
        """The number of the last row of the plans."""
        ...

    async def chore(self) -> ChoreRow | None:
        """Finds the next piece of work that is left."""
        ...

    async def sweep(self, chore: ChoreRow, limit: int) -> bool:
        """Removes some of what a chore names; False, and the chore is gone, once that is all."""
        ...

    async def sweep_responses(self, limit: int) -> bool:
        """Removes stored responses and instances of agents that have expired; True if there may be
        more.
        """
        ...

    async def sweep_log(self, after: int, before: int, limit: int) -> int | None:
        """Removes the oldest events of the log, from before an uptime, that nobody has yet to handle.

        Goes on from behind position `after`; returns where to go on from, None at the end.
        """
        ...

    async def stale(self, before: int) -> list[StaleRow]:
        """Finds subscriptions that no replica was connected with since an uptime, and none is now."""
        ...

    async def remove(self, subscription: StaleRow, before: int, limit: int) -> bool:
        """Removes such a subscription with all that waits for it; True if there is more of that."""
        ...
