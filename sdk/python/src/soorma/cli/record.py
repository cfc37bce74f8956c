"""The database seen from outside: read, never written, whoever else works on it."""

from __future__ import annotations

import time
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import apsw

from soorma.cli.dev import processes
from soorma.local import Process

BUSY_MS = 200
STEPS = 1000
"""Of SQLite's machine, between two looks at the time."""

OURS = {"plans", "entries", "events", "deliveries"}


class Look(NamedTuple):
    """A database as it was found.

    `schema` counts its migrations. `damage` is what SQLite found wrong in the file, empty if nothing;
    `whole` tells whether it got through all of it in the time it had.
    """

    schema: int
    is_ours: bool
    damage: str
    whole: bool


def sqlite_version() -> str:
    """The SQLite that the platform uses here."""
    return apsw.sqlite_lib_version()


def known_schema() -> int:
    """How many migrations this Soorma knows."""
    return len(list(files("soorma_platform").joinpath("stores", "sqlite", "migrations").iterdir()))


def holder(database: Path) -> Process | None:
    """The platform that has the database, by the number in its lock file; nothing is tried, so nobody is disturbed."""
    database = database.resolve()  # its lock lies beside it, not beside a link to it
    lock = database.with_name(f"{database.name}.lock")
    try:
        number = int(lock.read_text("ascii"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    process = Process.of(number)
    if not process.born:
        return None
    opened = processes.open_files(number)
    return process if not opened or str(lock.resolve()) in opened else None


def look(database: Path, seconds: float | None) -> Look:
    """Reads the file, for at most so long (None: all of it). apsw.Error if it cannot be read."""
    with_log = _has_log(database)
    found = _look(database, seconds, immutable=not with_log)
    if not with_log and _has_log(database):  # a platform came meanwhile: what was read may be torn
        found = _look(database, seconds, immutable=False)
    return found


def _has_log(database: Path) -> bool:
    """Whether there is a write-ahead log to be read with it. Without one SQLite would make its files anew."""
    return database.with_name(f"{database.name}-wal").exists()


def _look(database: Path, seconds: float | None, *, immutable: bool) -> Look:
    uri = f"{database.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        connection.set_busy_timeout(BUSY_MS)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        schema = int(connection.pragma("user_version"))
        damage, whole = _damage(connection, seconds)
    finally:
        connection.close()
    return Look(schema, tables >= OURS, damage, whole)


def _damage(connection: apsw.Connection, seconds: float | None) -> tuple[str, bool]:
    if seconds is not None:
        until = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchall()
    except apsw.InterruptError:
        return "", False
    except apsw.CorruptError as error:
        return str(error), True
    said = str(found[0][0])
    return "" if said == "ok" else said, True
