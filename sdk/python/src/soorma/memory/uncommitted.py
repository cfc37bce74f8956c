"""Memories as they will be read once a transaction has committed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from soorma_common.episodic import LogInteraction, NameSession, Said, SessionInfo
from soorma_common.memories import AnyMemoryOperation
from soorma_common.semantic import (
    ForgetKnowledge,
    Passage,
    StoreKnowledge,
    UpdateKnowledge,
    fields_of,
)

UNCOMMITTED = 0
"""The revision of a passage that the transaction has stored and not committed yet."""
_ALWAYS = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


def said(operation: LogInteraction, agent_id: str | None) -> Said:
    """Returns an interaction that is not logged yet, as it will be read."""
    return Said(
        id=operation.id or "",
        number=None,
        agent_id=agent_id or operation.agent_id,
        role=operation.role,
        content=operation.content,
        created_at=None,
        trust="agent" if agent_id else "application",
        session_id=operation.session_id,
        metadata=fields_of(operation.metadata),
        plan_id=operation.plan_id,
    )


def session(
    before: SessionInfo | None, session_id: str, operations: list[AnyMemoryOperation]
) -> SessionInfo | None:
    """Returns a session as the operations of a transaction leave it; None if there is none."""
    for one in operations:
        if isinstance(one, LogInteraction) and one.session_id == session_id:
            if before is None:
                before = SessionInfo(
                    session_id=session_id,
                    number=None,
                    interactions=0,
                    created_at=None,
                    updated_at=None,
                )
            before = replace(before, interactions=before.interactions + 1)
        elif isinstance(one, NameSession) and one.id == session_id and before is not None:
            before = replace(before, name=one.name)
    return before


def passage(operation: StoreKnowledge, agent_id: str | None) -> Passage:
    """Returns a passage that is not stored yet, as it will be read."""
    return Passage(
        id=operation.id or "",
        content=operation.content.strip(),
        revision=UNCOMMITTED,
        created_at=None,
        updated_at=None,
        trust="agent" if agent_id else "application",
        external_id=operation.external_id,
        aliases=operation.aliases,
        tags=operation.tags,
        metadata=fields_of(operation.metadata),
        source=operation.source,
        is_public=operation.is_public and agent_id is None,
        is_proposed=operation.is_public and agent_id is not None,
        valid_from=_moment(operation.valid_from),
        valid_until=_moment(operation.valid_until),
        subject=operation.subject,
        attribute=operation.attribute,
        derived_from=operation.derived_from,
        stated=0 if operation.is_recalled else 1,
        is_recalled=operation.is_recalled,
        plan_id=operation.plan_id,
    )


def after(before: Passage, operation: AnyMemoryOperation, agent_id: str | None) -> Passage:
    """Returns a passage as an operation of the transaction leaves it."""
    if isinstance(operation, StoreKnowledge):
        return _replaced(before, operation, agent_id)
    if not isinstance(operation, UpdateKnowledge) or operation.id != before.id:
        return before
    changed: dict[str, Any] = {
        name: given
        for name in ("aliases", "tags", "source")
        if (given := getattr(operation, name)) is not msgspec.UNSET
    }
    if operation.metadata is not msgspec.UNSET:
        changed["metadata"] = fields_of(operation.metadata)
    for name in ("valid_from", "valid_until"):
        if (text := getattr(operation, name)) is not msgspec.UNSET:
            changed[name] = _moment(text)
    return replace(before, **changed)


def is_left(
    before: Passage, operation: AnyMemoryOperation, agent_id: str | None, at: datetime
) -> bool:
    """Returns whether a passage that is true at a time still is after an operation."""
    if isinstance(operation, ForgetKnowledge) and operation.id == before.id:
        return False
    left = after(before, operation, agent_id)
    if isinstance(operation, StoreKnowledge) and left.closed_by != before.closed_by:
        start = _moment(operation.valid_from)
        if start is None or start <= (before.valid_from or _ALWAYS):
            return False  # it is closed
    return _is_true(left, at)


def later_of(before: Passage | None, stored: Passage, at: datetime) -> Passage | None:
    """Returns which of two passages of one name is true at a time: the one that begins later.

    The user's own comes before a public one.
    """
    if not _is_true(stored, at):
        return before
    if before is not None and before.is_public != stored.is_public:
        return before if stored.is_public else stored
    if before is None or stored.valid_from is None:
        return stored
    return stored if stored.valid_from >= (before.valid_from or _ALWAYS) else before


def _is_true(passage: Passage, at: datetime) -> bool:
    return (passage.valid_from or _ALWAYS) <= at < (passage.valid_until or _NEVER)


def _replaced(passage: Passage, operation: StoreKnowledge, agent_id: str | None) -> Passage:
    """Returns a passage as another one leaves it, which may end it or close it."""
    pair = (operation.subject, operation.attribute)
    is_public = operation.is_public and agent_id is None
    is_alike = passage.is_public == is_public and (
        (operation.external_id is not None and operation.external_id == passage.external_id)
        or (operation.subject is not None and pair == (passage.subject, passage.attribute))
    )
    is_named = operation.supersedes == passage.id
    if operation.id == passage.id or passage.closed_at is not None or not (is_alike or is_named):
        return passage
    start, end = _moment(operation.valid_from) or _ALWAYS, _moment(operation.valid_until) or _NEVER
    first, last = passage.valid_from or _ALWAYS, passage.valid_until or _NEVER
    if not is_named and (last <= start or end <= first or _ALWAYS < start < first):
        return passage
    until = min(start, last) if first < start else last
    return replace(
        passage,
        closed_by=operation.id,
        valid_until=None if until == _NEVER else until,
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
