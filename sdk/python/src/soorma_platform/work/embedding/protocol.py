"""The protocol of an embedder, which turns texts into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from soorma_common.errors import Unavailable
from soorma_platform.engine.rows.passages import UnembeddedPart

if TYPE_CHECKING:
    from soorma_platform.engine.retrieval.ranking import Calibration
    from soorma_platform.engine.retrieval.vectors import Vector


class TextRefused(Unavailable):
    """A model does not take a text, now or later."""


class VectorCheck(Protocol):
    """Something that is done with new vectors, besides storing them."""

    async def check(self, model: int, parts: Sequence[tuple[UnembeddedPart, Vector]]) -> None:
        """Takes parts that were just embedded and stored, each with its vector."""
        ...


class Embedder(Protocol):
    """A model that embeds texts. It is loaded when it is first used."""

    @property
    def name(self) -> str:
        """What identifies the model: vectors of two names are never compared."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """How its cosines become scores; None if nobody has calibrated it."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Returns a vector for each text; raises Unavailable, with advice, if it cannot.

        Raises TextRefused if it does not take one of them.
        """
        ...

    async def close(self) -> None:
        """Frees what it holds."""
        ...
