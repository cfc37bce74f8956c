"""Connections: what a request says before its body is there is bounded in size, count and time.

uvicorn reads requests; it takes whatever comes. Here are the bounds, and answers of our own to what is beyond them.
"""

from __future__ import annotations

import resource
import time
from http import HTTPStatus
from typing import Any, NoReturn

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.server import ServerProtocol

from soorma_common.delivery import LARGEST_FRAME
from soorma_platform.logs import Log

LARGEST_HEAD = 64 * 1024
"""Bytes of a request's line and headers; of its trailer too, which is read and thrown away."""
MOST_HEADERS = 128
HEAD_SECONDS = 10.0
"""From the first byte of a request until its headers are whole."""
STALL_SECONDS = 10.0
"""How long a body may bring nothing."""
BODY_SECONDS = 60.0
"""From the headers until the body is whole: 32 MiB need half a megabyte a second."""
IDLE_SECONDS = 75.0
LINGER_SECONDS = 2.0
MOST_PASSED_OVER = 1024 * 1024
"""How long, and for how many bytes, the rest of a refused request is read and thrown away."""
MOST_DESCRIPTORS = 65_536
TOLD_EVERY = 60.0

log = Log("soorma.http")


class _Beyond(Exception):
    """What was read is beyond a bound."""


class Connection(HttpToolsProtocol):
    """A connection of a client, with bounds. Whoever serves calls `look` every second."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._is_over = False
        self._is_head = False
        self._is_body = False
        self._has_come_on = False
        self._trailer_bytes = 0
        self._chunk_bytes = 0
        self._vain_bytes = 0
        self._since = self._heard = self.loop.time()
        self._why: tuple[int, str, str] | None = None

    def connection_made(self, transport: Any) -> None:
        """Takes the connection, unless there is only room left for what the platform itself needs."""
        super().connection_made(transport)
        if not _room.has_place_for(transport.get_extra_info("socket").fileno()):
            self._end(503, "too_many_connections", "the platform has as many connections as it may open; try later")

    def data_received(self, data: bytes) -> None:
        """Reads on. What brings no request further, as a header that does not end, is bounded."""
        if self._is_over or self.transport.is_closing():
            self._pass_over(data)
            return
        self._heard = self.loop.time()
        self._has_come_on = False
        self._chunk_bytes = len(data)
        super().data_received(data)
        if self._has_come_on:
            self._vain_bytes = 0
            return
        self._vain_bytes += len(data)
        if self._vain_bytes > LARGEST_HEAD and not self._is_over:
            self._end(*_TOO_LARGE)

    def look(self, now: float) -> None:
        """Ends a request that has been coming for too long, and a connection that nobody uses."""
        if self._is_over:
            return
        if self._is_head and now - self._since > HEAD_SECONDS:
            self._end(
                408, "request_timeout", f"the headers of a request must be whole after {HEAD_SECONDS:.0f} seconds"
            )
        elif self._is_body and now - self._since > BODY_SECONDS:
            self._end(408, "request_timeout", f"the body of a request must be whole after {BODY_SECONDS:.0f} seconds")
        elif self._is_body and now - self._heard > STALL_SECONDS and not self.flow.read_paused:
            self._end(408, "request_timeout", f"the body of a request must not pause for {STALL_SECONDS:.0f} seconds")
        elif not self._is_head and self._is_unused and now - self._heard > IDLE_SECONDS:
            self.transport.close()

    @property
    def _is_unused(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is None or cycle.response_complete

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._is_head, self._is_body = True, False
        self._since = self._heard

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. One that comes behind the body is part of a trailer, and says nothing (RFC 9110, 6.5.1)."""
        # What uvicorn does with one is said again here: each request has some, and a call for each would show.
        if self._is_head and len(self.headers) < MOST_HEADERS:
            name = name.lower()
            if name == b"expect":
                self.expect_100_continue = value.lower() == b"100-continue"
            self.headers.append((name, value))
            return
        self._trailer_bytes += len(name) + len(value)
        if self._is_head or self._trailer_bytes > LARGEST_HEAD:
            self._refuse_as_too_large()

    def on_headers_complete(self) -> None:
        """The headers are whole."""
        # A head that came in less than that is not counted: nearly none is longer.
        if self._vain_bytes + self._chunk_bytes > LARGEST_HEAD:
            lengths = (len(name) + len(value) for name, value in self.headers)
            if len(self.url) + sum(lengths) > LARGEST_HEAD:
                self._refuse_as_too_large()
        self._is_head, self._is_body = False, True
        self._trailer_bytes = 0
        self._has_come_on = True
        self._since = self._heard
        super().on_headers_complete()

    def _refuse_as_too_large(self) -> NoReturn:
        self._why = _TOO_LARGE
        raise _Beyond

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._has_come_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._has_come_on = True
        self._is_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it never says which part it was
        """Answers what is no request, or beyond a bound."""
        self._end(*(self._why or (400, "bad_request", "this is no request of HTTP/1.1, or says two things at once")))

    def _end(self, status: int, code: str, detail: str) -> None:
        """Closes the connection, with a problem document where no answer has begun."""
        self._is_head = self._is_body = False
        has_begun = not self._is_unused and self.cycle.response_started
        if not has_begun:
            title = HTTPStatus(status).phrase
            kind = f"urn:soorma:problem:{code.replace('_', '-')}"
            document = {"type": kind, "title": title, "status": status, "detail": detail, "code": code}
            body = msgspec.json.encode(document)
            head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
                body
            )
            self.transport.write(STATUS_LINE[status] + head + body)
        if has_begun or status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.transport.close()
            return
        if not self._is_unused:  # whoever waits for the rest of it waits in vain
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # What is closed while more of the request comes in is reset, and the answer with it: so wait for a moment.
        self._is_over, self._vain_bytes = True, 0
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _pass_over(self, data: bytes) -> None:
        self._vain_bytes += len(data)
        if self._vain_bytes > MOST_PASSED_OVER:
            self.transport.close()


_TOO_LARGE = (
    431,
    "headers_too_large",
    f"the line, headers and trailer of a request have at most {LARGEST_HEAD:,} bytes and {MOST_HEADERS} headers",
)


class AgentSocket(WebSocketsSansIOProtocol):
    """A WebSocket that names the limit when it is closed for a message that is too large (1009)."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = _Protocol(extensions=[], max_size=LARGEST_FRAME, logger=self.logger)


class _Protocol(ServerProtocol):
    def fail(self, code: int, reason: str = "") -> None:
        if code == CloseCode.MESSAGE_TOO_BIG:
            reason = f"the limit frame_bytes is {LARGEST_FRAME:,}: nothing of this message was read"
        super().fail(code, reason)


class _Room:
    """How many descriptors the process may still open. The kernel gives the lowest number that is free."""

    def __init__(self) -> None:
        self._limit = 1 << 30
        self._told = -TOLD_EVERY

    def measure(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        self._limit = 1 << 30 if soft == resource.RLIM_INFINITY else soft

    def has_place_for(self, number: int) -> bool:
        """Whether a connection may have this number. The platform keeps some for its own files."""
        if number < self._limit - min(self._limit // 8, 64):
            return True
        now = time.monotonic()
        if now - self._told > TOLD_EVERY:
            self._told = now
            log.error(
                "connections are refused: nearly all descriptors are in use; raise the limit (ulimit -n, or "
                "LimitNOFILE= of the service), or end who holds so many",
                limit=self._limit,
                descriptor=number,
            )
        return False


_room = _Room()
measure_room = _room.measure
"""Raises the limit of descriptors as far as the process may, and notes it."""
