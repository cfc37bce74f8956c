"""Which engine keeps a record: picked here, by what the setting `database` names, and nowhere else.

A path is a file of the embedded engine. Engines are imported when they are picked: a command that
only asks for its tools must not wait for what a platform needs.
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
    """Opens the record; `on_commit` hears of each commit, in their order.

    Unavailable says why it cannot be opened.

    Leases that agents held when the last process ended last at least `lease` seconds from now.
    `clock` are the machine's clocks, unless a test has them in its hand.
    """
    from soorma_platform.stores.sqlite import SqliteStore  # noqa: PLC0415 - picked

    return await SqliteStore.open(
        database, on_commit, clock=clock, lease=lease, may_migrate=may_migrate
    )


def tools_for(database: Path) -> StoreTools:
    """Returns the tools for a record, which need no platform."""
    from soorma_platform.stores.sqlite.tools import SqliteTools  # noqa: PLC0415 - picked

    return SqliteTools(database)
