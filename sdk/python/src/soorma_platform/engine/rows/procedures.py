"""Rows of procedures: what procedural memory holds."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from soorma_common.causes import NOBODY, Cause
from soorma_platform.engine.commands import Need
from soorma_platform.engine.rows.passages import NEVER, NewPart, PassageRow


class ProcedureKey(NamedTuple):
    """What a procedure is named by: it is the user's own, or with `is_public` the tenant's."""

    is_public: bool
    kind: str
    name: str


class ProcedureRow(msgspec.Struct):
    """A procedure. `activated` are the versions that were made active, the last one last.

    It is JSON text; 0 stands for none.
    """

    kind: str
    name: str
    newest: int = 0
    activated: str = "[]"
    updated_at: int = 0
    number: int | None = None
    collection: int | None = None


class VersionRow(msgspec.Struct):
    """A version as a decision needs it; it is active if it is not closed.

    It has the number of its passage once it is written.
    """

    id: str
    version: int
    digest: bytes
    closed_at: int = NEVER
    is_proposed: bool = False
    passage: int = 0
    source: str | None = None
    cause: Cause = NOBODY
    origins: str = "[]"

    @property
    def is_active(self) -> bool:
        """True while it is the active one."""
        return self.closed_at == NEVER


class StoredVersion(msgspec.Struct):
    """A version as a user reads it; lists, conditions, metadata and `sizes` are JSON text.

    The content follows `head` characters that say what it is for.
    """

    number: int
    id: str
    kind: str
    name: str
    version: int
    recorded_at: int
    updated_at: int
    closed_at: int
    trust: str
    head: int
    agents: str
    tags: str
    sizes: str
    is_public: bool
    is_proposed: bool
    succeeded: int
    failed: int
    derived_from: str
    cause: Cause
    conditions: str | None = None
    metadata: str | None = None
    source: str | None = None
    plan_id: str | None = None
    description: str | None = None
    content: str = ""
    origins: str = "[]"


class ActiveRow(msgspec.Struct):
    """What decides where an active version applies, and how successful it is."""

    passage: int
    name: str
    agents: str
    conditions: str | None
    succeeded: int
    failed: int
    is_public: bool


class ProcedureInfoRow(msgspec.Struct):
    """A procedure in a list, with the versions of it that a user may read."""

    number: int
    kind: str
    name: str
    versions: int
    newest: int
    proposed: int
    is_public: bool
    updated_at: int
    succeeded: int
    failed: int
    active: int | None = None
    description: str | None = None


class ProceduresNeed(Need):
    """Procedures that a commit may touch, with their versions."""

    keys: set[ProcedureKey] = set()
    ids: set[tuple[bool, str]] = set()
    """given to versions to be stored, each with whether it is the tenant's"""

    @property
    def rows(self) -> int:
        return 20 * len(self.keys) + len(self.ids)


class ProcedureFound(msgspec.Struct):
    """A procedure as loaded, with its versions by number; `row` is None if there is none."""

    row: ProcedureRow | None = None
    versions: dict[int, VersionRow] = {}


class ProceduresFound(msgspec.Struct):
    """The procedures found, and how many there are in the user's collection and the tenant's."""

    procedures: dict[ProcedureKey, ProcedureFound] = {}
    counts: dict[bool, int] = {}
    """by whether it is the tenant's"""
    taken: set[tuple[bool, str]] = set()
    """those of the ids that versions have already"""


class NewVersion(msgspec.Struct):
    """A version to be stored, with the row of its procedure, which may be new, too."""

    procedure: ProcedureRow
    passage: PassageRow
    content: str
    parts: list[NewPart]
    version: VersionRow
    head: int
    description: str | None
    agents: str
    conditions: str | None
    files: dict[str, bytes]
    sizes: str
    sources: list[str] = []


class SwitchedVersion(msgspec.Struct):
    """A version that is active from now on, or is so no more."""

    version: VersionRow
    updated_at: int


class ChangedProcedure(msgspec.Struct):
    """A procedure whose row has changed."""

    row: ProcedureRow


class UsedVersion(msgspec.Struct):
    """A plan's use of a version, if that is still there and the user may read it."""

    version_id: str
    plan_id: str


class CountedOutcome(msgspec.Struct):
    """One more success or failure of a version."""

    passage: int
    succeeded: bool


class PlanOutcome(msgspec.Struct):
    """The end of a plan, which counts for all versions that it has used; None counts for none."""

    plan_id: str
    succeeded: bool | None
