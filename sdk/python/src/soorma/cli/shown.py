"""How data is shown: JSON for programs with names in snake_case, cells and lines for people."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec

from soorma.cli import screen
from soorma_common.terminal import one_line

LONGEST_CELL = 200
"""Characters of a value in a table or a line; `state get` and --json show all of it."""

MOST_ROWS = 100
"""Rows of a table where nobody says how many; --json has all."""

_OPAQUE = {
    *("value", "argument", "data", "result", "before", "after"),
    *("event", "schema", "inputSchema", "outputSchema"),
}
"""Fields whose content is the user's, or an event as it is: no name in it is ours to change."""


def as_document(content: Any) -> None:
    """Prints the one JSON document of a command."""
    screen.say_json(msgspec.json.format(msgspec.json.encode(_snake(content)), indent=2))


def as_line(content: Any) -> None:
    """Prints a line of JSON."""
    screen.say_json(msgspec.json.encode(_snake(content)))


def _snake(content: Any) -> Any:
    """The content with our own names in snake_case, as events have them, whatever the services call them."""
    if isinstance(content, list):
        return [_snake(one) for one in content]
    if not isinstance(content, dict):
        return content
    return {_snake_name(name): value if name in _OPAQUE else _snake(value) for name, value in content.items()}


def _snake_name(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])[A-Z]", lambda found: f"_{found[0].lower()}", name)


def as_value(value: Any) -> None:
    """A value by itself: JSON for people and programs alike."""
    screen.say_json(screen.plain(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()).encode())


def cell(value: object) -> str:
    """A name or a number, whole, so that it can be copied; a dash where there is none."""
    return "-" if value is None or value == "" else one_line(str(value))


def text(content: object) -> str:
    """A text that somebody has written, shortened where it is long; a dash where there is none."""
    return _short(cell(content))


def value(content: Any) -> str:
    """A value as JSON, shortened where it is long."""
    return _short(screen.plain(msgspec.json.encode(content).decode()))


def newest(rows: list[dict[str, Any]], name: str, limit: int | None) -> list[dict[str, Any]]:
    """The newest rows by their field of that name, the newest first; a note where there are more."""
    return first(sorted(rows, key=lambda row: row[name], reverse=True), limit, "newest")


def first(rows: list[dict[str, Any]], limit: int | None, which: str) -> list[dict[str, Any]]:
    """As many rows as a person is shown at once, or has asked for; a note where there are more."""
    most = MOST_ROWS if limit is None else limit
    if limit is None and len(rows) > most:
        screen.note(f"the {which} {most} of {len(rows)}; --limit {len(rows)} shows all")
    return rows[:most]


def some(rows: list[dict[str, Any]], name: str, limit: int | None) -> list[dict[str, Any]]:
    """The newest rows by their field of that name, in the order that they have; None: all."""
    if limit is None or len(rows) <= limit:
        return rows
    kept = {id(row) for row in sorted(rows, key=lambda row: row[name], reverse=True)[:limit]}
    return [row for row in rows if id(row) in kept]


def moment(text: str | None) -> str:
    """A time in this place's time; a dash where there is none."""
    return "-" if text is None else datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"
