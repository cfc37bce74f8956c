"""The rows of the audit that a commit has: of the plans it deletes, and the passages it forgets."""

from __future__ import annotations

from collections.abc import Iterator

from soorma_common.memory import Commit, Committed
from soorma_common.names import Scope
from soorma_common.operations import Cleanup
from soorma_common.semantic import ForgetKnowledge
from soorma_platform.engine.rows.audit_log import AuditLogRow, Author, audit_row


def removals(
    commit: Commit, committed: Committed, scope: Scope, author: Author
) -> Iterator[AuditLogRow]:
    """Yields the rows of a commit that was not made in a handler, and so has its results."""
    for part, done in zip(commit.plans, committed.plans, strict=True):
        for operation, result in zip(part.operations, done.results, strict=True):
            if isinstance(operation, Cleanup):
                yield audit_row(
                    "plan.deleted", scope, author, committed.at, part.plan_id,
                    keys=int(bytes(result)),
                )  # fmt: skip
    if commit.memories:
        yield from _forgotten(commit, committed, scope, author)


def _forgotten(
    commit: Commit, committed: Committed, scope: Scope, author: Author
) -> Iterator[AuditLogRow]:
    ids = [
        done.id
        for operation, done in zip(commit.memories, committed.memories or (), strict=True)
        if isinstance(operation, ForgetKnowledge) and done.outcome == "forgotten"
    ]
    if ids:
        subject = ids[0] if len(ids) == 1 else None
        yield audit_row(
            "memories.forgotten", scope, author, committed.at, subject, passages=len(ids)
        )
