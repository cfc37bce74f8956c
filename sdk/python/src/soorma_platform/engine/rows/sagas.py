"""Rows of sagas: compensations that undo the work of a plan."""

from __future__ import annotations

import msgspec

from soorma_platform.engine.commands import MANY, Need


class CompensationRow(msgspec.Struct):
    """An event that undoes a part of a plan's work; it waits, was published, or is done."""

    seq: int
    event_id: str
    state: int
    envelope: str


WAITS, PUBLISHED, DONE = 0, 1, 2
"""States of a compensation."""


class Saga(msgspec.Struct):
    """The progress of a plan's compensations."""

    following: CompensationRow | None
    """the next to be published"""
    under_way: CompensationRow | None
    """the one published and not done yet"""
    count: int = 0
    """the number registered"""
    known: dict[str, str] = {}
    """envelopes, by event id, of those registered before that the commit names again"""


class SagasNeed(Need):
    """Plans that may begin to undo their work, and their progress with it."""

    plans: dict[str, set[str]]
    """with the ids of compensations about to be registered"""
    lanes: dict[str, str]
    """by plan, the lane of its events"""

    @property
    def rows(self) -> int:
        return MANY


class SagasFound(msgspec.Struct):
    """Sagas by plan: those needed, and that of the delivery's plan if it has failed."""

    of: dict[str, Saga] = {}
