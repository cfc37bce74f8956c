"""mem0 with its local Qdrant, without a language model: `python mem0_memories.py MATERIAL FOLDER`.

Of its vector stores that need no server, this is the only one that also finds by keywords, with the
encoder of fastembed, which stems words. Its model is a list of stop words, which is taken from
MATERIAL. (Milvus Lite finds by both, too, but its scores are negative, and mem0 drops them; FAISS
and Chroma find by vectors alone.) The models of spaCy with which mem0 can also lemmatize come from
no package registry; without them it is faster. `add` takes a list of messages, stored one by one.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memories import DIMENSION, Passage, Query, Vectors, serve

material, folder = Path(sys.argv[1]), Path(sys.argv[2])
os.environ |= {"MEM0_TELEMETRY": "false", "MEM0_DIR": str(folder)}
os.environ |= {"HF_HUB_OFFLINE": "1", "FASTEMBED_CACHE_PATH": str(folder)}

from fastembed import SparseTextEmbedding  # noqa: E402 - both read these variables
from mem0 import Memory  # noqa: E402
from mem0.embeddings.base import EmbeddingBase  # noqa: E402

COLLECTION = "memories"
LIMIT, SPARE = 20, 40
"""Its default, and what is asked for beyond it where some may not be true at the time asked for.

Its filters could compare times, but their ranges take it 0.1 ms for each passage.
"""


class GivenVectors(EmbeddingBase):
    """An embedder that looks vectors up."""

    def __init__(self, vectors: Vectors) -> None:
        super().__init__()
        self._vectors = vectors

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:  # noqa: ARG002 - its name
        return self._vectors.of([text])[0]


class Mem0:
    """Its client."""

    def __init__(self) -> None:
        unused = {"api_key": "unused", "openai_base_url": "http://127.0.0.1:9/v1"}
        self._memory = Memory.from_config(
            {
                "vector_store": {
                    "provider": "qdrant",
                    "config": {
                        "collection_name": COLLECTION,
                        "embedding_model_dims": DIMENSION,
                        "path": str(folder / "qdrant"),
                        "on_disk": True,
                    },
                },
                # It makes both clients whatever they are for; neither is called.
                "llm": {"provider": "openai", "config": unused},
                "embedder": {"provider": "openai", "config": unused},
                "history_db_path": str(folder / "history.db"),
            }
        )
        self._memory.embedding_model = GivenVectors(Vectors(material))
        # Else it downloads the list of stop words.
        self._memory.vector_store._bm25_encoder = SparseTextEmbedding(  # noqa: SLF001
            "Qdrant/bm25", specific_model_path=str(material / "bm25")
        )

    def store(self, passages: Sequence[Passage]) -> None:
        """Stores them by one `add`, whose metadata are those of the first."""
        first = passages[0]
        metadata: dict[str, Any] = {key: of for key, of in first.items() if key in _METADATA}
        metadata["passage"] = first["id"]
        metadata |= {_tag(tag): True for tag in first.get("tags", ())}
        messages = [{"role": "user", "content": one["text"]} for one in passages]
        self._memory.add(messages, user_id=first["user"], metadata=metadata, infer=False)

    def search(self, query: Query) -> list[str]:
        filters: dict[str, Any] = {"user_id": query["user"]}
        if "source" in query:
            filters["source"] = query["source"]
        filters |= {_tag(tag): True for tag in query.get("tags", ())}
        how: dict[str, Any] = {"threshold": 0.0} if query.get("ranking") else {}
        if "at" in query:
            how["top_k"] = LIMIT + SPARE
        found = self._memory.search(query["query"], filters=filters, **how)["results"]
        return [one["metadata"]["passage"] for one in found if _is_true(one, query)][:LIMIT]


_METADATA = ("valid_from", "valid_until", "source")


def _is_true(one: dict[str, Any], query: Query) -> bool:
    of = one["metadata"]
    return "at" not in query or of["valid_from"] <= query["at"] < of["valid_until"]


def _tag(name: str) -> str:
    return f"tag_{name}"


def _commits() -> str:
    """The journal of its file; `synchronous` is the default of a connection, which it keeps."""
    connection = sqlite3.connect(next((folder / "qdrant").rglob("storage.sqlite")))
    asked = ("journal_mode", "synchronous")
    found = "/".join(str(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in asked)
    connection.close()
    return found


def main() -> None:
    """Serves until its input ends."""
    logging.getLogger("mem0").setLevel(logging.ERROR)  # it warns that there is no spaCy
    memories = Mem0()
    versions = f"{version('mem0ai')} with qdrant-client {version('qdrant-client')}"
    serve(memories, material, version=versions, sqlite=sqlite3.sqlite_version, commits=_commits())


if __name__ == "__main__":
    main()
