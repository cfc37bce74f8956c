"""Stable ids of entries, the same on both sides."""

from __future__ import annotations

from hashlib import blake2b

from soorma_common.names import Scope


def entry_id(scope: Scope, plan_id: str, key: str) -> str:
    """The id of a key of a plan: a UUID (RFC 9562, version 8) that stays the same as long as there is such a key."""
    name = f"{scope.tenant_id}\0{scope.user_id}\0{plan_id}\0{key}".encode()
    text = blake2b(name, digest_size=16, person=b"soorma entry").hexdigest()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
