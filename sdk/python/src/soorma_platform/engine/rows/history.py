"""Rows for trimming a plan's history."""

from __future__ import annotations

import msgspec

from soorma_platform.engine.commands import MANY, Need
from soorma_platform.engine.rows.plans import HistoryRow, PlanRow


class OldestNeed(Need):
    """The oldest rows of the history of a plan's incarnation, except actions.

    They are about `limit` rows of whole revisions, and at most about `size` bytes.
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
    """A history without its rows up to the revision `until`.

    `freed` are the bytes removed, `values` those of its keys as of then.
    """

    plan: int
    incarnation: int
    until: int
    freed: int
    values: dict[str, str | None]
