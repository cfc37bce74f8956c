"""Answers: JSON, problem documents (RFC 9457), server-sent events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from soorma_common.errors import SoormaError, to_problem
from soorma_platform.http.asgi import AsgiApp, AsgiScope, Receive, Send

JSON = "application/json"
PROBLEM = "application/problem+json"
PING_SECONDS = 15.0
LARGE = 1024 * 1024

Response = AsgiApp
"""An answer is sent by being called as an ASGI application."""

_BREAK = re.compile(rb"\r\n|\n|\r")
_encoder = msgspec.json.Encoder()


class Answer:
    """A whole answer. `tag` is its ETag."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: bytes, status: int = 200, kind: bytes = b"application/json", tag: bytes = b"") -> None:
        self.body = body
        self.status = status
        self.headers = [(b"content-length", b"%d" % len(body))]
        if body:
            self.headers.append((b"content-type", kind))
        if tag:
            self.headers.append((b"etag", tag))

    async def __call__(self, _: AsgiScope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def answer(content: Any, tag: bytes = b"") -> Answer:
    """A JSON answer of anything msgspec can encode."""
    return Answer(_encoder.encode(content), tag=tag)


async def large_answer(content: Any, size: int) -> Answer:
    """As `answer`, of content that holds about `size` bytes: much of it is encoded in a thread."""
    if size < LARGE:
        return answer(content)
    return Answer(await asyncio.to_thread(_encoder.encode, content))


def problem(error: SoormaError, status: int | None = None) -> Answer:
    """The problem document of an error."""
    return problem_document({**to_problem(error), "status": status or error.status})


def problem_document(document: dict[str, Any]) -> Answer:
    """A problem document as it stands."""
    return Answer(_encoder.encode(document), document["status"], PROBLEM.encode())


class ServerSent:
    """A stream of server-sent events, for as long as there are any and the client listens."""

    status = 200
    _HEADERS = (
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    )

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events

    async def __call__(self, _: AsgiScope, receive: Receive, send: Send) -> None:
        """Sends them."""
        telling = asyncio.create_task(self._tell(send))
        listening = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait((telling, listening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
            if not telling.done():
                telling.cancel()
            await asyncio.gather(telling, listening, return_exceptions=True)
        if not telling.cancelled() and (error := telling.exception()) is not None:
            raise error

    async def _tell(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": self.status, "headers": list(self._HEADERS)})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def sent_event(kind: str, data: bytes, position: int | None = None) -> bytes:
    """One server-sent event; `data` is JSON. What an earlier version stored with line breaks becomes several lines."""
    identity = b"" if position is None else b"id: %d\n" % position
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_BREAK.split(data))
    return b"%sevent: %s\ndata: %s\n\n" % (identity, kind.encode(), data)
