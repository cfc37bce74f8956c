"""The noting of passages that seem to state the same, once their vectors are there."""

from __future__ import annotations

from soorma_common.names import All, Owner
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.likeness import Likeness


class NoteLikeness:
    """The noting of pairs: both passages stay as they are, and each names the other."""

    scope: Owner = All.TENANTS

    def __init__(self, pairs: list[Likeness]) -> None:
        self._pairs = pairs

    def needs(self) -> list[Need]:
        return []

    def decide(self, found: Snapshot) -> Decision[None]:  # noqa: ARG002 - it needs nothing
        return Decision(None, [*self._pairs])
