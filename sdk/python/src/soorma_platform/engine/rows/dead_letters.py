"""Rows of dead letters: deliveries that were given up."""

from __future__ import annotations

import msgspec

from soorma_common.names import Scope
from soorma_platform.engine.commands import Need
from soorma_platform.engine.rows.plans import PlanRow


class LetterRow(msgspec.Struct):
    """A dead letter, with what decides whether its event is still handled."""

    id: int
    group_id: int
    position: int
    lane: str | None
    parked: bool
    scope: Scope
    plan_id: str | None
    type: str
    outlives: bool
    ended_plans: bool


class LetterNeed(Need):
    """A dead letter about to be replayed."""

    number: int


class LetterFound(msgspec.Struct):
    """The dead letter, its plan, and the subscription of its group that takes its event now."""

    letter: LetterRow | None = None
    plan: PlanRow | None = None
    subscription_id: int | None = None


class LetterReplayed(msgspec.Struct):
    """A replayed dead letter, ready `at` an uptime unless others precede it in its lane."""

    letter: LetterRow
    subscription_id: int
    at: int
