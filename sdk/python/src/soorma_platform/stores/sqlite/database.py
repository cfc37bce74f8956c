"""Opening and migrating the database file, with SQLite's errors named."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import apsw

from soorma_common.errors import Unavailable
from soorma_common.starting import MigrationNeeded, RecordUnusable
from soorma_platform.stores.sqlite.locking import PRIVATE_FILE

BUSY_MS = 3000
"""Milliseconds that a statement waits for another process, such as a backup, before it fails."""
_PACKAGE = Path(__file__).parent


def _named_queries() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in _PACKAGE.joinpath("queries").iterdir():
        for part in re.split(r"^-- name: ", file.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            name, *lines = part.splitlines()
            # In one line without comments: each execution looks a statement up by all of its text.
            found[name.strip()] = " ".join(
                text for line in lines if (text := line.partition("--")[0].strip())
            )
    return found


SQL = _named_queries()
"""The statements of queries/*.sql by name."""


def migrations() -> list[str]:
    """Returns the migrations in order; the database's user_version counts those applied."""
    folder = _PACKAGE.joinpath("migrations")
    return [
        file.read_text("utf-8") for file in sorted(folder.iterdir(), key=lambda file: file.name)
    ]


class FailuresNamed:
    """A reusable context that turns errors of SQLite into Unavailable, with advice.

    It is a class because a context manager made from a generator can be used only once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return  # said first, as each statement ends here
        if isinstance(error, apsw.Error) and (named := _named(self._path, error)):
            raise named from error


PASSING = (
    apsw.BusyError,
    apsw.LockedError,
    apsw.FullError,
    apsw.IOError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
)
"""Failures that may pass by themselves, or with somebody's help, while the platform runs."""


def _named(path: Path, error: apsw.Error) -> Unavailable | None:
    match error:
        case apsw.BusyError() | apsw.LockedError():
            what = (
                f"the database {path} is locked by another process; end that process (`fuser "
                f"{path}` names it)"
            )
        case apsw.FullError():
            what = f"the disk of {path} is full; free some space, nothing was half-written"
        case apsw.CorruptError() | apsw.NotADBError():
            what = (
                f"the database {path} is damaged ({error}); stop the platform and restore the "
                "file from a backup"
            )
        case (
            apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError() | apsw.AuthError()
        ):
            what = f"the database {path} cannot be opened for writing: {error}"
        case apsw.IOError():
            what = f"reading or writing {path} failed: {error}; check the disk"
        case apsw.NoMemError():
            what = (
                f"SQLite has no memory left for the database {path}; end what uses the "
                "machine's memory"
            )
        case apsw.InternalError() | apsw.ProtocolError():
            what = f"SQLite has failed on the database {path}: {error}"
        case apsw.ConnectionClosedError():
            return Unavailable(f"the database {path} is closed, the platform is stopping")
        case _:
            return None
    return RecordUnusable(what)


def connect(path: Path) -> apsw.Connection:
    """Opens a connection whose commits are durable when they return.

    Files that it creates are readable by their owner alone.
    """
    # Closing a descriptor of a file drops all locks that SQLite has on it in this process, so only
    # a new file is opened here. Errors are left to SQLite, which describes them better. It gives
    # -wal and -shm the permissions of the file.
    with suppress(OSError):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    with FailuresNamed(path):
        connection = apsw.Connection(os.fsencode(path).decode())
        connection.set_busy_timeout(BUSY_MS)
        # Without this, SQLite recompiles a join for each value bound: four to eight times the cost.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        # Readers do not wait for the writer, nor it for them.
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")  # a commit returns when its log is on the disk
        connection.pragma("cache_size", -32_768)  # KiB
        # What is removed is overwritten, in its page and on free pages: forgotten text must not be
        # found in the file. It costs nothing that could be measured.
        connection.pragma("secure_delete", True)
        return connection


def migrate(connection: apsw.Connection, path: Path, *, allowed: bool = True) -> int:
    """Brings the schema up to date, all or nothing; returns the number of migrations run.

    Raises Unavailable if the database was made by a newer Soorma, or needs a migration that is not
    allowed.
    """
    steps = migrations()
    with FailuresNamed(path):
        version = int(connection.pragma("user_version"))
        if version > len(steps):
            raise RecordUnusable(
                f"the database {path} was made by a newer Soorma (schema {version}, this one knows "
                f"{len(steps)}); "
                "install that version or a later one"
            )
        if version == len(steps):
            return 0
        if version and not allowed:
            raise MigrationNeeded(
                f"the database {path} is of an earlier Soorma; run `soorma dev --build` to migrate "
                "it"
            )
        with connection:  # one transaction: a crash leaves the schema as it was
            for step in steps[version:]:
                connection.execute(step)
            connection.pragma("user_version", len(steps))
    return len(steps) - version
