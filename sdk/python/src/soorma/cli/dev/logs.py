"""`soorma dev --logs`: the log of the platform, as it stands and as it grows."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from soorma.cli import output
from soorma.cli.dev.folder import Folder
from soorma.cli.exits import CommandError, Exit
from soorma.local import Running
from soorma_common.logs import FIELDS, formatter
from soorma_common.terminal import plain

LOOK_SECONDS = 0.1
CHUNK = 1 << 16


def show_logs(folder: Folder, *, follow: bool) -> None:
    """Prints the log; with `follow`, continues until Ctrl+C, even if the log is replaced."""
    if _is_in_foreground(folder):
        output.note(
            "the platform runs in the foreground and logs to its terminal; this is the log before "
            "it"
        )
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
        printer = _Printer()
        _copy(log, printer)
        if follow:
            _follow(folder.log, log, printer)
        printer.end()


class _Printer:
    """A printer of the log: unchanged for a program, in readable lines for a person."""

    def __init__(self) -> None:
        self._formatter: logging.Formatter | None = None
        self._rest = b""
        if sys.stdout.isatty():
            self._formatter = formatter(
                os.environ.get("SOORMA_LOG_FORMAT") or "auto", terminal=True, env=os.environ
            )

    def print(self, chunk: bytes) -> None:
        """Prints a chunk of the log."""
        if self._formatter is None:
            sys.stdout.buffer.write(chunk)
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            output.say(_readable(line.decode("utf-8", "replace"), self._formatter))

    def end(self) -> None:
        """Prints the last line, if it has no end."""
        if self._formatter is not None and self._rest:
            self.print(b"\n")


def _readable(line: str, form: logging.Formatter) -> str:
    """Formats a line as the platform does on a terminal; one that is no record stays as it is."""
    try:
        said = json.loads(line)
        moment = datetime.fromisoformat(said.pop("time")).timestamp()
        about = {
            "levelname": said.pop("level").upper(),
            "name": said.pop("logger"),
            "msg": said.pop("message"),
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return plain(line)
    trouble = said.pop("exception", None)
    record = logging.makeLogRecord(
        {**about, "created": moment, "msecs": moment % 1 * 1000, FIELDS: said}
    )
    return form.format(record) + (f"\n{plain(trouble)}" if isinstance(trouble, str) else "")


def _follow(path: Path, log: BinaryIO, printer: _Printer) -> None:
    try:
        while True:
            log = _current(path, log, printer)
            _copy(log, printer)
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        return


def _current(path: Path, log: BinaryIO, printer: _Printer) -> BinaryIO:
    """Returns the log under this name now: the same file, or its replacement.

    The same file is read from its start if it was emptied.
    """
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
    _copy(log, printer)  # what was still written before it was replaced
    log.close()
    return replacement


def _copy(log: BinaryIO, printer: _Printer) -> None:
    while chunk := log.read(CHUNK):
        printer.print(chunk)
    sys.stdout.buffer.flush()


def _is_in_foreground(folder: Folder) -> bool:
    try:
        found = Running.read(folder.state)
    except (OSError, ValueError):
        return False
    return found is not None and found.foreground and found.process.is_alive()
