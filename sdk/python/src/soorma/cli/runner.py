"""Runs the platform in this process, or prepares its store for one that will."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from soorma_platform.stores.sqlite.database import connect, migrate, migrations
from soorma_platform.stores.sqlite.locking import lock_file


class Prepared(NamedTuple):
    """The schema a database is at, and how many migrations brought it there just now."""

    schema: int
    steps: int


def prepare(database: Path) -> Prepared:
    """Makes the database or brings it up to date; SoormaError if that cannot be."""
    lock = lock_file(database)
    try:
        connection = connect(lock.path)
        try:
            lock.hold_record()
            steps = migrate(connection, database)
        finally:
            connection.close()
    finally:
        lock.close()
    return Prepared(schema=len(migrations()), steps=steps)
