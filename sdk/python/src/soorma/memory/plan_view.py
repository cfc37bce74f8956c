"""A transaction's view of one plan: what it has seen of it, and what it would change."""

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
"""The revision of what the transaction has changed and not committed yet."""
LOOKS = Ending | Deadline | Compensate
"""Operations whose outcome depends on whether the plan has ended."""


class Seen(NamedTuple):
    """What the platform held when it was read: None and 0 where the key was missing.

    Times that came with the event are in milliseconds until somebody asks for them: most handlers
    do not.
    """

    text: str | None
    revision: int
    updated_at: datetime | int
    expires_at: datetime | int | None = None


class PlanView:
    """What a transaction has seen of a plan, and what it would change.

    `keys`, `size` (bytes) and `actions` count what is known; `base` has what was read, `changed`
    the texts since (None: missing), `blind` the operations on keys that nobody has read.
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
        """or, until it is learnt, `status` is a guess"""
        self.is_status_own = False
        """its own operations led to it"""
        self.ending: AnyEnding | None = None
        self.relied_status: str | None = None
        """the status that it has to have at the commit; None: nothing depends on it"""
        texts = {}
        for key, entry in (snapshot.entries if snapshot else {}).items():
            texts[key] = text = bytes(entry.value).decode()
            self.base[key] = Seen(text, entry.revision, entry.updated_at, entry.expires_at)
        self.keys, self.size = totals_of(texts)

    def saved(self) -> dict[str, Any]:
        """Returns the view as it is now, for `restore`; on which status it relies stays, whatever becomes of it."""
        state = dict(self.__dict__)
        del state["relied_status"]
        for name in ("base", "changed", "operations", "reads"):
            state[name] = state[name].copy()
        state["blind"] = {key: list(pending) for key, pending in self.blind.items()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to what was saved, in place: other tasks of the handler hold this view while they read."""
        self.__dict__.update(state)

    def part(self, *, all_reads: bool) -> PlanCommit | None:
        """Returns its part of the commit, None if there is none; without `all_reads` it relies on what it changes."""
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
        """Whether the key's value can be told without asking the platform."""
        return key in self.changed or self.is_cleared or self.is_complete or key in self.base

    def value(self, key: str) -> str | None:
        """The key's text as the handler sees it; notes that it was read.

        Only for keys that are known.
        """
        if key in self.changed:
            return self.changed[key]
        seen = None if self.is_cleared else self.base.get(key)
        text = seen.text if seen else None
        if not self.is_cleared:
            self.reads[key] = seen.revision if seen else 0
        if key in self.blind:
            for operation in self.blind[key]:
                text = apply(operation, text)
            del self.blind[key]  # unless one of them does not fit: then the commit is to say so too
            self._put(key, text)
        return text

    def seen(self, key: str) -> Seen | None:
        """What the platform held, where that is still the key's value."""
        return None if key in self.changed else self.base.get(key)

    def names(self, committed: list[str], prefix: str) -> list[str]:
        """The keys that begin with `prefix`, in order, of those that are `committed` and its own."""
        names = {key for key in committed if key.startswith(prefix)}
        for key, text in self.changed.items():
            if text is None:
                names.discard(key)
            elif key.startswith(prefix):
                names.add(key)
        names.update(key for key in self.blind if key.startswith(prefix))
        return sorted(names)

    def own_actions(self) -> Iterator[str]:
        """The names of the actions that it adds to those that are committed."""
        names = [
            operation.name for operation in self.operations if isinstance(operation, RecordAction)
        ]
        return iter(names[len(names) - self.actions :])

    # how far its life has come

    def learn(self, row: PlanInfo | None) -> None:
        """Takes what the platform tells of the plan's status, None: nothing; what was learnt first stays."""
        if not (self.is_status_known or self.is_status_own):
            self.status, self.is_status_known = "missing" if row is None else row.status, True

    def look(self) -> None:
        """Relies on the plan's status from now on, unless it is its own."""
        if not self.is_status_own:
            self.relied_status = self.status

    def told(self, row: PlanInfo | None) -> PlanInfo:
        """What the platform tells of the plan, with the status that the transaction gives it; NotFound: nothing."""
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
        """What an earlier `set` gave the key, and was done to that since: another `set` makes it void.

        So a handler that writes a growing draft again and again commits the last, and sends no more
        than that.
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
                return []  # what came before that may matter to it
        return []

    def begin(self, fork: Fork, values: dict[str, str], limits: Limits) -> str:
        """Makes the plan a fork, of just one revision; whether it may be one is checked at the commit."""
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
        """Applies an operation that does not work on a single key, and returns its result as JSON text."""
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
        """Applies an operation on a key that makes others `void`, and returns its result as JSON text."""
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
        operation.expected_revision = None  # what was read is checked at the commit

    def _committed(self, key: str) -> str | None:
        seen = None if self.is_cleared else self.base.get(key)
        return seen.text if seen else None

    def _join(self, join: Join) -> str | None:
        """The result of a join, as it seems now.

        What was read for it is not noted: the commit checks the result.
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
            check_totals(keys, size, limits)  # where not all is known, the commit checks it
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
