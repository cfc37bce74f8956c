"""A model of a user's plans, in plain dicts."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from soorma_common.errors import Conflict, WrongType
from soorma_common.json_text import decode
from soorma_common.memory import PlanCommit
from soorma_common.operations import (
    Append,
    Cleanup,
    Delete,
    ExpirePlan,
    Extend,
    Increment,
    KeyOperation,
    Merge,
    RecordAction,
    Set,
)


@dataclass
class Key:
    """A key's value, revision and time of expiry."""

    value: Any
    revision: int
    expires_at: float | None = None


@dataclass
class Plan:
    """A plan; `past` has the values after each revision that can be requested."""

    revision: int = 0
    keys: dict[str, Key] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    expires_at: float | None = None
    past: dict[int, dict[str, Any]] = field(default_factory=lambda: {0: {}})

    def live(self, now: float) -> dict[str, Key]:
        """Returns the keys that a reader sees."""
        if self.is_over(now):
            return {}
        return {
            name: key
            for name, key in self.keys.items()
            if key.expires_at is None or key.expires_at > now
        }

    def is_over(self, now: float) -> bool:
        """True if the plan's own time to live has run out."""
        return self.expires_at is not None and self.expires_at <= now

    def clear(self) -> None:
        """Removes everything but the revision."""
        self.keys, self.actions, self.expires_at, self.past = {}, [], None, {}

    def close(self, now: float) -> None:
        """Ends a commit: adds a revision, and its values to the past."""
        self.revision += 1
        self.past[self.revision] = {
            name: copy.deepcopy(key.value) for name, key in self.live(now).items()
        }


class Change:
    """A commit on one plan."""

    def __init__(self, plan: Plan, now: float) -> None:
        self.plan = plan
        self.now = now
        self.changed = plan.is_over(now)
        if self.changed:
            plan.clear()

    def check(self, part: PlanCommit) -> None:
        """Raises Conflict unless the plan is as the commit has read it."""
        if part.expected_revision not in (None, self.plan.revision):
            raise Conflict("plan")
        for key, revision in part.reads.items():
            self._expect(key, revision)

    def run(self, part: PlanCommit) -> list[Any]:
        """Runs the commit and returns the results of its operations."""
        self.check(part)
        if part.operations:
            self.changed |= forget_expired(self.plan, self.now)
        results = [self._apply(operation) for operation in part.operations]
        if self.changed:
            self.plan.close(self.now)
        return results

    def _expect(self, name: str, revision: int) -> None:
        key = self.plan.live(self.now).get(name)
        if (key.revision if key else 0) != revision:
            raise Conflict(name)

    def _apply(self, operation: Any) -> Any:
        if isinstance(operation, KeyOperation):
            return self._apply_to_key(operation)
        self.changed = True
        match operation:
            case RecordAction(name=name):
                self.plan.actions.append(name)
            case ExpirePlan(ttl=ttl):
                self.plan.expires_at = None if ttl is None else self.now + ttl
            case Cleanup():
                count = len(self.plan.live(self.now))
                self.plan.clear()
                return count
        return None

    def _apply_to_key(self, operation: Any) -> Any:
        name = operation.key
        if operation.expected_revision is not None:
            self._expect(name, operation.expected_revision)
        key = self.plan.live(self.now).get(name)
        if isinstance(operation, Delete):
            if key:
                del self.plan.keys[name]
                self.changed = True
            return None if operation.blind else key is not None
        value = _changed(operation, key)
        expires_at = key.expires_at if key else None
        if isinstance(operation, Set):
            expires_at = None if operation.ttl is None else self.now + operation.ttl
        self.plan.keys[name] = Key(value, self.plan.revision + 1, expires_at)
        self.changed = True
        return None if operation.blind or isinstance(operation, Set) else copy.deepcopy(value)


def _changed(operation: Any, key: Key | None) -> Any:
    given = decode(bytes(operation.value)) if hasattr(operation, "value") else None
    match operation:
        case Increment(by=by):
            return _fitting(key, 0, int | float) + by
        case Append():
            return [*_fitting(key, [], list), given]
        case Extend():
            return [*_fitting(key, [], list), *given]
        case Merge():
            return {**_fitting(key, {}, dict), **given}
    return given


def _fitting(key: Key | None, default: Any, kind: Any) -> Any:
    value = key.value if key else default
    if isinstance(value, bool) or not isinstance(value, kind):
        raise WrongType("does not fit")
    return value


def forget_expired(plan: Plan, now: float) -> bool:
    """Removes expired keys, as a commit with an operation does; True if there were any."""
    gone = plan.keys.keys() - plan.live(now).keys()
    for name in gone:
        del plan.keys[name]
    return bool(gone)


def sweep(plan: Plan, now: float) -> None:
    """Does to a plan what upkeep does."""
    if plan.is_over(now):
        plan.clear()
        plan.close(now)
    elif forget_expired(plan, now):
        plan.close(now)
