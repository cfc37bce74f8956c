"""Events published by the transaction that ends a plan.

One announces the end; if the plan failed, another is the first compensation.
"""

from __future__ import annotations

from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.operations import Cancel, Complete
from soorma_platform.engine import life, sagas
from soorma_platform.engine.commands import Snapshot, Writes
from soorma_platform.engine.plans import PlanEditor
from soorma_platform.engine.publishing import publish
from soorma_platform.engine.rows.procedures import PlanOutcome


def publish_endings(
    writes: Writes, editor: PlanEditor, scope: Scope, found: Snapshot, limits: Limits
) -> None:
    """Publishes an event for each end of a plan, and counts it for the procedures it has used."""
    for ending in editor.endings:
        succeeded = None if isinstance(ending, Cancel) else isinstance(ending, Complete)
        writes.append(PlanOutcome(editor.row.plan_id, succeeded))
        event = life.ending_event(scope, editor.row.plan_id, ending, editor.cause)
        if row := publish(event, scope, found, limits, outlives=True):
            writes.append(row)


def undo(writes: Writes, editor: PlanEditor, scope: Scope, found: Snapshot) -> None:
    """Publishes the next compensation, if the plan has failed and none is under way."""
    compensations = editor.change.compensations
    if editor.row.status == "failed":
        for moved in sagas.go_on(writes, editor.row, compensations, scope, found):
            if moved not in compensations:
                compensations.append(moved)
