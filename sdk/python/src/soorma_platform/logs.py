"""The platform's logs: JSON lines, or text on a terminal.

They contain ids and names, never values or data.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from soorma_common.logs import FIELDS, formatter


class Log:
    """A logger that takes fields by name: `log.info("agent connected", agent="worker")`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, message: str, **fields: Any) -> None:
        """Logs what helps to find a fault."""
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Logs what an operator may want to see."""
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Logs what an operator should look at eventually."""
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, *, exc_info: BaseException | None = None, **fields: Any) -> None:
        """Logs a failure."""
        self._write(logging.ERROR, message, fields, exc_info)

    def exception(self, message: str, **fields: Any) -> None:
        """Logs a failure, with the traceback of the current exception."""
        self._write(logging.ERROR, message, fields, sys.exception())

    def _write(
        self,
        level: int,
        message: str,
        fields: dict[str, Any],
        exc_info: BaseException | None = None,
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(
                level, "%s", message, exc_info=exc_info, extra={FIELDS: fields}, stacklevel=3
            )


def configure(level: str, form: str = "auto", env: Mapping[str, str] = os.environ) -> None:
    """Sends all logs of the process to standard error, those of libraries from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form, terminal=sys.stderr.isatty(), env=env))
    root = logging.getLogger()
    root.addHandler(handler)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(threshold, logging.WARNING))
    logging.getLogger("soorma").setLevel(threshold)
