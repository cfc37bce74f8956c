"""Rows of passages that seem to state the same."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Likeness(msgspec.Struct):
    """A passage and an older one near to it, by number, with the cosine of their vectors."""

    passage: int
    other: int
    cosine: float


class AlikeRow(NamedTuple):
    """A passage that seems to state the same as another."""

    id: str
    cosine: float
