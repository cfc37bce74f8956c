"""Bare sqlite-vec and FTS5 with their rankings fused: `python bare_memories.py MATERIAL FOLDER`.

What one would write without a library: a table, an FTS5 index with stemming, a vector for each
passage, partitioned by user, and reciprocal rank fusion of the best of both. WAL, synchronous=FULL.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pysqlite3
import sqlite_vec
from memories import DIMENSION, Passage, Query, Vectors, serve

LIMIT, OF_EACH = 10, 50
"""Passages returned, and those of each ranking that are fused."""
FUSED_AFTER = 60
"""The constant of the fusion: Cormack et al., SIGIR 2009."""
SCHEMA = f"""
CREATE TABLE passages (
    number INTEGER PRIMARY KEY, id TEXT, user TEXT, valid_from INTEGER, valid_until INTEGER,
    source TEXT, tags TEXT, text TEXT
);
CREATE VIRTUAL TABLE words USING fts5 (
    text, content='passages', content_rowid='number', tokenize='porter unicode61'
);
CREATE VIRTUAL TABLE vectors USING vec0 (
    user TEXT PARTITION KEY, embedding FLOAT[{DIMENSION}] distance_metric=cosine
);
"""
BY_WORDS = """
SELECT number FROM words JOIN passages ON number = words.rowid
WHERE words MATCH :words AND user = :user {where} ORDER BY words.rank LIMIT :of_each
"""
BY_VECTOR = """
SELECT rowid FROM vectors
WHERE embedding MATCH :vector AND k = :of_each AND user = :user {within} ORDER BY distance
"""
WITHIN = "AND rowid IN (SELECT number FROM passages WHERE TRUE {where})"
"""Only where there are filters: without them the partition is enough, and faster."""


class Bare:
    """The three tables."""

    def __init__(self, connection: Any, vectors: Vectors) -> None:
        self._connection, self._vectors = connection, vectors
        connection.executescript(SCHEMA)
        self._count = 0

    def store(self, passages: Sequence[Passage]) -> None:
        vectors = self._vectors.of([one["text"] for one in passages])
        numbers = range(self._count, self._count + len(passages))
        self._count += len(passages)
        self._connection.execute("BEGIN IMMEDIATE")
        for number, one, vector in zip(numbers, passages, vectors, strict=True):
            self._connection.execute(
                "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (number, one["id"], one["user"], one.get("valid_from"), one.get("valid_until"),
                 one.get("source"), _listed(one.get("tags", ())), one["text"]),
            )  # fmt: skip
            self._connection.execute(
                "INSERT INTO words (rowid, text) VALUES (?, ?)", (number, one["text"])
            )
            self._connection.execute(
                "INSERT INTO vectors (rowid, user, embedding) VALUES (?, ?, ?)",
                (number, one["user"], sqlite_vec.serialize_float32(vector)),
            )
        self._connection.execute("COMMIT")

    def search(self, query: Query) -> list[str]:
        (vector,) = self._vectors.of([query["query"]])
        words = re.findall(r"\w+", query["query"])
        where, given = _filters(query)
        given |= {
            "user": query["user"],
            "of_each": OF_EACH,
            "words": " OR ".join(f'"{word}"' for word in words),
            "vector": sqlite_vec.serialize_float32(vector),
        }
        within = WITHIN.format(where=where) if where else ""
        fused: Counter[int] = Counter()
        for statement in (BY_WORDS.format(where=where), BY_VECTOR.format(within=within)):
            for rank, (number,) in enumerate(self._connection.execute(statement, given), 1):
                fused[number] += 1 / (FUSED_AFTER + rank)  # type: ignore[assignment]
        best = [number for number, _ in fused.most_common(LIMIT)]
        asked = "SELECT id FROM passages WHERE number = ?"
        return [self._connection.execute(asked, (number,)).fetchone()[0] for number in best]


def _listed(tags: Sequence[str]) -> str:
    return "".join(f"\n{tag}\n" for tag in tags)


def _filters(query: Query) -> tuple[str, dict[str, Any]]:
    """The conditions on the table, and their parameters."""
    where, given = "", dict[str, Any]()
    if "at" in query:
        where += " AND valid_from <= :at AND valid_until > :at"
        given["at"] = query["at"]
    if "source" in query:
        where += " AND source = :source"
        given["source"] = query["source"]
    for number, tag in enumerate(query.get("tags", ())):
        where += f" AND instr(tags, :tag{number})"
        given[f"tag{number}"] = _listed([tag])
    return where, given


def main() -> None:
    """Serves until its input ends."""
    material, folder = Path(sys.argv[1]), Path(sys.argv[2])
    connection = pysqlite3.connect(str(folder / "bare.db"), isolation_level=None)
    connection.enable_load_extension(True)
    sqlite_vec.load(connection)
    connection.enable_load_extension(False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    asked = ("journal_mode", "synchronous")
    commits = "/".join(str(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in asked)
    bare = Bare(connection, Vectors(material))
    serve(bare, material, version=version("sqlite-vec"), sqlite=pysqlite3.sqlite_version,
          commits=commits)  # fmt: skip


if __name__ == "__main__":
    main()
