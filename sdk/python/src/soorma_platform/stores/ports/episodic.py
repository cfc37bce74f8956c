"""The port of episodic memory, for reading. Commands change it."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Protocol

from soorma_common.names import Scope
from soorma_platform.engine.rows.interactions import InteractionRow, SessionRow
from soorma_platform.stores.ports.semantic import Collections


class EpisodicStore(Protocol):
    """Interactions and their sessions. Their parts and vectors are those of `SemanticStore`."""

    async def collections(self, scope: Scope) -> Collections:
        """Returns the collection of a user's interactions; none of them is public."""
        ...

    async def history(
        self,
        scope: Scope,
        session_id: str | None,
        agent_id: str | None,
        before: int | None,
        limit: int,
    ) -> tuple[builtins.list[InteractionRow], bool]:
        """Returns interactions with numbers below `before`, the newest first.

        Of a session, of an agent, of both, or of all if these are None. Also whether there are
        more: fewer than `limit` come if they are large.
        """
        ...

    async def said(self, numbers: Sequence[int]) -> dict[int, InteractionRow]:
        """Returns those of the interactions that are still there, by number."""
        ...

    async def interaction(self, scope: Scope, interaction_id: str) -> InteractionRow | None:
        """Returns an interaction of a user by its id; None if there is none."""
        ...

    async def sessions(
        self, scope: Scope, before: int | None, limit: int
    ) -> builtins.list[SessionRow]:
        """Returns sessions with numbers below `before`, the newest first."""
        ...

    async def session(self, scope: Scope, session_id: str) -> SessionRow | None:
        """Returns a session; None if there is none."""
        ...
