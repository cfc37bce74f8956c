"""What a person reads: results on standard output, notes and errors on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

PLAIN_WIDTH = 1000
"""Columns when nobody looks: a path must not be broken for a program that reads the output."""


def say(text: str = "") -> None:
    """A line of the result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


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
    console.print(grid)


def never_fail_to_print() -> None:
    """Escapes what the terminal's encoding lacks instead of ending in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
