"""Checks that no statement scans a table that grows, unless a reason is given here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import apsw
import pytest

from soorma_platform.stores.sqlite.database import SQL, migrations

APART = (
    "it runs in a thread and on a connection of its own (stores/sqlite/overview.py): neither "
    "loop nor writer waits"
)
START = "it runs once, before the platform serves anybody"
COPY = "it runs in the command, on a copy"
LOOK = "it runs in `soorma doctor`, reading only, and is interrupted when its time is over"
TESTS = "only tests and soorma.testing use it, on small records"

ALLOWED: dict[str, str] = {
    "contents": COPY,
    "suspected_groups": START,
    "count_usage_of_plans": START,
    "count_usage_of_passages": START,
    "count_usage_of_files": START,
    "group_standings": APART,
    "groups": APART,
    "group_replicas": APART,
    "aside_by_subscription": APART,
    "find_agents": APART,
    "newest_definitions": APART,
    "timers": APART,
    "procedures_after": APART,
    "users_of_tenant": APART,
    "audit_passages": APART + "; it looks at 200,000 rows at most",
    "audit_counts": APART + "; it looks at 200,000 rows at most",
    "changed_keys": APART + "; a fork uses it too, which is bounded by the limits of a plan",
    "doomed_passages": "it goes over what it has found itself, which the commit then removes",
    "derived_passages": "it goes over what it has found itself, which the commit then changes",
    "add_origins": "it goes over the origins of one memory, of which there are at most 1,000",
    "backlog": LOOK,
    "largest_searches": LOOK,
    "most_parts": LOOK,
    "most_procedures": LOOK,
    "proposals": LOOK,
    "quarantined": LOOK,
    "removals": LOOK,
    "outstanding": TESTS,
    "timer_times": TESTS,
    "group_ids": TESTS,
    "chores": "its LIMIT is 1: it takes the first row that comes",
    "origins_of": "it goes over what one id leads to in the collections of a user, five at most",
    "quarantines_of": "it sorts what is in quarantine for a user, of which there are at most 512",
    "passages_of_external_id": "it sorts the open passages of one external id",
    "passages_of_subject": "it sorts the open passages on one attribute of a subject",
    "exonerate": "suspects are what two dead processes had in hand",
    "find_subscription": "it sorts the groups of one name: one of the tenant, and one of all",
    "stands_in": "it sorts the subscriptions of one group, of which there are at most 1,000",
    "live_instances": "it sorts the instances of one agent, of which there are at most 1,000",
}

SMALL = {
    "log_horizon",
    "sqlite_sequence",
    "json_each",
    "CONSTANT",
    "clock",
    "(subquery-1)",
    "(subquery-2)",
}
"""Tables of one row, and no tables."""
STARTS_WITH_SCAN = re.compile(r"^SCAN (\S+)")


@pytest.fixture(scope="module")
def record() -> Iterator[apsw.Connection]:
    with closing(apsw.Connection(":memory:")) as connection:
        # As the platform's connections have it.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for step in migrations():
            connection.execute(step)
        connection.execute(SQL["make_usage"])
        yield connection


def steps_of(connection: apsw.Connection, sql: str) -> list[str]:
    """Returns what SQLite does for a statement, step by step."""
    count = _parameters(connection, sql)
    rows: list[Any] = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * count).fetchall()
    return [row[3] for row in rows]


def _parameters(connection: apsw.Connection, sql: str) -> int:
    cursor = connection.cursor()
    found: list[int] = []

    def trace(cursor: apsw.Cursor, _: str, __: object) -> bool:
        found.append(cursor.bindings_count)
        return False

    cursor.exec_trace = trace
    for count in range(32):
        try:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * count)
        except apsw.BindingsError:
            continue
        except apsw.ExecTraceAbort:
            return count
    raise AssertionError(f"more than 32 parameters: {sql}")


def passes_over(step: str) -> bool:
    """True if a step costs more the more rows a table has."""
    if found := STARTS_WITH_SCAN.match(step):
        return found[1] not in SMALL
    return "TEMP B-TREE" in step


@pytest.mark.behaviour("store.no-scans")
@pytest.mark.parametrize("name", sorted(SQL))
def test_no_statement_passes_over_a_table(record: apsw.Connection, name: str) -> None:
    costly = [step for step in steps_of(record, SQL[name]) if passes_over(step)]
    assert not costly or name in ALLOWED, f"{name}: {costly}\n{SQL[name]}"


@pytest.mark.behaviour("store.no-scans")
def test_every_exception_is_one(record: apsw.Connection) -> None:
    needless = [
        name
        for name in ALLOWED
        if name not in SQL or not any(passes_over(step) for step in steps_of(record, SQL[name]))
    ]
    assert needless == []


@pytest.mark.behaviour("store.no-scans")
@pytest.mark.parametrize(
    "sql",
    [("SELECT 1 FROM events WHERE at < "
     "?"), "DELETE FROM steps WHERE result = ?", "SELECT count(*) FROM deliveries",
     ("SELECT id FROM deliveries WHERE subscription_id = "
     "?"), "SELECT * FROM plans WHERE live ORDER BY updated_at",
     "UPDATE subscriptions SET seen_at = ? WHERE topic = ?"],
)  # fmt: skip
def test_a_scan_is_found(record: apsw.Connection, sql: str) -> None:
    assert any(passes_over(step) for step in steps_of(record, sql))
