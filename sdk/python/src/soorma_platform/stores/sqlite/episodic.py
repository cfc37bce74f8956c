"""Episodic memory: interactions and their sessions, written for commands, and read."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import apsw

from soorma_common.names import Scope
from soorma_platform.engine.rows.interactions import (
    InteractionRow,
    NewInteraction,
    SessionNamed,
    SessionRow,
)
from soorma_platform.engine.rows.passages import (
    ALWAYS,
    EPISODIC,
    NEVER,
    MemoriesFound,
    MemoriesNeed,
    PassageRow,
)
from soorma_platform.stores.ports.semantic import Collections
from soorma_platform.stores.sqlite import collections
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.quarantines import origins_for
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value
from soorma_platform.stores.sqlite.transactions import Writing

_to_user = Select("said_to_user", InteractionRow)
_by_agent = Select("said_by_agent", InteractionRow)
_in_session = Select("said_in_session", InteractionRow)
_said = Select("said", InteractionRow)
_sessions = Select("sessions_before", SessionRow)
_session = Select("session", SessionRow)
_insert = Mutation("insert_interaction", "passage", "collection", "session", InteractionRow)


def load(
    connection: apsw.Connection, scope: Scope, need: MemoriesNeed, found: MemoriesFound
) -> None:
    """Loads which interactions are logged already, and which sessions have begun."""
    own = _own(connection, scope)
    if own is None:
        return
    found.logged = {
        one
        for one in need.interactions
        if value(connection, "passage_by_id", own.id, one) is not None
    }
    found.sessions = {
        one for one in need.sessions if value(connection, "session_number", own.id, one) is not None
    }


def append(writing: Writing, new: NewInteraction) -> None:
    """Appends an interaction."""
    connection, row, scope = writing.connection, new.row, writing.scope
    within = collections.of(connection, scope.tenant_id, scope.user_id, EPISODIC)
    passage = PassageRow(
        row.id, b"", row.recorded_at, row.recorded_at, row.trust, scope.user_id, row.cause,
        collection=within,
        metadata=row.metadata, plan_id=row.plan_id,
    )  # fmt: skip
    number: int = collections.insert.value(connection, passage, row.content)
    session = None
    if row.session_id is not None:
        times = (row.recorded_at, new.uptime)
        session = value(connection, "begin_session", within, row.session_id, *times)
        execute(connection, "count_interactions", session, 1, row.recorded_at)
    _insert.run(connection, number, within, session, row)
    counts = (row.recorded_at, NEVER, ALWAYS, NEVER)
    collections.put_parts(writing, within, number, new.parts, counts)


def name(writing: Writing, named: SessionNamed) -> None:
    """Names a session."""
    connection, scope = writing.connection, writing.scope
    within = collections.of(connection, scope.tenant_id, scope.user_id, EPISODIC)
    session = value(connection, "session_number", within, named.session_id)
    execute(connection, "name_session", session, named.name)


def remove(connection: apsw.Connection, number: int) -> None:
    """Removes what makes a passage an interaction; a session that is empty then ends."""
    session = value(connection, "session_of", number)
    execute(connection, "remove_interaction", number)
    if session is not None:
        execute(connection, "count_interactions", session, -1, 0)
        execute(connection, "end_empty_session", session)


class SqliteEpisodic:
    """The port of episodic memory."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def collections(self, scope: Scope) -> Collections:
        with self._connections.reads() as connection:
            own = _own(connection, scope)
            quarantined = origins_for(connection, scope)
        return Collections(own, None, self._connections.now(), quarantined)

    async def history(
        self,
        scope: Scope,
        session_id: str | None,
        agent_id: str | None,
        before: int | None,
        limit: int,
    ) -> tuple[builtins.list[InteractionRow], bool]:
        until, most = NEVER if before is None else before, limit + 1
        whose = (scope.tenant_id, scope.user_id)
        with self._connections.reads(together=True) as connection:
            own = _own(connection, scope)
            if own is None:
                return [], False
            if session_id is None and agent_id is None:
                rows, is_cut = _to_user.page(connection, own.id, until, most, *whose, size=_size)
            elif session_id is None:
                rows, is_cut = _by_agent.page(
                    connection, own.id, until, most, agent_id, *whose, size=_size
                )
            else:
                session = value(connection, "session_number", own.id, session_id)
                rows, is_cut = _in_session.page(
                    connection, session, until, most, agent_id, *whose, size=_size
                )
            return rows[:limit], is_cut or len(rows) > limit

    async def said(self, numbers: Sequence[int]) -> dict[int, InteractionRow]:
        with self._connections.reads() as connection:
            found = (_said.one(connection, number) for number in numbers)
            return {row.number: row for row in found if row is not None and row.number is not None}

    async def interaction(self, scope: Scope, interaction_id: str) -> InteractionRow | None:
        with self._connections.reads(together=True) as connection:
            own = _own(connection, scope)
            number = own and value(connection, "passage_by_id", own.id, interaction_id)
            return None if number is None else _said.one(connection, number)

    async def sessions(
        self, scope: Scope, before: int | None, limit: int
    ) -> builtins.list[SessionRow]:
        with self._connections.reads(together=True) as connection:
            own = _own(connection, scope)
            until = NEVER if before is None else before
            return [] if own is None else _sessions.all(connection, own.id, until, limit)

    async def session(self, scope: Scope, session_id: str) -> SessionRow | None:
        with self._connections.reads(together=True) as connection:
            own = _own(connection, scope)
            return None if own is None else _session.one(connection, own.id, session_id)


def _own(connection: apsw.Connection, scope: Scope) -> Any:
    return collections.collection.one(connection, scope.tenant_id, scope.user_id, EPISODIC)


def _size(row: InteractionRow) -> int:
    return len(row.content)


WRITERS: dict[type[Any], Any] = {NewInteraction: append, SessionNamed: name}
LOADERS: dict[type[Any], Any] = {}
