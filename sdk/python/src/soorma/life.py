"""A transaction's view of a plan's life: how far it had come when it was looked at, and its own end of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from soorma_common.errors import NotFound, PlanEnded
from soorma_common.json_text import decode
from soorma_common.names import PlanStatus
from soorma_common.operations import (
    ENDINGS,
    AnyOperation,
    Cleanup,
    Compensate,
    Complete,
    Deadline,
    Ending,
    Fork,
    argument,
    tag,
)

LOOKS = Ending | Deadline | Compensate
"""Operations whose outcome depends on whether the plan has ended."""


class Life:
    """How far a plan's life has come: as it is `known`, and as the transaction relies on it (None: it never asked)."""

    def __init__(self, known: PlanStatus | None) -> None:
        self.known = known
        self.seen: PlanStatus | None = None

    def learn(self, row: dict[str, Any] | None) -> None:
        """Takes what the platform tells of the plan, None: nothing; what was learnt first stays."""
        if self.known is None:
            self.known = "missing" if row is None else row.get("status", "active")

    def look(self) -> PlanStatus:
        """What is known, which the transaction relies on from now on."""
        self.seen = self.known or "missing"
        return self.seen


def own_status(operations: list[AnyOperation]) -> PlanStatus | None:
    """Where a transaction's own operations lead a plan; None where they leave its life as it is."""
    status: PlanStatus | None = None
    for operation in operations:
        if isinstance(operation, Cleanup | Fork):
            status = "active"
        elif isinstance(operation, Ending):
            status = ENDINGS[type(operation)]
    return status


def may_apply(plan_id: str, operations: list[AnyOperation], life: Life, late: AnyOperation) -> bool:
    """Whether an operation fits the plan's life: PlanEnded where that has ended, False if it then does nothing."""
    own = own_status(operations)
    status = own or life.look()
    if status in ("missing", "active") or (status == "failed" and isinstance(late, Compensate)):
        return True
    if isinstance(late, Ending) and late.if_active:
        return False
    when = "was ended before in this transaction" if own else "has ended before"
    raise PlanEnded(
        f"plan {plan_id!r} {when}, it is {status}: {tag(late)} too late", plan_id=plan_id, plan_status=status
    )


def told(plan_id: str, row: dict[str, Any] | None, operations: list[AnyOperation]) -> dict[str, Any]:
    """What the platform tells of a plan, with the end that a transaction's own operations give it."""
    if row is None and not operations:
        raise NotFound(f"there is no plan {plan_id!r}, or nothing is left of it", plan_id=plan_id)
    own = own_status(operations)
    if own is None and row is not None:
        return row
    now = datetime.now(UTC).isoformat()
    new = {
        "planId": plan_id,
        "revision": 0,
        "keys": 0,
        "actions": 0,
        "sizeBytes": 0,
        "createdAt": now,
        "updatedAt": now,
    }
    kept = {name: value for name, value in (row or new).items() if name not in ("endedAt", "result", "reason")}
    return {**kept, "status": own or "active", **_end(operations, own, now)}


def _end(operations: list[AnyOperation], own: PlanStatus | None, now: str) -> dict[str, Any]:
    if own in (None, "active"):
        return {}
    ending = [operation for operation in operations if isinstance(operation, Ending)][-1]
    if isinstance(ending, Complete):
        return {"endedAt": now, "result": decode(argument(ending) or "null")}
    return {"endedAt": now, "reason": getattr(ending, "reason", "")}
