"""The requests and responses of the memory service."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from soorma_common.events import Envelope, TimerBody
from soorma_common.memories import AnyMemoryOperation
from soorma_common.names import Name, PlanStatus
from soorma_common.operations import AnyOperation
from soorma_common.semantic import MemoryDone


class PlanCommit(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The part of a commit that touches one plan.

    `reads` maps keys to the revisions they were read at (0: missing); `expected_revision` is that
    of the plan, `expected_status` its status, or `missing` if nothing of it exists. If one differs
    at the commit, the whole commit is rejected with Conflict.
    """

    plan_id: Name
    operations: list[AnyOperation] = []
    reads: dict[Name, int] = {}
    expected_revision: int | None = None
    expected_status: PlanStatus | None = None


class Commit(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An atomic change: operations on plans, events to publish, and the end of a delivery.

    `timers` are events to be published later, `cancels` the ids of timers that are to be cancelled.
    `fence` is the token of the delivery that the commit ends. Without one, the scope comes from the
    request.
    """

    plans: list[PlanCommit] = []
    events: list[Envelope] = []
    fence: str | None = None
    timers: list[TimerBody] = []
    cancels: list[Name] = []
    memories: list[AnyMemoryOperation] = []
    memory_reads: dict[Name, int] = {}
    """passages by id, with the revisions they were read at (0: missing)"""


class PlanCommitted(msgspec.Struct):
    """A plan's revision after the commit, and a result per operation (null if it has none)."""

    plan_id: str
    revision: int
    results: list[msgspec.Raw]


class Committed(msgspec.Struct):
    """The response to a commit: its plans in the order given, its event ids, the time in ms.

    The ids of its timers follow those of its events; `cancelled` are the timers that it cancelled.
    """

    plans: list[PlanCommitted]
    events: list[str]
    at: int
    cancelled: list[str] = []
    memories: list[MemoryDone] | msgspec.UnsetType = msgspec.UNSET
    """a result per operation on memories, if there are any"""


class Entry(msgspec.Struct):
    """A key and its value, as of its last write."""

    id: str
    tenant_id: str
    user_id: str
    plan_id: str
    key: str
    value: msgspec.Raw
    updated_at: datetime
    revision: int
    expires_at: datetime | None = None


class KeyEntry(msgspec.Struct, rename="camel"):
    """An entry in the responses to PUT and GET of its key: with names in camelCase.

    A subclass would not do: msgspec leaves inherited names as they are.
    """

    id: str
    tenant_id: str
    user_id: str
    plan_id: str
    key: str
    value: msgspec.Raw
    updated_at: datetime
    revision: int
    expires_at: datetime | None = None


class Change(msgspec.Struct, omit_defaults=True, frozen=True):
    """One operation of one commit, as history and watch return it.

    `op` is set, delete, increment, append, extend, merge, join, record_action, ttl, complete, fail,
    cancel, deadline, compensate, fork, cleanup, expire or purge; `argument` is its argument.
    `actor` is the name of the agent, `event_id` the event whose handler made the change.
    """

    revision: int
    op: str
    at: datetime
    key: str | None = None
    argument: Any = None
    actor: str | None = None
    instance: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None


class Action(msgspec.Struct, omit_defaults=True, frozen=True):
    """An entry of a plan's action history; `number` counts from 1.

    An action that a transaction has recorded and not yet committed has no time, and revision 0.
    """

    number: int
    name: str
    at: datetime | None = None
    revision: int = 0
    actor: str | None = None
    instance: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None


STATUSES = ("active", "completed", "failed", "cancelled")


class PlanInfo(msgspec.Struct, omit_defaults=True, frozen=True):
    """A plan's status, counts and times; `size_bytes` is that of its keys and current values.

    `status` is active, completed, failed or cancelled; `result` or `reason` is what it ended with.
    `stalled` is true if it was reported as stalled and has not moved since.
    """

    plan_id: str
    revision: int
    keys: int
    actions: int
    size_bytes: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    status: str = "active"
    ended_at: datetime | None = None
    result: Any = None
    reason: str | None = None
    stalled: bool = False


class ValueAt(msgspec.Struct, rename="camel"):
    """A key's value after revision `at` of its plan, in the response to GET of that key."""

    plan_id: str
    key: str
    value: msgspec.Raw
    at: int


class EntryPage(msgspec.Struct):
    """Keys of a plan in order, with their values.

    `next` is the `after` of the following page, null at the end.
    """

    plan_id: str
    revision: int
    entries: list[Entry]
    next: str | None


class KeyPage(msgspec.Struct):
    """Keys of a plan in order, without their values.

    `revision` is the requested one, else that of the plan.
    """

    plan_id: str
    revision: int
    keys: list[str]
    next: str | None


class PastEntry(msgspec.Struct):
    """A key with the value it had."""

    key: str
    value: msgspec.Raw


class PastPage(msgspec.Struct):
    """Keys of a plan in order, with their values after its revision `at`.

    A page may be short or empty even if `next` says that more follow: it leaves out newer keys.
    """

    plan_id: str
    at: int
    entries: list[PastEntry]
    next: str | None


class Entries(msgspec.Struct):
    """The requested keys that exist."""

    plan_id: str
    revision: int
    entries: dict[str, Entry]


class PlanPage(msgspec.Struct):
    """Plans of a user, by id."""

    plans: list[PlanInfo]
    next: str | None


class ChangePage(msgspec.Struct):
    """Rows of a plan's history after a revision; the oldest kept is the one after `horizon`."""

    plan_id: str
    revision: int
    horizon: int
    changes: list[Change]
    next: int | None


class ActionPage(msgspec.Struct):
    """Actions of a plan in order."""

    plan_id: str
    actions: list[Action]
    next: int | None


class KeyDeleted(msgspec.Struct):
    """The result of a deletion: whether the key existed, and the plan's revision now."""

    deleted: bool
    revision: int


class PlanCleaned(msgspec.Struct):
    """The number of keys removed, and the plan's revision now."""

    deleted: int
    revision: int


class CommitSeen(msgspec.Struct):
    """A commit, as it is sent to a watcher."""

    revision: int
    changes: list[Change]
