"""Client connections, with bounds on the size, number and duration of what a request sends.

uvicorn reads requests without bounds. They are added here, with responses of our own to requests
that exceed them.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
from httptools import HttpParserInvalidURLError, parse_url
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode
from websockets.server import ServerProtocol

from soorma_common.delivery import LARGEST_FRAME
from soorma_platform.http.asgi import RESPOND, AsgiScope
from soorma_platform.logs import Log

LARGEST_HEAD = 64 * 1024
"""Maximum bytes of a request's line and headers, and of its trailer, which is discarded."""
MOST_HEADERS = 128
HEAD_SECONDS = 10.0
"""Maximum seconds from the first byte of a request until its headers are complete."""
STALL_SECONDS = 10.0
"""Maximum seconds for which a body may pause."""
BODY_SECONDS = 60.0
"""Maximum seconds from the headers until the body is complete.

32 MiB need half a megabyte a second.
"""
TAKING_SECONDS = 30.0
"""Maximum seconds for which a client may take nothing of what it is sent, which is kept for it."""
IDLE_SECONDS = 75.0
"""Seconds for which an unused connection stays open: more than the 60 s usual for proxies."""
LINGER_SECONDS = 2.0
MOST_PASSED_OVER = 1024 * 1024
"""Seconds for which, and bytes up to which, the rest of a refused request is discarded."""
LARGE = 64 * 1024
"""Bytes of a body from which a second write is cheaper than a copy after the headers."""
MOST_DESCRIPTORS = 65_536
"""Descriptors to which the soft limit of the process is raised, if the hard limit allows it."""
LOG_EVERY = 60.0
"""Seconds between two lines of the log that clients could cause at will."""

log = Log("soorma.http")


class SharedState(ServerState):
    """The state that the connections of a server share. `touch` is called for all incoming data."""

    def __init__(self, touch: Callable[[], None]) -> None:
        super().__init__()
        self.touch = touch
        self._joined: tuple[object, bytes] = (None, b"")

    @property
    def joined_headers(self) -> bytes:
        """The headers of all responses, as they are sent.

        uvicorn makes new ones each second, for the date.
        """
        of, joined = self._joined
        if of is not self.default_headers:
            joined = b"".join(b"%b: %b\r\n" % header for header in self.default_headers)
            self._joined = (self.default_headers, joined)
        return joined


class _Beyond(Exception):
    """The request exceeds a bound."""


class ClientConnection(HttpToolsProtocol):
    """A connection of a client, with bounds. The server calls `look` every second.

    As this code runs for each request, most is left to `look`, which works it out from what uvicorn
    knows. `scope` is new with each request, and the `cycle` of that scope exists once its headers
    are complete.
    """

    def __init__(
        self,
        config: Config,
        server_state: SharedState,
        app_state: dict[str, Any],
        _loop: Any = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shared = server_state
        self._touch = server_state.touch
        self._chunks = self._chunks_seen = 0
        self._vain_bytes = self._bytes = 0
        self._brought_body = False
        self._since = self._heard = self.loop.time()
        self._unsent, self._taken = 0, self._heard
        self._scope_seen: object = None
        self._was_head = False
        self._why: tuple[int, str, str] | None = None
        self._has_ended = False
        # One for all its requests: one for each would be a cycle for the garbage collector.
        self._extensions: Any = {RESPOND: self._respond}

    def connection_made(self, transport: Any) -> None:
        """Accepts the connection, unless the platform itself needs the room that is left."""
        super().connection_made(transport)
        if not _room.has_place_for(transport.get_extra_info("socket").fileno()):
            self._end(
                503,
                "too_many_connections",
                "the platform has as many connections as it may open; try later",
            )

    def data_received(self, data: bytes) -> None:
        """Parses data. Data that completes nothing, such as an endless header, is bounded."""
        self._touch()
        cycle = self.cycle  # if it differs afterwards, a head is complete
        self._chunks += 1
        self._bytes = self._vain_bytes + len(data)
        HttpToolsProtocol.data_received(self, data)
        if self.cycle is not cycle or self._brought_body:
            self._vain_bytes = 0
            self._brought_body = False
        elif self._bytes > LARGEST_HEAD:
            self._end(*_TOO_LARGE)
        else:
            self._vain_bytes = self._bytes

    def look(self, now: float) -> None:
        """Ends a request that takes too long, and a connection that is unused for too long.

        Cuts off a client that does not take its response.
        """
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent:
            self._taken = now
        self._unsent = unsent
        if now - self._taken > TAKING_SECONDS:
            self.transport.abort()
            return
        is_head, is_body = self._is_head, self._is_body
        # Compared by identity: the next scope may be equal.
        if self.scope is not self._scope_seen or is_head is not self._was_head:
            self._scope_seen, self._was_head, self._since = self.scope, is_head, now
        if self._chunks != self._chunks_seen:
            self._chunks_seen, self._heard = self._chunks, now
        if is_head and now - self._since > HEAD_SECONDS:
            self._end(
                408,
                "request_timeout",
                f"the headers of a request must be whole after {HEAD_SECONDS:.0f} seconds",
            )
        elif is_body and now - self._since > BODY_SECONDS:
            self._end(
                408,
                "request_timeout",
                f"the body of a request must be whole after {BODY_SECONDS:.0f} seconds",
            )
        elif is_body and now - self._heard > STALL_SECONDS and not self.flow.read_paused:
            self._end(
                408,
                "request_timeout",
                f"the body of a request must not pause for {STALL_SECONDS:.0f} seconds",
            )
        elif not is_head and self._is_unused and now - self._heard > IDLE_SECONDS:
            self.transport.close()

    @property
    def _is_head(self) -> bool:
        """True from the start of a request until its headers are complete."""
        scope: Any = self.scope  # None before the first request, as is the cycle
        cycle: Any = self.cycle
        return scope is not None and (cycle is None or cycle.scope is not scope)

    @property
    def _is_body(self) -> bool:
        """True while a body is incomplete."""
        cycle: Any = self.cycle
        return cycle is not None and cycle.more_body and not self._is_head

    @property
    def _is_unused(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def on_headers_complete(self) -> None:
        """Checks the size of the headers, and starts the request.

        Headers after the body are a trailer, which is ignored (RFC 9110, 6.5.1).
        """
        # Bytes are counted only if the head may be too long: nearly none is.
        if len(self.headers) > MOST_HEADERS or (self._bytes > LARGEST_HEAD and self._is_too_long):
            self._why = _TOO_LARGE
            raise _Beyond
        if not self.url.startswith(b"/"):
            self._take_host_of_target()
        HttpToolsProtocol.on_headers_complete(self)
        if self.parser.should_upgrade():
            self.scope["headers"] = self.headers.copy()  # uvicorn reads its own again
        else:
            self.headers = []
            self.scope["extensions"] = self._extensions

    def _respond(
        self, scope: AsgiScope, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> bool:
        """Sends a response in one write; uvicorn needs two, each with a system call and a packet.

        Returns False if it is not that simple, as after a request that arrived meanwhile: uvicorn
        sends it then.
        """
        cycle = self.cycle
        if (
            cycle.scope is not scope
            or not cycle.keep_alive
            or cycle.disconnected
            or cycle.response_started
            or self.flow.write_paused
            or len(body) > LARGE
            or scope["method"] == "HEAD"
        ):
            return False
        said = b"".join([b"%b: %b\r\n" % header for header in headers])
        if said.count(b"\n") != len(headers) or said.count(b"\r") != len(headers):
            return False  # a header that contains another, which uvicorn refuses
        self.transport.write(
            b"%b%b%b\r\n%b" % (STATUS_LINE[status], self._shared.joined_headers, said, body)
        )
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _take_host_of_target(self) -> None:
        """Replaces Host by the host of the target, which overrides it (RFC 9112, 3.2.2).

        Such a target is `GET http://host/path`.
        """
        with suppress(HttpParserInvalidURLError):  # uvicorn finds it next, and reports it
            target = parse_url(self.url)
            if target.host:
                host = b"[%b]" % target.host if b":" in target.host else target.host
                authority = b"%b:%d" % (host, target.port) if target.port else host
                self.headers[:] = [
                    (name, authority if name == b"host" else value) for name, value in self.headers
                ]

    @property
    def _is_too_long(self) -> bool:
        return (
            len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            > LARGEST_HEAD
        )

    def on_body(self, body: bytes) -> None:
        """Takes a piece of the body."""
        self._brought_body = True
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        """Notes that the request is complete, even if it was responded to before.

        uvicorn ignores the latter.
        """
        HttpToolsProtocol.on_message_complete(self)
        cycle: Any = self.cycle
        if cycle is not None:
            cycle.more_body = False

    def on_response_complete(self) -> None:
        """Keeps the connection open after a response.

        `look` closes an unused one: the cost of a timer for each request would show.
        """
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """Closes after the current response, but cuts off a stream, which would not end."""
        cycle: Any = self.cycle
        # Only a stream is chunked: all else has a length.
        if cycle is not None and cycle.response_started and cycle.chunked_encoding:
            self.transport.close()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it never says which part it was
        """Refuses a request that is malformed or exceeds a bound."""
        _malformed.note()
        self._end(
            *(
                self._why
                or (
                    400,
                    "bad_request",
                    "this is no request of HTTP/1.1, or says two things at once",
                )
            )
        )

    def _end(self, status: int, code: str, detail: str) -> None:
        """Closes the connection, with a problem document if no response has begun."""
        if self._has_ended:  # refused once, even if it exceeds a bound and is malformed
            return
        self._has_ended = True
        has_begun = not self._is_unused and self.cycle.response_started
        if not has_begun:
            title = HTTPStatus(status).phrase
            kind = f"urn:soorma:problem:{code.replace('_', '-')}"
            document = {
                "type": kind,
                "title": title,
                "status": status,
                "detail": detail,
                "code": code,
            }
            body = msgspec.json.encode(document)
            said = self._shared.joined_headers
            said += b"content-type: application/problem+json\r\ncontent-length: %d\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + said + b"connection: close\r\n\r\n" + body)
        if has_begun or status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.transport.close()
            return
        if not self._is_unused:  # its rest will never arrive
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # Closing while more of the request arrives would reset the connection and lose the
        # response: so wait for a moment.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.connections.discard(self)
        self.transport.set_protocol(_Remainder(self))
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


class _Remainder(asyncio.Protocol):
    """A protocol that reads and discards the rest of a refused request."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._bytes = 0

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > MOST_PASSED_OVER:
            self._connection.transport.close()

    def eof_received(self) -> None:
        pass

    def connection_lost(self, error: Exception | None) -> None:
        self._connection.connection_lost(error)


_TOO_LARGE = (
    431,
    "headers_too_large",
    (
        f"the line, headers and trailer of a request have at most {LARGEST_HEAD:,} bytes and "
        f"{MOST_HEADERS} headers"
    ),
)


class AgentSocket(WebSocketsSansIOProtocol):
    """A WebSocket that names the limit when it is closed for a message that is too large (1009)."""

    def __init__(
        self,
        config: Config,
        server_state: SharedState,
        app_state: dict[str, Any],
        _loop: Any = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._touch = server_state.touch
        self.conn = _Protocol(extensions=[], max_size=LARGEST_FRAME, logger=self.logger)

    def data_received(self, data: bytes) -> None:
        """Takes data."""
        self._touch()
        super().data_received(data)


class _Protocol(ServerProtocol):
    def fail(self, code: int, reason: str = "") -> None:
        if code == CloseCode.MESSAGE_TOO_BIG:
            reason = f"the limit frame_bytes is {LARGEST_FRAME:,}: nothing of this message was read"
        super().fail(code, reason)


class _Malformed(logging.Filter):
    """A filter that logs malformed requests once a minute.

    uvicorn would log each of them, and clients could fill the log.
    """

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._logged_at = -LOG_EVERY

    def note(self) -> None:
        self._count += 1
        now = time.monotonic()
        if now - self._logged_at > LOG_EVERY:
            log.warning(
                "clients send what is no request of HTTP/1.1, or beyond a bound",
                requests=self._count,
            )
            self._logged_at, self._count = now, 0

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno != logging.WARNING or record.msg not in _OF_CLIENTS


_OF_CLIENTS = ("Invalid HTTP request received.", "Unsupported upgrade request.")
_malformed = _Malformed()
logging.getLogger("uvicorn.error").addFilter(_malformed)


class _Room:
    """The descriptors that the process may still open.

    The kernel assigns the lowest number that is free.
    """

    def __init__(self) -> None:
        self._limit = 1 << 30
        self._logged_at = -LOG_EVERY

    def measure(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
        if soft != resource.RLIM_INFINITY and soft < limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            soft = limit
        self._limit = 1 << 30 if soft == resource.RLIM_INFINITY else soft

    def has_place_for(self, number: int) -> bool:
        """Returns True if a connection may have this descriptor.

        The platform keeps some for its own files.
        """
        # As the lowest free number, it shows how many are in use: nothing has to be counted.
        if number < self._limit - min(self._limit // 8, 64):
            return True
        now = time.monotonic()
        if now - self._logged_at > LOG_EVERY:
            self._logged_at = now
            log.error(
                "connections are refused: nearly all descriptors are in use; raise the limit "
                "(ulimit -n, or "
                "LimitNOFILE= of the service), or end who holds so many",
                limit=self._limit,
                descriptor=number,
            )
        return False


_room = _Room()
measure_room = _room.measure
"""Raises the limit of descriptors as far as the process may, and stores it."""
has_room_for = _room.has_place_for
"""Returns True if a connection may have a descriptor."""
