"""What a person reads: results on standard output, notes and errors on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from soorma.cli.exits import CommandError, Exit
from soorma_common.terminal import plain

__all__ = ["complain", "never_fail_to_print", "note", "plain", "say", "say_json", "table"]

PLAIN_WIDTH = 1000
"""Columns when nobody looks: a path must not be broken for a program that reads the output."""


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


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under their headings; wide ones are folded on a terminal, never cut."""
    from rich import box  # noqa: PLC0415 - commands without a table do without
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    grid = Table(*columns, box=box.SIMPLE, pad_edge=False)
    for column in grid.columns:
        column.overflow = "fold"
    for row in rows:
        grid.add_row(*row)
    with console.capture() as drawn:
        console.print(grid)
    with _reader_may_leave():
        sys.stdout.write(drawn.get())
        sys.stdout.flush()


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
