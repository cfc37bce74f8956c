"""Rows of first answers: what came of a commit, for whoever sends it again."""

from __future__ import annotations

import msgspec

from soorma_common.memory import Committed
from soorma_platform.engine.commands import Need


class StoredAnswer(msgspec.Struct):
    """The first answer to an idempotency key (or fence), for whoever asks again until the uptime `expires_at`."""

    key: str
    fingerprint: str
    committed: Committed
    expires_at: int


class AnswerNeed(Need):
    """The first answer under a key. Where there is one, nothing else is loaded."""

    key: str
    if_settled: bool
    """only if the delivery in hand, which was asked for before, is not there any more"""


class FirstAnswer(msgspec.Struct):
    """The answer that was given before."""

    stored: StoredAnswer | None = None


class KeyNeed(Need):
    """Whether something was done under a key. If it was, nothing else is loaded."""

    key: str


class KeySeen(msgspec.Struct):
    """What came of looking for a key."""

    is_seen: bool = False


class SeenKey(msgspec.Struct):
    """Something is done under a key, which is remembered until the uptime `expires_at`."""

    key: str
    expires_at: int
