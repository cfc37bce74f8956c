"""Runs the platform in this process, or prepares its store for one that will."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from uvicorn.loops.auto import auto_loop_factory

from soorma_platform import logs
from soorma_platform.runtime import run
from soorma_platform.settings import Settings
from soorma_platform.stores.sqlite.database import connect, migrate, migrations
from soorma_platform.stores.sqlite.locking import lock_file


class Prepared(NamedTuple):
    """The schema a database is at, and how many migrations brought it there just now."""

    schema: int
    steps: int


def settings(**given: Any) -> Settings:
    """The platform's settings from the environment; `given` wins. SoormaError if one is off."""
    return Settings.from_env(**given)


def serve(chosen: Settings, on_ready: Callable[[], None] = lambda: None) -> None:
    """Runs all services here until SIGINT or SIGTERM; SoormaError if they cannot start."""
    logs.configure(chosen.log_level, chosen.log_format)
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(run(chosen, on_ready))


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
