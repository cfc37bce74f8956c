"""The port of upkeep: data no longer needed is found and removed in bounded steps."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from soorma_common.names import Scope
from soorma_platform.engine.moments import Moment


class DueRow(NamedTuple):
    """A key that has expired or, without a key, a plan."""

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
    """Work left by a change of a plan.

    An incarnation to `sweep` or `purge`, or a history to `trim`. A purge removes what waits of the
    plan's past: up to a position of the log and a row of the timers.
    """

    kind: str
    plan: int
    incarnation: int
    position: int
    timer: int


class StaleRow(NamedTuple):
    """A subscription with which no replica was connected for a time.

    `tenant_id` is empty if its group serves all tenants.
    """

    id: int
    group_id: int
    group: str
    tenant_id: str
    type: str
    topic: str
    seen_at: int
    seen_uptime: int


class UpkeepStore(Protocol):
    """Steps that remove data no longer needed.

    `limit` is the number of rows that a step may touch.
    """

    async def begin(self) -> Moment:
        """Saves the clock and returns the time; now and then, checks that a change gets through."""
        ...

    async def expired(self, wall: int, limit: int) -> list[DueRow]:
        """Finds keys and plans that had expired by the time `wall`, up to `limit` of each."""
        ...

    async def ended(self, before: int, limit: int) -> list[EndedRow]:
        """Finds plans that had ended by the uptime `before`."""
        ...

    async def idle(self, after: int, until: int, before: int) -> list[IdleRow]:
        """Finds idle plans in rows (after, until], not moved since the uptime `before`."""
        ...

    async def last_plan(self) -> int:
        """Returns the number of the last row of the plans."""
        ...

    async def chore(self) -> ChoreRow | None:
        """Finds the next chore; None if none is left."""
        ...

    async def sweep(self, chore: ChoreRow, limit: int) -> bool:
        """Removes some of what a chore names; False, with the chore removed, once that is all."""
        ...

    async def sweep_responses(self, limit: int) -> bool:
        """Removes expired stored responses and agent instances; True if there may be more."""
        ...

    async def sweep_log(self, after: int, before: int, limit: int) -> int | None:
        """Removes the oldest events of the log, except those with a delivery or a dead letter.

        Looks at events behind position `after` and before the uptime `before`. Returns the position
        to continue behind; None at the end.
        """
        ...

    async def erase(self) -> None:
        """Removes from the store's log what was forgotten, once that is possible."""
        ...

    async def stale(self, before: int) -> list[StaleRow]:
        """Finds subscriptions with no connected replica now, nor since the uptime `before`."""
        ...

    async def remove(self, subscription: StaleRow, before: int, limit: int) -> bool:
        """Removes such a subscription with all that waits for it; True if more is left."""
        ...
