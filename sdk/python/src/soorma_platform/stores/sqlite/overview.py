"""Queries over the whole record, in a thread and on a connection of their own, to block nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from soorma_common.errors import Unavailable
from soorma_platform.stores.ports.health import GroupStanding
from soorma_platform.stores.sqlite.database import BUSY_MS, FailuresNamed, connect
from soorma_platform.stores.sqlite.statements import Select

T = TypeVar("T")
CACHE_KIB = 2_048
EMPTYING_MS = 50
"""Milliseconds in which the writer ends its transaction, but for which nobody minds waiting."""

_standings = Select("group_standings", GroupStanding)


class Overview:
    """A connection for one query at a time, opened by the first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failures = FailuresNamed(path)
        self._lock = threading.Lock()
        self._connection: apsw.Connection | None = None
        self._closed = False

    async def look(self, job: Callable[[apsw.Connection], T]) -> T:
        """Returns what the job finds; all its statements see the same commit."""
        return await asyncio.to_thread(self._look, job)

    async def empty_log(self) -> bool:
        """Copies the write-ahead log into the database and cuts it off.

        Returns False if somebody still reads from it; then it is for another time.
        """
        return await asyncio.to_thread(self._empty_log)

    async def close(self) -> None:
        """Waits for the query under way, then closes."""
        await asyncio.to_thread(self._close)

    def file_sizes(self) -> dict[str, int]:
        """Returns the bytes of the database file (`main`) and of its write-ahead log (`wal`)."""
        files = {"main": self._path, "wal": self._path.with_name(f"{self._path.name}-wal")}
        return {name: file.stat().st_size if file.exists() else 0 for name, file in files.items()}

    def _look(self, job: Callable[[apsw.Connection], T]) -> T:
        with self._lock, self._failures:
            connection = self._opened()
            connection.execute("BEGIN")
            try:
                return job(connection)
            finally:
                connection.execute("COMMIT")

    def _empty_log(self) -> bool:
        with self._lock, self._failures:
            connection = self._opened()
            # While it waits for a reader, it keeps the writer out.
            connection.set_busy_timeout(EMPTYING_MS)
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                return False
            finally:
                connection.set_busy_timeout(BUSY_MS)
            return self.file_sizes()["wal"] == 0

    def _opened(self) -> apsw.Connection:
        if self._closed:
            raise Unavailable("the store is closed")
        if self._connection is None:
            self._connection = connect(self._path)
            self._connection.pragma("cache_size", -CACHE_KIB)
        return self._connection

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()


def standings(connection: apsw.Connection, uptime: int) -> dict[int, GroupStanding]:
    """Returns the standing of each group, by its id."""
    return {row.group_id: row for row in _standings.all(connection, uptime)}
