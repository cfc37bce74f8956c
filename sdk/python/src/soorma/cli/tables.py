"""Tables that fit the terminal: an id is never broken, what has no room is cut at its end or left out as a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP = 2
SHORTEST_CUT = 12
"""A text is not cut to less than that."""


class Column(NamedTuple):
    """A column. Those of the highest rank are left out first, those of rank 0 never; a text may be cut at its end."""

    title: str
    rank: int = 1
    is_text: bool = False


class Drawn(NamedTuple):
    """A table as lines, and the titles of the columns that had no room."""

    lines: list[str]
    left_out: list[str]


def draw(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Drawn:
    """The table in at most so many columns of the terminal, if its ids leave room for that; None: as wide as it is."""
    natural = [max(map(_width, (column.title, *(row[at] for row in rows)))) for at, column in enumerate(columns)]
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
    return (" " * GAP).join(_fitted(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()


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
