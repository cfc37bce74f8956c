"""ASGI 3.0, as far as it is spoken here: what a server calls, and what it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

AsgiScope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

RESPOND = "soorma.respond"
"""The extension by which a server sends a response that is there as a whole, and the type of what it is.

It is a function of a request's scope and of the status, headers and body of the response, and tells
whether it has sent that. Where it has not, or there is no such extension, the response is sent in
messages.
"""


class Disconnected(Exception):
    """The client has gone."""


class WebSocket:
    """A WebSocket of binary messages.

    `is_open` from its acceptance until it is closed here, or its client has gone.

    That is heard of when reading, behind all that the client has sent before, or when sending.
    """

    __slots__ = ("_receive", "_send", "is_open")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.is_open = False

    async def accept(self) -> None:
        """Takes the connection."""
        await self._receive()  # that somebody connects
        await self._send({"type": "websocket.accept"})
        self.is_open = True

    async def receive(self) -> bytes:
        """The next message; Disconnected once the client has gone, ValueError where it is text."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.is_open = False
            raise Disconnected
        frame: bytes | None = message.get("bytes")
        if frame is None:
            raise ValueError("it is text, and frames are binary")
        return frame

    async def send(self, frame: bytes) -> None:
        """Sends a message, unless the connection is over: whoever reads notices that."""
        if not self.is_open:
            return
        try:
            await self._send({"type": "websocket.send", "bytes": frame})
        except OSError:
            self.is_open = False
        except RuntimeError:
            pass  # uvicorn has seen its end, and the reader has not yet

    async def close(self, code: int, reason: str = "") -> None:
        """Ends the connection, or refuses it where it was not accepted yet."""
        self.is_open = False
        await self._send({"type": "websocket.close", "code": code, "reason": reason})
