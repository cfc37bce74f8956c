"""The memory service, as an author meets it: keys, changes, actions and plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from soorma.memory.plans import Stored
from soorma_common.identity import entry_id
from soorma_common.json_text import decode
from soorma_common.names import Scope


@dataclass(frozen=True)
class PlanState:
    """A key of a plan. `revision` is that of its last write, 0 where that is not committed yet.

    `updated_at` and `expires_at` have a time zone.
    """

    id: str
    tenant_id: str
    user_id: str
    plan_id: str
    key: str
    value: Any
    updated_at: datetime
    revision: int
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Change:
    """One operation of one commit, as history and watch tell it.

    `op` is set, delete, increment, append, extend, merge, join, record_action, ttl, complete, fail, cancel, deadline,
    compensate, fork, cleanup, expire or purge; `argument` is the value it was given. `actor` is the agent's name,
    `event_id` the event whose handler did it.
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


@dataclass(frozen=True)
class Action:
    """An entry of a plan's action history; `number` counts from 1."""

    number: int
    name: str
    at: datetime | None
    actor: str | None = None
    instance: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True)
class PlanInfo:
    """What the platform tells of a plan; `size_bytes` is that of its keys and values.

    `status` is active, completed, failed or cancelled; `result` or `reason` is what it ended with. `stalled`: it was
    reported as stalled, and has not moved since.
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


def plan_state_of(scope: Scope, plan_id: str, key: str, entry: Stored) -> PlanState:
    """Returns a key as it was read or written."""
    return PlanState(
        id=entry_id(scope, plan_id, key),
        tenant_id=scope.tenant_id,
        user_id=scope.user_id,
        plan_id=plan_id,
        key=key,
        value=decode(entry.text),
        updated_at=entry.updated_at,
        revision=entry.revision,
        expires_at=entry.expires_at,
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


_CAUSE = {"actor": "actor", "instance": "instance", "eventId": "event_id", "correlationId": "correlation_id",
          "traceId": "trace_id"}  # fmt: skip


def _cause(row: Mapping[str, Any]) -> dict[str, Any]:
    return {here: row.get(there) for there, here in _CAUSE.items()}


def change_of(row: Mapping[str, Any]) -> Change:
    """Returns a change as the service answers it."""
    at = datetime.fromisoformat(row["at"])
    return Change(row["revision"], row["op"], at, row.get("key"), row.get("argument"), **_cause(row))


def action_of(row: Mapping[str, Any]) -> Action:
    """Returns an action as the service, or a transaction, tells it."""
    return Action(row["number"], row["name"], _time(row.get("at")), **_cause(row))


def plan_info_of(row: Mapping[str, Any]) -> PlanInfo:
    """Returns what the service tells of a plan."""
    return PlanInfo(
        plan_id=row["planId"],
        revision=row["revision"],
        keys=row["keys"],
        actions=row["actions"],
        size_bytes=row["sizeBytes"],
        created_at=datetime.fromisoformat(row["createdAt"]),
        updated_at=datetime.fromisoformat(row["updatedAt"]),
        expires_at=_time(row.get("expiresAt")),
        status=row.get("status", "active"),
        ended_at=_time(row.get("endedAt")),
        result=row.get("result"),
        reason=row.get("reason"),
        stalled=row.get("stalled", False),
    )
