"""Looking into a record from beside it: which deliveries are not over, whose they are and what they wait for."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec

from soorma_platform.stores.sqlite.database import connect
from soorma_platform.stores.sqlite.transactions import rows_of


class Outstanding(msgspec.Struct, frozen=True):
    """A delivery that is not over.

    `attempt` counts those begun. `ready_at` (ms since 1970 UTC) is None behind another of its lane, and where it is
    parked; while `replica` has it in hand, under `fence`, it is the end of the lease. `subscribed` is the (type,
    topic) of the subscription it belongs to, and `group_tenant` is '' where the group serves all tenants.
    """

    group: str
    group_tenant: str
    subscribed: tuple[str, str]
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
    reason: str | None
    is_parked: bool
    is_aside: bool
    """no connected replica has a handler for it"""


class Inspection:
    """Reads a database that a platform of this process has open. Close it before the platform."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)

    def outstanding(self) -> list[Outstanding]:
        """All deliveries that are not over, the eldest event first."""
        rows = rows_of(self._connection, "outstanding", ())
        return [Outstanding(*(*row[:2], row[2:4], *row[4:-2], bool(row[-2]), bool(row[-1]))) for row in rows]

    def timers(self) -> list[int]:
        """When each timer is due (ms), the earliest first."""
        return [row[0] for row in rows_of(self._connection, "timer_times", ())]

    def groups(self) -> set[int]:
        """The ids of all groups."""
        return {row[0] for row in rows_of(self._connection, "group_ids", ())}

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
