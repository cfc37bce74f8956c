"""Rows of passages: what semantic memory holds."""

from __future__ import annotations

import msgspec

from soorma_common.causes import Cause
from soorma_platform.engine.commands import MANY, Need

ALWAYS, NEVER = 0, 1 << 62
"""A time before, and one after all others, in ms."""
KEPT_CHANGES = 2_000
"""Changes of a collection during which it is noted which passages are gone."""
MOST_REPLACEMENTS = 1_000
"""How many passages are looked through for the one that has replaced another."""


class PartRow(msgspec.Struct):
    """A part of a passage as the index of its collection reads it; times are in ms.

    `change` rises with each change of the collection. A row without terms says that the passage is
    gone. A passage counts from `recorded_at` until `closed_at`, and says what is true from
    `valid_from` until `valid_until`. `until_before` is None, or has pairs of little-endian integers
    of 8 bytes: until the first, `valid_until` was the second.
    """

    change: int
    passage: int
    part: int = 0
    starts: int = 0
    ends: int = 0
    length: int = 0
    """the number of its tokens"""
    recorded_at: int = 0
    closed_at: int = NEVER
    valid_from: int = ALWAYS
    valid_until: int = NEVER
    terms: bytes | None = None
    until_before: bytes | None = None


class VectorRow(msgspec.Struct):
    """The vector of a part, as the index of its collection reads it."""

    change: int
    passage: int
    part: int
    vector: bytes


class PassageRow(msgspec.Struct):
    """A passage without its content; lists and metadata are JSON text, times in ms.

    Only `closed_at` and what an update may change differ between its revisions. `closed_by` is what
    has replaced it: from `closed_at` on, or if it is open, for what is true from `valid_until` on.
    """

    id: str
    digest: bytes
    """equal for what is stored as one passage"""
    recorded_at: int
    updated_at: int
    trust: str
    user_id: str
    """who has stored it, also if it is public"""
    cause: Cause
    number: int | None = None
    collection: int | None = None
    external_id: str | None = None
    subject: str | None = None
    attribute: str | None = None
    aliases: str = "[]"
    tags: str = "[]"
    metadata: str | None = None
    source: str | None = None
    is_public: bool = False
    is_proposed: bool = False
    valid_from: int = ALWAYS
    valid_until: int = NEVER
    until_before: bytes | None = None
    closed_at: int = NEVER
    closed_by: str | None = None
    derived_from: str = "[]"
    stated: int = 1
    is_recalled: bool = False
    revision: int = 1
    plan_id: str | None = None
    outlives_plan: bool = False
    """true if it stays when that plan is purged"""
    origins: str = "[]"
    """the sources and agents of what it is derived from"""

    @property
    def is_open(self) -> bool:
        """True while it counts."""
        return self.closed_at == NEVER


class StoredPassage(PassageRow):
    """A passage with its content."""

    content: str = ""


SEMANTIC, EPISODIC, PROCEDURAL = 0, 1, 2
"""Kinds of collections."""


class CollectionRow(msgspec.Struct):
    """What a user has stored for himself, or what is public in a tenant (`user_id` is None)."""

    id: int
    tenant_id: str
    user_id: str | None
    kind: int = SEMANTIC
    change: int = 0
    parts: int = 0
    model: int = 0
    """the model whose vectors its searches use, 0 if all of them are by words"""


class MemoriesNeed(Need):
    """The passages that a commit may touch, in the user's collection and the tenant's public one.

    `forgotten` are ids that go with all that was derived from them and that they have replaced;
    `relabelled` are ids whose parts are loaded, too. With external ids and pairs goes a time: what
    ended before is not loaded.
    """

    ids: set[str] = set()
    external_ids: dict[str, int] = {}
    pairs: dict[tuple[str, str], int] = {}
    """subjects with attributes"""
    interactions: set[str] = set()
    """ids that interactions to be logged were given"""
    sessions: set[str] = set()
    """sessions to be named"""
    digests: dict[bytes, bool] = {}
    """of passages to be stored; true if an equal one may get further labels"""
    forgotten: set[str] = set()
    relabelled: set[str] = set()
    published: set[str] = set()
    """ids of the user's own that may become public, where they may replace others"""

    @property
    def is_of_knowledge(self) -> bool:
        """True if it names any passage of semantic memory."""
        return bool(self.ids or self.external_ids or self.pairs or self.digests or self.forgotten)

    @property
    def rows(self) -> int:
        named = len(self.ids) + len(self.external_ids) + len(self.pairs) + len(self.digests)
        named += len(self.interactions) + len(self.sessions)
        return named + 100 * len(self.forgotten) + 10 * len(self.relabelled)


class CollectionFound(msgspec.Struct):
    """A collection as loaded; `row` is None if nothing was ever stored in it."""

    row: CollectionRow | None = None
    passages: dict[int, PassageRow] = {}
    names: dict[str, int] = {}
    """by a requested id, the number of its passage: also by an id under which it was restated"""
    doomed: dict[str, list[int]] = {}
    """by an id to be forgotten, the numbers of all passages that go with it"""
    parts: dict[int, list[PartRow]] = {}


class MemoriesFound(msgspec.Struct):
    """The user's own collection, and the public one of the tenant."""

    own: CollectionFound = msgspec.field(default_factory=CollectionFound)
    logged: set[str] = set()
    """ids of interactions that are logged already"""
    sessions: set[str] = set()
    """those of the sessions to be named that have begun"""
    public: CollectionFound = msgspec.field(default_factory=CollectionFound)


class UnembeddedPart(msgspec.Struct):
    """A part that a model has not embedded yet, with its text."""

    collection: int
    passage: int
    part: int
    text: str = ""


class NewPart(msgspec.Struct):
    """A part to be stored: its place, its terms, and how many tokens it has."""

    part: int
    starts: int
    ends: int
    length: int
    terms: bytes


class Restatement(msgspec.Struct):
    """One more statement of a passage: the id that it was given, and who made it."""

    id: str
    plan_id: str | None
    cause: Cause
    at: int
    is_recalled: bool = False


class NewPassage(msgspec.Struct):
    """A passage to be stored; its collection is that of the user, or of the tenant if public."""

    row: PassageRow
    content: str
    parts: list[NewPart]
    sources: list[str] = []
    """ids that it is derived from"""
    restated: list[Restatement] = []


class ChangedPassage(msgspec.Struct):
    """A passage whose row has changed; `terms` are those of its parts, None if they are the same.

    With `is_indexed` false, nothing has changed that a search reads.
    """

    row: PassageRow
    terms: dict[int, bytes] | None = None
    is_indexed: bool = True
    sources: list[str] = []
    """further ids that it is derived from"""
    restated: list[Restatement] = []


class ForgottenPassage(msgspec.Struct):
    """A passage to be removed, with all that was made of it."""

    row: PassageRow


class MovedPassage(msgspec.Struct):
    """A passage that is public from now on, with its parts and vectors."""

    row: PassageRow


class DoomedNeed(Need):
    """Passages by number, with those that they have replaced and all that was derived from them.

    `alone`: without these.
    """

    numbers: list[int]
    alone: bool = False

    @property
    def rows(self) -> int:
        return MANY


class DoomedFound(msgspec.Struct):
    """Passages to be forgotten together."""

    passages: list[PassageRow] = []
    kinds: dict[int, int] = {}
    """how many of them are of each kind of collection"""
