"""Selects the engine of a record by the setting `database`; no other module does.

A path names a file of the embedded engine. Engines are imported when selected, so that a command
that only needs the tools of a store does not load what a platform needs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from soorma_platform.stores.tools import StoreTools

if TYPE_CHECKING:
    from soorma_platform.clock import Readings
    from soorma_platform.engine.rows.notices import Notice
    from soorma_platform.stores.ports import Store


async def open_store(
    database: Path,
    on_commit: Callable[[Notice], None],
    *,
    clock: Readings | None = None,
    lease: float = 30.0,
    may_migrate: bool = True,
) -> Store:
    """Opens the record; calls `on_commit` for each commit, in order.

    Leases that agents held when the last process ended last at least `lease` seconds from now.
    `clock` are the machine's clocks unless a test passes its own. Raises Unavailable, with the
    reason, if the record cannot be opened.
    """
    from soorma_platform.stores.sqlite import SqliteStore  # noqa: PLC0415 - picked

    return await SqliteStore.open(
        database, on_commit, clock=clock, lease=lease, may_migrate=may_migrate
    )


def tools_for(database: Path) -> StoreTools:
    """Returns the tools for a record, which need no platform."""
    from soorma_platform.stores.sqlite.tools import SqliteTools  # noqa: PLC0415 - picked

    return SqliteTools(database)
