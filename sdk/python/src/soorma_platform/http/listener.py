"""A listening socket of TLS.

The event loop's own would keep one certificate for ever, wait a minute for a handshake, and take a
descriptor for each connection that never completes one, even if the platform has none to spare.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from soorma_common.protocol import PROTOCOL, PROTOCOL_HEADER
from soorma_platform.http.certificate import Certificate
from soorma_platform.http.connections import (
    HEAD_SECONDS,
    LINGER_SECONDS,
    LOG_EVERY,
    MOST_PASSED_OVER,
    has_room_for,
)
from soorma_platform.logs import Log

AT_ONCE = 100
"""Connections that are accepted in one turn of the event loop."""
PAUSE_SECONDS = 1.0
"""Seconds without accepting any, after the system could not open another one."""
CLOSE_SECONDS = 0.5
"""Seconds for which a closed connection waits for the client to close it too.

Fewer than a platform has to end in: there are clients that do not look at unused connections.
"""
_HANDSHAKE = b"\x16"
"""The first byte of TLS (RFC 8446, 5.1)."""

log = Log("soorma.tls")


class TlsListener:
    """Accepts connections on a socket, and gives each to a protocol once its handshake is done.

    Ends like a server of asyncio: `close`, then `wait_closed`.
    """

    def __init__(
        self,
        listener: socket.socket,
        certificate: Certificate,
        protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listener = listener
        self._certificate = certificate
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._shaking: set[asyncio.Task[None]] = set()
        self._is_open = True
        self._failures = _Failures()
        self._begin()

    def close(self) -> None:
        """Accepts no more connections, and gives up the handshakes under way."""
        self._is_open = False
        self._loop.remove_reader(self._listener)
        for task in self._shaking:
            task.cancel()

    async def wait_closed(self) -> None:
        """Waits until the handshakes under way are over."""
        await asyncio.gather(*self._shaking, return_exceptions=True)

    def _begin(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:  # no descriptor or memory is left
                log.error("no connections are accepted for a moment", error=error.strerror)  # noqa: TRY400 - the message is all
                self._loop.remove_reader(self._listener)
                self._loop.call_later(PAUSE_SECONDS, self._begin)
                return
            if has_room_for(connection.fileno()):
                task = self._loop.create_task(self._take(connection))
                self._shaking.add(task)
                task.add_done_callback(self._shaking.discard)
            else:
                connection.close()  # without a word, which would have to be encrypted

    async def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        has_transport = False
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                first = await self._first_byte(connection)
            if first == _HANDSHAKE:
                has_transport = True  # which closes the connection, even if the handshake fails
                await self._shake_hands(connection)
            elif first:
                await self._explain(connection)
        except OSError:
            pass  # the client has gone, or said nothing in time
        finally:
            if not has_transport:
                connection.close()

    async def _first_byte(self, connection: socket.socket) -> bytes:
        """Returns the first byte, which stays unread; nothing if the client has gone."""
        has_come = asyncio.Event()
        self._loop.add_reader(connection, has_come.set)
        try:
            await has_come.wait()
        finally:
            self._loop.remove_reader(connection)
        return connection.recv(1, socket.MSG_PEEK)

    async def _shake_hands(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._certificate.context,
                ssl_handshake_timeout=HEAD_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
        except OSError as error:
            self._failures.note(error)

    async def _explain(self, connection: socket.socket) -> None:
        """Responds to a request of plain HTTP that it has to be encrypted."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._loop.sock_sendall(connection, _PLAIN)
                connection.shutdown(socket.SHUT_WR)
                # Closing while more of the request arrives would lose the response.
                left = MOST_PASSED_OVER
                while left > 0 and (passed := await self._loop.sock_recv(connection, 65_536)):
                    left -= len(passed)


class _Failures:
    """Handshakes that failed, logged once a minute: clients cause them at will."""

    def __init__(self) -> None:
        self._count = 0
        self._logged_at = -LOG_EVERY

    def note(self, error: OSError) -> None:
        self._count += 1
        now = time.monotonic()
        if now - self._logged_at > LOG_EVERY:
            why = error.reason if isinstance(error, ssl.SSLError) else None
            log.warning(
                "handshakes of TLS fail",
                connections=self._count,
                error=why or str(error) or type(error).__name__,
            )
            self._logged_at, self._count = now, 0


def _response() -> bytes:
    problem = {
        "type": "urn:soorma:problem:bad-request",
        "title": "Bad Request",
        "status": 400,
        "detail": "this is plain HTTP, and the platform serves TLS here: begin the address with "
        "https://",
        "code": "bad_request",
    }
    body = msgspec.json.encode(problem)
    return (
        b"HTTP/1.1 400 Bad Request\r\n"
        b"content-type: application/problem+json\r\n"
        b"content-length: %d\r\n"
        b"%b: %d\r\n"
        b"connection: close\r\n\r\n%b" % (len(body), PROTOCOL_HEADER.encode(), PROTOCOL, body)
    )


_PLAIN = _response()
