"""The port of semantic memory, for reading. Commands change it."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from soorma_common.forgetting import ForgetBody
from soorma_common.names import Scope
from soorma_platform.engine.rows.passages import (
    CollectionRow,
    MemoriesFound,
    MemoriesNeed,
    PartRow,
    StoredPassage,
    VectorRow,
)


class Collections(NamedTuple):
    """The collections that a user reads, the wall clock's time, and what is in quarantine.

    A collection is None if nothing was ever stored in it.
    """

    own: CollectionRow | None
    public: CollectionRow | None
    now: int
    quarantined: frozenset[str] = frozenset()
    """the origins that are in quarantine for the user"""

    @property
    def rows(self) -> builtins.list[CollectionRow]:
        """Those in which something was stored."""
        return [row for row in (self.own, self.public) if row is not None]


class ToForget(NamedTuple):
    """Memories that a filter describes, by number; more follow after `next`, if it is not None."""

    numbers: builtins.list[int]
    kinds: Mapping[int, int]
    """how many are of each kind of collection"""
    next: int | None


class Listed(NamedTuple):
    """Which open passages are listed: those that fit all that is not None; `as_of` is in ms."""

    is_public: bool = False
    is_proposed: bool = False
    external_id: str | None = None
    subject: str | None = None
    attribute: str | None = None
    source: str | None = None
    tag: str | None = None
    as_of: int | None = None
    is_quarantined: bool = False


ALL_OPEN = Listed()


class SemanticStore(Protocol):
    """Passages, and what an index of them follows."""

    async def collections(self, scope: Scope) -> Collections:
        """Returns the user's own collection, and the public one of the tenant."""
        ...

    async def parts(self, collection: int, after: int, limit: int) -> builtins.list[PartRow] | None:
        """Returns what has changed in a collection after a change, in order; from 0 on, all of it.

        None if too much has changed since to say what is gone: the index has to begin at 0.
        """
        ...

    async def vectors(
        self, collection: int, model: int, after: int, limit: int
    ) -> builtins.list[VectorRow]:
        """Returns the vectors of a model that came to a collection after a change, in order."""
        ...

    async def texts(self, numbers: Sequence[int]) -> dict[int, StoredPassage]:
        """Returns those of the passages that are still there, by number."""
        ...

    async def passage(self, scope: Scope, passage_id: str) -> StoredPassage | None:
        """Returns a passage that the user may read, by its id or one that it was restated under."""
        ...

    async def list(
        self, scope: Scope, after: int, limit: int, which: Listed = ALL_OPEN
    ) -> tuple[builtins.list[StoredPassage], bool]:
        """Returns open passages after a number, in the order they were stored.

        They are the user's own, or those that are public in the tenant: without what is in
        quarantine, or just that. Also whether there are more: fewer than `limit` come if they are
        large.
        """
        ...

    async def to_forget(self, scope: Scope, body: ForgetBody, after: int, limit: int) -> ToForget:
        """Returns some of what a user has stored and a filter describes, after a number."""
        ...

    async def known(self, scope: Scope, need: MemoriesNeed) -> MemoriesFound:
        """Returns what a commit with this need would find."""
        ...
