"""Rows of sagas: what undoes the work of a plan."""

from __future__ import annotations

import msgspec

from soorma_platform.engine.commands import MANY, Need


class CompensationRow(msgspec.Struct):
    """An event that undoes a part of a plan's work; it waits, was published, or was done."""

    seq: int
    event_id: str
    state: int
    envelope: str


WAITS, PUBLISHED, DONE = 0, 1, 2
"""States of a compensation."""


class Saga(msgspec.Struct):
    """The state of the undoing of a failed plan."""

    following: CompensationRow | None
    """the next to be published"""
    under_way: CompensationRow | None
    """the one that was published and is not done"""
    count: int = 0
    """how many are registered"""
    known: dict[str, str] = {}
    """envelopes, by event id, of those that are registered already and that the commit names
    again"""


class SagasNeed(Need):
    """Plans that may begin to undo their work, and how far they have come with that."""

    plans: dict[str, set[str]]
    """with the ids of compensations about to be registered"""
    lanes: dict[str, str]
    """by plan, the lane of its events"""

    @property
    def rows(self) -> int:
        return MANY


class SagasFound(msgspec.Struct):
    """Sagas by plan: of those asked for, and of the delivery's if it has failed."""

    of: dict[str, Saga] = {}
