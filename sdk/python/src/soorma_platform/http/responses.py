"""Responses: JSON and problem documents (RFC 9457). Streams are in `streams`."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec

from soorma_common.errors import SoormaError, Unauthorized, to_problem
from soorma_platform.http.asgi import RESPOND, AsgiApp, AsgiScope, Receive, Send

JSON = "application/json"
PROBLEM = "application/problem+json"
LARGE = 1024 * 1024

Response = AsgiApp
"""A response is sent by being called as an ASGI application."""

_encoder = msgspec.json.Encoder()
_NO_EXTENSIONS: dict[str, Any] = {}


class WholeResponse:
    """A response whose body is complete. `tag` is its ETag."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, body: bytes, status: int = 200, kind: bytes = b"application/json", tag: bytes = b""
    ) -> None:
        self.body = body
        self.status = status
        self.headers = [(b"content-length", b"%d" % len(body))]
        if body:
            self.headers.append((b"content-type", kind))
        if tag:
            self.headers.append((b"etag", tag))

    async def __call__(self, scope: AsgiScope, _: Receive, send: Send) -> None:
        respond = scope.get("extensions", _NO_EXTENSIONS).get(RESPOND)
        if respond is not None and respond(scope, self.status, self.headers, self.body):
            return
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def json_response(content: Any, tag: bytes = b"") -> WholeResponse:
    """Makes a JSON response from anything that msgspec can encode."""
    return WholeResponse(_encoder.encode(content), tag=tag)


async def large_json_response(content: Any, size: int) -> WholeResponse:
    """Makes a JSON response from content of about `size` bytes; a thread encodes a large one."""
    if size < LARGE:
        return json_response(content)
    return WholeResponse(await asyncio.to_thread(_encoder.encode, content))


def problem(error: SoormaError, status: int | None = None) -> WholeResponse:
    """Makes the response with the problem document of an error."""
    response = problem_document({**to_problem(error), "status": status or error.status})
    if isinstance(error, Unauthorized):
        response.headers.append((b"www-authenticate", b'Bearer realm="soorma"'))  # RFC 6750
    if (seconds := error.details.get("retry_after")) is not None:
        # Whole seconds (RFC 9110, 10.2.3), rounded up: it is true then, too.
        response.headers.append((b"retry-after", b"%d" % max(math.ceil(seconds), 1)))
    return response


def problem_document(document: dict[str, Any]) -> WholeResponse:
    """Makes a response from a problem document."""
    return WholeResponse(_encoder.encode(document), document["status"], PROBLEM.encode())
