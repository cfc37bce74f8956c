"""How the SDK reaches the platform. An interface, so that a test can run without a socket; here, aiohttp."""

from __future__ import annotations

import asyncio
import http.client
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, Protocol
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from soorma_common.delivery import LARGEST_FRAME
from soorma_common.errors import Unavailable

JSON = "application/json"
Service = Literal["memory", "events", "registry"]

CONNECT_SECONDS = 3.0
READ_SECONDS = 75.0
LARGE_BODY = 512 * 1024


class Socket(Protocol):
    """An open WebSocket with binary frames."""

    async def send(self, frame: bytes) -> None:
        """Sends a frame; Unavailable if the connection is gone."""
        ...

    async def receive(self) -> bytes:
        """The next frame; Unavailable when the connection is gone."""
        ...


class Transport(Protocol):
    """One try of a call: no retries here. Every failure to get an answer is raised as Unavailable."""

    async def request(
        self, service: Service, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        """Status and body of an answer."""
        ...

    def stream(
        self, service: Service, path: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[tuple[int, AsyncIterator[bytes]]]:
        """Status of an answer, and its body in pieces as they come."""
        ...

    def connect(self, service: Service, path: str) -> AbstractAsyncContextManager[Socket]:
        """A WebSocket."""
        ...

    def request_blocking(
        self, service: Service, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """POSTs from a thread of its own, without the event loop, which a handler may be blocking."""
        ...

    async def close(self) -> None:
        """Closes what is open."""
        ...


class HttpTransport:
    """The platform over HTTP and WebSocket, at the address of each service."""

    def __init__(self, addresses: Mapping[Service, str]) -> None:
        self._addresses = addresses
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def request(
        self, service: Service, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        """See `Transport.request`."""
        url = self._addresses[service] + path
        try:
            data = body if body is None or len(body) < LARGE_BODY else io.BytesIO(body)  # aiohttp sends it in pieces
            async with self._open().request(method, _encoded(url), headers=headers, data=data) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(service, error) from error

    @asynccontextmanager
    async def stream(
        self, service: Service, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """See `Transport.stream`."""
        url = self._addresses[service] + path
        patience = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=60.0)
        try:
            async with self._open().get(_encoded(url), headers=headers, timeout=patience) as answer:
                yield answer.status, answer.content.iter_any()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, Unavailable):
                raise
            raise self._unreachable(service, error) from error

    @asynccontextmanager
    async def connect(self, service: Service, path: str) -> AsyncIterator[Socket]:
        """See `Transport.connect`."""
        url = self._addresses[service] + path
        try:
            socket = await self._open().ws_connect(_encoded(url), max_msg_size=LARGEST_FRAME, compress=0)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(service, error) from error
        try:
            yield _HttpSocket(socket, self._addresses[service])
        finally:
            await socket.close()

    def request_blocking(
        self, service: Service, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """See `Transport.request_blocking`."""
        parts = urlsplit(self._addresses[service])
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS)
        try:
            connection.request("POST", parts.path + path, body, {"Content-Type": JSON, **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= 400:
                raise self._unreachable(service, http.client.HTTPException(f"it answered {answer.status}"))
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, Unavailable):
                raise
            raise self._unreachable(service, error) from error
        else:
            return content
        finally:
            connection.close()

    async def close(self) -> None:
        """See `Transport.close`."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            patience = aiohttp.ClientTimeout(total=READ_SECONDS, sock_connect=CONNECT_SECONDS)
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(connector=connector, timeout=patience)
            self._loop = loop
        return self._session

    def _unreachable(self, service: Service, error: Exception) -> Unavailable:
        refused = getattr(error, "os_error", None)  # aiohttp wraps it in words that help nobody
        what = getattr(refused, "strerror", None) or str(error) or type(error).__name__
        return Unavailable(
            f"the {service} service at {self._addresses[service]} cannot be reached: {what}. "
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
            raise Unavailable(f"the connection to {self._address} was closed", close_code=self._socket.close_code)
        data: bytes = message.data
        return data


def _encoded(url: str) -> URL:
    """The URL as it is: its names are percent-encoded already."""
    return URL(url, encoded=True)
