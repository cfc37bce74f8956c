"""The read set and the write set of a transaction on one plan."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from msgspec.structs import replace

from soorma_common.delivery import PlanSnapshot
from soorma_common.errors import InvalidRequest
from soorma_common.json_text import decode
from soorma_common.limits import Limits
from soorma_common.memory import PlanCommit, PlanInfo
from soorma_common.names import PlanStatus
from soorma_common.operations import (
    AnyEnding,
    AnyKeyOperation,
    AnyOperation,
    Cleanup,
    Compensate,
    Complete,
    Deadline,
    Ending,
    Fork,
    Join,
    KeyOperation,
    PlaceOperation,
    RecordAction,
    Set,
    apply,
    argument,
    result,
)
from soorma_common.plan_rules import (
    assume,
    check_active,
    check_totals,
    check_value,
    clear,
    conflict,
    end,
    late_fork,
    missing_plan,
    number_action,
    size_of,
    totals_of,
)

UNCOMMITTED = 0
"""The revision of keys that the transaction has changed and not committed yet."""
LOOKS = Ending | Deadline | Compensate
"""Operations whose outcome depends on whether the plan has ended."""


class Seen(NamedTuple):
    """A key as the platform held it when it was read: None and 0 if it was missing.

    Times that came with the event stay in milliseconds until they are needed, as most never are.
    """

    text: str | None
    revision: int
    updated_at: datetime | int
    expires_at: datetime | int | None = None


class PlanView:
    """A plan as a transaction has read it, with the changes that it would make.

    `keys`, `size` (bytes) and `actions` count what is known; `base` holds what was read, `changed`
    the texts since (None: missing), `blind` the operations on keys that were not read.
    """

    def __init__(self, plan_id: str, snapshot: PlanSnapshot | None = None) -> None:
        self.plan_id = plan_id
        self.base: dict[str, Seen] = {}
        self.changed: dict[str, str | None] = {}
        self.blind: dict[str, list[AnyKeyOperation]] = {}
        self.operations: list[AnyOperation] = []
        self.reads: dict[str, int] = {}
        self.is_cleared = False
        self.is_complete = snapshot is not None
        self.actions = 0
        self.status: str = "missing" if snapshot is None else snapshot.status
        self.is_status_known = snapshot is not None
        """otherwise `status` is a guess until it is learnt"""
        self.is_status_own = False
        """`status` results from the transaction's own operations"""
        self.ending: AnyEnding | None = None
        self.relied_status: str | None = None
        """the status that the plan must have at the commit; None: any"""
        texts = {}
        for key, entry in (snapshot.entries if snapshot else {}).items():
            texts[key] = text = bytes(entry.value).decode()
            self.base[key] = Seen(text, entry.revision, entry.updated_at, entry.expires_at)
        self.keys, self.size = totals_of(texts)

    def saved(self) -> dict[str, Any]:
        """Returns the view as it is now, for `restore`; `relied_status` is never undone."""
        state = dict(self.__dict__)
        del state["relied_status"]
        for name in ("base", "changed", "operations", "reads"):
            state[name] = state[name].copy()
        state["blind"] = {key: list(pending) for key, pending in self.blind.items()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Restores what was saved, in place: other tasks of the handler may hold this view."""
        self.__dict__.update(state)

    def part(self, *, all_reads: bool) -> PlanCommit | None:
        """Returns the plan's part of the commit, None if empty.

        Without `all_reads` it relies only on keys that it also writes, and on the plan's status
        only if an operation depends on that.
        """
        reads, status = self.reads, self.relied_status
        if not all_reads:
            written = {op.key for op in self.operations if isinstance(op, KeyOperation)}
            reads = {key: revision for key, revision in reads.items() if key in written}
            if not any(isinstance(op, LOOKS) for op in self.operations):
                status = None
        if not (self.operations or reads or status):
            return None
        return PlanCommit(
            self.plan_id, self.operations, reads, expected_status=cast("PlanStatus | None", status)
        )

    # what it holds

    def knows(self, key: str) -> bool:
        """True if the key's value is known without a request to the platform."""
        return key in self.changed or self.is_cleared or self.is_complete or key in self.base

    def value(self, key: str) -> str | None:
        """Returns a known key's text as the handler sees it, and records the read."""
        if key in self.changed:
            return self.changed[key]
        seen = None if self.is_cleared else self.base.get(key)
        text = seen.text if seen else None
        if not self.is_cleared:
            self.reads[key] = seen.revision if seen else 0
        if key in self.blind:
            for operation in self.blind[key]:
                text = apply(operation, text)
            # not reached if one of them does not fit: then the commit fails on it too
            del self.blind[key]
            self._put(key, text)
        return text

    def seen(self, key: str) -> Seen | None:
        """Returns the key as the platform held it, if that is still its value."""
        return None if key in self.changed else self.base.get(key)

    def names(self, committed: list[str], prefix: str) -> list[str]:
        """Returns the keys, `committed` and its own, that begin with `prefix`, in order."""
        names = {key for key in committed if key.startswith(prefix)}
        for key, text in self.changed.items():
            if text is None:
                names.discard(key)
            elif key.startswith(prefix):
                names.add(key)
        names.update(key for key in self.blind if key.startswith(prefix))
        return sorted(names)

    def own_actions(self) -> Iterator[str]:
        """The names of the actions that it adds to the committed ones."""
        names = [
            operation.name for operation in self.operations if isinstance(operation, RecordAction)
        ]
        return iter(names[len(names) - self.actions :])

    # how far its life has come

    def learn(self, row: PlanInfo | None) -> None:
        """Learns the plan's status from the platform (None: no plan); the first one stays."""
        if not (self.is_status_known or self.is_status_own):
            self.status, self.is_status_known = "missing" if row is None else row.status, True

    def look(self) -> None:
        """Relies on the plan's status from now on, unless its own operations gave it."""
        if not self.is_status_own:
            self.relied_status = self.status

    def told(self, row: PlanInfo | None) -> PlanInfo:
        """Returns `row` with the transaction's status of the plan; NotFound if there is neither."""
        if row is None and not self.operations:
            raise missing_plan(self.plan_id)
        if row is not None and not self.is_status_own:
            return row
        now = datetime.now(UTC)
        seen = row or PlanInfo(self.plan_id, 0, 0, 0, 0, now, now)
        if self.ending is None:
            return replace(seen, status="active", ended_at=None, result=None, reason=None)
        outcome = decode(argument(self.ending) or "null")
        result, reason = (outcome, None) if isinstance(self.ending, Complete) else (None, outcome)
        return replace(seen, status=self.status, ended_at=now, result=result, reason=reason)

    # what it changes

    def superseded(self, key: str) -> list[AnyOperation]:
        """Returns the key's last `set` and its operations since, which another `set` makes void.

        So a handler that rewrites a growing draft again and again sends and commits only the last.
        """
        if key not in self.changed:
            return []
        for place in range(len(self.operations) - 1, -1, -1):
            operation = self.operations[place]
            if isinstance(operation, Set) and operation.key == key:
                return [
                    one
                    for one in self.operations[place:]
                    if isinstance(one, KeyOperation) and one.key == key
                ]
            if not isinstance(operation, KeyOperation | RecordAction):
                return []  # this one may depend on those before
        return []

    def begin(self, fork: Fork, values: dict[str, str], limits: Limits) -> str:
        """Makes the plan a fork of one revision; the commit checks that this is allowed."""
        if self.operations:
            raise late_fork(self.plan_id)
        keys, size = totals_of(values)
        check_totals(keys, size, limits)
        self._clear()
        self.keys, self.size = keys, size
        self.changed.update(values)
        self.operations.append(fork)
        return str(fork.revision)

    def apply(self, operation: AnyOperation, limits: Limits) -> str | None:
        """Applies an operation that has no single key; returns its result as JSON text."""
        answer: str | None = None
        match operation:
            case Cleanup():
                answer = str(
                    sum(
                        self.value(key) is not None
                        for key in {*self.base, *self.changed, *self.blind}
                    )
                )
                self._clear()
            case PlaceOperation(key=key):
                raise InvalidRequest(
                    f"the place at {key!r} would be seen after the commit only: take it outside of "
                    "it"
                )
            case RecordAction():
                number_action(self, limits)
            case Ending():
                if not self._end(operation):
                    return "false"
                answer = "true"
            case Deadline() | Compensate():
                self.look()
                check_active(self.plan_id, self.status, operation, ended_here=self.is_status_own)
        self.operations.append(operation)
        return answer

    def apply_to_key(
        self, operation: AnyKeyOperation, void: list[AnyOperation], limits: Limits
    ) -> str | None:
        """Applies a key's operation, which makes others `void`; returns its result as JSON text."""
        key = operation.key
        answer: str | None = None
        if operation.expected_revision is not None:
            self._check_revision(key, operation)
        if isinstance(operation, Set):
            self._put_checked(key, apply(operation, None), limits)
            self.blind.pop(key, None)
        elif operation.blind and key not in self.changed:
            self.blind.setdefault(key, []).append(operation)
        elif isinstance(operation, Join) and key not in self.changed and key not in self.reads:
            answer = self._join(operation)
        else:
            before = self.value(key)
            after = apply(operation, before)
            self._put_checked(key, after, limits)
            answer = None if operation.blind else result(operation, before, after)
        if void:
            self.operations = [
                one for one in self.operations if not any(one is other for other in void)
            ]
        self.operations.append(operation)
        return answer

    def _end(self, ending: AnyEnding) -> bool:
        self.look()
        if not end(self, ending, ended_here=self.is_status_own):
            return False
        self.ending, self.is_status_own = ending, True
        return True

    def _check_revision(self, key: str, operation: AnyKeyOperation) -> None:
        expected = operation.expected_revision or 0
        is_own = key in self.changed or key in self.blind or self.is_cleared
        seen = self.base.get(key)
        current = UNCOMMITTED if is_own or seen is None else seen.revision
        if not is_own:
            self.reads[key] = current
        if current != expected:
            uncommitted = key in self.blind or self.changed.get(key) is not None
            raise conflict(self.plan_id, key, expected, current, uncommitted=uncommitted)
        operation.expected_revision = None  # the commit checks the read instead

    def _committed(self, key: str) -> str | None:
        seen = None if self.is_cleared else self.base.get(key)
        return seen.text if seen else None

    def _join(self, join: Join) -> str | None:
        """Returns the expected result of a join.

        The read is not recorded: the commit checks the result instead.
        """
        text = self._committed(join.key)
        pending = self.blind.setdefault(join.key, [])
        for operation in pending:
            text = apply(operation, text)
        answer = assume(join, text)
        pending.append(join)
        return answer

    def _put_checked(self, key: str, text: str | None, limits: Limits) -> None:
        if text is None:
            self._put(key, None)
            return
        check_value(key, size_of(text), limits)
        keys, size = self._totals_with(key, text)
        if self.is_complete or self.is_cleared:
            check_totals(keys, size, limits)  # if not all is known, the commit checks them
        self.keys, self.size = keys, size
        self.changed[key] = text

    def _put(self, key: str, text: str | None) -> None:
        self.keys, self.size = self._totals_with(key, text)
        self.changed[key] = text

    def _totals_with(self, key: str, text: str | None) -> tuple[int, int]:
        old = self.changed[key] if key in self.changed else self._committed(key)
        keys, size = self.keys, self.size
        if old is not None:
            keys, size = keys - 1, size - size_of(key) - size_of(old)
        if text is not None:
            keys, size = keys + 1, size + size_of(key) + size_of(text)
        return keys, size

    def _clear(self) -> None:
        clear(self)
        self.changed.clear()
        self.blind.clear()
        self.ending = None
        self.is_cleared = self.is_status_own = True
