"""How data is shown: JSON for programs as the services tell it, cells and lines for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from soorma.cli import screen
from soorma_common.terminal import one_line

LONGEST_CELL = 200
"""Characters of a value in a table or a line; `state get` and --json show all of it."""


def as_document(content: Any) -> None:
    """The one JSON document of a command."""
    screen.say_json(msgspec.json.format(msgspec.json.encode(content), indent=2))


def as_line(content: Any) -> None:
    """A line of JSON."""
    screen.say_json(msgspec.json.encode(content))


def as_value(value: Any) -> None:
    """A value by itself: JSON for people and programs alike."""
    screen.say_json(screen.plain(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()).encode())


def cell(value: object) -> str:
    """A name or a number; a dash where there is none."""
    return "-" if value is None or value == "" else _short(one_line(str(value)))


def value(content: Any) -> str:
    """A value as JSON, shortened where it is long."""
    return _short(screen.plain(msgspec.json.encode(content).decode()))


def moment(text: str | None) -> str:
    """A time in this place's time; a dash where there is none."""
    return "-" if text is None else datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"
