"""Stable ids of entries, the same on both sides."""

from __future__ import annotations

import uuid

from soorma_common.names import Scope

_NAMESPACE = uuid.UUID("5a0b6f5e-7d0c-4c5f-9f5e-50a72a5b9d11")


def entry_id(scope: Scope, plan_id: str, key: str) -> str:
    """The id of a key of a plan: a UUID (RFC 9562, version 5) that stays the same as long as there is such a key."""
    return str(uuid.uuid5(_NAMESPACE, f"{scope.tenant_id}\0{scope.user_id}\0{plan_id}\0{key}"))
