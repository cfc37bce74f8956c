"""Erasure: bytes of removed rows that SQLite leaves in the gaps of its pages are overwritten.

With `secure_delete`, SQLite overwrites a row where it is removed. But when it balances a B-tree it
moves rows to another page, and what they leave behind lies in the gap between the pointers and the
cells of the old page; when such a row is removed, only its copy is overwritten. So each page's gap
is overwritten here, in the database file itself: SQLite reads nothing from there.

The form of a page is described in https://www.sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import apsw

from soorma_platform.stores.sqlite.writer import GroupCommitter

CHUNK = 256
"""Pages that are read at a time."""
MOST_PAGES = 1 << 24
"""Pages of a file from which an overflow page may look like one of a tree: 64 GiB of 4 KiB."""
FILE_HEADER = 100
"""Bytes of the first page before its header."""
_HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}
"""Bytes of the header of each type of page of a tree."""
_LOG_HEADER, _FRAME_HEADER = 32, 24
_LARGEST = 65_536


class Erasure:
    """Overwrites what was removed from the pages of a record.

    The file is opened once and closed last: closing a descriptor of it would drop the locks that
    SQLite has on it in this process.
    """

    def __init__(self, path: Path, writer: GroupCommitter) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._writer = writer
        self._file: int | None = None
        self._page_size = self._usable = 0
        self._written: set[int] = set()
        """pages that were changed since the erasure began"""
        self._waiting_since: float | None = None

    def note_waiting(self, *, is_waiting: bool) -> None:
        """Notes whether removed rows wait to be overwritten; the first time that they do counts."""
        if not is_waiting:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = time.monotonic()

    def waits(self) -> float:
        """Returns the seconds for which removed rows have waited to be overwritten."""
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def begin(self) -> None:
        """Begins to note which pages are changed."""
        self._open()
        self._written = set()
        self._writer.before_checkpoint = self._note_log

    @property
    def was_undisturbed(self) -> bool:
        """True if no page was changed since the erasure began."""
        return not self._written

    def end(self) -> None:
        """Ends the erasure."""
        self._writer.before_checkpoint = None

    def close(self) -> None:
        """Closes the file, once SQLite has closed it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def find(self) -> list[int]:
        """Returns the pages of the database file whose gaps are not empty; meant for a thread."""
        found = []
        for first, pages in self._chunks():
            for place in range(0, len(pages), self._page_size):
                number = first + place // self._page_size
                start, end = self._gap(pages, place, number)
                if pages.count(0, place + start, place + end) != end - start:
                    found.append(number)
        return found

    async def overwrite(self, pages: Iterable[int]) -> bool:
        """Overwrites the gaps of these pages, and of those changed since the erasure began.

        Returns False if somebody still reads from the log; then it is for another time.
        """
        return await self._writer.between(partial(self._overwrite, pages))

    def _overwrite(self, pages: Iterable[int], connection: apsw.Connection) -> bool:
        # Nothing is written meanwhile, so that all of the log can go into the file, where its pages
        # are cleaned, too; then the writer forgets the pages that it has in memory.
        self._note_log()
        connection.set_busy_timeout(0)  # whoever waits for a commit does not wait for a reader
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            return False
        assert self._file is not None  # noqa: S101 - it was opened at the beginning
        for number in {*pages, *self._written}:
            place = (number - 1) * self._page_size
            page = os.pread(self._file, self._page_size, place)
            if len(page) < self._page_size:
                continue  # the file has become shorter
            start, end = self._gap(page, 0, number)
            if page.count(0, start, end) != end - start:
                os.pwrite(self._file, bytes(end - start), place + start)
        os.fsync(self._file)
        connection.release_memory()
        return True

    def _open(self) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        header = os.pread(self._file, FILE_HEADER, 0)
        (size,) = struct.unpack_from(">H", header, 16)
        self._page_size = _LARGEST if size == 1 else size
        self._usable = self._page_size - header[20]

    def _chunks(self) -> Iterator[tuple[int, bytes]]:
        """Yields the pages of the file, many at a time, with the number of the first."""
        assert self._file is not None  # noqa: S101 - it is open
        count = os.fstat(self._file).st_size // self._page_size
        if count >= MOST_PAGES:
            raise OverflowError(
                f"the database {self._path} has {count:,} pages: too many to overwrite what was "
                "removed from them"
            )
        for first in range(0, count, CHUNK):
            size = min(CHUNK, count - first) * self._page_size
            pages = os.pread(self._file, size, first * self._page_size)
            yield first + 1, pages[: len(pages) // self._page_size * self._page_size]

    def _gap(self, pages: bytes, place: int, number: int) -> tuple[int, int]:
        """Returns where the gap of a page begins and ends; 0 and 0 if it is none of a tree."""
        at = place + (FILE_HEADER if number == 1 else 0)
        header = _HEADERS.get(pages[at])
        if header is None:
            return 0, 0
        cells, content = struct.unpack_from(">HH", pages, at + 3)
        start = at - place + header + 2 * cells
        end = content or _LARGEST
        return (start, end) if start <= end <= self._usable else (0, 0)

    def _note_log(self) -> None:
        """Notes the pages in the log, before they go into the file."""
        with self._log.open("rb") as log:
            frame = _FRAME_HEADER + self._page_size
            for place in range(_LOG_HEADER, os.fstat(log.fileno()).st_size, frame):
                found = os.pread(log.fileno(), 4, place)
                if len(found) < 4:
                    return
                self._written.update(struct.unpack(">I", found))
