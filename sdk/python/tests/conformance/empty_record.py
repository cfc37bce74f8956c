"""Opens SQLite stores on copies of one empty record, instead of migrating each new one.

The migrations take 20 ms, and these tests open two thousand stores. What they make of an empty file
is tested in test_sqlite_store.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import apsw

from soorma_platform.engine.rows.notices import Notice
from soorma_platform.stores.sqlite import SqliteStore
from soorma_platform.stores.sqlite.database import migrate


@cache
def empty_record() -> bytes:
    """A migrated database without a row."""
    connection = apsw.Connection(":memory:")
    migrate(connection, Path(":memory:"))
    return connection.serialize("main")


def _prepare(path: Path) -> None:
    if not path.exists():
        path.write_bytes(empty_record())


async def open_sqlite(path: Path, on_commit: Callable[[Notice], None], **given: Any) -> SqliteStore:
    """Opens the store at `path`; a new one if there is none."""
    _prepare(path)
    return await SqliteStore.open(path, on_commit, **given)
