"""Opening the database file: one process at a time, migrated forward, its failures named."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import IO

import apsw

from soorma_common.errors import Unavailable
from soorma_common.starting import DATABASE, IN_USE, NEEDS_MIGRATION, UNWRITABLE

BUSY_MS = 3000
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


@contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """Turns what SQLite says of the file into Unavailable with what to do about it."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as error:
        raise Unavailable(
            f"the database {path} is locked by another process; end that process (`fuser {path}` names it)",
            exit_status=DATABASE,
        ) from error
    except apsw.FullError as error:
        raise Unavailable(
            f"the disk of {path} is full; free some space, nothing was half-written", exit_status=DATABASE
        ) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise Unavailable(
            f"the database {path} is damaged ({error}); stop the platform and restore the file from a backup",
            exit_status=DATABASE,
        ) from error
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError, apsw.AuthError) as error:
        raise Unavailable(f"the database {path} cannot be opened for writing: {error}", exit_status=DATABASE) from error
    except apsw.ConnectionClosedError as error:
        raise Unavailable(f"the database {path} is closed, the platform is stopping") from error
    except apsw.IOError as error:
        raise Unavailable(f"reading or writing {path} failed: {error}; check the disk", exit_status=DATABASE) from error


def lock_file(path: Path) -> IO[str]:
    """Holds the lock that makes this process the only platform on the database; Unavailable names the other."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    """A connection whose commits are durable when they return."""
    with failures_named(path):
        connection = apsw.Connection(os.fsencode(path).decode())
        connection.set_busy_timeout(BUSY_MS)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("cache_size", -32_768)
        return connection


def migrate(connection: apsw.Connection, path: Path, *, allowed: bool = True) -> int:
    """Brings the schema up to date, all or nothing; returns how many migrations were run.

    Raises Unavailable if the database was made by a newer Soorma, or needs a migration that is not allowed.
    """
    steps = migrations()
    with failures_named(path):
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
