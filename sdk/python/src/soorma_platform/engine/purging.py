"""Forgetting of memories with their plan, when that is purged."""

from __future__ import annotations

from typing import NamedTuple

from soorma_common.names import Scope
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.passages import ForgottenPassage
from soorma_platform.engine.rows.plan_memories import (
    Outliving,
    PlanMemoriesFound,
    PlanMemoriesNeed,
)
from soorma_platform.engine.rows.plans import PlansFound, PlansNeed


class Gone(NamedTuple):
    """How many memories went."""

    passages: int
    interactions: int


class ForgetWithPlan:
    """The forgetting of up to `limit` memories of a plan that is to be purged.

    It does nothing if the plan lives again, or ended later than the uptime `before`. What was
    derived from them stays, as all that comes from elsewhere does.
    """

    def __init__(
        self, scope: Scope, plan_id: str, before: int, outliving: Outliving, limit: int
    ) -> None:
        self.scope = scope
        self._plan_id = plan_id
        self._before = before
        self._memories = PlanMemoriesNeed(plan_id, outliving, limit)

    def needs(self) -> list[Need]:
        return [PlansNeed({self._plan_id: set()}), self._memories]

    def decide(self, found: Snapshot) -> Decision[Gone]:
        ended = found.part(PlansFound).states[self._plan_id].row.ended_uptime
        if ended is None or ended > self._before:
            return Decision(Gone(0, 0))
        memories = found.part(PlanMemoriesFound)
        rows = [ForgottenPassage(row) for row in memories.passages]
        return Decision(Gone(len(rows) - memories.interactions, memories.interactions), [*rows])
