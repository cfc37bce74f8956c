"""The part of ASGI 3.0 that is used here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

AsgiScope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

RESPOND = "soorma.respond"
"""The extension by which a server sends a complete response at once.

It is a function of a request's scope and of the status, headers and body of the response, and
returns True if it has sent them. Otherwise, or without such an extension, the response is sent in
messages.
"""


class Disconnected(Exception):
    """The client has gone."""


class WebSocket:
    """A WebSocket of binary messages.

    `is_open` is True from its acceptance until it is closed here or the client has gone. The latter
    is noticed when reading, after all that the client sent before, or when sending.
    """

    __slots__ = ("_receive", "_send", "is_open")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.is_open = False

    async def accept(self) -> None:
        """Accepts the connection."""
        await self._receive()  # the message that a client connects
        await self._send({"type": "websocket.accept"})
        self.is_open = True

    async def receive(self) -> bytes:
        """Returns the next message; raises Disconnected at the end, ValueError if it is text."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.is_open = False
            raise Disconnected
        frame: bytes | None = message.get("bytes")
        if frame is None:
            raise ValueError("it is text, and frames are binary")
        return frame

    async def send(self, frame: bytes) -> None:
        """Sends a message, unless the connection is over, which the reader notices."""
        if not self.is_open:
            return
        try:
            await self._send({"type": "websocket.send", "bytes": frame})
        except OSError:
            self.is_open = False
        except RuntimeError:
            pass  # uvicorn has seen its end, the reader not yet

    async def close(self, code: int, reason: str = "") -> None:
        """Closes the connection, or refuses it if it was not accepted yet."""
        self.is_open = False
        await self._send({"type": "websocket.close", "code": code, "reason": reason})
