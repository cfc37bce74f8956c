"""Answers: JSON, problem documents (RFC 9457), server-sent events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from soorma_common.errors import SoormaError, to_problem

JSON = "application/json"
PROBLEM = "application/problem+json"
PING_SECONDS = 15.0
LARGE = 1024 * 1024

Response = ASGIApp
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


def server_sent(events: AsyncIterator[bytes]) -> StreamingResponse:
    """A stream of server-sent events."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, headers=headers, media_type="text/event-stream")


def sent_event(kind: str, data: bytes, position: int | None = None) -> bytes:
    """One server-sent event; `data` is JSON. What an earlier version stored with line breaks becomes several lines."""
    identity = b"" if position is None else b"id: %d\n" % position
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_BREAK.split(data))
    return b"%sevent: %s\ndata: %s\n\n" % (identity, kind.encode(), data)
