"""The port of quarantines, for reading. Commands change them."""

from __future__ import annotations

from typing import Protocol

from soorma_common.names import Owner, Scope
from soorma_platform.engine.rows.quarantines import QuarantineRow


class QuarantineStore(Protocol):
    """Origins in quarantine."""

    async def list(self, whose: Scope | Owner) -> list[QuarantineRow]:
        """Returns what is in quarantine for a user, with that of his tenant; or that alone."""
        ...

    async def origins(self, scope: Scope) -> frozenset[str]:
        """Returns the origins that are in quarantine for a user."""
        ...
