"""What the compared memories are given: the same passages, with all that they have no notion of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import memories_material  # noqa: E402 - of the benchmarks, which are not installed
from retrieval_sets import DOMAINS, READER, RetrievalSet  # noqa: E402

TODAY = 1_796_040_000
"""2026-11-30T12:00:00Z, as of which cases ask that name no time."""


def given(*passages: dict[str, Any]) -> list[dict[str, Any]]:
    return memories_material.passages(RetrievalSet("made", [*passages], [], [], []))


def periods(*passages: dict[str, Any]) -> list[tuple[int, int]]:
    return [(row["valid_from"], row["valid_until"]) for row in given(*passages)]


def test_what_is_superseded_ends() -> None:
    always, never = memories_material.ALWAYS, memories_material.NEVER
    old, new = {"id": "a", "content": "x"}, {"id": "b", "content": "y", "supersedes": "a"}
    assert periods(old, new) == [(always, TODAY), (always, never)]
    ended = {**old, "valid_from": "1970-01-01T00:00:01Z", "valid_until": "1970-01-01T00:00:05Z"}
    assert periods(ended, new) == [(1, 5), (always, never)]


def test_an_attribute_has_one_current_value() -> None:
    never = memories_material.NEVER
    rows = [
        {"id": "a", "content": "x", "subject": "Ann", "attribute": "town"},
        {"id": "b", "content": "y", "subject": "Ann", "attribute": "age"},
        {"id": "c", "content": "z", "subject": "Ann", "attribute": "town"},
    ]
    assert [until for _, until in periods(*rows)] == [TODAY, never, never]


def test_names_are_in_the_text_and_public_passages_belong_to_who_asks() -> None:
    one, two, three = given(
        {"id": "a", "content": "x", "aliases": ["N1", "N2"], "tags": ["t"], "source": "s"},
        {"id": "b", "content": "y", "user": "other"},
        {"id": "c", "content": "z", "user": "other", "public": True},
    )
    assert (one["text"], one["tags"], one["source"]) == ("x (N1, N2)", ["t"], "s")
    assert [one["user"], two["user"], three["user"]] == [READER, "other", READER]


@pytest.mark.parametrize("domain", DOMAINS)
def test_all_that_a_case_wants_can_be_found_by_its_filters(domain: str) -> None:
    asked = memories_material.Asked(RetrievalSet.load(domain))
    rows = {row["id"]: row for row in memories_material.passages(asked.of)}
    for case, query in zip(asked.queries, asked.rows(), strict=True):
        for row in (rows[name] for name in case.wanted):
            assert row["user"] == query["user"], case
            assert row["valid_from"] <= query["at"] < row["valid_until"], case
            assert set(query.get("tags", ())) <= set(row.get("tags", ())), case
            assert query.get("source") in {None, row.get("source")}, case


def test_each_text_has_its_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = memories_material.write_made(tmp_path, count=3, queries=2)
    rows = json.loads((tmp_path / memories_material.MADE).read_text("utf-8"))
    texts = [*(row["text"] for row in rows), *queries]
    monkeypatch.syspath_prepend(BENCHMARKS / "others")
    from memories import Vectors  # noqa: PLC0415 - of the other environment

    vectors = Vectors(tmp_path).of(texts)
    assert len(vectors) == 5
    assert len({tuple(vector) for vector in vectors}) == 5
    assert all(sum(x * x for x in vector) == pytest.approx(1, abs=1e-5) for vector in vectors)
