"""The audit of memories: how many there are, of which kinds, and how clean they are."""

from __future__ import annotations

from datetime import datetime

import msgspec

MOST_AUDITED = 200_000
"""Maximum memories that an audit looks at."""
MOST_NAMED = 10
"""Sources that an audit names."""


class SourceCount(msgspec.Struct):
    """A source, and how many open passages name it."""

    source: str
    passages: int


class MemoryAudit(msgspec.Struct, kw_only=True):
    """What memories hold: of one user, of all users of a tenant, or of all.

    Of knowledge: `passages` are open, `closed` ones were replaced. Each statement that was stored
    is new, or one of `restated` (an equal passage was there) or `recalled` (it only said again what
    was read in the same transaction); `statements` are all of them. `alike` passages seem to state
    the same as another one. Shares are from 0 to 1: `restated_share` and `recalled_share` of the
    statements, `closed_share` of all passages.

    `parts` are what is embedded, `unembedded` those that the newest model has not embedded. `bytes`
    are of texts alone. `redacted` and `refused` count secrets since the platform started.
    `is_whole` is false if there are more memories than an audit looks at.
    """

    passages: int
    closed: int
    statements: int
    restated: int
    recalled: int
    restated_share: float
    recalled_share: float
    closed_share: float
    alike: int
    derived: int
    public: int
    proposed: int
    by_trust: dict[str, int]
    by_source: list[SourceCount]
    """the most frequent ones of a user; empty in an audit of many"""
    sessions: int
    interactions: int
    procedures: int
    versions: int
    active: int
    proposed_versions: int
    parts: int
    unembedded: int
    bytes: int
    redacted: int
    refused: int
    oldest: datetime | None
    newest: datetime | None
    is_whole: bool
