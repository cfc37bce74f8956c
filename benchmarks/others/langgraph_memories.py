"""LangGraph's Store on SQLite, with its index: `python langgraph_memories.py MATERIAL FOLDER`.

It finds by vectors alone. The plain store: the async one runs the same statements in a thread. Its
connection is given to it: in WAL mode, which is faster than its default journal, with
synchronous=FULL.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pysqlite3
from langgraph.store.base import PutOp
from langgraph.store.sqlite import SqliteStore
from memories import DIMENSION, Passage, Query, Vectors, serve


class Store:
    """The store, with a namespace for each user."""

    def __init__(self, connection: Any, vectors: Vectors) -> None:
        self._store = SqliteStore(connection, index={"dims": DIMENSION, "embed": vectors.of})
        self._store.setup()

    def store(self, passages: Sequence[Passage]) -> None:
        # Named with each: the store on SQLite ignores the `fields` of its index.
        self._store.batch(
            [PutOp((one["user"],), one["id"], _value(one), index=["text"]) for one in passages]
        )

    def search(self, query: Query) -> list[str]:
        filters: dict[str, Any] = {_tag(tag): True for tag in query.get("tags", ())}
        if "at" in query:
            filters |= {"valid_from": {"$lte": query["at"]}, "valid_until": {"$gt": query["at"]}}
        if "source" in query:
            filters["source"] = query["source"]
        found = self._store.search((query["user"],), query=query["query"], filter=filters or None)
        return [one.key for one in found]


def _value(passage: Passage) -> dict[str, Any]:
    return {**passage, **{_tag(tag): True for tag in passage.get("tags", ())}}


def _tag(name: str) -> str:
    return f"tag_{name}"


def main() -> None:
    """Serves until its input ends."""
    material, folder = Path(sys.argv[1]), Path(sys.argv[2])
    connection = pysqlite3.connect(
        str(folder / "store.db"), check_same_thread=False, isolation_level=None
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    asked = ("journal_mode", "synchronous")
    commits = "/".join(str(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in asked)
    store = Store(connection, Vectors(material))
    versions = f"{version('langgraph-checkpoint-sqlite')} with sqlite-vec {version('sqlite-vec')}"
    serve(store, material, version=versions, sqlite=pysqlite3.sqlite_version, commits=commits)


if __name__ == "__main__":
    main()
