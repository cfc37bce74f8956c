"""What the compared memories store and are asked, in files that need none of our packages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from made_texts import Texts, vector_of
from retrieval_sets import READER, TODAY, Case, RetrievalSet

from soorma_platform.engine.retrieval.splitting import split
from soorma_platform.engine.retrieval.tokens import STOP_WORDS
from soorma_platform.engine.retrieval.vectors import Vector, unit
from soorma_platform.work.embedding.offline import CALIBRATION, OfflineEmbedder

ALWAYS, NEVER = 0, 1 << 40
"""Seconds since 1970 of a passage that is true from ever, and for ever."""
MADE, MADE_QUERIES = "made.json", "made-queries.json"
TEXTS, VECTORS = "texts.json", "vectors.f32"
"""As `others/memories.py` reads them."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A set with its queries in the order of their file: cases, hard ones, and pairs."""

    of: RetrievalSet

    @property
    def queries(self) -> list[Case]:
        """All of them."""
        return [*self.of.cases, *self.of.hard, *self.of.pairs]

    def rows(self) -> list[Row]:
        """The queries, for the others."""
        pairs = len(self.of.cases) + len(self.of.hard)
        return [
            {"query": case.query, "user": READER, "at": _seconds(case.how["as_of"]),
             **{name: case.how[name] for name in ("source", "tags") if name in case.how},
             "ranking": number >= pairs}
            for number, case in enumerate(self.queries)
        ]  # fmt: skip


def write(folder: Path, sets: Sequence[Asked], vectors: dict[str, Any], distractors: int) -> None:
    """Writes the passages, distractors and queries of sets, with the vectors of all texts."""
    for asked in sets:
        domain = asked.of.domain
        _dump(folder / f"{domain}.json", passages(asked.of))
        _dump(folder / f"{domain}-distractors.json", _distractors(asked.of, distractors))
        _dump(folder / f"{domain}-queries.json", asked.rows())
    _write_vectors(folder, vectors)
    words = folder / "bm25"
    words.mkdir()
    (words / "config.json").write_text("{}", "utf-8")
    (words / "english.txt").write_text("\n".join(sorted(STOP_WORDS)), "utf-8")


def write_made(folder: Path, count: int, queries: int) -> list[str]:
    """Writes texts that were made up by chance, and queries for them; returns the queries."""
    made = Texts()
    texts = [made.passage(number) for number in range(count)]
    asked = [made.query(number) for number in range(queries)]
    rows = ({"id": str(number), "text": text, "user": READER} for number, text in enumerate(texts))
    _dump(folder / MADE, rows)
    _dump(folder / MADE_QUERIES, ({"query": query, "user": READER} for query in asked))
    _write_vectors(folder, {text: vector_of(text) for text in [*texts, *asked]})
    return asked


class GivenEmbedder:
    """An embedder that looks vectors up, as those of the others do."""

    name = "given"
    calibration = CALIBRATION

    def __init__(self, folder: Path) -> None:
        texts = json.loads((folder / TEXTS).read_text("utf-8"))
        numbers = np.fromfile(folder / VECTORS, np.float32).reshape(len(texts), -1)
        self._vectors = dict(zip(texts, numbers, strict=True))

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Returns a vector for each text."""
        return [self._vectors[text] for text in texts]

    async def close(self) -> None:
        """Does nothing."""


async def embedded(sets: Sequence[Asked], distractors: int) -> dict[str, Any]:
    """Embeds all texts of sets with the offline model, once for all systems."""
    texts: dict[str, None] = {}
    for asked in sets:
        of = asked.of
        texts |= dict.fromkeys(row["text"] for row in passages(of))
        # Soorma keeps other names apart, and has a vector for each part of a long passage.
        contents = [one["content"] for one in of.passages]
        spans = ((text, span) for text in contents for span in split(text))
        texts |= dict.fromkeys(text[span.start : span.end] for text, span in spans)
        texts |= dict.fromkeys(row["text"] for row in _distractors(of, distractors))
        texts |= dict.fromkeys(case.query for case in asked.queries)
    embedder = OfflineEmbedder()
    try:
        return dict(zip(texts, await embedder.embed(list(texts)), strict=True))
    finally:
        await embedder.close()


def passages(of: RetrievalSet) -> list[Row]:
    """Returns the passages of a set, with all done by hand that the others have no notion of.

    A name by which a passage is found stands in its text, what is public is stored for the user who
    asks, and what is superseded ends.
    """
    rows = {one["id"]: _passage(one) for one in of.passages}
    current: dict[tuple[str, str], str] = {}
    for one in of.passages:
        gone = {one.get("supersedes")}
        if "subject" in one and "attribute" in one:
            gone.add(current.get((one["subject"], one["attribute"])))
            current[one["subject"], one["attribute"]] = one["id"]
        for old in gone - {None}:
            rows[str(old)]["valid_until"] = min(rows[str(old)]["valid_until"], _seconds(TODAY))
    return list(rows.values())


def _passage(one: Row) -> Row:
    names = f" ({', '.join(one['aliases'])})" if "aliases" in one else ""
    return {
        "id": one["id"],
        "text": one["content"] + names,
        "user": READER if one.get("public") else one.get("user", READER),
        "valid_from": _seconds(one["valid_from"]) if "valid_from" in one else ALWAYS,
        "valid_until": _seconds(one["valid_until"]) if "valid_until" in one else NEVER,
        **{name: one[name] for name in ("source", "tags") if name in one},
    }


def _distractors(of: RetrievalSet, count: int) -> list[Row]:
    return [
        {"id": f"distractor {number}", "text": text, "user": READER,
         "valid_from": ALWAYS, "valid_until": NEVER}
        for number, text in enumerate(of.distractors(count))
    ]  # fmt: skip


def _seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


def _dump(file: Path, rows: Iterable[Row]) -> None:
    file.write_text(json.dumps(list(rows)), "utf-8")


def _write_vectors(folder: Path, vectors: dict[str, Any]) -> None:
    (folder / TEXTS).write_text(json.dumps(list(vectors)), "utf-8")
    all_of = np.stack([unit(vector) for vector in vectors.values()]).astype(np.float32)
    (folder / VECTORS).write_bytes(all_of.tobytes())
