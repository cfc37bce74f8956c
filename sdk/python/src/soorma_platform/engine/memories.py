"""Changes of a user's memories within a commit, of whatever kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from soorma_common.causes import Cause
from soorma_common.episodic import LogInteraction
from soorma_common.limits import Limits
from soorma_common.memories import AnyMemoryOperation
from soorma_common.semantic import MemoryDone
from soorma_platform.engine import episodic, semantic
from soorma_platform.engine.commands import Writes
from soorma_platform.engine.episodic import Logging, PreparedInteraction
from soorma_platform.engine.rows.passages import MemoriesFound, MemoriesNeed
from soorma_platform.engine.semantic import Knowing

Change: TypeAlias = semantic.Change | PreparedInteraction


def prepare(
    operation: AnyMemoryOperation, *, by_handler: bool, agent_id: str | None = None
) -> Change:
    """Computes what can be computed before the transaction.

    For a mebibyte of text this takes tens of milliseconds. `agent_id` is that of the handler.
    """
    if isinstance(operation, LogInteraction):
        return episodic.prepare(operation, agent_id)
    return semantic.prepare(operation, by_handler=by_handler)


def need_of(changes: Iterable[Change], reads: Iterable[str] = ()) -> MemoriesNeed:
    """Returns what the changes need to know, and the passages that were read."""
    need = MemoriesNeed(ids=set(reads))
    for change in changes:
        if isinstance(change, PreparedInteraction):
            need.interactions.add(change.operation.id or "")
        else:
            semantic.add_need(need, change)
    return need


class Remembering:
    """The decision on the changes of one commit, each on what the earlier ones left."""

    def __init__(
        self,
        found: MemoriesFound,
        now: int,
        cause: Cause,
        plan_id: str | None,
        limits: Limits,
        *,
        by_handler: bool,
        user_id: str,
    ) -> None:
        self._knowing = Knowing(
            found, now, cause, plan_id, limits, by_handler=by_handler, user_id=user_id
        )
        self._logging = Logging(found.logged, now, cause, plan_id, by_handler=by_handler)

    def check_reads(self, reads: Mapping[str, int]) -> None:
        """Raises Conflict unless these passages are at the revisions read (0: missing)."""
        self._knowing.check_reads(reads)

    def decide(self, changes: Sequence[Change]) -> list[MemoryDone]:
        """Returns the result of each change."""
        return [
            self._logging.log(change)
            if isinstance(change, PreparedInteraction)
            else self._knowing.decide(change)
            for change in changes
        ]

    def writes(self) -> Writes:
        """Returns the rows to write."""
        return [*self._knowing.writes(), *self._logging.writes]
