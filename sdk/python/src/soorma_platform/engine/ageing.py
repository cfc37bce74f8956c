"""Forgetting of memories that are kept for a time only."""

from __future__ import annotations

from soorma_common.names import Scope
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.passages import (
    DoomedFound,
    DoomedNeed,
    ForgottenPassage,
    PassageRow,
)


class ForgetAged:
    """The forgetting of memories that have not changed since `before`, a time in ms.

    With `closed`, of passages that were closed before it. What was derived from them stays: it has
    an age of its own. It leaves alone what was stated again meanwhile, and all while the wall clock
    is not settled. The outcome is how many it has forgotten.
    """

    def __init__(self, scope: Scope, numbers: list[int], before: int, *, closed: bool) -> None:
        self.scope = scope
        self._numbers = numbers
        self._before = before
        self._closed = closed

    def needs(self) -> list[Need]:
        return [DoomedNeed(self._numbers, alone=True)]

    def decide(self, found: Snapshot) -> Decision[int]:
        if not found.moment.is_settled:
            return Decision(0)
        aged = [row for row in found.part(DoomedFound).passages if self._is_aged(row)]
        return Decision(len(aged), [ForgottenPassage(row) for row in aged])

    def _is_aged(self, row: PassageRow) -> bool:
        return (row.closed_at if self._closed else row.updated_at) < self._before
