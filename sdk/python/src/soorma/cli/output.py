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
"""The most characters of a value in a table or a line; `state get` and --json show it whole."""

MOST_ROWS = 100
"""The most rows of a table without --limit; --json has all."""

GAP = 2
SHORTEST_CUT = 12
"""A text is never cut shorter than this, or what its column says."""

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


def rewrite(line: str) -> None:
    """Puts a line of progress in place of the one before, on a terminal; empty, it removes it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


def never_fail_to_print() -> None:
    """Escapes characters that the terminal's encoding lacks, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Ends the command without a message when the reader is gone, as in `soorma … | head`.

    Nothing fails when Python flushes at its end, either: standard output is /dev/null by then.
    """
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise CommandError(Exit.OUTPUT_CLOSED, "") from None


# --- JSON ------------------------------------------------------------------------------------


def say_encoded(text: bytes) -> None:
    """Prints encoded JSON, in UTF-8 whatever the terminal's encoding."""
    with _reader_may_leave():
        sys.stdout.flush()
        sys.stdout.buffer.write(text + b"\n")
        sys.stdout.buffer.flush()


def say_json(content: Any) -> None:
    """Prints a command's single JSON document."""
    say_encoded(_encoded(content, indent=2))


def say_json_line(content: Any) -> None:
    """Prints one of many JSON documents, on a line."""
    say_encoded(_encoded(content))


def say_json_value(value: Any) -> None:
    """Prints a single value as JSON, for people and programs alike."""
    say_encoded(plain(_encoded(value, indent=2).decode()).encode())


def say_json_facts(facts: Mapping[str, object]) -> None:
    """Prints a JSON document of the command's own facts, without importing msgspec."""
    say(json.dumps(facts, indent=2))


def _encoded(content: Any, indent: int | None = None) -> bytes:
    import msgspec  # noqa: PLC0415 - `soorma version` does without

    encoded = msgspec.json.encode(content)
    return encoded if indent is None else msgspec.json.format(encoded, indent=indent)


# --- Tables ----------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column of a table; if it is text, its values may be cut to `least` characters.

    Columns of the highest rank are left out first, those of rank 0 never.
    """

    title: str
    rank: int = 1
    is_text: bool = False
    least: int = SHORTEST_CUT


class Drawn(NamedTuple):
    """A table as lines, and the titles of the columns that did not fit."""

    lines: list[str]
    left_out: list[str]


def table(columns: Sequence[str | Column], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows under their headings: fitted to a terminal, in full anywhere else."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    known = [Column(column) if isinstance(column, str) else column for column in columns]
    drawn = draw(known, list(rows), width)
    say("\n".join(("", *drawn.lines, "")))
    if drawn.left_out:
        note(f"no room for {', '.join(drawn.left_out)}; a wider terminal or --json shows all")


def newest(rows: list[dict[str, Any]], name: str, limit: int | None) -> list[dict[str, Any]]:
    """Returns the newest rows by the field `name`, newest first, limited as in `first`."""
    return first(sorted(rows, key=lambda row: row[name], reverse=True), limit, "newest")


def first(rows: list[dict[str, Any]], limit: int | None, which: str) -> list[dict[str, Any]]:
    """Returns the first `limit` rows; if None, MOST_ROWS, and prints a note if there are more."""
    most = MOST_ROWS if limit is None else limit
    if limit is None and len(rows) > most:
        note(f"the {which} {most} of {len(rows)}; --limit {len(rows)} shows all")
    return rows[:most]


def some(rows: list[dict[str, Any]], name: str, limit: int | None) -> list[dict[str, Any]]:
    """Returns the `limit` newest rows by the field `name`, in their given order; if None, all."""
    if limit is None or len(rows) <= limit:
        return rows
    kept = {id(row) for row in sorted(rows, key=lambda row: row[name], reverse=True)[:limit]}
    return [row for row in rows if id(row) in kept]


def draw(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Drawn:
    """Lays out a table within `width` columns of the terminal; if None, at its natural width.

    It is wider if the columns of rank 0 need more.
    """
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
    """Returns the columns that fit if texts are cut as short as allowed."""
    least = [
        min(wide, _least(column)) if column.is_text else wide
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
    """Narrows the widest text repeatedly until all columns fit, or no text can be cut."""
    excess = sum(natural[at] for at in kept) + GAP * (len(kept) - 1) - width
    while excess > 0:
        texts = [at for at in kept if columns[at].is_text and natural[at] > _least(columns[at])]
        if not texts:
            return
        natural[max(texts, key=lambda at: natural[at])] -= 1
        excess -= 1


def _least(column: Column) -> int:
    return max(column.least, _width(column.title))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (
        (" " * GAP)
        .join(_fitted(cell, width) for cell, width in zip(cells, widths, strict=True))
        .rstrip()
    )


def _fitted(text: str, width: int) -> str:
    """Returns the text cut or padded to a width."""
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
    """Formats a name or a number in full, so that it can be copied; a dash for none."""
    return "-" if value is None or value == "" else one_line(str(value))


def text(content: object) -> str:
    """Formats a text that somebody has written, shortened if it is long; a dash for none."""
    return _short(cell(content))


def value(content: Any) -> str:
    """Formats a value as JSON, shortened if it is long."""
    return _short(plain(_encoded(content).decode()))


def moment(text: str | None) -> str:
    """Formats a time in the local time zone; a dash for none."""
    return (
        "-"
        if text is None
        else datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"
