"""Statements of queries/*.sql, and the mapping of rows to structs and back: by name, not position.

A column that a query selects is named as the field that it fills, a parameter of a change as the
field that fills it. The mapping is compiled once for each statement, as `collections.namedtuple`
does: a commit makes some twenty rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, Generic, TypeVar, get_type_hints

import apsw
import msgspec

from soorma_platform.stores.sqlite.database import SQL

R = TypeVar("R")

LARGEST_PAGE = 4 * 1024 * 1024
"""Bytes of text after which a page of rows ends, however many rows were requested."""

SELECTS: list[Select[Any]] = []
MUTATIONS: list[Mutation] = []
"""All statements, for the test that compares them with the schema."""


class Select(Generic[R]):
    """A query whose rows are of one kind, a struct or a named tuple.

    A field that is itself of such a kind, as a scope, is filled from the columns of that kind's
    fields, or from one column of JSON text with the name of the field.
    """

    def __init__(self, name: str, kind: type[R]) -> None:
        self.name = name
        self.kind = kind
        self._make: Callable[..., R] | None = None
        SELECTS.append(self)

    def columns(self, connection: apsw.Connection, values: tuple[Any, ...]) -> list[str]:
        """Returns the names of the columns that it selects, without running it.

        Any values will do, as many as it has parameters.
        """
        names: list[str] = []

        def note(cursor: apsw.Cursor, _: str, __: object) -> bool:
            names.extend(name for name, *_ in cursor.get_description())
            return False

        cursor = connection.cursor()
        cursor.exec_trace = note
        with suppress(apsw.ExecTraceAbort):
            cursor.execute(SQL[self.name], values)
        return names

    def one(self, connection: apsw.Connection, *values: Any) -> R | None:
        """Returns the first row; None if there is none."""
        # The cursor ends here, and with it the statement: to close it would cost as much as a row.
        row = connection.execute(SQL[self.name], values).fetchone()
        return None if row is None else (self._make or self._compile(connection, values))(*row)

    def all(self, connection: apsw.Connection, *values: Any) -> list[R]:
        """Returns all rows."""
        rows = connection.execute(SQL[self.name], values).fetchall()
        if not rows:
            return []
        make = self._make or self._compile(connection, values)
        return [make(*row) for row in rows]

    def each(self, connection: apsw.Connection, *values: Any) -> Iterator[R]:
        """Yields the rows, read only as far as they are needed."""
        make = self._make or self._compile(connection, values)
        return (make(*row) for row in connection.execute(SQL[self.name], values))

    def page(
        self,
        connection: apsw.Connection,
        *values: Any,
        size: Callable[[R], int],
        most: int = LARGEST_PAGE,
    ) -> tuple[list[R], bool]:
        """Returns rows until they come to `most` bytes by `size`, and whether there were more."""
        make = self._make or self._compile(connection, values)
        found: list[R] = []
        total = 0
        for columns in connection.execute(SQL[self.name], values):
            if total > most:
                return found, True
            row = make(*columns)
            found.append(row)
            total += size(row)
        return found, False

    def _compile(self, connection: apsw.Connection, values: tuple[Any, ...]) -> Callable[..., R]:
        columns = self.columns(connection, values)
        self._make = _maker(self.name, self.kind, tuple(columns))
        return self._make


class Mutation:
    """A statement that changes rows, with parameters `:name` that are filled from `sources`.

    A source is a name, for one value, or a kind, for an object whose fields are values. If several
    have a parameter, the first fills it.
    """

    def __init__(self, name: str, *sources: str | type[Any]) -> None:
        self.name = name
        self.sources = sources
        self._bind: Callable[..., tuple[Any, ...]] | None = None
        MUTATIONS.append(self)

    def run(self, connection: apsw.Connection, *parameters: Any) -> None:
        """Runs it."""
        connection.execute(SQL[self.name], (self._bind or self.binder())(*parameters))

    def many(self, connection: apsw.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Runs it once for each row."""
        bind = self._bind or self.binder()
        connection.executemany(SQL[self.name], [bind(*each) for each in rows])

    def value(self, connection: apsw.Connection, *parameters: Any) -> Any:
        """Runs it; returns the one column that it returns, None if it changed no row."""
        values = (self._bind or self.binder())(*parameters)
        return _only(connection.execute(SQL[self.name], values).fetchone())

    def binder(self) -> Callable[..., tuple[Any, ...]]:
        """Returns the function that makes the statement's parameters of its sources.

        It is compiled when it is first needed: to compile all took half of the platform's start.
        """
        self._bind = _binder(self.name, SQL[self.name], self.sources)
        return self._bind


def value(connection: apsw.Connection, name: str, *values: Any) -> Any:
    """Returns the one column of a query's first row; None if there is none."""
    return _only(connection.execute(SQL[name], values).fetchone())


def _only(row: Any) -> Any:
    if row is None:
        return None
    (found,) = row
    return found


def values(connection: apsw.Connection, name: str, *parameters: Any) -> list[Any]:
    """Returns the one column of all rows of a query."""
    return [found for (found,) in connection.execute(SQL[name], parameters)]


def execute(connection: apsw.Connection, name: str, *values: Any) -> None:
    """Runs a statement that returns nothing."""
    connection.execute(SQL[name], values)


def fields_of(kind: Any) -> dict[str, Any]:
    """Returns the fields of a struct or named tuple in order, with their types."""
    return _fields_of(kind)


@cache  # hints are evaluated anew each time, and most kinds are those of several statements
def _fields_of(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    names = kind.__struct_fields__ if issubclass(kind, msgspec.Struct) else kind._fields
    return {name: hints[name] for name in names}


def _is_row(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or hasattr(kind, "_fields"))


def _maker(name: str, kind: type[R], columns: tuple[str, ...]) -> Callable[..., R]:
    """Returns a function of a row's columns that makes an object of the kind."""
    known: dict[str, Any] = {"kind": kind}
    parameters = {column: f"column{number}" for number, column in enumerate(columns)}
    if len(parameters) < len(columns):
        raise TypeError(f"query {name} selects a column twice: {', '.join(columns)}")
    used: set[str] = set()
    arguments = []
    for field, of in fields_of(kind).items():
        if field in parameters:
            used.add(field)
            arguments.append(f"{field}={_read(parameters[field], of, known)}")
        elif _is_row(of) and all(inner in parameters for inner in fields_of(of)):
            inner = fields_of(of)
            used.update(inner)
            known[of.__name__] = of
            arguments.append(
                f"{field}={of.__name__}({', '.join(parameters[one] for one in inner)})"
            )
    if unknown := set(columns) - used:
        raise TypeError(
            f"query {name} selects {', '.join(sorted(unknown))}, which {kind.__name__} does not "
            "have"
        )
    names = [argument.partition("=")[0] for argument in arguments]
    if names == list(fields_of(kind))[: len(names)]:  # cheaper by position
        arguments = [argument.partition("=")[2] for argument in arguments]
    source = f"lambda {', '.join(parameters.values())}: kind({', '.join(arguments)})"
    return eval(source, known)  # type: ignore[no-any-return]  # noqa: S307 - made of the names of fields


def _read(column: str, of: Any, known: dict[str, Any]) -> str:
    """Returns the expression that makes a field of some type from its column."""
    if of is bool:
        return f"{column} == 1"
    if of is msgspec.Raw:
        known["Raw"] = msgspec.Raw
        return f"Raw({column}.encode())"
    if _is_row(of):
        known[f"read_{of.__name__}"] = _decoder(of)
        return f"read_{of.__name__}({column})"
    return column


def _decoder(kind: type[Any]) -> Callable[[str], Any]:
    """Returns a decoder of JSON text that remembers what it makes.

    Each new retry policy validates itself, and all deliveries share a few policies.
    """
    return lru_cache(maxsize=1024)(msgspec.json.Decoder(kind).decode)


def _binder(
    name: str, sql: str, sources: tuple[str | type[Any], ...]
) -> Callable[..., tuple[Any, ...]]:
    """Returns a function of the sources that makes the statement's parameters, in their order."""
    names = list(dict.fromkeys(re.findall(r"(?<!:):(\w+)", sql)))
    bound = []
    for parameter in names:
        paths = (
            _path(f"source{number}", source, parameter) for number, source in enumerate(sources)
        )
        path = next((path for path in paths if path is not None), None)
        if path is None:
            raise TypeError(
                f"statement {name} has a parameter {parameter!r}, and none of its sources has that"
            )
        bound.append(path)
    parameters = ", ".join(f"source{number}" for number in range(len(sources)))
    known = {"text_of": _text_of}
    source = f"lambda {parameters}: ({''.join(f'{path}, ' for path in bound)})"
    return eval(source, known)  # type: ignore[no-any-return]  # noqa: S307 - made of the names of fields


def _path(variable: str, source: str | type[Any], parameter: str) -> str | None:
    """Returns the expression that reads a parameter from a source; None if that lacks it."""
    if isinstance(source, str):
        return variable if source == parameter else None
    fields = fields_of(source)
    if parameter in fields:
        path = f"{variable}.{parameter}"
        return f"text_of({path})" if _is_row(fields[parameter]) else path
    inner = next(
        (name for name, of in fields.items() if _is_row(of) and parameter in fields_of(of)), None
    )
    return None if inner is None else f"{variable}.{inner}.{parameter}"


def _text_of(row: Any) -> str:
    return msgspec.json.encode(row).decode()
