"""The expected responses about a user's plans over HTTP: the properties' model, with a history."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import msgspec
from plans_model import Change, Plan, sweep

from soorma_common.memory import PlanCommit
from soorma_common.operations import Cleanup, Delete, KeyOperation, argument, tag

EXPIRED = 10.0
"""A time of the model after which short lives are over, and lives of hours are not."""


@dataclass(frozen=True)
class Row:
    """A row of the history."""

    revision: int
    op: str
    key: str | None = None
    argument: Any = None


@dataclass
class ToldPlan(Plan):
    """A plan, and the rows of its history since its horizon."""

    rows: list[Row] = field(default_factory=list)

    def clear(self) -> None:
        super().clear()
        self.rows = []

    @property
    def horizon(self) -> int:
        """The oldest revision whose values can be read."""
        return min(self.past)

    @property
    def is_listed(self) -> bool:
        """True if the user's listing has it."""
        return bool(self.keys or self.actions)

    def revision_of(self, key: str) -> int:
        """The key's revision, 0 without the key."""
        return self.keys[key].revision if key in self.keys else 0

    def check(self, part: PlanCommit) -> None:
        """Raises Conflict unless the plan is as a part of a commit has read it."""
        Change(copy.deepcopy(self), 0.0).check(part)

    def changed_by(self, part: PlanCommit) -> tuple[ToldPlan, list[Any]]:
        """The plan after a part of a commit, and the results of its operations.

        Raises Conflict or WrongType if it is rejected.
        """
        after = copy.deepcopy(self)
        return after, _Told(after, 0.0).run(part)

    def expired(self) -> ToldPlan:
        """The plan after upkeep has swept what lives for less than EXPIRED."""
        after = copy.deepcopy(self)
        gone = after.keys.keys() - after.live(EXPIRED).keys()
        after.rows += [Row(after.revision + 1, "expire", key) for key in gone]
        sweep(after, EXPIRED)
        return after


class _Told(Change):
    """A change that is written into the history."""

    plan: ToldPlan

    def _apply(self, operation: Any) -> Any:
        name = operation.key if isinstance(operation, KeyOperation) else None
        changes = not isinstance(operation, Delete) or operation.key in self.plan.keys
        result = super()._apply(operation)
        if changes:
            text = None if isinstance(operation, Cleanup | Delete) else argument(operation)
            value = None if text is None else msgspec.json.decode(text)
            self.plan.rows.append(Row(self.plan.revision + 1, tag(operation), name, value))
        return result
