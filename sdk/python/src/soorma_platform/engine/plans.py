"""The editor of a plan: applies the operations of a commit to it."""

from __future__ import annotations

from collections.abc import Iterable

from soorma_common.causes import Cause
from soorma_common.errors import Conflict
from soorma_common.events import Envelope, Timer, encode_envelope
from soorma_common.limits import Limits
from soorma_common.operations import (
    Acquire,
    AnyEnding,
    AnyKeyOperation,
    AnyOperation,
    Append,
    Cancel,
    Cleanup,
    Compensate,
    Deadline,
    Delete,
    Ending,
    ExpirePlan,
    Extend,
    Fork,
    Join,
    KeyOperation,
    RecordAction,
    Release,
    Set,
    apply,
    argument,
    result,
    tag,
)
from soorma_common.plan_rules import (
    check_active,
    check_assumed,
    check_totals,
    check_value,
    clear,
    conflict,
    end,
    number_action,
    size_of,
)
from soorma_platform.engine import forks, semaphores
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows.plans import EntryRow, HistoryRow, LoadedPlan, PlanChange
from soorma_platform.engine.rows.sagas import WAITS, CompensationRow

SEQ_ROOM = 10_000
"""More than the operations of a commit, so that compensations are numbered as registered."""
SPLICE = 16
"""The factor by which extending a value takes less processor time than reading one."""
# Tuples made once: a union at each check is slow.
_READ_NOTHING, _SPLICED = (Set, Delete), (Append, Extend)
TRIM_REVISIONS = 1_000
"""Revisions by which a history may exceed its limit: trimming it in strides costs less."""
ROW_OVERHEAD = 100
"""Bytes counted for a history row in addition to its argument."""


class PlanEditor:
    """An editor that applies operations to a plan in order and collects what to write.

    The plan's revision rises by one with the first operation that changes anything, and no further.
    """

    def __init__(
        self,
        state: LoadedPlan,
        *,
        moment: Moment,
        limits: Limits,
        cause: Cause,
        group_id: int | None = None,
    ) -> None:
        self._moment = moment
        self._now = now = moment.wall
        self._limits = limits
        self.cause = cause
        self._group_id = group_id
        self._entries = state.entries
        self._expired = state.expired
        self._live_keys = state.live_keys
        self._hidden_keys, self._hidden_bytes = state.hidden
        self._work = 0
        self._origin = state.origin
        self._closing = (state.log_end, state.last_timer)
        self._before = state.row.revision
        self.row = row = state.row
        """the plan as it stands after the operations so far"""
        self.change = PlanChange(row, {}, set(), [], [], [])
        self.endings: list[AnyEnding] = []
        self.deadlines: list[Timer] = []
        self._is_over = row.expires_at is not None and row.expires_at <= now

    @property
    def sequence(self) -> str:
        """A text that sorts after all its earlier values for the plan."""
        return f"{self._before + 1:016}.{len(self.change.history):05}"

    def later(self, seconds: float) -> int:
        """Returns the time `seconds` from now, in ms."""
        return self._now + round(seconds * 1000)

    def text(self, key: str) -> str | None:
        """Returns the key's value as a reader sees it; None if it is missing or has expired."""
        entry = self._live(key)
        return entry.value if entry else None

    def keys_from(self, prefix: str) -> list[str]:
        """Returns, in order, the live keys that begin with `prefix`, of those loaded or written."""
        return sorted(key for key in self._entries if key.startswith(prefix) and self._live(key))

    def prolong(self, key: str, seconds: float, until: int | None = None) -> None:
        """Lets a key expire `seconds` from now, or at `until` if that is earlier.

        The key stays at its revision, so readers and watchers see no change.
        """
        if (entry := self._live(key)) is not None:
            later = self.later(seconds)
            expires_at = later if until is None else min(later, until)
            row = EntryRow(key, entry.value, entry.revision, entry.updated_at, expires_at)
            self._entries[key] = self.change.puts[key] = row

    def revision_of(self, key: str) -> int:
        """Returns the key's revision as a reader sees it; 0 if it is missing or has expired."""
        entry = self._live(key)
        return entry.revision if entry else 0

    def check_reads(self, reads: dict[str, int], expected_revision: int | None) -> None:
        """Raises Conflict if a key, or the plan, is no longer at the revision it was read at."""
        if expected_revision is not None and expected_revision != self._before:
            raise Conflict(
                f"plan {self.row.plan_id!r} is at revision {self._before}, not {expected_revision}",
                plan_id=self.row.plan_id,
                expected_revision=expected_revision,
                current_revision=self._before,
            )
        stale = [key for key, revision in reads.items() if self.revision_of(key) != revision]
        if stale:
            raise self._conflict(stale[0], reads[stale[0]], stale)

    def check_status(self, expected: str | None) -> None:
        """Raises Conflict if the plan's status is not the expected one."""
        if expected is not None and expected != (current := self.row.life(self._now)):
            raise Conflict(
                f"plan {self.row.plan_id!r} is {current}, not {expected}",
                plan_id=self.row.plan_id,
                expected_status=expected,
                current_status=current,
            )

    def apply(self, operation: AnyOperation) -> str | None:
        """Applies one operation and returns its result as JSON text, None if it has none."""
        if isinstance(operation, KeyOperation):
            return self._apply_to_key(operation)
        match operation:
            case Acquire():
                return semaphores.acquire(self, operation)
            case Release():
                return semaphores.release(self, operation)
            case RecordAction(name=name):
                self._record(name)
            case Cleanup():
                count = self._live_keys
                self._clear("cleanup")
                return str(count)
            case ExpirePlan(ttl=ttl):
                self.row.expires_at = None if ttl is None else self._now + round(ttl * 1000)
                self.change.lives_on = False
                self._remember(operation, None)
            case Ending():
                return "true" if self._end(operation) else "false"
            case Deadline(timer=timer):
                self._arrange(operation)
                self.deadlines.append(timer)
            case Compensate(event=event):
                self._register(operation, event)
            case Fork():
                return str(self._fork(operation))
        return None

    def _fork(self, operation: Fork) -> int:
        forks.check_unused(self.row)
        origin = forks.check_origin(operation, self._origin, self._now)
        self._clear("fork", forks.argument_of(origin))
        for past in origin.entries:
            entry = EntryRow(past.key, past.value, self.row.revision, self._now, past.expires_at)
            self._entries[past.key] = self.change.puts[past.key] = entry
            self.change.bases[past.key] = past.value
            self.row.size += size_of(past.key) + size_of(past.value)
        self.row.keys = self._live_keys = len(origin.entries)
        self.row.live = bool(origin.entries)
        check_totals(self.row.keys, self.row.size, self._limits)
        return origin.revision

    def _end(self, operation: AnyEnding) -> bool:
        row = self.row
        if not end(row, operation, ended_here=bool(self.endings)):
            return False
        row.outcome = argument(operation)
        row.ended_at, row.ended_uptime = self._now, self._moment.uptime
        row.end_position, row.ended_by = self._closing[0], self._group_id
        self.change.lives_on = False
        if isinstance(operation, Cancel):
            row.past_position, row.past_timer = self._closing
        self._remember(operation, None)
        self.endings.append(operation)
        return True

    def _register(self, operation: Compensate, event: Envelope) -> None:
        self._arrange(operation)
        seq = self.row.revision * SEQ_ROOM + len(self.change.history)
        row = CompensationRow(seq, event.id or "", WAITS, encode_envelope(event))
        self.change.compensations.append(row)

    def _arrange(self, operation: Deadline | Compensate) -> None:
        check_active(self.row.plan_id, self.row.status, operation, ended_here=bool(self.endings))
        self.row.arranged += 1
        self.change.lives_on = False
        self._remember(operation, None)

    def _apply_to_key(self, operation: AnyKeyOperation) -> str | None:
        key = operation.key
        if operation.expected_revision is not None:
            self._check_revision(key, operation.expected_revision)
        self.expire(key)
        entry = self._entries.get(key)
        before = entry.value if entry else None
        if before is not None and not isinstance(operation, _READ_NOTHING):
            # An object is decoded and encoded again to change a few fields; splicing a list costs a
            # fraction of that.
            self._work += len(before) // (SPLICE if isinstance(operation, _SPLICED) else 1)
            self._limits.check(
                "commit_work_bytes", self._work, "the values that the commit works on, in bytes,"
            )
        after = apply(operation, before)
        if isinstance(operation, Join):
            self._check_assumed(operation, before, after)
        if after is None:
            self._remove(key, operation, entry)
        else:
            self._put(key, operation, entry, after)
        return None if operation.blind else result(operation, before, after)

    def _check_assumed(self, join: Join, before: str | None, after: str | None) -> None:
        try:
            check_assumed(self.row.plan_id, join, before, after)
        except Conflict as error:
            raise self._stale(error, [join.key]) from None

    def _put(
        self, key: str, operation: AnyKeyOperation, entry: EntryRow | None, value: str
    ) -> None:
        size = size_of(value)
        check_value(key, size, self._limits)
        self.row.keys += entry is None
        self._live_keys += entry is None
        self.row.size += size + (size_of(key) if entry is None else -size_of(entry.value))
        check_totals(
            self.row.keys - self._hidden_keys, self.row.size - self._hidden_bytes, self._limits
        )
        expires_at = entry.expires_at if entry else None
        if isinstance(operation, Set):
            expires_at = None if operation.ttl is None else self._now + round(operation.ttl * 1000)
        row = EntryRow(key, value, self._before + 1, self._now, expires_at)
        self._entries[key] = self.change.puts[key] = row
        self.change.removals.discard(key)
        self._remember(operation, key)

    def _remove(self, key: str, operation: AnyKeyOperation, entry: EntryRow | None) -> None:
        if entry is None:
            return
        self._live_keys -= 1
        self._remove_key(key)
        self._remember(operation, key)

    def _remove_key(self, key: str) -> None:
        stored = self._entries.pop(key)
        self.row.keys -= 1
        self.row.size -= size_of(key) + size_of(stored.value)
        self.change.puts.pop(key, None)
        self.change.removals.add(key)

    def finished(self) -> PlanChange:
        """Returns what to write, once all operations are applied."""
        row, change, limits = self.row, self.change, self._limits
        kept = row.revision - row.horizon
        is_long = kept > limits.history_revisions + TRIM_REVISIONS and kept % TRIM_REVISIONS == 0
        change.is_overgrown = bool(change.history) and (
            is_long or row.history_size * 4 > limits.history_bytes * 5
        )
        return change

    def begin(self) -> None:
        """Sweeps what has expired, before the operations, to make room and to end its history."""
        if self._expired or self._is_over:
            self.sweep(self._expired)

    def sweep(self, keys: Iterable[str]) -> None:
        """Sweeps the plan if it has expired, and those of the keys that have."""
        if self._is_over:
            self._clear("expire")
        for key in sorted(keys):
            self.expire(key)

    def expire(self, key: str) -> None:
        """Sweeps a key that has expired, as a change that watchers and the history see."""
        entry = self._entries.get(key)
        if entry is None or entry.expires_at is None or entry.expires_at > self._now:
            return
        self._remove_key(key)
        if self._hidden_keys:
            self._hidden_keys -= 1
            self._hidden_bytes -= size_of(key) + size_of(entry.value)
        self._note("expire", key, None)

    def purge(self, before: int) -> None:
        """Removes everything if the plan ended by the uptime `before`."""
        ended = self.row.ended_uptime
        if ended is not None and ended <= before:
            self._clear("purge")
            self.row.past_position, self.row.past_timer = self._closing
            self.change.purged = True

    def _record(self, name: str) -> None:
        self._remember(RecordAction(name), None, action=number_action(self.row, self._limits))

    def _clear(self, op: str, text: str | None = None) -> None:
        row = self.row
        self.change.cleared.append(row.incarnation)
        self.change.lives_on = False
        row.incarnation += 1
        clear(row)
        row.history_size = row.arranged = self._live_keys = 0
        self._hidden_keys = self._hidden_bytes = 0
        row.expires_at = row.ended_at = row.ended_uptime = row.outcome = row.ended_by = None
        self._is_over = False
        row.horizon = self._before + 1
        self._entries.clear()
        self.change.puts.clear()
        self.change.bases.clear()
        self.change.removals.clear()
        self.change.history.clear()
        self.change.compensations.clear()
        self._note(op, None, text)

    def _remember(
        self, operation: AnyOperation, key: str | None, action: int | None = None
    ) -> None:
        self._note(tag(operation), key, argument(operation), action)

    def _note(self, op: str, key: str | None, text: str | None, action: int | None = None) -> None:
        row = self.row
        row.revision = self._before + 1
        row.updated_at, row.updated_uptime = self._now, self._moment.uptime
        live = row.keys > 0 or row.actions > 0 or row.arranged > 0 or not row.is_active
        if live is not row.live:
            row.live, self.change.lives_on = live, False
        if action is None:  # actions are kept, whatever becomes of the rest of the history
            row.history_size += ROW_OVERHEAD + (size_of(text) if text else 0)
        self.change.history.append(
            HistoryRow(
                row.revision, len(self.change.history), op, key, text, self._now, self.cause, action
            )
        )

    def _live(self, key: str) -> EntryRow | None:
        entry = self._entries.get(key)
        if (
            self._is_over
            or entry is None
            or (entry.expires_at is not None and entry.expires_at <= self._now)
        ):
            return None
        return entry

    def _check_revision(self, key: str, expected: int) -> None:
        if self.revision_of(key) != expected:
            raise self._conflict(key, expected, [key])

    def _conflict(self, key: str, expected: int, stale: list[str]) -> Conflict:
        return self._stale(conflict(self.row.plan_id, key, expected, self.revision_of(key)), stale)

    def _stale(self, error: Conflict, keys: list[str]) -> Conflict:
        error.details["stale"] = [(self.row.plan_id, key) for key in keys]
        return error
