"""What follows in the transaction that ends a plan: the event that tells of it, and the first that undoes its work."""

from __future__ import annotations

from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_platform.engine import life, sagas
from soorma_platform.engine.plans import PlanEditor
from soorma_platform.engine.publishing import publish
from soorma_platform.engine.rows import Decision, Snapshot


def tell(decision: Decision, editor: PlanEditor, scope: Scope, snapshot: Snapshot, limits: Limits) -> None:
    """Publishes the events that tell of the ends of a plan."""
    for ending in editor.endings:
        told = life.told(scope, editor.row.plan_id, ending, editor.cause)
        if row := publish(told, scope, snapshot, limits, outlives=True):
            decision.events.append(row)


def undo(decision: Decision, editor: PlanEditor, scope: Scope, snapshot: Snapshot) -> None:
    """Publishes the next compensation, if the plan has failed and none is under way."""
    compensations = editor.change.compensations
    if editor.row.status == "failed":
        for moved in sagas.go_on(decision, editor.row, compensations, scope, snapshot):
            if moved not in compensations:
                compensations.append(moved)
