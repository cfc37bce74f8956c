"""Structs, statements and the migrated schema match: a column has the same name in all three."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import apsw.ext
import msgspec
import pytest

from soorma_platform.stores import sqlite
from soorma_platform.stores.sqlite.database import SQL, migrations
from soorma_platform.stores.sqlite.statements import MUTATIONS, SELECTS, Mutation, Select, fields_of

for module in pkgutil.iter_modules(sqlite.__path__):
    importlib.import_module(f"{sqlite.__name__}.{module.name}")

INSERT = re.compile(r"INSERT(?: OR \w+)? INTO (\w+) \(([^)]*)\)\s*VALUES \(([^)]*)\)", re.DOTALL)
SET = re.compile(r"(\w+) = :(\w+)")
MADE_BY_SQLITE = {"id", "number", "position"}
"""Columns that SQLite fills when a row is inserted."""
FILLED_LATER = {
    "insert_delivery": {
        "alone", "aside", "attempt", "begun", "cleared", "cohort", "deaths", "died", "died_with",
        "failures", "family", "fence", "reason", "replica", "silences", "suspect", "taken_at",
    },
    "insert_dead_letter": {"id"},
    "insert_replica": {"draining"},
    "insert_part": {"model"},
    "insert_plan": set(),
}  # fmt: skip
"""Columns that have a default in a new row: what happens to it later is not in the struct."""
NAMED_OTHERWISE = {
    "insert_dead_letter": {"attempts": "attempt"},
    "put_agent": {"announced_at": "at"},
    "put_instance": {"announced_at": "at", "heard_at": "at"},
}


@pytest.fixture(scope="module")
def record() -> Iterator[apsw.Connection]:
    """A migrated database without rows."""
    with closing(apsw.Connection(":memory:")) as connection:
        for step in migrations():
            connection.execute(step)
        yield connection


def _required(kind: type[Any]) -> set[str]:
    """Returns the fields that have no default."""
    if issubclass(kind, msgspec.Struct):
        return {field.name for field in msgspec.structs.fields(kind) if field.required}
    return set(kind._fields) - set(kind._field_defaults)


def _filled(select: Select[Any], columns: list[str]) -> set[str]:
    """Returns the fields that a query fills; those of a row kind need all of its columns."""
    filled = set()
    for field, of in fields_of(select.kind).items():
        inner = (
            list(fields_of(of))
            if isinstance(of, type) and hasattr(of, "__struct_fields__")
            else None
        )
        inner = list(of._fields) if inner is None and hasattr(of, "_fields") else inner
        if field in columns or (inner is not None and set(inner) <= set(columns)):
            filled.add(field)
    return filled


@pytest.mark.behaviour("store.rows-by-name")
@pytest.mark.parametrize("select", SELECTS, ids=lambda select: select.name)
def test_a_query_fills_its_struct(record: apsw.Connection, select: Select[Any]) -> None:
    nothing = (None,) * apsw.ext.query_info(record, SQL[select.name]).bindings_count
    columns = select.columns(record, nothing)
    select._compile(record, nothing)  # raises where a column has no field, or is there twice
    missing = _required(select.kind) - _filled(select, columns)
    assert not missing, f"{select.name} does not select {missing}"


@pytest.mark.behaviour("store.rows-by-name")
@pytest.mark.parametrize("change", MUTATIONS, ids=lambda change: change.name)
def test_a_change_writes_each_value_into_the_column_of_its_name(
    record: apsw.Connection, change: Mutation
) -> None:
    change.binder()  # raises where none of its sources has a parameter
    sql = SQL[change.name]
    apsw.ext.query_info(record, sql)  # raises where a table or column is not there
    otherwise = NAMED_OTHERWISE.get(change.name, {})
    if inserted := INSERT.search(sql):
        table, columns, parameters = inserted.groups()
        names = [name.strip() for name in columns.split(",")]
        given = [parameter.strip() for parameter in parameters.split(",")]
        assert len(names) == len(given)
        for name, parameter in zip(names, given, strict=True):
            assert parameter in (f":{otherwise.get(name, name)}", "1"), f"{name} gets {parameter}"
        all_columns = {row[1] for row in record.execute(f"PRAGMA table_info({table})")}
        left = all_columns - set(names) - MADE_BY_SQLITE - FILLED_LATER.get(change.name, set())
        assert not left, f"{change.name} leaves {left} of {table} empty"
    else:
        assert all(column == parameter for column, parameter in SET.findall(sql)), sql


@pytest.mark.behaviour("store.rows-by-name")
def test_a_query_that_names_another_column_says_so(
    record: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Row(msgspec.Struct):
        name: str
        created_at: int

    monkeypatch.setitem(SQL, "odd", "SELECT name, tenant_id FROM groups")
    with pytest.raises(TypeError, match="query odd selects tenant_id, which Row does not have"):
        Select("odd", Row)._compile(record, ())
    monkeypatch.setitem(SQL, "odd", "UPDATE groups SET name = :name, created_at = :made_at")
    with pytest.raises(
        TypeError, match="statement odd has a parameter 'made_at', and none of its sources has that"
    ):
        Mutation("odd", Row).binder()
    SELECTS[:] = [one for one in SELECTS if one.name != "odd"]
    MUTATIONS[:] = [one for one in MUTATIONS if one.name != "odd"]


@pytest.mark.behaviour("store.rows-by-name")
def test_no_column_is_read_by_its_number() -> None:
    by_number = re.compile(r"\brows?\[-?\d|\w\(\*row\)|^_[A-Z]+ = \d+$", re.MULTILINE)
    found = [
        f"{path.name}: {line.strip()}"
        for path in Path(sqlite.__path__[0]).glob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if by_number.search(line)
        and path.name != "statements.py"
        and "rows[-1]" not in line
        and "rows[0]" not in line
    ]
    assert not found
