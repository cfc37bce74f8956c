"""Watch over the files of the record: if they are removed or replaced, the platform has to end.

SQLite goes on writing into a file that was removed or replaced, as any process does: every change
succeeds, and none of them is there after the process has ended.
"""

from __future__ import annotations

import os
from pathlib import Path

SILENT_SECONDS = 30.0
"""Seconds without a change after which the platform is not ready."""
HOPELESS_SECONDS = 30.0
"""Seconds for which a lasting fault may block all changes before the process ends."""


class Vitals:
    """The files of an open record. Create it once there is a write-ahead log."""

    def __init__(self, path: Path) -> None:
        self._files = {
            path: "the database",
            path.with_name(f"{path.name}-wal"): "the write-ahead log",
        }
        self._known = {file: _identity(file) for file in self._files}
        self._path = path
        self._size = path.stat().st_size

    def lost(self) -> str | None:
        """Returns what has become of a file, for people; None while all are as they were."""
        for file, what in self._files.items():
            found, known = _identity(file), self._known[file]
            if known is not None and found != known:
                how = "removed" if found is None else "replaced by another"
                return (
                    f"{what} {file} was {how} while the platform ran; what is changed from "
                    "here on would be lost"
                )
        size = self._path.stat().st_size
        if size < self._size:
            return (
                f"the database {self._path} was cut from {self._size:,} to {size:,} bytes "
                "while the platform ran"
            )
        self._size = size
        return None


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - of what is there, each second
    except OSError:
        return None
    return found.st_dev, found.st_ino
