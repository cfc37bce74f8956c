"""The port of embeddings: what a model has not embedded yet, and the vectors that it made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from soorma_platform.engine.rows.passages import UnembeddedPart


class EmbeddingStore(Protocol):
    """Vectors of parts, each of a model; a collection uses one model at a time."""

    async def model(self, name: str) -> int:
        """Returns the number of a model, which is then the newest: all others are earlier ones."""
        ...

    async def unembedded(self, model: int, limit: int) -> list[UnembeddedPart]:
        """Returns parts without a vector of a model: the newest first, then the oldest."""
        ...

    async def put(self, model: int, vectors: Sequence[tuple[UnembeddedPart, bytes]]) -> None:
        """Stores vectors, each only for a part that is still there; an empty one stands for none.

        A collection that has no vectors of another model uses them at once; any other does so once
        this model has embedded all of it.
        """
        ...

    async def sweep(self, model: int, limit: int) -> bool:
        """Removes vectors of earlier models once nobody uses them; True if there are more."""
        ...

    async def count(self, model: int, limit: int, collection: int | None = None) -> int:
        """Returns how many parts a model has not embedded yet, counted up to a limit."""
        ...
