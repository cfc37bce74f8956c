"""Inspection of a record from beside it: deliveries that are not over, and what they wait for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from soorma_platform.stores.sqlite.database import connect
from soorma_platform.stores.sqlite.statements import Select, values


class Subscribed(NamedTuple):
    """The events that a subscription takes."""

    subscribed_type: str
    subscribed_topic: str


class _Time(NamedTuple):
    due_at: int
    is_delay: bool


class Outstanding(msgspec.Struct, frozen=True):
    """A delivery that is not over.

    `attempt` counts those begun. `ready_at` (uptime, in ms) is None behind another of its lane, and
    if parked; while `replica` has it in hand, under `fence`, it is the end of the lease.
    `subscribed` is the (type, topic) of its subscription, and `group_tenant` is '' if the group
    serves all tenants.
    """

    group: str
    group_tenant: str
    subscribed: Subscribed
    event_id: str
    type: str
    topic: str
    tenant_id: str
    user_id: str
    plan_id: str | None
    attempt: int
    ready_at: int | None
    fence: str | None
    replica: str | None
    family: str | None
    reason: str | None
    is_parked: bool
    is_aside: bool
    """no connected replica has a handler for it"""


_outstanding = Select("outstanding", Outstanding)
_timer_times = Select("timer_times", _Time)


class Inspection:
    """Reads a database that a platform of this process has open. Close it before the platform."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)

    def outstanding(self) -> list[Outstanding]:
        """Returns all deliveries that are not over, the oldest event first."""
        return _outstanding.all(self._connection)

    def timers(self) -> list[tuple[int, bool]]:
        """Returns when each timer is due (ms), and whether by the steady clock, as for a delay."""
        return [(row.due_at, row.is_delay) for row in _timer_times.all(self._connection)]

    def groups(self) -> set[int]:
        """Returns the ids of all groups."""
        return set(values(self._connection, "group_ids"))

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
