"""One log of many agents: labels and colours on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from soorma_common.logs import check_format

OURS = "soorma"
"""The label of the supervisor's own lines."""

LONGEST_LINE = 64 * 1024
_COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")
_COLOURS_OF_LEVELS = {"warning": "33", "error": "31"}


@dataclass(frozen=True)
class Style:
    """The style of lines: as JSON or for people, with or without colours, and with these labels."""

    as_json: bool
    colours: bool
    labels: Sequence[str]

    @classmethod
    def of(cls, labels: Sequence[str], *, terminal: bool, env: Mapping[str, str]) -> Style:
        """Returns the style for a terminal or a pipe, by SOORMA_LOG_FORMAT and NO_COLOR."""
        name = check_format(env.get("SOORMA_LOG_FORMAT") or "auto")
        as_json = name == "json" or (name == "auto" and not terminal)
        return cls(as_json, terminal and not as_json and not env.get("NO_COLOR"), labels)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make the agents write in this style."""
        return {
            "SOORMA_LOG_FORMAT": "json" if self.as_json else "console",
            "PYTHONUNBUFFERED": "1",
            **({"FORCE_COLOR": "1"} if self.colours else {}),
        }

    def line(self, label: str, text: bytes) -> bytes:
        """Formats a line of an agent."""
        if not self.as_json:
            return self._prefix(label) + text + b"\n"
        if text.startswith(b"{") and _is_object(text):
            return text + b"\n"
        return _record("info", "stdout", text.decode("utf-8", "backslashreplace"), label)

    def own(self, level: str, message: str, label: str | None = None) -> bytes:
        """Formats a line of the supervisor, about one of the agents or all."""
        if self.as_json:
            return _record(level, "soorma.run", message, label)
        said = f"{label} {message}" if label else message
        return (
            self._prefix(OURS)
            + self._painted(said, _COLOURS_OF_LEVELS.get(level, "1")).encode()
            + b"\n"
        )

    def _prefix(self, label: str) -> bytes:
        width = max(map(len, (OURS, *self.labels)))
        colour = _COLOURS[self.labels.index(label) % len(_COLOURS)] if label in self.labels else "1"
        return self._painted(f"{label:<{width}} |", colour).encode() + b" "

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colours else text


class Writer:
    """A writer in a thread of its own: a blocked terminal delays neither signals nor restarts.

    `write` waits until all is written, so that what is read from the agents never piles up.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="soorma-run-log", daemon=True).start()

    async def write(self, data: bytes) -> None:
        """Writes all of it; OSError if the reader is gone."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((data, done))
        await done

    def _run(self) -> None:
        while True:
            data, done = self._waiting.get()
            failure = self._written(data)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(_settle, done, failure)

    def _written(self, data: bytes) -> OSError | None:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            return error
        return None


def whole_lines(buffer: bytearray, *, at_end: bool = False) -> list[bytes]:
    """Takes the whole lines out of the buffer.

    At the end, or if it is longer than LONGEST_LINE, the rest counts as a line, too.
    """
    *lines, rest = bytes(buffer).split(b"\n")
    if rest and (at_end or len(rest) > LONGEST_LINE):
        lines, rest = [*lines, rest], b""
    buffer[:] = rest
    return [line.removesuffix(b"\r") for line in lines]


def _settle(done: asyncio.Future[None], failure: OSError | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _record(level: str, logger: str, message: str, label: str | None) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {"time": now, "level": level, "logger": logger, "message": message}
    return json.dumps(record | ({"agent": label} if label else {})).encode() + b"\n"
