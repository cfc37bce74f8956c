"""Forgetting of many memories: some of them in each commit, with all that goes with them."""

from __future__ import annotations

from typing import NamedTuple

from soorma_common.names import Scope
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.passages import DoomedFound, DoomedNeed, ForgottenPassage


class Forgotten(NamedTuple):
    """How many passages and interactions were forgotten."""

    passages: int = 0
    interactions: int = 0

    def plus(self, other: Forgotten) -> Forgotten:
        """Returns the sum of two counts."""
        return Forgotten(self.passages + other.passages, self.interactions + other.interactions)


class ForgetSome:
    """The forgetting of memories by their numbers.

    Those that they have replaced, and all that was derived from them, go with them.
    """

    def __init__(self, scope: Scope, numbers: list[int]) -> None:
        self.scope = scope
        self._numbers = numbers

    def needs(self) -> list[Need]:
        return [DoomedNeed(self._numbers)]

    def decide(self, found: Snapshot) -> Decision[Forgotten]:
        doomed = found.part(DoomedFound)
        count = Forgotten(len(doomed.passages) - doomed.interactions, doomed.interactions)
        return Decision(count, [ForgottenPassage(row) for row in doomed.passages])
