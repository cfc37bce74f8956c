"""The output of the command: lines, notes and errors, JSON for programs, tables for people."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from soorma.cli.exits import CommandError, Exit
from soorma_common.terminal import one_line, plain

LONGEST_CELL = 200
"""Characters of a value in a table or a line; `state get` and --json show all of it."""

MOST_ROWS = 100
"""Rows of a table where nobody says how many; --json has all."""

GAP = 2
SHORTEST_CUT = 12
"""A text is not cut to less than that."""

# --- Lines -----------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """Prints a line of the result."""
    with _reader_may_leave():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def note(text: str) -> None:
    """Prints a note: worth knowing, but not the result."""
    sys.stderr.write(f"note: {text}\n")
    sys.stderr.flush()


def complain(text: str) -> None:
    """Prints why the command failed."""
    sys.stderr.write(f"soorma: {text}\n")
    sys.stderr.flush()


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


# --- JSON ------------------------------------------------------------------------------------


def say_encoded(text: bytes) -> None:
    """Prints encoded JSON: in UTF-8, as it must be, whatever the terminal's encoding."""
    with _reader_may_leave():
        sys.stdout.flush()
        sys.stdout.buffer.write(text + b"\n")
        sys.stdout.buffer.flush()


def say_json(content: Any) -> None:
    """Prints the one JSON document of a command."""
    say_encoded(_encoded(content, indent=2))


def say_json_line(content: Any) -> None:
    """Prints a line of JSON, for one of many documents."""
    say_encoded(_encoded(content))


def say_json_value(value: Any) -> None:
    """Prints a value by itself: JSON for people and programs alike."""
    say_encoded(plain(_encoded(value, indent=2).decode()).encode())


def say_json_facts(facts: Mapping[str, object]) -> None:
    """Prints a JSON document of what the command itself knows, without importing msgspec for it."""
    say(json.dumps(facts, indent=2))


def _encoded(content: Any, indent: int | None = None) -> bytes:
    import msgspec  # noqa: PLC0415 - `soorma version` does without

    encoded = msgspec.json.encode(content)
    return encoded if indent is None else msgspec.json.format(encoded, indent=indent)


# --- Tables ----------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column.

    Those of the highest rank are left out first, those of rank 0 never; a text may be cut at its
    end.
    """

    title: str
    rank: int = 1
    is_text: bool = False


class Drawn(NamedTuple):
    """A table as lines, and the titles of the columns that had no room."""

    lines: list[str]
    left_out: list[str]


def table(columns: Sequence[str | Column], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows under their headings, fitted to the terminal; where nobody looks, they are whole."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    known = [Column(column) if isinstance(column, str) else column for column in columns]
    drawn = draw(known, list(rows), width)
    say("\n".join(("", *drawn.lines, "")))
    if drawn.left_out:
        note(f"no room for {', '.join(drawn.left_out)}; a wider terminal or --json shows all")


def newest(rows: list[dict[str, Any]], name: str, limit: int | None) -> list[dict[str, Any]]:
    """The newest rows by their field of that name, the newest first; a note where there are more."""
    return first(sorted(rows, key=lambda row: row[name], reverse=True), limit, "newest")


def first(rows: list[dict[str, Any]], limit: int | None, which: str) -> list[dict[str, Any]]:
    """As many rows as a person is shown at once, or has asked for; a note where there are more."""
    most = MOST_ROWS if limit is None else limit
    if limit is None and len(rows) > most:
        note(f"the {which} {most} of {len(rows)}; --limit {len(rows)} shows all")
    return rows[:most]


def some(rows: list[dict[str, Any]], name: str, limit: int | None) -> list[dict[str, Any]]:
    """The newest rows by their field of that name, in the order that they have; None: all."""
    if limit is None or len(rows) <= limit:
        return rows
    kept = {id(row) for row in sorted(rows, key=lambda row: row[name], reverse=True)[:limit]}
    return [row for row in rows if id(row) in kept]


def draw(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Drawn:
    """The table in at most so many columns of the terminal, if its ids leave room for that; None: as wide as it is."""
    natural = [
        max(map(_width, (column.title, *(row[at] for row in rows))))
        for at, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    if width is not None:
        kept = _kept(columns, natural, width)
        _shrink(columns, natural, kept, width)
    lines = [_line([columns[at].title for at in kept], [natural[at] for at in kept])]
    lines.append("─" * (sum(natural[at] for at in kept) + GAP * (len(kept) - 1)))
    lines += [_line([row[at] for at in kept], [natural[at] for at in kept]) for row in rows]
    return Drawn(lines, [column.title for at, column in enumerate(columns) if at not in kept])


def _kept(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """The columns for which there is room, if the texts are cut as far as they may be."""
    least = [
        min(wide, max(SHORTEST_CUT, _width(column.title))) if column.is_text else wide
        for column, wide in zip(columns, natural, strict=True)
    ]
    kept = list(range(len(columns)))
    while sum(least[at] for at in kept) + GAP * (len(kept) - 1) > width:
        most = max(kept, key=lambda at: (columns[at].rank, at))
        if columns[most].rank == 0:
            break
        kept.remove(most)
    return kept


def _shrink(columns: Sequence[Column], natural: list[int], kept: Sequence[int], width: int) -> None:
    """Narrows the widest text, again and again, until all fit."""
    texts = [at for at in kept if columns[at].is_text]
    excess = sum(natural[at] for at in kept) + GAP * (len(kept) - 1) - width
    while excess > 0 and texts:
        widest = max(texts, key=lambda at: natural[at])
        if natural[widest] <= max(SHORTEST_CUT, _width(columns[widest].title)):
            return
        natural[widest] -= 1
        excess -= 1


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (
        (" " * GAP)
        .join(_fitted(cell, width) for cell, width in zip(cells, widths, strict=True))
        .rstrip()
    )


def _fitted(text: str, width: int) -> str:
    """The text cut or filled up to a width."""
    if _width(text) <= width:
        return text + " " * (width - _width(text))
    while _width(text) >= width:
        text = text[:-1]
    return _fitted(f"{text}…", width)


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - hardly ever needed

    return cell_len(text)


# --- Cells -----------------------------------------------------------------------------------


def cell(value: object) -> str:
    """A name or a number, whole, so that it can be copied; a dash where there is none."""
    return "-" if value is None or value == "" else one_line(str(value))


def text(content: object) -> str:
    """A text that somebody has written, shortened where it is long; a dash where there is none."""
    return _short(cell(content))


def value(content: Any) -> str:
    """A value as JSON, shortened where it is long."""
    return _short(plain(_encoded(content).decode()))


def moment(text: str | None) -> str:
    """A time in this place's time; a dash where there is none."""
    return (
        "-"
        if text is None
        else datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"
