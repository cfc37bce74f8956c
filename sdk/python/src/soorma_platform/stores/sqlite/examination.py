"""Examination of an embedded record from outside: never writes, and disturbs no other user."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import apsw

from soorma_platform.stores.sqlite.database import migrations
from soorma_platform.stores.tools import Engine, Examination, Fault, Use

T = TypeVar("T")

BUSY_MS = 200
STEPS = 1000
"""Steps of SQLite's virtual machine between two checks of the time."""

TABLES = {"plans", "entries", "history", "events", "deliveries", "dead_letters"}
"""A database that has these is a record."""


def engine() -> Engine:
    """Returns the SQLite that the platform brings along, which is not Python's."""
    return Engine("sqlite", apsw.sqlite_lib_version(), f"apsw {apsw.apsw_version()}")


def examine(database: Path, seconds: float | None) -> Examination:
    """Reads the file, for at most `seconds` (None: all of it)."""
    try:
        found = read_beside(database, lambda connection: _examine(database, connection, seconds))
    except apsw.Error as error:
        fault, reason = _fault(error), str(error)
        return Examination(_bytes(database), 0, len(migrations()), False, False, fault, reason)
    return found


def read_beside(database: Path, job: Callable[[apsw.Connection], T]) -> T:
    """Returns what a job finds on a connection that writes nothing, and creates no file.

    The job may run twice. Errors are SQLite's.
    """
    with_log = _has_log(database)
    found = _read(database, job, immutable=not with_log)
    if not with_log and _has_log(database):  # a platform came meanwhile: it may be torn
        found = _read(database, job, immutable=False)
    return found


def use(database: Path) -> Use:
    """Returns the process named in the lock file, and the size of the write-ahead log."""
    log = database.with_name(f"{database.name}-wal")
    path = database.resolve()  # its lock lies beside it, not beside a link to it
    lock = path.with_name(f"{path.name}.lock")
    try:
        pid = int(lock.read_text("ascii"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pid = None
    return Use(pid, lock, log, log.stat().st_size if os.access(log, os.F_OK) else 0)


def read_only(path: Path, busy_ms: int, *, immutable: bool = False) -> apsw.Connection:
    """Opens a connection that writes nothing; if `immutable`, it uses no other file."""
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection.set_busy_timeout(busy_ms)
    return connection


def schema_of(connection: apsw.Connection) -> tuple[int, bool]:
    """Returns the number of migrations applied, and whether the tables of a record are there."""
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    return int(connection.pragma("user_version")), {name for (name,) in found} >= TABLES


def damage_of(connection: apsw.Connection, check: str) -> str:
    """Returns the first damage that `quick_check` or `integrity_check` finds; empty if none."""
    try:
        (found,) = connection.execute(f"PRAGMA {check}(1)").fetchone() or ("no reason given",)
    except apsw.CorruptError as error:
        return str(error)
    return "" if found == "ok" else str(found)


def _has_log(database: Path) -> bool:
    """True if there is a write-ahead log to read too. If there is none, SQLite would create one."""
    return database.with_name(f"{database.name}-wal").exists()


def _read(database: Path, job: Callable[[apsw.Connection], T], *, immutable: bool) -> T:
    with closing(read_only(database, BUSY_MS, immutable=immutable)) as connection:
        return job(connection)


def _examine(database: Path, connection: apsw.Connection, seconds: float | None) -> Examination:
    schema, is_ours = schema_of(connection)
    damage, is_whole = _damage_within(connection, seconds)
    fault = Fault.DAMAGED if damage else None
    return Examination(
        _bytes(database), schema, len(migrations()), is_ours, is_whole, fault, damage
    )


def _bytes(database: Path) -> int:
    return database.stat().st_size if database.exists() else 0


def _damage_within(connection: apsw.Connection, seconds: float | None) -> tuple[str, bool]:
    if seconds is not None:
        until = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    try:
        return damage_of(connection, "quick_check"), True
    except apsw.InterruptError:
        return "", False


def _fault(error: apsw.Error) -> Fault:
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return Fault.LOCKED
        case apsw.CorruptError() | apsw.NotADBError():
            return Fault.DAMAGED
        case _:
            return Fault.UNREADABLE
