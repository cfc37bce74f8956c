"""Backup and restore of a record.

A copy is whole and of one moment, even beside a platform that goes on writing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw

from soorma_common.errors import Unavailable
from soorma_common.starting import RecordInUse, RecordUnusable
from soorma_platform.stores.sqlite.database import (
    BUSY_MS,
    FailuresNamed,
    connect,
    migrate,
    migrations,
)
from soorma_platform.stores.sqlite.examination import damage_of, read_only, schema_of
from soorma_platform.stores.sqlite.statements import Select, execute
from soorma_platform.stores.tools import Contents

STEP_PAGES = 64
"""Pages copied and flushed at once, 256 KiB: a commit must not wait long for the disk."""

NEVER_GIVEN = 10**12
"""Positions of the log that a restore skips, so that none is assigned to a second event."""

_FLUSH = getattr(os, "fdatasync", os.fsync)

Tell = Callable[[float], None]
"""Receives the share that is copied: 1.0 is all of it."""


_contents = Select("contents", Contents)


def copy(source: Path, target: Path, tell: Tell = lambda _: None) -> None:
    """Copies a record into a new file, whole and on the disk when this returns.

    The copy is of the moment at which it begins: it is read in one transaction, which blocks no
    writer. Raises Unavailable if the source cannot be read, or the target not written.
    """
    with (
        closing(_reader(source, source)) as reading,
        FailuresNamed(target),
        closing(_new(target)) as writing,
    ):
        with writing.backup("main", reading, "main") as backup, target.open("rb+") as file:
            while not backup.done:
                backup.step(STEP_PAGES)
                _FLUSH(file.fileno())
                tell(1 - backup.remaining / max(backup.page_count, 1))
        # A file by itself, readable where nothing can be written.
        writing.pragma("journal_mode", "delete")
    flush(target)


def examine(path: Path, label: Path) -> Contents:
    """Returns the contents of a copy.

    Raises Unavailable if its source is damaged, no record, or of a newer Soorma.
    """
    with FailuresNamed(label), closing(_reader(path, label)) as connection:
        if damage := damage_of(connection, "integrity_check"):
            raise _unfit(label, f"is damaged ({damage}); take an earlier backup")
        schema, is_ours = schema_of(connection)
        if not schema or not is_ours:
            raise _unfit(label, "is a database, but no record of Soorma's")
        if schema > len(migrations()):
            raise _unfit(
                label,
                f"was made by a newer Soorma (schema {schema}, this one knows "
                f"{len(migrations())}); "
                "install that version or a later one",
            )
        held = _contents.one(connection)
        assert held is not None  # noqa: S101 - a query of counts has a row
        return held._replace(schema=schema)


def check_schema(path: Path, label: Path) -> None:
    """Raises Unavailable if a copy's schema is not what the migrations make.

    A trigger, for one, could change what is written.
    """
    with (
        FailuresNamed(label),
        closing(_reader(path, label)) as connection,
        closing(apsw.Connection(":memory:")) as own,
    ):
        for step in migrations()[: int(connection.pragma("user_version"))]:
            own.execute(step)
        ours, found = _objects(own), _objects(connection)
    if foreign := sorted(found.items() - ours.items()):
        (kind, name), _ = foreign[0]
        what = "is not as Soorma makes it" if (kind, name) in ours else "is not Soorma's"
        raise _unfit(
            label,
            f"holds the {kind} {name!r}, which {what}; remove it there, or take another backup",
        )
    if missing := sorted(ours.items() - found.items()):
        (kind, name), _ = missing[0]
        raise _unfit(label, f"lacks the {kind} {name!r}, which a record has; take another backup")


def _objects(connection: apsw.Connection) -> dict[tuple[str, str], str]:
    """Returns the SQL of all schema objects but SQLite's own, by kind and name."""
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    return {(kind, name): " ".join(sql.split()) for kind, name, sql in rows}


def begin_again(path: Path) -> None:
    """Makes a copy fit to continue from: it may lack what happened after it was made.

    It is migrated to the current schema. No handler from before may commit, so deliveries are free
    again, and the attempt in hand does not count. No position of the log is assigned twice.
    """
    with FailuresNamed(path), closing(connect(path)) as connection:
        migrate(connection, path)
        with connection:
            execute(connection, "free_all")
            execute(connection, "begin_positions")
            execute(connection, "skip_positions", NEVER_GIVEN)
        connection.pragma("journal_mode", "delete")
    flush(path)


def put_in_place(path: Path, copied: Path, aside: Path) -> bool:
    """Gives a copy the name of the database, and the old file that of `aside`; True if it existed.

    If this is interrupted, the name stands for one or the other, whole. Raises Unavailable if
    another process has the database open. A damaged database is moved as it is, with its
    write-ahead log.
    """
    log, beside = (file.with_name(f"{file.name}-wal") for file in (path, aside))
    is_there = path.exists()
    if is_there:
        _fold(path, log)
        aside.hardlink_to(path)
        copied.chmod(path.stat().st_mode)
    if log.exists():  # of a damaged or missing file: its replacement must not find it
        log.rename(beside)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    copied.replace(path)
    flush(path)
    return is_there


def flush(path: Path) -> None:
    """Flushes a file, and its name, to the disk."""
    for one_of in (path, path.parent):
        descriptor = os.open(one_of, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _fold(path: Path, log: Path) -> None:
    """Moves a database's write-ahead log into it, unless the database is damaged.

    Raises RecordInUse if another process has it open.
    """
    try:
        with FailuresNamed(path), closing(connect(path)):
            pass  # closing the last connection does that
    except Unavailable as error:
        if isinstance(error.__cause__, apsw.CorruptError | apsw.NotADBError):
            return
        raise
    if log.exists():
        raise RecordInUse(
            f"another process has the database {path} open; end it first (`fuser {path}` names it)"
        )


def _reader(path: Path, label: Path) -> apsw.Connection:
    """Opens a connection that writes nothing, and sees one moment for as long as it is open."""
    with FailuresNamed(label):
        connection = read_only(path, BUSY_MS)
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        except (apsw.CorruptError, apsw.NotADBError) as error:
            connection.close()
            raise _unfit(
                label, f"is damaged, or no database ({error}); take an earlier backup"
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection


def _new(path: Path) -> apsw.Connection:
    """Creates an empty database for its owner alone.

    It is worthless until it is complete, so it needs no journal.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = apsw.Connection(os.fsencode(path).decode())
    connection.pragma("journal_mode", "off")
    connection.pragma("synchronous", "off")
    connection.pragma("cache_size", STEP_PAGES)
    return connection


def _unfit(path: Path, what: str) -> RecordUnusable:
    return RecordUnusable(f"{path} {what}")
