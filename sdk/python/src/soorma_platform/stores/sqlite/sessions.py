"""Sessions that become idle: loaded and written for the report of it."""

from __future__ import annotations

from typing import Any

from soorma_platform.engine.rows.passages import EPISODIC
from soorma_platform.engine.rows.sessions import (
    QuietSession,
    SessionFound,
    SessionNeed,
    SessionReported,
)
from soorma_platform.stores.sqlite.statements import Select, execute
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_session = Select("quiet_session", QuietSession)


def load(loading: Loading, need: SessionNeed) -> None:
    """Loads a session that may be idle."""
    scope = loading.scope
    loading.found.part(SessionFound).row = _session.one(
        loading.connection, scope.tenant_id, scope.user_id, EPISODIC, need.session_id
    )


def report(writing: Writing, row: SessionReported) -> None:
    """Notes that a session was reported."""
    execute(writing.connection, "report_session", row.number, row.newest)


LOADERS: dict[type[Any], Any] = {SessionNeed: load}
WRITERS: dict[type[Any], Any] = {SessionReported: report}
