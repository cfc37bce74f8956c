"""Tables on a terminal: what is cut, what is left out, what never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma.cli.output import GAP, Column, draw

pytestmark = pytest.mark.behaviour("command.tables")
PLAN = "4071009d-1111-2222-3333-444455556661"


@given(
    ids=st.lists(st.text("abcdef0123456789-", min_size=1, max_size=36), min_size=1, max_size=5),
    texts=st.text(st.characters(codec="utf-8", categories=("L", "N")), max_size=300),
    ranks=st.lists(st.integers(0, 5), min_size=4, max_size=4),
    width=st.integers(20, 200),
)
def test_ids_are_whole_and_lines_fit(
    ids: list[str], texts: str, ranks: list[int], width: int
) -> None:
    columns = [
        Column("Id", 0),
        Column("Text", ranks[0], is_text=True),
        *(Column(f"C{n}", n) for n in ranks[1:]),
    ]
    drawn = draw(columns, [[each, texts, "x", each, "9"] for each in ids], width)
    for each, line in zip(ids, drawn.lines[2:], strict=True):
        assert line.split(" ")[0] == each
    whole = max(map(len, ids))
    if all(rank > 0 for rank in ranks) and whole + GAP < width:
        assert all(len(line) <= width for line in drawn.lines if line.isascii())


def test_texts_are_cut_first_and_the_highest_rank_goes_first() -> None:
    columns = [
        Column("Plan", 0),
        Column("Value", 0, is_text=True),
        Column("Time", 1),
        Column("Event", 2),
    ]
    rows = [[PLAN, "v" * 100, "2026-11-28 22:04:05", PLAN]]
    wide, narrow, tight = (draw(columns, rows, width) for width in (None, 80, 60))
    assert "v" * 100 in wide.lines[2]
    assert (wide.left_out, narrow.left_out, tight.left_out) == ([], ["Event"], ["Time", "Event"])
    assert narrow.lines[2] == f"{PLAN}  {'v' * 20}…  2026-11-28 22:04:05"
    assert len(narrow.lines[2]) == 80


def test_an_id_that_has_no_room_is_not_broken() -> None:
    drawn = draw([Column("Plan", 0), Column("Other", 1)], [["x" * 100, "y"]], 40)
    assert drawn.lines[2] == "x" * 100
    assert drawn.left_out == ["Other"]


def test_wide_characters_count_as_two() -> None:
    drawn = draw([Column("Text", 0, is_text=True), Column("N", 0)], [["茶" * 30, "1"]], 30)
    assert drawn.lines[2] == f"{'茶' * 13}…  1"
