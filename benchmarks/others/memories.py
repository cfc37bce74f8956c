"""Shared by the memories that are compared: the vectors of texts, and the protocol of the driver.

Standard library only, since it runs in the environment of each. Each process reads commands from
its input and prints its results, one JSON object a line, as `over_memories_others.py` asks.
"""

from __future__ import annotations

import json
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

from common import tell

DIMENSION = 384
TEXTS, VECTORS = "texts.json", "vectors.f32"
"""The files of the material: texts, and as many vectors of 32-bit numbers."""


class Passage(TypedDict):
    """A passage; times are seconds since 1970."""

    id: str
    text: str
    user: str
    valid_from: NotRequired[int]
    valid_until: NotRequired[int]
    source: NotRequired[str]
    tags: NotRequired[list[str]]


class Query(TypedDict):
    """A query; `at` is the time as of which it asks, in seconds since 1970.

    `ranking` asks for the order alone: without any threshold.
    """

    query: str
    user: str
    at: NotRequired[int]
    source: NotRequired[str]
    tags: NotRequired[list[str]]
    ranking: NotRequired[bool]


class Vectors:
    """The vectors of texts, made before by one model for all systems."""

    def __init__(self, material: Path) -> None:
        texts = json.loads((material / TEXTS).read_text("utf-8"))
        numbers = array("f", (material / VECTORS).read_bytes())
        self._vectors = {
            text: numbers[at * DIMENSION : (at + 1) * DIMENSION].tolist()
            for at, text in enumerate(texts)
        }

    def of(self, texts: Sequence[str]) -> list[list[float]]:
        """Returns a vector for each text."""
        return [self._vectors[text] for text in texts]


class Memories(Protocol):
    """One of the systems."""

    def store(self, passages: Sequence[Passage]) -> None:
        """Stores passages by one call: durable, and found by searches, when it returns."""

    def search(self, query: Query) -> list[str]:
        """Returns the ids of what is found, the best first, with its own default limit."""


def serve(memories: Memories, material: Path, **told: object) -> None:
    """Says that it is ready, then carries out commands until its input ends."""
    tell(**told)
    for line in sys.stdin:
        command = json.loads(line)
        rows = json.loads((material / command["file"]).read_text("utf-8"))
        rows = rows[command.get("first", 0) : command.get("last")]
        if command["do"] == "store":
            tell(seconds=_seconds(memories, rows, command["size"]))
        else:
            tell(**_found(memories, rows))


def _seconds(memories: Memories, passages: Sequence[Passage], size: int) -> float:
    parts = list(_parts(passages, size))
    began = time.perf_counter()
    for part in parts:
        memories.store(part)
    return time.perf_counter() - began


def _parts(passages: Sequence[Passage], size: int) -> Iterator[Sequence[Passage]]:
    for first in range(0, len(passages), size):
        yield passages[first : first + size]


def _found(memories: Memories, queries: Sequence[Query]) -> dict[str, Any]:
    found, latencies = [], []
    for query in queries:
        began = time.perf_counter()
        found.append(memories.search(query))
        latencies.append(time.perf_counter() - began)
    return {"found": found, "latencies": latencies}
