"""Rows of stored responses: what came of a commit, for whoever sends it again."""

from __future__ import annotations

import msgspec

from soorma_common.memory import Committed
from soorma_platform.engine.commands import Need


class StoredResponse(msgspec.Struct):
    """The response to the first request under an idempotency key or a fence, kept until the uptime
    `expires_at`.
    """

    key: str
    fingerprint: str
    committed: Committed
    expires_at: int


class ResponseNeed(Need):
    """The response stored under a key. Where there is one, nothing else is loaded."""

    key: str
    if_settled: bool
    """only if the delivery in hand, which was loaded before, is not there any more"""


class ResponseFound(msgspec.Struct):
    """The response that was stored before."""

    stored: StoredResponse | None = None


class KeyNeed(Need):
    """A key under which something may have been done before. If it was, nothing else is loaded."""

    key: str


class KeySeen(msgspec.Struct):
    """The result of looking for a key."""

    is_seen: bool = False


class SeenKey(msgspec.Struct):
    """Something is done under a key, which is remembered until the uptime `expires_at`."""

    key: str
    expires_at: int
