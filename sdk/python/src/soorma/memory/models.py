"""A key of a plan, as authors see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from soorma.memory.plans import Stored
from soorma_common.entry_ids import entry_id
from soorma_common.json_text import decode
from soorma_common.names import Scope


@dataclass(frozen=True)
class PlanState:
    """A key of a plan, with the `revision` of its last write, 0 if that is not committed yet.

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


def plan_state_of(scope: Scope, plan_id: str, key: str, entry: Stored) -> PlanState:
    """Returns a key as read or written."""
    return PlanState(
        id=entry_id(scope, plan_id, key),
        tenant_id=str(scope.tenant_id),
        user_id=str(scope.user_id),
        plan_id=plan_id,
        key=key,
        value=decode(entry.text),
        updated_at=entry.updated_at,
        revision=entry.revision,
        expires_at=entry.expires_at,
    )
