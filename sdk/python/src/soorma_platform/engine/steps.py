"""Steps: what a handler did outside is recorded at once, for the attempts of its event that may follow."""

from __future__ import annotations

import msgspec

from soorma_common.errors import Fenced
from soorma_common.json_text import check
from soorma_common.limits import Limits
from soorma_common.names import Scope, check_name
from soorma_platform.engine.rows import Decision, Needs, Snapshot, StepRow


class Step(msgspec.Struct):
    """The result of a step, as JSON text, and of which delivery it is."""

    fence: str
    name: str
    occurrence: int
    result: str


def check_step(step: Step, limits: Limits) -> None:
    """Raises InvalidRequest or LimitExceeded where a step from outside is not one that can be recorded."""
    check_name("step", step.name)
    limits.check("step_bytes", len(step.result.encode()), f"the result of step {step.name!r}, in bytes,")
    check(step.result.encode(), f"the result of step {step.name!r}")


def needs_of_step(step: Step, scope: Scope) -> Needs:
    """What must be loaded before a step is recorded."""
    return Needs(scope, fence=step.fence, step=(step.name, step.occurrence))


def record(step: Step, snapshot: Snapshot, limits: Limits) -> Decision:
    """Keeps the result, the first of its name and occurrence; Fenced if the delivery is no longer this agent's."""
    delivery = snapshot.delivery
    if delivery is None:
        raise Fenced("this delivery was given to another agent, or was settled: the result of the step is not kept")
    if snapshot.recorded is not None:
        return Decision()
    count, size = snapshot.steps_so_far
    limits.check("delivery_steps", count + 1, "the number of the delivery's steps")
    total = size + len(step.result.encode())
    limits.check("delivery_step_bytes", total, "the results of the delivery's steps, in bytes,")
    row = StepRow(delivery.group_id, delivery.position, step.name, step.occurrence, snapshot.now, step.result)
    return Decision(step=row)
