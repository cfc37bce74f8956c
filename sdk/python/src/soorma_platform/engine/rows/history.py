"""Rows of a plan's history that is trimmed."""

from __future__ import annotations

import msgspec

from soorma_platform.engine.commands import MANY, Need
from soorma_platform.engine.rows.plans import HistoryRow, PlanRow


class OldestNeed(Need):
    """The oldest rows of the history of a plan's incarnation, but for actions: about `limit`, of whole revisions.

    They come to about `size` bytes at most.
    """

    plan: int
    incarnation: int
    limit: int
    size: int

    @property
    def rows(self) -> int:
        return MANY


class OldestFound(msgspec.Struct):
    """A plan, the oldest rows of its history, and the values of their keys before them."""

    plan: PlanRow | None = None
    rows: list[HistoryRow] = []
    bases: dict[str, str | None] = {}


class TrimmedHistory(msgspec.Struct):
    """A history without its rows up to a revision: bytes that are freed, and values of its keys as of then."""

    plan: int
    incarnation: int
    until: int
    freed: int
    values: dict[str, str | None]
