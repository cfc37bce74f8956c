"""The outcome of a run as far as it is the same in each: from the record, without ids and times."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

_QUERIES = {
    "plans": "SELECT plan_id, status, outcome FROM plans",
    "values": """
        SELECT p.plan_id, e.key, e.value FROM held e
        JOIN plans p ON p.id = e.plan AND p.incarnation = e.incarnation""",
    "changes": """
        SELECT p.plan_id, h.op, h.key, \
CASE WHEN h.op NOT IN ('deadline', 'compensate') THEN h.argument END,
            h.actor, cause.type, cause.envelope ->> '$.data'
        FROM history h JOIN plans p ON p.id = h.plan AND p.incarnation = h.incarnation
        LEFT JOIN events cause ON cause.event_id = h.event_id""",
    "events": """
        SELECT e.plan_id, e.topic, e.type, e.envelope ->> '$.data', e.envelope ->> '$.source', \
cause.type
        FROM events e \
LEFT JOIN events cause ON cause.event_id = e.envelope ->> '$.parent_event_id'""",
    "compensations": """
        SELECT p.plan_id, c.state, count(*) FROM compensations c
        JOIN plans p ON p.id = c.plan AND p.incarnation = c.incarnation GROUP BY p.id, c.state""",
    "timers": "SELECT plan_id, envelope ->> '$.type' FROM timers",
    "dead letters": "SELECT e.type, l.reason FROM dead_letters l JOIN events e ON e.position = "
    "l.position",
    "passages": """
        SELECT p.content, p.external_id, p.tags, p.source, p.trust, p.stated, p.revision,
            p.closed_at < 1 << 62, p.plan_id, p.cause ->> '$.actor', e.type,
            (SELECT count(*) FROM passage_parts t WHERE t.passage = p.number),
            (SELECT count(*) FROM restatements r WHERE r.passage = p.number),
            (SELECT count(*) FROM passage_sources f WHERE f.passage = p.number)
        FROM passages p LEFT JOIN events e ON e.event_id = p.cause ->> '$.event_id'""",
    "interactions": """
        SELECT p.content, i.agent_id, i.role, s.session_id, s.interactions
        FROM interactions i JOIN passages p ON p.number = i.passage
        LEFT JOIN sessions s ON s.number = i.session""",
    "left to do": "SELECT e.type FROM deliveries d JOIN events e ON e.position = d.position",
}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""An id that is drawn anew in each run."""
_IN_ORDER = {
    "actions": """
        SELECT h.argument FROM history h JOIN plans p ON p.id = h.plan \
AND p.incarnation = h.incarnation
        WHERE h.action IS NOT NULL ORDER BY h.plan, h.action""",
}


def outcome(path: Path) -> dict[str, list[Any]]:
    """All that a record says, each kind in an order of its own, and the actions in theirs.

    Only where a fan-in notes who has arrived, the order of arrival is left out. The id of a plan is
    that of a run: it is shown by its number.
    """
    with _reading(path) as connection:
        connection.execute("BEGIN")
        plans = [row[0] for row in connection.execute("SELECT plan_id FROM plans ORDER BY id")]
        found = {
            name: sorted(_rows(connection, query, plans), key=repr)
            for name, query in _QUERIES.items()
        }
        return found | {name: _rows(connection, query, plans) for name, query in _IN_ORDER.items()}


def has_step(path: Path, data: str) -> bool:
    """True if the result of a step is recorded for an event with that text as its data."""
    query = (
        "SELECT 1 FROM steps s JOIN events e ON e.position = s.position WHERE e.envelope ->> "
        "'$.data' = ?"
    )
    with _reading(path) as connection:
        return connection.execute(query, (data,)).fetchone() is not None


@contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        yield connection
    finally:
        connection.close()


def _rows(connection: apsw.Connection, query: str, plans: list[str]) -> list[Any]:
    return [tuple(_known(column, plans) for column in row) for row in connection.execute(query)]


def _known(column: Any, plans: list[str]) -> Any:
    if not isinstance(column, str):
        return column
    for number, plan_id in enumerate(plans):
        column = column.replace(plan_id, f"plan {number}")
    column = _UUID.sub("an id", column)
    try:
        value = json.loads(column)
    except ValueError:
        return column
    if isinstance(value, dict) and "arrived" in value:
        value["arrived"].sort()
    return value
