"""Rows of the memories that go with a plan when it is purged."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from soorma_platform.engine.commands import MANY, Need
from soorma_platform.engine.rows.passages import PassageRow

Outliving: TypeAlias = Literal["all", "knowledge", "promoted"]
"""The memories that outlive a purged plan: all, or without interactions, or what was promoted."""


class PlanMemoriesNeed(Need):
    """Up to `limit` memories of a plan that do not outlive it."""

    plan_id: str
    outliving: Outliving
    limit: int

    @property
    def rows(self) -> int:
        return MANY


class PlanMemoriesFound(msgspec.Struct):
    """Those memories, and how many of them are interactions."""

    passages: list[PassageRow] = []
    interactions: int = 0
