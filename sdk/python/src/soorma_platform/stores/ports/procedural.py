"""The port of procedural memory, for reading. Commands change it."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Protocol

from soorma_common.names import Scope
from soorma_platform.engine.rows.passages import CollectionRow
from soorma_platform.engine.rows.procedures import (
    ActiveRow,
    ProcedureInfoRow,
    ProcedureKey,
    StoredVersion,
)
from soorma_platform.stores.ports.semantic import Collections


class ProceduralStore(Protocol):
    """Procedures and their versions. Parts and vectors of these are those of `SemanticStore`.

    A public version that is only proposed is read by the user whose handler has proposed it.
    """

    async def collections(self, scope: Scope) -> Collections:
        """Returns the collection of the user's procedures, and that of the tenant's."""
        ...

    async def active(
        self, scope: Scope, collections: Sequence[CollectionRow], kind: str
    ) -> builtins.list[ActiveRow]:
        """Returns the active versions of a kind that are not in quarantine, by name in each."""
        ...

    async def stored(self, numbers: Sequence[int]) -> dict[int, StoredVersion]:
        """Returns those of the versions that are still there, by the number of their passage."""
        ...

    async def version(
        self, scope: Scope, key: ProcedureKey, version: int | None
    ) -> StoredVersion | None:
        """Returns a version, the active one without a number; None if there is none."""
        ...

    async def versions(
        self,
        scope: Scope,
        key: ProcedureKey,
        before: int | None,
        limit: int,
        *,
        quarantined: bool = False,
    ) -> builtins.list[StoredVersion]:
        """Returns versions below a number without their content, the newest first.

        Those that are not in quarantine, or just those that are.
        """
        ...

    async def numbers(self, scope: Scope, key: ProcedureKey) -> builtins.list[int]:
        """Returns the numbers of the passages of all versions."""
        ...

    async def list(
        self, scope: Scope, kind: str | None, after: int, limit: int, *, proposed: bool = False
    ) -> builtins.list[ProcedureInfoRow]:
        """Returns procedures of the user and the tenant after a number.

        With `proposed`, those of which a version is proposed. Versions in quarantine do not count.
        """
        ...

    async def file(self, number: int, path: str) -> bytes | None:
        """Returns a file of a version; None if there is none."""
        ...
