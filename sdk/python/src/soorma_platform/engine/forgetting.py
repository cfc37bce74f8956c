"""Forgetting of many memories: some of them in each commit, with all that goes with them."""

from __future__ import annotations

from collections.abc import Mapping

from soorma_common.names import Scope
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.passages import DoomedFound, DoomedNeed, ForgottenPassage


class ForgetSome:
    """The forgetting of memories by their numbers; its outcome counts them by kind of collection.

    Those that they have replaced, and all that was derived from them, go with them.
    """

    def __init__(self, scope: Scope, numbers: list[int]) -> None:
        self.scope = scope
        self._numbers = numbers

    def needs(self) -> list[Need]:
        return [DoomedNeed(self._numbers)]

    def decide(self, found: Snapshot) -> Decision[Mapping[int, int]]:
        doomed = found.part(DoomedFound)
        return Decision(doomed.kinds, [ForgottenPassage(row) for row in doomed.passages])
