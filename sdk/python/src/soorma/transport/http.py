"""The transport to the platform: an interface, so that tests need no socket, and aiohttp."""

from __future__ import annotations

import asyncio
import http.client
import io
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from soorma.config import Service
from soorma.local import shown
from soorma.transport.headers import SPOKEN, check_answer, check_handshake
from soorma_common.delivery import LARGEST_FRAME
from soorma_common.errors import InvalidRequest, Unavailable

JSON = "application/json"

CONNECT_SECONDS = 3.0
READ_SECONDS = 75.0
LARGE_BODY = 512 * 1024

_OTHER_NAMES = (62, 64)
"""Codes of OpenSSL: the certificate is for another name, or another address."""

log = logging.getLogger("soorma.transport")
_origins: set[str] = set()
"""The platforms that this process talks to, so that each is logged once."""


class Socket(Protocol):
    """An open WebSocket with binary frames."""

    async def send(self, frame: bytes) -> None:
        """Sends a frame; raises Unavailable if the connection is lost."""
        ...

    async def receive(self) -> bytes:
        """Returns the next frame; raises Unavailable once the connection is lost."""
        ...


class Transport(Protocol):
    """A single try of a call, without retries.

    Every failure to get a response raises Unavailable.
    """

    async def request(
        self,
        service: Service,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> tuple[int, bytes]:
        """Returns the status and body of a response."""
        ...

    def stream(
        self, service: Service, path: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[tuple[int, AsyncIterator[bytes]]]:
        """Returns the status of a response, and its body in pieces as they arrive."""
        ...

    def connect(
        self, service: Service, path: str, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Socket]:
        """Opens a WebSocket; raises Unauthorized or Forbidden if it may not be opened."""
        ...

    def request_blocking(
        self, service: Service, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """POSTs from the calling thread, without the event loop, which a handler may block."""
        ...

    async def close(self) -> None:
        """Closes what is open."""
        ...


class HttpTransport:
    """The platform over HTTP and WebSocket, at the address of each service.

    It may be used from several event loops. Each has its own session, which is closed with the
    transport or the loop, whichever comes first, so that a client at the top of a module survives
    many calls of `asyncio.run`. Once closed, it stays closed.
    """

    def __init__(self, addresses: Mapping[Service, str], origin: str = "") -> None:
        self._addresses = addresses
        self._shown = {service: shown(address) for service, address in addresses.items()}
        self._origin = origin
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        self._lives: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._closed = False

    async def request(
        self,
        service: Service,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> tuple[int, bytes]:
        url = self._addresses[service] + path
        try:
            # a large one as a stream, which aiohttp sends in pieces
            data = body if body is None or len(body) < LARGE_BODY else io.BytesIO(body)
            session = self._sessions.get(asyncio.get_running_loop()) or await self._begin()
            async with session.request(method, _encoded(url), headers=headers, data=data) as answer:
                check_answer(answer.status, answer.headers, self._shown[service])
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(service, error) from error

    @asynccontextmanager
    async def stream(
        self, service: Service, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        url = self._addresses[service] + path
        patience = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=60.0)
        session = self._sessions.get(asyncio.get_running_loop()) or await self._begin()
        try:
            async with session.get(_encoded(url), headers=headers, timeout=patience) as answer:
                check_answer(answer.status, answer.headers, self._shown[service])
                yield answer.status, answer.content.iter_any()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, Unavailable):
                raise
            raise self._unreachable(service, error) from error

    @asynccontextmanager
    async def connect(
        self, service: Service, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Socket]:
        url = self._addresses[service] + path
        session = self._sessions.get(asyncio.get_running_loop()) or await self._begin()
        try:
            socket = await session.ws_connect(
                _encoded(url), max_msg_size=LARGEST_FRAME, compress=0, headers=headers
            )
        except aiohttp.WSServerHandshakeError as error:
            check_answer(error.status, error.headers or {}, self._shown[service])
            check_handshake(error.status, error.headers or {})
            raise self._unreachable(service, error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(service, error) from error
        try:
            yield _HttpSocket(socket, self._shown[service])
        finally:
            await socket.close()

    def request_blocking(
        self, service: Service, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        parts = urlsplit(self._addresses[service])
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS)
        try:
            connection.request(
                "POST", parts.path + path, body, {"Content-Type": JSON, **SPOKEN, **(headers or {})}
            )
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= 400:
                raise self._unreachable(
                    service, http.client.HTTPException(f"it responded with {answer.status}")
                )
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, Unavailable):
                raise
            raise self._unreachable(service, error) from error
        else:
            return content
        finally:
            connection.close()

    async def close(self) -> None:
        """Closes the sessions of all loops; later calls raise InvalidRequest."""
        self._closed = True
        here = asyncio.get_running_loop()
        for loop, life in list(self._lives.items()):
            if loop is here:
                await life.aclose()
            elif not loop.is_closed():
                asyncio.run_coroutine_threadsafe(_closed(life), loop)

    async def _begin(self) -> aiohttp.ClientSession:
        """Opens the running loop's session, tied to a generator that `asyncio.run` closes."""
        if self._closed:
            raise InvalidRequest(
                "this client is closed: make a new one, or close it after its last call"
            )
        if self._origin and self._origin not in _origins:
            _origins.add(self._origin)
            log.info("uses the platform %s: events at %s", self._origin, self._shown["events"])
        # loops that were closed without closing their generators
        for gone in [each for each in list(self._lives) if each.is_closed()]:
            self._sessions.pop(gone, None)
            self._lives.pop(gone, None)
        loop = asyncio.get_running_loop()
        patience = aiohttp.ClientTimeout(total=READ_SECONDS, sock_connect=CONNECT_SECONDS)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            headers=SPOKEN,
            cookie_jar=aiohttp.DummyCookieJar(),  # the platform sets none
            timeout=patience,
        )
        self._sessions[loop] = session
        self._lives[loop] = life = self._life(loop, session)
        await anext(life)
        return session

    async def _life(
        self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession
    ) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._sessions.pop(loop, None)
            self._lives.pop(loop, None)
            await session.close()

    def _unreachable(self, service: Service, error: Exception) -> Unavailable:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unavailable(
                f"the {service} service at {self._shown[service]} is not trusted: "
                f"{_about_certificate(error)}",
                service=service,
            )
        refused = getattr(error, "os_error", None)  # aiohttp wraps it in unhelpful words
        what = getattr(refused, "strerror", None) or str(error) or type(error).__name__
        return Unavailable(
            f"the {service} service at {self._shown[service]} cannot be reached: {what}. "
            "Is `soorma dev` running? `soorma dev --status` tells",
            service=service,
        )


class _HttpSocket:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse, address: str) -> None:
        self._socket = socket
        self._address = address

    async def send(self, frame: bytes) -> None:
        try:
            await self._socket.send_bytes(frame)
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"the connection to {self._address} was lost: {error}") from error

    async def receive(self) -> bytes:
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise Unavailable(
                f"the connection to {self._address} was closed", close_code=self._socket.close_code
            )
        data: bytes = message.data
        return data


async def _closed(life: AsyncGenerator[None, None]) -> None:
    await life.aclose()


def _about_certificate(error: ssl.SSLCertVerificationError) -> str:
    """Returns what is wrong with the certificate of a platform, and what to do."""
    cause = getattr(error, "certificate_error", error)  # aiohttp wraps it
    what = getattr(cause, "verify_message", None) or str(cause)
    if getattr(cause, "verify_code", None) in _OTHER_NAMES:
        return f"{what.rstrip('.')}; call it by a name that its certificate is for"
    return (
        f"{what}. If its certificate is of a private CA, name a file with that in SSL_CERT_FILE, "
        "which is read when the program starts"
    )


def _encoded(url: str) -> URL:
    """Returns the URL unchanged: its names are percent-encoded already."""
    return URL(url, encoded=True)
