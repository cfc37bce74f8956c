"""Rows of passages that seem to state the same."""

from __future__ import annotations

import msgspec

from soorma_common.causes import Cause


class Likeness(msgspec.Struct):
    """A passage and an older one near to it, by number, with the cosine of their vectors."""

    passage: int
    other: int
    cosine: float


class AlikeRow(msgspec.Struct):
    """A passage that seems to state the same as another, and where it comes from."""

    id: str
    cosine: float
    source: str | None
    cause: Cause
    origins: str
