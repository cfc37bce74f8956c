"""Log records as lines: JSON for programs, text for people.

The platform and agents write the same lines.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from soorma_common.errors import InvalidRequest
from soorma_common.names import DEFAULT_TENANT
from soorma_common.terminal import one_line, plain
from soorma_common.times import rfc3339

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("auto", "console", "json")
"""`auto`: console on a terminal, JSON elsewhere."""

FIELDS = "soorma_fields"
"""The attribute of a record that holds fields of any name.

Names in `extra` must not be among logging's own.
"""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", FIELDS}
_UNSEEN = frozenset({"user_id", "correlation_id"})
_THE_SAME_ALL_OVER = frozenset({"agent", "instance"})
"""Fields of this and the set above are not shown on a terminal; JSON has them."""
_COLOURS = {"WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


def check_level(level: str) -> str:
    """Returns `level` in lower case; raises InvalidRequest if there is no such level."""
    if level.lower() not in LEVELS:
        raise InvalidRequest(f"SOORMA_LOG_LEVEL must be one of {', '.join(LEVELS)}, not {level!r}")
    return level.lower()


def check_format(name: str) -> str:
    """Returns `name` in lower case; raises InvalidRequest if there is no such format."""
    if name.lower() not in FORMATS:
        raise InvalidRequest(f"SOORMA_LOG_FORMAT must be one of {', '.join(FORMATS)}, not {name!r}")
    return name.lower()


def formatter(name: str, *, terminal: bool, env: Mapping[str, str]) -> logging.Formatter:
    """Returns the formatter of that name for a stream, which may be a `terminal`.

    `env` may hold NO_COLOR or FORCE_COLOR.
    """
    if name == "json" or (name == "auto" and not terminal):
        return JsonFormatter()
    return ConsoleFormatter(
        colours=bool(terminal or env.get("FORCE_COLOR")) and not env.get("NO_COLOR")
    )


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Returns the fields given with a record (`extra`, context), without those that are None."""
    given = {name: value for name, value in vars(record).items() if name not in _OWN}
    given |= getattr(record, FIELDS, {})
    return {name: value for name, value in given.items() if value is not None}


class JsonFormatter(logging.Formatter):
    """A formatter that writes one JSON object per line.

    Its members are `time` (RFC 3339, UTC), `level`, `logger`, `message`, the fields, and
    `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        head = {
            "time": rfc3339(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line = head | fields_of(record) | head
        if trouble := _trouble(self, record):
            line["exception"] = trouble
        return _json(line)


class ConsoleFormatter(logging.Formatter):
    """A formatter that writes lines for people.

    A line has the local time, level, logger, message, and the fields that matter to a person; a
    traceback follows. Characters that would control the terminal, or forge another line, are
    escaped.
    """

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        trouble = plain(_trouble(self, record))
        return f"{self._line(record)}\n{trouble}" if trouble else self._line(record)

    def _line(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = self._painted(f"{record.levelname.lower():<8}", _COLOURS.get(record.levelname))
        line = f"{moment}.{int(record.msecs):03d} {level} {record.name}: {one_line(record.message)}"
        told = " ".join(f"{name}={_text(value)}" for name, value in _seen(record).items())
        return f"{line}  {self._painted(told, '2')}" if told else line

    def _painted(self, text: str, colour: str | None) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and colour else text


def _trouble(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Returns the traceback of a record, and the stack it requested; empty if it has neither."""
    parts = (
        [formatter.formatException(record.exc_info)]
        if record.exc_info and record.exc_info[0]
        else []
    )
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _seen(record: logging.LogRecord) -> dict[str, Any]:
    fields = fields_of(record)
    if (event_id := fields.get("event_id")) and event_id in record.message:
        return {}  # the message itself names the event
    hidden = _UNSEEN | (_THE_SAME_ALL_OVER - getattr(record, FIELDS, {}).keys())
    if fields.get("tenant_id") == DEFAULT_TENANT:
        hidden |= {"tenant_id"}
    return {name: value for name, value in fields.items() if name not in hidden}


def _text(value: Any) -> str:
    text = str(value)
    return (
        text
        if text.isprintable() and not set(text) & {" ", '"', "="}
        else json.dumps(text, ensure_ascii=False)
    )


def _json(value: Any) -> str:
    """Returns one line of JSON for any value: a log call must not fail because of its fields."""
    try:
        return msgspec.json.encode(value, enc_hook=repr).decode()
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        told = (
            {name: _plain(one) for name, one in value.items()}
            if isinstance(value, dict)
            else _plain(value)
        )
        return json.dumps(told)


def _plain(value: Any) -> Any:
    if isinstance(value, int | float | None):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "backslashreplace").decode()
