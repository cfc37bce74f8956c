"""Rows of quarantines, and the origins that memories have."""

from __future__ import annotations

import msgspec

from soorma_platform.engine.commands import Need
from soorma_platform.engine.rows.passages import PassageRow

EVERYBODY = ""
"""Stands for all users of a tenant; no user has it as his id."""


class QuarantineRow(msgspec.Struct):
    """An origin in quarantine, since a time in ms, for a user or for EVERYBODY."""

    origin: str
    since: int
    user_id: str
    reason: str | None = None


class ReleasedQuarantine(msgspec.Struct):
    """A quarantine that has ended."""

    row: QuarantineRow


class QuarantineNeed(Need):
    """The quarantine of an origin, and how many its owner has."""

    origin: str


class QuarantineFound(msgspec.Struct):
    """The quarantine of the origin, None if there is none."""

    row: QuarantineRow | None = None
    count: int = 0


class OriginsNeed(Need):
    """What is in quarantine for the user, and the origins of these memories."""

    ids: set[str] = set()

    @property
    def rows(self) -> int:
        return 1 + 2 * len(self.ids)


class OriginsFound(msgspec.Struct):
    """The origins in quarantine, and those of memories by their ids, as far as they are there.

    `quarantined` are for the user, `of_tenant` those of them that are so for everybody.
    """

    quarantined: frozenset[str] = frozenset()
    of_tenant: frozenset[str] = frozenset()
    of: dict[str, list[str]] = {}


class AddedOrigins(msgspec.Struct):
    """Origins that a passage has from now on, and so has what is derived from it, however far."""

    row: PassageRow
    origins: str
    """JSON text"""
    labels: bytes
    """as the terms of a part hold them"""
