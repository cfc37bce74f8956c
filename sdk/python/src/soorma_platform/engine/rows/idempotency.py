"""Rows of stored responses, which repeated commits get."""

from __future__ import annotations

import msgspec

from soorma_common.memory import Committed
from soorma_platform.engine.commands import Need


class StoredResponse(msgspec.Struct):
    """The first response under a key or fence, kept until the uptime `expires_at`."""

    key: str
    fingerprint: str
    committed: Committed
    expires_at: int


class ResponseNeed(Need):
    """The response stored under a key; if there is one, nothing else is loaded."""

    key: str
    if_settled: bool
    """only if the delivery, which was loaded before, no longer exists"""


class ResponseFound(msgspec.Struct):
    """The stored response, if there is one."""

    stored: StoredResponse | None = None


class KeyNeed(Need):
    """A key under which something may have been done; if so, nothing else is loaded."""

    key: str


class KeySeen(msgspec.Struct):
    """The result of looking up a key."""

    is_seen: bool = False


class SeenKey(msgspec.Struct):
    """A key under which something is done, remembered until the uptime `expires_at`."""

    key: str
    expires_at: int
