"""The rules of one plan: limits, endings, compare-and-set, cleanup, forks, actions, joins.

The engine decides commits by them, and a transaction returns results by them before its commit. So
both return the same results, and raise the same errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import UNSET

from soorma_common.errors import Conflict, InvalidRequest, NotFound, PlanEnded
from soorma_common.limits import Limits
from soorma_common.operations import (
    ENDINGS,
    AnyEnding,
    AnyLifeOperation,
    AnyOperation,
    Append,
    Cancel,
    Compensate,
    Complete,
    Ending,
    Extend,
    Fail,
    Join,
    Merge,
    Set,
    apply,
    result,
    tag,
)

VALUED = (Set, Append, Extend, Merge)
"""Operations that carry a value."""


class PlanCounts(Protocol):
    """A plan as its rules see it: counts, size in bytes, and status."""

    plan_id: str
    keys: int
    size: int
    actions: int
    status: str


def size_of(text: str) -> int:
    """Returns the size of a text in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def totals_of(values: Mapping[str, str]) -> tuple[int, int]:
    """Returns the number of keys and the size in bytes of a plan that holds these values."""
    return len(values), sum(map(size_of, values)) + sum(map(size_of, values.values()))


def check_argument(operation: AnyOperation, limits: Limits) -> None:
    """Raises LimitExceeded if an operation carries a value that no plan may hold."""
    if isinstance(operation, VALUED):
        if (size := len(bytes(operation.value))) > limits.value_bytes:
            limits.check("value_bytes", size, "the value for {!r}, in bytes,", operation.key)
    elif isinstance(operation, Complete) and operation.result is not UNSET:
        limits.check("value_bytes", len(bytes(operation.result)), "the plan's result, in bytes,")
    elif isinstance(operation, Fail | Cancel):
        limits.check("value_bytes", len(operation.reason.encode()), "the reason, in bytes,")


def check_value(key: str, size: int, limits: Limits) -> None:
    """Raises LimitExceeded if an operation makes a value too large."""
    if size > limits.value_bytes:
        limits.check("value_bytes", size, "the value of {!r}, in bytes,", key)


def check_totals(keys: int, size: int, limits: Limits) -> None:
    """Raises LimitExceeded if a plan has too many keys, or is too large."""
    # One comparison each first, as this runs at every change.
    if keys > limits.plan_keys or size > limits.plan_bytes:
        limits.check("plan_keys", keys, "the number of the plan's keys")
        limits.check("plan_bytes", size, "the plan's size in bytes")


def conflict(
    plan_id: str, key: str, expected: int, current: int, *, uncommitted: bool = False
) -> Conflict:
    """Returns the error of a failed compare-and-set.

    A key that the transaction itself has changed has no revision yet: 0.
    """
    zero = "not committed yet" if uncommitted else "missing"
    return Conflict(
        f"key {key!r} of plan {plan_id!r} is at revision {current}, not {expected}"
        f"{f' (0: {zero})' if 0 in (current, expected) else ''}",
        plan_id=plan_id,
        key=key,
        expected_revision=expected,
        current_revision=current,
    )


def check_active(
    plan_id: str, status: str, operation: AnyLifeOperation, *, ended_here: bool
) -> bool:
    """Returns True if an operation takes effect, False if the plan has ended and it is `if_active`.

    Any other operation after the end raises PlanEnded, except a compensation for a failed plan.
    `ended_here` is true if the end is in the same transaction.
    """
    if status in ("active", "missing") or (
        status == "failed" and isinstance(operation, Compensate)
    ):
        return True
    if isinstance(operation, Ending) and operation.if_active:
        return False
    when = "was ended before in this transaction" if ended_here else "has ended before"
    raise PlanEnded(
        f"plan {plan_id!r} {when}, it is {status}: {tag(operation)} too late",
        plan_id=plan_id,
        plan_status=status,
    )


def end(plan: PlanCounts, ending: AnyEnding, *, ended_here: bool) -> bool:
    """Ends a plan. If it has ended before, returns False with `if_active`, or raises PlanEnded."""
    if not check_active(plan.plan_id, plan.status, ending, ended_here=ended_here):
        return False
    plan.status = ENDINGS[type(ending)]
    return True


def clear(plan: PlanCounts) -> None:
    """Empties a plan, and makes it active again."""
    plan.keys = plan.size = plan.actions = 0
    plan.status = "active"


def number_action(plan: PlanCounts, limits: Limits) -> int:
    """Counts one more action of the plan, and returns its number, from 1."""
    plan.actions += 1
    limits.check("plan_actions", plan.actions, "the number of the plan's actions")
    return plan.actions


def missing_plan(plan_id: str) -> NotFound:
    """Returns the error for a plan that was never written, or of which nothing is left."""
    return NotFound(f"there is no plan {plan_id!r}, or nothing is left of it", plan_id=plan_id)


def late_fork(plan_id: str) -> InvalidRequest:
    """Returns the error for a fork that is not the first operation on its plan."""
    return InvalidRequest(f"plan {plan_id!r} begins with its fork: no operation goes before that")


def assume(join: Join, current: str | None) -> str | None:
    """Returns a join's result as it is now.

    It is stored in the join for `check_assumed` at the commit.
    """
    answer = result(join, current, apply(join, current))
    join.assumed = answer == "true"
    return answer


def check_assumed(plan_id: str, join: Join, before: str | None, after: str | None) -> None:
    """Raises Conflict if a join's result is not the one that its handler has relied on.

    Others have arrived since, or are missing now.
    """
    if join.assumed is not None and (result(join, before, after) == "true") is not join.assumed:
        raise Conflict(
            f"the join at {join.key!r} of plan {plan_id!r} was {'' if join.assumed else 'not '}to "
            "be completed by "
            f"{join.arrival!r} when its handler looked, and others have arrived since",
            plan_id=plan_id,
            key=join.key,
        )
