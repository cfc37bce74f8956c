"""Rows of steps: what a handler has done outside the platform."""

from __future__ import annotations

import msgspec

from soorma_platform.engine.commands import Need


class StepRow(msgspec.Struct):
    """The result of a step, as JSON text, in the handling of an event by a group."""

    group_id: int
    position: int
    name: str
    occurrence: int
    at: int
    result: str


class StepNeed(Need):
    """A step about to be recorded for the delivery in hand."""

    name: str
    occurrence: int


class StepsFound(msgspec.Struct):
    """Steps of the delivery in hand."""

    recorded: str | None = None
    """the result of the needed step, if it was recorded before"""
    count: int = 0
    size: int = 0
    """of all results, in bytes"""
