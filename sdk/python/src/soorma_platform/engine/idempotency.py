"""Idempotency: a repeated commit takes effect once and gets the first response."""

from __future__ import annotations

from soorma_common.errors import Fenced, IdempotencyMismatch
from soorma_platform.engine.rows.fences import hashed
from soorma_platform.engine.rows.idempotency import StoredResponse


def key_of(idempotency_key: str | None, fence: str | None) -> str | None:
    """Returns the key under which a commit's response is stored; None if it is not stored.

    It is the fence of the commit's delivery, else the idempotency key.
    """
    if fence:
        return f"fence:{hashed(fence)}"
    return None if idempotency_key is None else f"key:{idempotency_key}"


def check_same(
    stored: StoredResponse, fingerprint: str, idempotency_key: str | None, fence: str | None
) -> None:
    """Raises IdempotencyMismatch, or Fenced, if the first commit of the key had another body."""
    if stored.fingerprint == fingerprint:
        return
    if fence:
        raise Fenced(
            "this delivery was settled before, by another commit: nothing of this one was applied"
        )
    raise IdempotencyMismatch(
        f"the idempotency key {idempotency_key!r} was used for a request with another body",
    )
