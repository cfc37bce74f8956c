"""An agent's logs: each record made in a handler names its tenant, plan, event and attempt.

`Agent.run()` sets up logging if the program has not. A program with its own logging adds
`ContextFilter` to its handlers, or `add_context` to the processors of structlog.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any

from soorma_common.logs import (
    FIELDS,
    ConsoleFormatter,
    JsonFormatter,
    check_format,
    check_level,
    formatter,
)

__all__ = [
    "CONTEXT",
    "ConsoleFormatter",
    "ContextFilter",
    "JsonFormatter",
    "add_context",
    "configure",
    "context",
]

CONTEXT = (
    "agent",
    "instance",
    "tenant_id",
    "user_id",
    "plan_id",
    "event_id",
    "event_type",
    "attempt",
    "correlation_id",
    "trace_id",
)
"""The names of the context's fields."""

_nothing: Mapping[str, Any] = {}
_bound: ContextVar[Mapping[str, Any]] = ContextVar("soorma_log_context", default=_nothing)


def context() -> dict[str, Any]:
    """The fields of the handler that is running, also a plain `def` one; empty outside handlers."""
    return {name: value for name, value in _bound.get().items() if value is not None}


def bind(fields: Mapping[str, Any]) -> None:
    """Sets the fields of all records that the current task logs from now on."""
    _bound.set(fields)


class ContextFilter(logging.Filter):
    """A filter that adds the fields of `CONTEXT` to each record, None where there is no value.

    Add it to a handler, not to a logger: `handler.addFilter(ContextFilter())`. A format can then
    use `%(plan_id)s`. `always` are values of these fields that hold outside handlers too. An
    `extra` of the same name wins.
    """

    def __init__(self, **always: Any) -> None:
        super().__init__()
        self._always = always

    def filter(self, record: logging.LogRecord) -> bool:
        """Adds the fields; lets every record through."""
        found, given = _bound.get(), vars(record)
        for name in CONTEXT:
            if name not in given:
                given[name] = found.get(name, self._always.get(name))
        return True


def add_context(
    _logger: Any, _method: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor that adds the fields of `context()`."""
    for name, value in context().items():
        event_dict.setdefault(name, value)
    return event_dict


def configure(env: Mapping[str, str] = os.environ, **always: Any) -> None:
    """Sends the program's logs to standard error, with the fields of `CONTEXT`.

    `always` are values of these fields that hold outside handlers too. SOORMA_LOG_LEVEL and
    SOORMA_LOG_FORMAT (auto, console, json) set the level and format; InvalidRequest if one is
    invalid. structlog, if the program has imported but not configured it, logs there too.
    """
    level = check_level(env.get("SOORMA_LOG_LEVEL") or "info")
    name = check_format(env.get("SOORMA_LOG_FORMAT") or "auto")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(name, terminal=sys.stderr.isatty(), env=env))
    handler.addFilter(ContextFilter(**always))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    _take_in_structlog()


def is_configured() -> bool:
    """True if the program has set up logging, so that Soorma's logs are handled."""
    return logging.getLogger("soorma").hasHandlers()


def _take_in_structlog() -> None:
    structlog: Any = sys.modules.get("structlog")
    if structlog is None or structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _to_record,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _to_record(
    _logger: Any, _method: str, event_dict: MutableMapping[str, Any]
) -> tuple[tuple[str, Any], dict[str, Any]]:
    """Converts a structlog event to the arguments of a logging call."""
    how = {name: event_dict.pop(name) for name in ("exc_info", "stack_info") if name in event_dict}
    return ("%s", event_dict.pop("event", "")), {"extra": {FIELDS: dict(event_dict)}, **how}
