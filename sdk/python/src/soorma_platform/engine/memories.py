"""Changes of a user's memories within a commit, of whatever kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from soorma_common.causes import Cause
from soorma_common.episodic import LogInteraction, NameSession
from soorma_common.events import Envelope
from soorma_common.limits import Limits
from soorma_common.memories import AnyMemoryOperation
from soorma_common.names import Scope
from soorma_common.procedural import AnyProcedureOperation, StoreProcedure
from soorma_common.semantic import MemoryDone, StoreKnowledge
from soorma_common.topics import Topic
from soorma_platform.engine import episodic, procedural, semantic
from soorma_platform.engine.commands import Need, Snapshot, Writes
from soorma_platform.engine.episodic import Logging, PreparedInteraction
from soorma_platform.engine.procedural import Practising
from soorma_platform.engine.publishing import publish
from soorma_platform.engine.quarantine import Sourced
from soorma_platform.engine.rows.events import Audience, EventRow, EventsNeed
from soorma_platform.engine.rows.passages import MemoriesFound, MemoriesNeed
from soorma_platform.engine.rows.procedures import ProceduresFound, ProceduresNeed
from soorma_platform.engine.rows.quarantines import OriginsFound, OriginsNeed
from soorma_platform.engine.semantic import Knowing

Change: TypeAlias = semantic.Change | PreparedInteraction | NameSession | procedural.Change
STORED = "memory.stored"
"""The type of the event, on system-events, that tells of what a commit has stored."""


def adds(operations: Iterable[AnyMemoryOperation]) -> bool:
    """Returns whether any of the operations stores something."""
    storing = StoreKnowledge | LogInteraction | StoreProcedure
    return any(isinstance(one, storing) for one in operations)


class StoredEvent:
    """The event of a commit that stores something in memories, for whoever subscribes to it.

    It names ids, never content. `cause` is that of the commit.
    """

    def __init__(self, event_id: str, scope: Scope, cause: Cause) -> None:
        self._scope = scope
        self._cause = cause
        self._event = Envelope(
            type=STORED,
            topic=Topic.SYSTEM_EVENTS.value,
            id=event_id,
            tenant_id=scope.tenant_id,
            user_id=scope.user_id,
            source=cause.actor,
            correlation_id=cause.correlation_id,
            trace_id=cause.trace_id,
            parent_event_id=cause.event_id,
        )

    def need(self) -> EventsNeed:
        """Returns what has to be known of it: who subscribes to it."""
        return EventsNeed([(self._event.id or "", self._event.topic, self._event.type)], set())

    def row(
        self,
        changes: Sequence[Change],
        done: Sequence[MemoryDone],
        plan_id: str | None,
        found: Snapshot,
    ) -> EventRow | None:
        """Returns its row, with deliveries; None if nobody is to get it.

        A group does not get what its own handler has stored: it would hear itself for ever.
        """
        subscribers = found.part(Audience).subscribers[self._event.topic, self._event.type]
        others = [one for one in subscribers if one.group != self._cause.actor]
        stored: dict[str, list[str]] = {"knowledge": [], "interactions": [], "procedures": []}
        for change, one in zip(changes, done, strict=True):
            if one.outcome in ("stored", "restated", "recalled", "logged"):
                stored[_kind_of(change)].append(one.id)
        if not others or not any(stored.values()):
            return None
        sessions = {
            change.operation.session_id: None
            for change in changes
            if isinstance(change, PreparedInteraction) and change.operation.session_id is not None
        }
        data = {**stored, "sessions": list(sessions), "plan_id": plan_id}
        event = msgspec.structs.replace(self._event, data=msgspec.Raw(msgspec.json.encode(data)))
        row = publish(event, self._scope, found, None)
        if row is not None:
            groups = {one.group_id for one in others}
            row.deliveries = [one for one in row.deliveries if one.group_id in groups]
        return row


def _kind_of(change: Change) -> str:
    if isinstance(change, PreparedInteraction):
        return "interactions"
    return "procedures" if isinstance(change, procedural.Change) else "knowledge"


def prepare(operation: AnyMemoryOperation, agent_id: str | None = None) -> Change:
    """Computes what can be computed before the transaction.

    For a mebibyte of text this takes tens of milliseconds. `agent_id` is that of the handler.
    """
    if isinstance(operation, LogInteraction):
        return episodic.prepare(operation, agent_id)
    if isinstance(operation, AnyProcedureOperation):
        return procedural.prepare(operation)
    if isinstance(operation, NameSession):
        return operation
    return semantic.prepare(operation)


def needs_of(changes: Iterable[Change], reads: Iterable[str] = ()) -> list[Need]:
    """Returns what the changes need to know, and the passages that were read."""
    need, procedures = MemoriesNeed(ids=set(reads)), ProceduresNeed()
    origins = OriginsNeed()
    for change in changes:
        if isinstance(change, semantic.PreparedPassage | procedural.PreparedProcedure):
            origins.ids.update(change.operation.derived_from)
        if isinstance(change, PreparedInteraction):
            need.interactions.add(change.operation.id or "")
        elif isinstance(change, NameSession):
            need.sessions.add(change.id)
        elif isinstance(change, procedural.Change):
            procedural.add_need(procedures, change)
        else:
            semantic.add_need(need, change)
    needs: list[Need] = [need]
    if procedures.keys:
        needs.append(procedures)
    if procedures.keys or need.is_of_knowledge:
        needs.append(origins)
    return needs


def stored_by(changes: Iterable[Change]) -> dict[str, Sourced]:
    """Returns where that comes from which changes store, by id."""
    return {
        change.operation.id or "": Sourced(change.operation.source, change.operation.derived_from)
        for change in changes
        if isinstance(change, semantic.PreparedPassage | procedural.PreparedProcedure)
    }


class Remembering:
    """The decision on the changes of one commit, each on what the earlier ones left."""

    def __init__(
        self,
        changes: Sequence[Change],
        found: Snapshot,
        cause: Cause,
        plan_id: str | None,
        limits: Limits,
        *,
        by_handler: bool,
        user_id: str,
    ) -> None:
        memories = found.part(MemoriesFound)
        stored = stored_by(changes)
        self._changes = changes
        self._knowing = Knowing(
            memories,
            found.part(OriginsFound),
            found.now,
            cause,
            plan_id,
            limits,
            by_handler=by_handler,
            user_id=user_id,
            stored=stored,
        )
        self._logging = Logging(
            memories.logged,
            memories.sessions,
            found.now,
            cause,
            plan_id,
            by_handler=by_handler,
            uptime=found.uptime,
        )
        self._practising = Practising(
            found.part(ProceduresFound),
            self._knowing.origins,
            found.now,
            cause,
            plan_id,
            limits,
            by_handler=by_handler,
            user_id=user_id,
        )

    def check_reads(self, reads: Mapping[str, int]) -> None:
        """Raises Conflict unless these passages are at the revisions read (0: missing)."""
        self._knowing.check_reads(reads)

    def decide(self) -> list[MemoryDone]:
        """Returns the result of each change."""
        return [self._decided(change) for change in self._changes]

    def _decided(self, change: Change) -> MemoryDone:
        if isinstance(change, PreparedInteraction):
            return self._logging.log(change)
        if isinstance(change, NameSession):
            return self._logging.name(change)
        if isinstance(change, procedural.Change):
            return self._practising.decide(change)
        return self._knowing.decide(change)

    def writes(self) -> Writes:
        """Returns the rows to write."""
        stored = [*self._knowing.writes(), *self._logging.writes, *self._practising.writes]
        return [*stored, *self._knowing.added]
