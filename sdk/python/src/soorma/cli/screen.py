"""What a person reads: results on standard output, notes and errors on standard error."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from soorma.cli.exits import CommandError, Exit
from soorma.cli.tables import Column, draw
from soorma_common.terminal import plain

__all__ = ["complain", "never_fail_to_print", "note", "plain", "say", "say_json", "table"]


def say(text: str = "") -> None:
    """A line of the result."""
    with _reader_may_leave():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def say_json(text: bytes) -> None:
    """A JSON document of the result: in UTF-8, as JSON must be, whatever the terminal's encoding."""
    with _reader_may_leave():
        sys.stdout.flush()
        sys.stdout.buffer.write(text + b"\n")
        sys.stdout.buffer.flush()


def note(text: str) -> None:
    """Something worth knowing that is not the result."""
    sys.stderr.write(f"note: {text}\n")
    sys.stderr.flush()


def complain(text: str) -> None:
    """Why the command failed."""
    sys.stderr.write(f"soorma: {text}\n")
    sys.stderr.flush()


def table(columns: Sequence[str | Column], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows under their headings, fitted to the terminal; where nobody looks, they are whole."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    known = [Column(column) if isinstance(column, str) else column for column in columns]
    drawn = draw(known, list(rows), width)
    say("\n".join(("", *drawn.lines, "")))
    if drawn.left_out:
        note(f"no room for {', '.join(drawn.left_out)}; a wider terminal or --json shows all")


def never_fail_to_print() -> None:
    """Escapes what the terminal's encoding lacks instead of ending in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """`soorma … | head` is no failure that needs words, neither now nor when Python flushes at its end."""
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise CommandError(Exit.OUTPUT_CLOSED, "") from None
