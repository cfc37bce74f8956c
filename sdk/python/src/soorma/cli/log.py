"""`soorma dev --logs`: what the platform said, and what it says."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from soorma.cli import screen
from soorma.cli.exits import CommandError, Exit
from soorma.cli.folder import Folder
from soorma.local import Running

LOOK_SECONDS = 0.1
CHUNK = 1 << 16


def show(folder: Folder, *, follow: bool) -> None:
    """Prints the log; with `follow` goes on until Ctrl+C, also when the log is replaced."""
    if _is_in_foreground(folder):
        screen.note("the platform runs in the foreground and logs to its terminal; this is the log before it")
    try:
        log = folder.log.open("rb")
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        why = f"there is no log {folder.log}; start a platform: soorma dev"
        raise CommandError(
            Exit.NOT_RUNNING if missing else Exit.FAILED,
            why if missing else f"{folder.log} cannot be read: {error.strerror}",
        ) from error
    with log:
        _copy(log)
        if follow:
            _follow(folder.log, log)


def _follow(path: Path, log: BinaryIO) -> None:
    try:
        while True:
            log = _current(path, log)
            _copy(log)
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        return


def _current(path: Path, log: BinaryIO) -> BinaryIO:
    """The log under this name now: the same one, from its start if it was emptied, or its replacement."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return log
    have = os.fstat(log.fileno())
    if os.path.samestat(have, there):
        if have.st_size < log.tell():
            log.seek(0)
        return log
    try:
        replacement = path.open("rb")
    except FileNotFoundError:
        return log
    _copy(log)  # what was still written before it was replaced
    log.close()
    return replacement


def _copy(log: BinaryIO) -> None:
    while chunk := log.read(CHUNK):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _is_in_foreground(folder: Folder) -> bool:
    try:
        found = Running.read(folder.state)
    except (OSError, ValueError):
        return False
    return found is not None and found.foreground and found.process.is_alive()
