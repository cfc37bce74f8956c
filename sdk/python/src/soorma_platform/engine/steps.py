"""Steps: results of outside calls, recorded at once for later attempts of their event."""

from __future__ import annotations

from soorma_common.errors import Fenced
from soorma_common.json_text import check
from soorma_common.limits import Limits
from soorma_common.names import Scope, check_name
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.deliveries import DeliveryNeed, InHand
from soorma_platform.engine.rows.steps import StepNeed, StepRow, StepsFound


class RecordStep:
    """The recording of a step's result, the first of its name and occurrence in a delivery.

    Raises InvalidRequest or LimitExceeded if it cannot be recorded; `decide` raises Fenced if the
    delivery is no longer this agent's.
    """

    def __init__(
        self, scope: Scope, fence: str, name: str, occurrence: int, result: str, *, limits: Limits
    ) -> None:
        check_name("step", name)
        limits.check("step_bytes", len(result.encode()), f"the result of step {name!r}, in bytes,")
        check(result.encode(), "the result of step {!r}", name)
        self.scope = scope
        self._fence = fence
        self._name, self._occurrence = name, occurrence
        self._result = result
        self._limits = limits

    def needs(self) -> list[Need]:
        return [DeliveryNeed(self._fence), StepNeed(self._name, self._occurrence)]

    def decide(self, found: Snapshot) -> Decision[None]:
        delivery, steps = found.part(InHand).delivery, found.part(StepsFound)
        if delivery is None:
            raise Fenced(
                "this delivery was given to another agent, or was settled: the result of the step "
                "is not kept"
            )
        if steps.recorded is not None:
            return Decision(None)
        self._limits.check("delivery_steps", steps.count + 1, "the number of the delivery's steps")
        total = steps.size + len(self._result.encode())
        self._limits.check(
            "delivery_step_bytes", total, "the results of the delivery's steps, in bytes,"
        )
        step_key = (delivery.group_id, delivery.position, self._name, self._occurrence)
        return Decision(None, [StepRow(*step_key, found.now, self._result)])
