"""The tools for an embedded record, which is a file with others beside it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from soorma_platform.stores.sqlite import backup, examination
from soorma_platform.stores.sqlite.database import connect, migrate, migrations
from soorma_platform.stores.sqlite.locking import RecordLock, lock_file
from soorma_platform.stores.sqlite.memory_counts import count_memories
from soorma_platform.stores.tools import (
    Contents,
    Engine,
    Examination,
    MemoryCounts,
    Prepared,
    Restored,
    Stage,
    Tell,
    Use,
)

DATA = ("", "-wal", "-shm")
LOCK = ".lock"
"""Suffixes of its files' names."""


class SqliteTools:
    """The tools for the record in one file."""

    def __init__(self, database: Path) -> None:
        self.database = database

    def exists(self) -> bool:
        return self.database.exists()

    def files(self) -> list[Path]:
        return _named(self.database, DATA)

    def owns(self, file: Path) -> bool:
        paths = (self.database, self.database.resolve())
        parts = [part for path in paths for part in _named(path, (*DATA, LOCK))]
        is_same = file.exists() and self.exists() and file.samefile(self.database)
        return is_same or file.resolve() in [part.resolve() for part in parts]

    def engine(self) -> Engine:
        return examination.engine()

    def examine(self, seconds: float | None) -> Examination:
        return examination.examine(self.database, seconds)

    def memories(self, seconds: float | None) -> MemoryCounts | None:
        return count_memories(self.database, seconds) if self.exists() else None

    def use(self) -> Use:
        return examination.use(self.database)

    def prepare(self) -> Prepared:
        with _held(self.database) as lock:
            connection = connect(lock.path)
            try:
                lock.hold_record()  # it may be new
                steps = migrate(connection, self.database)
            finally:
                connection.close()
        return Prepared(schema=len(migrations()), steps=steps)

    def back_up(self, file: Path, tell: Tell, *, replace: bool) -> Contents:
        with _beside(file) as partial:
            contents = _copy(self.database, partial, tell)
            if file.exists() and not replace:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))
            partial.replace(file)
            backup.flush(file)
        return contents

    def restore(self, file: Path, tell: Tell) -> Restored:
        path = self.database.resolve()  # where a platform's lock lies: not beside a link to it
        aside = path.with_name(f"{path.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
        with _held(self.database, leave=False), _beside(path) as partial:
            contents = _copy(file, partial, tell)
            backup.check_schema(partial, file)
            backup.begin_again(partial)
            kept = backup.put_in_place(path, partial, aside)
        return Restored(contents, self.database.stat().st_size, aside if kept else None)

    def remove(self) -> list[Path]:
        there = [file for file in _named(self.database, (*DATA, LOCK)) if os.path.lexists(file)]
        with _held(self.database, leave=False):
            for file in there:
                file.unlink(missing_ok=True)
        return there


def _named(path: Path, ends: tuple[str, ...]) -> list[Path]:
    return [path.with_name(path.name + end) for end in ends]


def _copy(source: Path, target: Path, tell: Tell) -> Contents:
    """Copies a record and checks the copy; returns its contents."""
    backup.copy(source, target, lambda share: tell(Stage.COPYING, share))
    tell(Stage.CHECKING, 0.0)
    return backup.examine(target, source)


@contextmanager
def _held(database: Path, *, leave: bool = True) -> Iterator[RecordLock]:
    """Keeps platforms away from a record; raises RecordInUse if one is there."""
    lock = lock_file(database)
    try:
        yield lock
    finally:
        lock.close(leave=leave)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yields a path beside a file, for its replacement; leaves no file there, even on failure."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
    finally:
        for file in _named(partial, (*DATA, "-journal")):
            file.unlink(missing_ok=True)
