"""Calls of a service's ASGI application, as by a server, for one request or one WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from soorma.transport.headers import check_handshake
from soorma_common.errors import Forbidden, Unauthorized, Unavailable
from soorma_common.protocol import WHY_HEADER
from soorma_platform.http.asgi import AsgiApp, Message


def http_scope(method: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Returns the scope of a request to this machine."""
    return {"type": "http", "method": method, "scheme": "http", **_place(path, _sent(headers))}


def socket_scope(path: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the scope of a WebSocket to this machine."""
    sent = _sent(headers or {})
    return {"type": "websocket", "scheme": "ws", "subprotocols": [], **_place(path, sent)}


def _sent(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
    ]


def _place(path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    raw, _, query = path.partition("?")
    return {
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "path": unquote(raw),
        "raw_path": raw.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("127.0.0.1", 0),
        "server": ("localhost", 0),
    }


class Exchange:
    """A request as the application reads it, and its response as it arrives."""

    def __init__(self, service: str, body: bytes | None) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._service = service
        self._body: bytes | None = body or b""
        self._is_cut = asyncio.Event()
        self._pieces: asyncio.Queue[bytes | Unavailable | None] = asyncio.Queue()

    async def run(self, app: AsgiApp, scope: dict[str, Any]) -> None:
        """Runs the application.

        If it fails before it responds, `status` is an Unavailable; later, the body is cut off.
        """
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - the client hears of any
            if not self.status.done():
                failed = Unavailable(
                    f"the {self._service} service gave no answer: {error!r}", service=self._service
                )
                failed.__cause__ = error
                self.status.set_exception(failed)
                self.status.exception()  # the client may be gone
            else:
                self.cut()
        finally:
            self._pieces.put_nowait(None)

    async def body(self) -> bytes:
        """Returns the whole body of the response."""
        pieces = []
        while (piece := await self.piece()) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    async def piece(self) -> bytes | None:
        """Returns the next piece of the body, None at its end; Unavailable if it is cut off."""
        piece = await self._pieces.get()
        if isinstance(piece, Unavailable):
            raise piece
        return piece

    def cut(self) -> None:
        """Loses the connection."""
        self._is_cut.set()
        self._pieces.put_nowait(lost(self._service))

    async def _receive(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        # as with a server: while it streams, an application waits here for the client's end
        await self._is_cut.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not self.status.done():
                self.status.set_result(message["status"])
        elif piece := message.get("body"):
            self._pieces.put_nowait(piece)


class SocketPipe:
    """A WebSocket between a client and an application: the frames that are still unread."""

    def __init__(self, service: str) -> None:
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_open = True
        self._service = service
        self._to_service: asyncio.Queue[Message] = asyncio.Queue()
        self._to_client: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._to_service.put_nowait({"type": "websocket.connect"})

    @property
    def is_drained(self) -> bool:
        """True if nothing waits to be read."""
        return self._to_service.empty() and self._to_client.empty()

    async def run(self, app: AsgiApp, scope: dict[str, Any]) -> None:
        """Runs the application on the WebSocket until it ends."""
        try:
            await app(scope, self._to_service.get, self._from_service)
        finally:
            self.close()

    def put(self, frame: bytes) -> None:
        """Sends a frame from the client; raises Unavailable if the WebSocket is closed."""
        if not self.is_open:
            raise lost(self._service)
        self._to_service.put_nowait({"type": "websocket.receive", "bytes": frame})

    async def take(self) -> bytes:
        """Returns the client's next frame; Unavailable once it is closed and all was read."""
        frame = await self._to_client.get()
        if frame is None:
            self._to_client.put_nowait(None)
            raise lost(self._service)
        return frame

    def close(self) -> None:
        """Closes the WebSocket for both sides."""
        if self.is_open:
            self.is_open = False
            self._to_service.put_nowait({"type": "websocket.disconnect", "code": 1006})
            self._to_client.put_nowait(None)
            if not self.accepted.done():
                self.accepted.set_exception(lost(self._service))
                self.accepted.exception()  # perhaps nobody waits for it any more

    def on_frame(self, frame: bytes) -> None:
        """Is called with each frame to the client; does nothing here."""

    async def _from_service(self, message: Message) -> None:
        if not self.is_open:
            raise OSError("the client is gone")
        match message["type"]:
            case "websocket.accept" if not self.accepted.done():
                self.accepted.set_result(None)
            case "websocket.send":
                self.on_frame(message["bytes"])
                self._to_client.put_nowait(message["bytes"])
            case "websocket.http.response.start":
                self._refuse(message)
            case "websocket.close":
                self.close()

    def _refuse(self, message: Message) -> None:
        """Refuses the handshake as a client of the network learns it."""
        names = {name.decode(): value.decode() for name, value in message["headers"]}
        why = {WHY_HEADER: names.get(WHY_HEADER.lower(), "")}
        try:
            check_handshake(message["status"], why)
        except (Unauthorized, Forbidden) as error:
            self.accepted.set_exception(error)
            self.accepted.exception()  # perhaps nobody waits for it any more


def lost(service: str) -> Unavailable:
    """Returns the error for a client that has lost its connection."""
    return Unavailable(f"the connection to the {service} service was lost", service=service)
