"""Opening the database file: one process at a time, migrated forward, its failures named."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import IO

import apsw

from soorma_common.errors import Unavailable
from soorma_common.starting import DATABASE, IN_USE, NEEDS_MIGRATION, UNWRITABLE

BUSY_MS = 3000
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
_PACKAGE = files("soorma_platform.stores.sqlite")


def _named_queries() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in _PACKAGE.joinpath("queries").iterdir():
        for part in re.split(r"^-- name: ", file.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            name, _, sql = part.partition("\n")
            found[name.strip()] = sql.strip()
    return found


SQL = _named_queries()
"""The statements of queries/*.sql by name."""


def migrations() -> list[str]:
    """The migrations in order; the database's user_version counts those it has had."""
    folder = _PACKAGE.joinpath("migrations")
    return [file.read_text("utf-8") for file in sorted(folder.iterdir(), key=lambda file: file.name)]


class FailuresNamed:
    """Turns what SQLite says of a file into Unavailable with what to do about it. Can be entered again and again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, apsw.Error) and (named := _named(self._path, error)):
            raise named from error


def _named(path: Path, error: apsw.Error) -> Unavailable | None:
    match error:
        case apsw.BusyError() | apsw.LockedError():
            what = f"the database {path} is locked by another process; end that process (`fuser {path}` names it)"
        case apsw.FullError():
            what = f"the disk of {path} is full; free some space, nothing was half-written"
        case apsw.CorruptError() | apsw.NotADBError():
            what = f"the database {path} is damaged ({error}); stop the platform and restore the file from a backup"
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError() | apsw.AuthError():
            what = f"the database {path} cannot be opened for writing: {error}"
        case apsw.IOError():
            what = f"reading or writing {path} failed: {error}; check the disk"
        case apsw.ConnectionClosedError():
            return Unavailable(f"the database {path} is closed, the platform is stopping")
        case _:
            return None
    return Unavailable(what, exit_status=DATABASE)


def lock_file(path: Path) -> IO[str]:
    """Holds the lock that makes this process the only platform on the database; Unavailable names the other."""
    try:
        path.parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        handle = path.with_name(f"{path.name}.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"the folder of the database {path} cannot be written: {error.strerror}", exit_status=UNWRITABLE
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise Unavailable(
            f"the database {path} is in use by another platform (process {holder}); stop that one first",
            exit_status=IN_USE,
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def connect(path: Path) -> apsw.Connection:
    """A connection whose commits are durable when they return. What it makes is readable by its owner alone."""
    with suppress(OSError):  # SQLite says better what is wrong; it gives -wal and -shm the permissions of the file
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT, PRIVATE_FILE))
    with FailuresNamed(path):
        connection = apsw.Connection(os.fsencode(path).decode())
        connection.set_busy_timeout(BUSY_MS)
        # Without this, SQLite compiles a join anew for each value it is given: four to eight times the cost.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("cache_size", -32_768)
        return connection


def migrate(connection: apsw.Connection, path: Path, *, allowed: bool = True) -> int:
    """Brings the schema up to date, all or nothing; returns how many migrations were run.

    Raises Unavailable if the database was made by a newer Soorma, or needs a migration that is not allowed.
    """
    steps = migrations()
    with FailuresNamed(path):
        version = int(connection.pragma("user_version"))
        if version > len(steps):
            raise Unavailable(
                f"the database {path} was made by a newer Soorma (schema {version}, this one knows {len(steps)}); "
                "install that version or a later one",
                exit_status=DATABASE,
            )
        if version == len(steps):
            return 0
        if version and not allowed:
            raise Unavailable(
                f"the database {path} is of an earlier Soorma; run `soorma dev --build` to migrate it",
                exit_status=NEEDS_MIGRATION,
            )
        with connection:
            for step in steps[version:]:
                connection.execute(step)
            connection.pragma("user_version", len(steps))
    return len(steps) - version
