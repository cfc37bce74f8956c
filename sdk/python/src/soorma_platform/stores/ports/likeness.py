"""The port of likeness, for reading: passages that seem to state the same."""

from __future__ import annotations

from typing import Protocol

from soorma_platform.engine.rows.likeness import AlikeRow
from soorma_platform.engine.rows.passages import CollectionRow


class LikenessStore(Protocol):
    """Pairs of passages, noted by the command `NoteLikeness`."""

    async def collection(self, number: int) -> CollectionRow | None:
        """Returns a collection of passages of semantic memory; None if it is of another kind."""
        ...

    async def alike(self, passage: int, limit: int) -> list[AlikeRow]:
        """Returns open passages that seem to state the same as one."""
        ...
