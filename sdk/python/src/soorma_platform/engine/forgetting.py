"""Forgetting of many memories: some of them in each commit, with all that goes with them."""

from __future__ import annotations

from collections.abc import Mapping

from soorma_common.names import Scope
from soorma_platform.engine.commands import Decision, Need, Snapshot, Writes
from soorma_platform.engine.rows.audit_log import AuditLogRow, Author, audit_row
from soorma_platform.engine.rows.passages import (
    EPISODIC,
    PROCEDURAL,
    SEMANTIC,
    DoomedFound,
    DoomedNeed,
    ForgottenPassage,
)


class ForgetSome:
    """The forgetting of memories by their numbers; its outcome counts them by kind of collection.

    Those that they have replaced, and all that was derived from them, go with them. `what`
    describes them for the audit, and holds nothing of them: rows of the audit stay.
    """

    def __init__(
        self, scope: Scope, numbers: list[int], author: Author, what: str | None = None
    ) -> None:
        self.scope = scope
        self._numbers = numbers
        self._author = author
        self._what = what

    def needs(self) -> list[Need]:
        return [DoomedNeed(self._numbers)]

    def decide(self, found: Snapshot) -> Decision[Mapping[int, int]]:
        doomed = found.part(DoomedFound)
        writes: Writes = [ForgottenPassage(row) for row in doomed.passages]
        if writes:
            writes.append(self._noted(doomed.kinds, found.now))
        return Decision(doomed.kinds, writes)

    def _noted(self, kinds: Mapping[int, int], now: int) -> AuditLogRow:
        return audit_row(
            "memories.forgotten", self.scope, self._author, now, self._what,
            passages=kinds.get(SEMANTIC), interactions=kinds.get(EPISODIC),
            procedures=kinds.get(PROCEDURAL),
        )  # fmt: skip
