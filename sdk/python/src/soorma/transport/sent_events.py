"""Server-sent events (WHATWG HTML standard, 9.2.5), parsed from pieces that are cut anywhere."""

from __future__ import annotations

import re
from typing import NamedTuple

_BREAK = re.compile(rb"\r\n|\n|\r")
_MARK = b"\xef\xbb\xbf"
LONGEST_POSITION = 18
"""The most digits of a position or revision."""


class Message(NamedTuple):
    """A message of a stream; a comment is one without a kind.

    `id` is None if the message has none, or one that is not a position or revision.
    """

    kind: str
    id: int | None
    data: bytes


class Parser:
    """A parser of a stream's pieces into messages; an incomplete one at the end is dropped."""

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._is_first = True
        self._ends_in_return = False
        self._is_begun = False
        self._kind = ""
        self._id: int | None = None
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[Message]:
        """Returns the messages that end in this piece."""
        # the second half of a line break that was counted already
        if self._ends_in_return and piece.startswith(b"\n"):
            piece = piece[1:]
            self._ends_in_return = False
        if not piece:
            return []
        self._ends_in_return = piece.endswith(b"\r")
        first, *lines = _BREAK.split(piece)
        self._line.append(first)
        found = []
        for begun in lines:
            if message := self._end_line():
                found.append(message)
            self._line = [begun]
        return found

    def _end_line(self) -> Message | None:
        line = b"".join(self._line)
        if self._is_first:
            line, self._is_first = line.removeprefix(_MARK), False
        if not line:
            return self._end_message()
        self._is_begun = True
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._kind = value.decode(errors="replace")
        elif name == b"id" and value.isdigit() and len(value) <= LONGEST_POSITION:
            self._id = int(value)
        return None

    def _end_message(self) -> Message | None:
        message = None
        if self._is_begun:
            kind = (self._kind or "message") if self._data else ""
            message = Message(kind, self._id, b"\n".join(self._data))
        self._is_begun, self._kind, self._id, self._data = False, "", None, []
        return message
