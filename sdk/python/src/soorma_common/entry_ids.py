"""Stable ids of entries, the same on both sides."""

from __future__ import annotations

from hashlib import blake2b

from soorma_common.names import Scope

_VERSION_8 = blake2b(digest_size=16, person=b"soorma entry")
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def entry_id(scope: Scope, plan_id: str, key: str) -> str:
    """Returns the id of a plan's key: a UUID (RFC 9562, version 8), stable while the key exists."""
    # Each response has such an id, and making a new digest takes half as long again.
    digest = _VERSION_8.copy()
    digest.update(f"{scope.tenant_id}\0{scope.user_id}\0{plan_id}\0{key}".encode())
    text = digest.hexdigest()
    return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"
