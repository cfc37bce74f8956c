"""Episodic memory: what logging an interaction does, as part of a commit."""

from __future__ import annotations

import msgspec

from soorma_common.causes import Cause
from soorma_common.episodic import LogInteraction, NameSession
from soorma_common.errors import Forbidden, InvalidRequest, NotFound
from soorma_common.semantic import MemoryDone, fields_of, object_text
from soorma_platform.engine.retrieval import terms
from soorma_platform.engine.retrieval.splitting import split
from soorma_platform.engine.rows.interactions import (
    InteractionRow,
    NewInteraction,
    SessionNamed,
)
from soorma_platform.engine.rows.passages import NewPart


class PreparedInteraction(msgspec.Struct):
    """An interaction to be logged, with what can be computed before the transaction."""

    operation: LogInteraction
    parts: list[NewPart]


def prepare(operation: LogInteraction, agent_id: str | None) -> PreparedInteraction:
    """Tokenizes an interaction. One by a handler is that of its agent, `agent_id`."""
    operation.agent_id = agent_id or operation.agent_id
    labels = filters(operation.agent_id, operation.session_id, operation.role)
    labels += terms.labels((), None, fields_of(operation.metadata))
    parts = []
    for number, (start, end) in enumerate(split(operation.content)):
        packed, length = terms.packed(operation.content[start:end], labels)
        parts.append(NewPart(number, start, end, length, packed))
    return PreparedInteraction(operation, parts)


def filters(agent_id: str | None, session_id: str | None, role: str | None) -> list[int]:
    """Returns the labels by which interactions are filtered."""
    named = (("agent", agent_id), ("session", session_id), ("role", role))
    return [terms.label(what, name) for what, name in named if name is not None]


class Logging:
    """The decision on the interactions of one commit: they are appended, whatever there is."""

    def __init__(
        self,
        logged: set[str],
        sessions: set[str],
        now: int,
        cause: Cause,
        plan_id: str | None,
        *,
        by_handler: bool,
        uptime: int = 0,
    ) -> None:
        self._logged = set(logged)
        self._sessions = set(sessions)
        self._now = now
        self._uptime = uptime
        self._cause = cause
        self._plan_id = plan_id
        self._by_handler = by_handler
        self.writes: list[NewInteraction | SessionNamed] = []

    def log(self, prepared: PreparedInteraction) -> MemoryDone:
        """Appends one interaction."""
        operation = prepared.operation
        if self._by_handler and operation.role == "system":
            raise Forbidden(
                "a handler logs what a user, an assistant or a tool has said; what is said as the "
                "system is logged by an application"
            )
        interaction_id = operation.id or ""
        if interaction_id in self._logged:
            raise InvalidRequest(
                f"an interaction with the id {interaction_id!r} is logged already; give this one "
                "its own id, or none"
            )
        self._logged.add(interaction_id)
        if operation.session_id is not None:
            self._sessions.add(operation.session_id)
        row = InteractionRow(
            interaction_id,
            operation.role,
            operation.content,
            self._now,
            "agent" if self._by_handler else "application",
            self._cause,
            operation.agent_id,
            operation.session_id,
            object_text(operation.metadata),
            operation.plan_id or self._plan_id,
        )
        self.writes.append(NewInteraction(row, prepared.parts, self._uptime))
        return MemoryDone(interaction_id, "logged")

    def name(self, operation: NameSession) -> MemoryDone:
        """Names a session, or takes its name away."""
        if operation.id not in self._sessions:
            raise NotFound(f"there is no session {operation.id!r}: nothing was logged in it")
        self.writes.append(SessionNamed(operation.id, operation.name))
        # Without the id: results are kept, for repeated requests, and users may forget a session.
        return MemoryDone("", "named")
