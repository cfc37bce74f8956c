"""Invariants of a record, whoever was killed, frozen, cut off or late: as queries.

Each query finds violations of the invariant of its name. They hold of a platform's database while
it runs, too: see `check_file`. What a handler does through `context.immediate` or `bus.request` is
no part of its commit: a record with such handlers breaks `HANDLERS_ONLY`.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import apsw

from soorma_common.causes import NOBODY
from soorma_platform.engine.history import replay
from soorma_platform.engine.rows.plans import HistoryRow

PLANS = {
    "the revisions of a plan have no gap": """
        SELECT p.plan_id, p.horizon, p.revision, count(DISTINCT h.revision), max(h.revision)
        FROM plans p LEFT JOIN history h ON h.plan = p.id AND h.incarnation = p.incarnation \
AND h.revision > p.horizon
        GROUP BY p.id
        HAVING count(DISTINCT h.revision) <> p.revision - p.horizon \
OR max(h.revision) > p.revision""",
    "the operations of a commit have no gap": """
        SELECT p.plan_id, h.revision, count(*), max(h.seq)
        FROM history h JOIN plans p ON p.id = h.plan AND p.incarnation = h.incarnation
        WHERE h.revision > p.horizon GROUP BY p.id, h.revision HAVING count(*) <> max(h.seq) + 1""",
    "the sums of a plan are those of its rows": """
        SELECT p.plan_id, p.keys, p.size, p.actions FROM plans p
        LEFT JOIN held e ON e.plan = p.id AND e.incarnation = p.incarnation
        GROUP BY p.id
        HAVING p.keys <> count(e.key) \
OR p.size <> coalesce(sum(octet_length(e.key) + octet_length(e.value)), 0)
            OR p.actions <> (
                SELECT count(*) FROM history h
                WHERE h.plan = p.id AND h.incarnation = p.incarnation AND h.action IS NOT NULL)""",
    "a plan ends once": """
        SELECT p.plan_id, count(*) FROM history h JOIN plans p ON p.id = h.plan \
AND p.incarnation = h.incarnation
        WHERE h.op IN ('complete', 'fail', 'cancel') GROUP BY p.id HAVING count(*) > 1""",
    "an end is told once": """
        SELECT p.plan_id, p.status, count(e.position) FROM plans p
        LEFT JOIN events e ON e.tenant_id = p.tenant_id AND e.user_id = p.user_id \
AND e.plan_id = p.plan_id
            AND e.type = 'plan.' || p.status AND e.at = p.ended_uptime
        WHERE p.ended_at IS NOT NULL AND p.horizon = 0 AND (SELECT position FROM log_horizon) = 0
        GROUP BY p.id HAVING count(e.position) <> 1""",
    "one compensation of a plan is under way at a time": """
        SELECT p.plan_id, count(*) FROM compensations c JOIN plans p ON p.id = c.plan \
AND p.incarnation = c.incarnation
        WHERE c.state = 1 GROUP BY p.id HAVING count(*) > 1""",
    "compensations go backwards": """
        SELECT p.plan_id, c.seq, later.seq FROM compensations c
        JOIN plans p ON p.id = c.plan AND p.incarnation = c.incarnation
        JOIN compensations later ON later.plan = c.plan AND later.incarnation = c.incarnation \
AND later.seq > c.seq
        WHERE c.state > later.state AND later.seq < 10000 * coalesce((
            SELECT h.revision + 1 FROM history h
            WHERE h.plan = p.id AND h.incarnation = p.incarnation AND h.op = 'fail'), 0)""",
    "of a plan that is active or completed nothing is undone": """
        SELECT p.plan_id, c.event_id FROM compensations c
        JOIN plans p ON p.id = c.plan AND p.incarnation = c.incarnation
        WHERE c.state > 0 AND p.status IN ('active', 'completed')""",
}

DELIVERIES = {
    "a lane has one head": """
        SELECT g.name, d.lane, count(d.ready_at) FROM deliveries d \
JOIN groups g ON g.id = d.group_id
        WHERE d.lane IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM dead_letters l WHERE l.parked AND l.group_id = d.group_id \
AND l.lane = d.lane)
        GROUP BY d.group_id, d.lane HAVING count(d.ready_at) <> 1""",
    "what waits in a lane is in nobody's hands": """
        SELECT id, lane, fence, replica FROM deliveries
        WHERE ready_at IS NULL AND (fence IS NOT NULL OR replica IS NOT NULL)""",
    "who has a delivery has a "
    "fence": "SELECT id, replica FROM deliveries WHERE replica IS NOT NULL AND fence IS NULL",
    "a delivery is of an event, a group and a subscription": """
        SELECT d.id, d.position, d.group_id FROM deliveries d
        LEFT JOIN events e ON e.position = d.position
        LEFT JOIN subscriptions s ON s.id = d.subscription_id AND s.group_id = d.group_id
        WHERE e.position IS NULL OR s.id IS NULL""",
    "a dead letter is of an event": """
        SELECT l.id, l.position FROM dead_letters l LEFT JOIN events e ON e.position = l.position
        WHERE e.position IS NULL""",
    "what was given up is not delivered": """
        SELECT l.id, l.position FROM dead_letters l
        JOIN deliveries d ON d.position = l.position AND d.group_id = l.group_id \
WHERE NOT l.parked""",
    "a recorded step is of an event": """
        SELECT s.position, s.name FROM steps s LEFT JOIN events e ON e.position = s.position
        WHERE e.position IS NULL""",
    "a timer that has fired is gone": """
        SELECT t.event_id FROM timers t JOIN events e ON e.tenant_id = t.tenant_id \
AND e.event_id = t.event_id""",
}

ATTEMPTS = {
    "attempts are failures, deaths and those that ended without either": """
        SELECT id, attempt, failures, deaths, silences, cleared FROM deliveries
        WHERE failures + deaths > attempt OR silences > deaths OR cleared > deaths \
OR failures < 0 OR silences < 0""",
    "what is suspected has "
    "died": "SELECT id, deaths FROM deliveries WHERE suspect IS NOT NULL AND deaths <= cleared",
    "what was set aside is in no lane and in nobody's hands": """
        SELECT id, lane, replica, ready_at FROM deliveries
        WHERE aside IS NOT NULL AND (lane IS NOT NULL OR replica IS NOT NULL \
OR ready_at IS NOT NULL)""",
}

CAUSES = {
    "no event is without its cause": """
        SELECT c.type, c.event_id, c.envelope ->> '$.parent_event_id' FROM events c
        LEFT JOIN events p ON p.tenant_id = c.tenant_id \
AND p.event_id = c.envelope ->> '$.parent_event_id'
        WHERE c.envelope ->> '$.parent_event_id' IS NOT NULL \
AND (SELECT position FROM log_horizon) = 0
            AND (p.position IS NULL OR p.position > c.position)""",
    "no change is without its cause": """
        SELECT p.plan_id, h.revision, h.actor, h.event_id FROM history h
        JOIN plans p ON p.id = h.plan AND p.incarnation = h.incarnation
        LEFT JOIN events e ON e.tenant_id = p.tenant_id AND e.event_id = h.event_id
        WHERE h.event_id IS NOT NULL AND e.position IS NULL \
AND (SELECT position FROM log_horizon) = 0""",
}

HANDLERS_ONLY = {
    "no change is of an unsettled delivery": """
        SELECT p.plan_id, h.revision, h.actor, h.event_id FROM history h \
JOIN plans p ON p.id = h.plan
        JOIN events e ON e.tenant_id = p.tenant_id AND e.event_id = h.event_id
        JOIN groups g ON g.name = h.actor AND g.tenant_id IN ('', p.tenant_id)
        JOIN deliveries d ON d.position = e.position AND d.group_id = g.id""",
    "no event is of an unsettled delivery": """
        SELECT c.type, c.event_id, g.name FROM events c
        JOIN events p ON p.tenant_id = c.tenant_id \
AND p.event_id = c.envelope ->> '$.parent_event_id'
        JOIN groups g ON g.name = c.envelope ->> '$.source' AND g.tenant_id IN ('', c.tenant_id)
        JOIN deliveries d ON d.position = p.position AND d.group_id = g.id
        WHERE c.type <> 'event.dead_lettered'""",
    "no timer is of an unsettled delivery": """
        SELECT t.event_id, g.name FROM timers t
        JOIN events p ON p.tenant_id = t.tenant_id \
AND p.event_id = t.envelope ->> '$.parent_event_id'
        JOIN groups g ON g.name = t.envelope ->> '$.source' AND g.tenant_id IN ('', t.tenant_id)
        JOIN deliveries d ON d.position = p.position AND d.group_id = g.id""",
    "a handler changes a plan in one commit": """
        SELECT p.plan_id, h.actor, h.event_id, count(DISTINCT h.revision) FROM history h \
JOIN plans p ON p.id = h.plan
        WHERE h.event_id IS NOT NULL
        GROUP BY h.plan, h.incarnation, h.actor, h.event_id \
HAVING count(DISTINCT h.revision) > 1""",
    "a handler changes all its plans at once": """
        SELECT h.actor, h.event_id, min(h.at), max(h.at) FROM history h
        WHERE h.event_id IS NOT NULL GROUP BY h.actor, h.event_id HAVING min(h.at) <> max(h.at)""",
}

PURGED = {
    "what was cleared is gone or about to go": """
        SELECT kind, p.plan_id, rows.incarnation FROM (
            SELECT 'entry' AS kind, plan, incarnation FROM entries
            UNION SELECT 'history', plan, incarnation FROM history
            UNION SELECT 'base', plan, incarnation FROM bases
            UNION SELECT 'compensation', plan, incarnation FROM compensations) AS rows
        LEFT JOIN plans p ON p.id = rows.plan
        WHERE (p.id IS NULL OR p.incarnation <> rows.incarnation) AND NOT EXISTS (
            SELECT 1 FROM chores c
            WHERE c.plan = rows.plan AND c.incarnation = rows.incarnation \
AND c.kind IN ('sweep', 'purge'))""",
    "nothing is left of a purged plan": """
        SELECT p.plan_id, t.event_id, l.id, d.id FROM plans p
        JOIN history h ON h.plan = p.id AND h.incarnation = p.incarnation
            AND h.op = 'purge' AND h.revision = p.revision
        LEFT JOIN timers t ON t.tenant_id = p.tenant_id AND t.user_id = p.user_id \
AND t.plan_id = p.plan_id
        LEFT JOIN events e ON e.tenant_id = p.tenant_id AND e.user_id = p.user_id \
AND e.plan_id = p.plan_id
        LEFT JOIN dead_letters l ON l.position = e.position
        LEFT JOIN deliveries d ON d.position = e.position
        WHERE (t.id IS NOT NULL OR l.id IS NOT NULL OR d.id IS NOT NULL)
            AND NOT EXISTS (SELECT 1 FROM chores c WHERE c.plan = p.id AND c.kind = 'purge')""",
}

ALWAYS = {**PLANS, **DELIVERIES, **ATTEMPTS, **CAUSES, **PURGED}

AT_REST = {
    "nobody has anything left to do": """
        SELECT g.name, e.type, e.event_id, d.attempt, d.reason FROM deliveries d
        JOIN groups g ON g.id = d.group_id JOIN events e ON e.position = d.position""",
    "nothing was given up": """
        SELECT g.name, e.type, e.event_id, l.reason FROM dead_letters l
        JOIN groups g ON g.id = l.group_id JOIN events e ON e.position = l.position""",
    "no timer waits": "SELECT event_id, due_at FROM timers",
    "what failed is undone": """
        SELECT p.plan_id, c.event_id, c.state FROM compensations c
        JOIN plans p ON p.id = c.plan AND p.incarnation = c.incarnation WHERE p.status = 'failed' \
AND c.state <> 2""",
    "nothing is left to sweep": "SELECT kind, plan, incarnation FROM chores WHERE kind <> 'trim'",
}
"""Further invariants once all is done, for agents that give nothing up."""

_HISTORY = """
    SELECT h.plan, h.revision, h.seq, h.op, h.key, h.argument
    FROM history h JOIN plans p ON p.id = h.plan AND p.incarnation = h.incarnation
    WHERE h.key IS NOT NULL AND h.revision > p.horizon ORDER BY h.plan, h.revision, h.seq"""
_BASES = """
    SELECT b.plan, b.key, b.value FROM bases b JOIN plans p ON p.id = b.plan \
AND p.incarnation = b.incarnation"""
_ENTRIES = """
    SELECT p.id, p.plan_id, p.horizon, e.key, e.value, e.revision
    FROM held e JOIN plans p ON p.id = e.plan AND p.incarnation = e.incarnation"""


def broken(
    connection: apsw.Connection, *, at_rest: bool = False, handlers_only: bool = True
) -> list[str]:
    """Lists the violations in a record, a line each."""
    queries = {**ALWAYS, **(HANDLERS_ONLY if handlers_only else {}), **(AT_REST if at_rest else {})}
    found = [
        f"not so: {name}: {row}"
        for name, query in queries.items()
        for row in connection.execute(query)
    ]
    return found + rebuilt_otherwise(connection)


def broken_attempts(connection: apsw.Connection) -> list[str]:
    """Lists the violations in the counts of deliveries, a line each."""
    return [
        f"not so: {name}: {row}"
        for name, query in ATTEMPTS.items()
        for row in connection.execute(query)
    ]


def rebuilt_otherwise(connection: apsw.Connection) -> list[str]:
    """Lists the keys whose value or revision does not follow from their history."""
    values: dict[int, dict[str, tuple[str | None, int]]] = defaultdict(dict)
    for plan, key, value in connection.execute(_BASES):
        values[plan][key] = (value, 0)
    for plan, revision, seq, op, key, argument in connection.execute(_HISTORY):
        row = HistoryRow(revision, seq, op, key, argument, 0, NOBODY)
        assert row.key is not None
        before = values[plan].get(row.key, (None, 0))[0]
        values[plan][row.key] = (replay(row, before), row.revision)
    found = []
    for plan, plan_id, horizon, key, value, revision in connection.execute(_ENTRIES):
        rebuilt, changed = values[plan].pop(key, (None, 0))
        if rebuilt != value or (changed != revision and revision > horizon):
            found.append(f"not so: values are those of the history: {plan_id} {key}: {value} at "
                         f"{revision}, but by "
                         f"its history {rebuilt} at {changed}")  # fmt: skip
    for plan, left in values.items():
        found += [
            f"not so: values are those of the history: plan {plan} lacks {key}, by its history "
            f"{text}"
            for key, (text, _) in left.items()
            if text is not None
        ]
    return found


def check(connection: apsw.Connection, **how: Any) -> None:
    """Fails with all that is wrong with a record; see `broken`."""
    found = broken(connection, **how)
    assert not found, "\n".join(found)


def check_file(path: Path, **how: Any) -> None:
    """Checks a platform's database, which may be running: it sees the state of one commit."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.execute("BEGIN")
        check(connection, **how)
    finally:
        connection.close()
