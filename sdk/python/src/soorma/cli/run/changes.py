"""Changes of a folder's Python files, found by polling their times and sizes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

LOOK_SECONDS = 0.4
SHARE = 10
"""Polling takes at most one part in this many of the time, however large the folder is."""

MOST_FILES = 20_000
PASSED_OVER = {"__pycache__", "node_modules", "site-packages", "venv", "env"}

Snapshot = dict[str, tuple[int, int]]


async def changes(roots: Iterable[Path]) -> AsyncIterator[list[str]]:
    """Yields the files that were changed, added or removed, once they have settled again."""
    folders = _outermost(roots)
    before, cost = await asyncio.to_thread(_look, folders)
    while True:
        await asyncio.sleep(max(LOOK_SECONDS, SHARE * cost))
        now, cost = await asyncio.to_thread(_look, folders)
        if now == before:
            continue
        while True:  # an editor or a checkout writes many, one after the other
            await asyncio.sleep(max(LOOK_SECONDS / 4, SHARE * cost))
            last, (now, cost) = now, await asyncio.to_thread(_look, folders)
            if now == last:
                break
        changed = sorted(
            path for path in before.keys() | now.keys() if before.get(path) != now.get(path)
        )
        before = now
        if changed:
            yield changed


def _look(folders: list[Path]) -> tuple[Snapshot, float]:
    """Returns time and size of the Python files below the folders, and the seconds it took."""
    began, found = time.monotonic(), Snapshot()
    for folder in folders:
        for entry in _python_files(str(folder)):
            try:
                about = entry.stat()
            except OSError:  # removed between the two
                continue
            found[entry.path] = (about.st_mtime_ns, about.st_size)
            if len(found) >= MOST_FILES:
                return found, time.monotonic() - began
    return found, time.monotonic() - began


def _python_files(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as opened:
            entries = sorted(opened, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if (
                not entry.name.startswith(".")
                and entry.name not in PASSED_OVER
                and not _is_environment(entry)
            ):
                yield from _python_files(entry.path)
        elif entry.name.endswith(".py"):
            yield entry


def _is_environment(entry: os.DirEntry[str]) -> bool:
    return os.path.lexists(f"{entry.path}/pyvenv.cfg")


def _outermost(roots: Iterable[Path]) -> list[Path]:
    """Returns those of the folders that lie in no other."""
    folders = sorted({root.resolve() for root in roots})
    return [folder for folder in folders if not any(other in folder.parents for other in folders)]
