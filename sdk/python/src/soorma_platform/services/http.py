"""What all services have in common over HTTP: who asks, what they may send, how errors are told."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from soorma_common import __version__
from soorma_common.errors import (
    Forbidden,
    InvalidName,
    InvalidRequest,
    LimitExceeded,
    SoormaError,
    to_problem,
)
from soorma_common.names import Scope, check_name, check_scope
from soorma_platform.stores.protocol import Store

LARGEST_BODY = 32 * 1024 * 1024
JSON = "application/json"
PROBLEM = "application/problem+json"
PING_SECONDS = 15.0

log = structlog.get_logger("soorma.http")
T = TypeVar("T")


def scope_of(request: Request) -> Scope:
    """Whose data the request means, of its headers; InvalidRequest tells which is missing."""
    tenant_id, user_id = request.headers.get("x-tenant-id"), request.headers.get("x-user-id")
    if not tenant_id or not user_id:
        raise InvalidRequest(
            "say whose memory is meant: send the headers X-Tenant-ID and X-User-ID "
            "(soorma dev believes them; anywhere else they must agree with the credential)",
            missing=[name for name, value in (("X-Tenant-ID", tenant_id), ("X-User-ID", user_id)) if not value],
        )
    return check_scope(header_text(request, "X-Tenant-ID"), header_text(request, "X-User-ID"))


def header_text(request: Request, name: str) -> str | None:
    """A header, None without it. It holds bytes; a name outside ASCII comes as UTF-8, percent-encoded."""
    value = request.headers.get(name)
    if value is None:
        return None
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidName(f"the header {name} must be percent-encoded UTF-8: {value!r}", name=name) from error


def idempotency_key(request: Request) -> str | None:
    """The key under which the first answer is kept for whoever asks again (the header Idempotency-Key)."""
    key = request.headers.get("idempotency-key")
    return None if key is None else check_name("Idempotency-Key", key.strip('"'))


def path_name(request: Request, name: str) -> str:
    """A name from the path, which holds it percent-encoded."""
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidName(f"{name} in the path must be percent-encoded UTF-8", name=name) from error


def number(request: Request, name: str, default: int, *, most: int | None = None, least: int = 0) -> int:
    """A whole number from the query."""
    text = request.query_params.get(name)
    if text is None:
        return default
    value = whole(name, text, least)
    return value if most is None else min(value, most)


def whole(name: str, text: str, least: int = 0) -> int:
    """The whole number that a text says."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least):
        raise InvalidRequest(f"{name} must be a whole number from {least} on, not {text[:40]!r}")
    return int(text)


async def body_of(request: Request) -> bytes:
    """The request's body, which must be declared as JSON and be no larger than LARGEST_BODY."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        raise _UnsupportedMediaType(f"send the body as Content-Type: {JSON}, not {kind or 'undeclared'}")
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_BODY:
            raise LimitExceeded(
                f"the request's body is larger than {LARGEST_BODY:,} bytes",
                limit="request_bytes",
                maximum=LARGEST_BODY,
                actual=size,
            )
        chunks.append(chunk)
    return b"".join(chunks)


def decode_body(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The body as the decoder's type; InvalidRequest says where it is not."""
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body does not have the form it must have: {error}") from error


def answer(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer of anything msgspec can encode."""
    return Response(msgspec.json.encode(content), status, headers, JSON)


def problem(error: SoormaError, status: int | None = None) -> Response:
    """The problem document of an error."""
    document = to_problem(error)
    document["status"] = status or error.status
    return Response(msgspec.json.encode(document), document["status"], media_type=PROBLEM)


def server_sent(events: AsyncIterator[bytes]) -> StreamingResponse:
    """A stream of server-sent events."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, headers=headers, media_type="text/event-stream")


def sent_event(kind: str, data: bytes, position: int | None = None) -> bytes:
    """One server-sent event; `data` is JSON, which holds no line break."""
    identity = b"" if position is None else b"id: %d\n" % position
    return b"%sevent: %s\ndata: %s\n\n" % (identity, kind.encode(), data)


class _UnsupportedMediaType(InvalidRequest):
    code = "unsupported_media_type"
    status = 415


class _Guard:
    """Keeps web pages out of a platform on loopback, and leaves paths as they were sent.

    Host must be a loopback name (against DNS rebinding), Origin absent or this service itself. Bodies must be
    declared as JSON, which a page cannot do without a preflight that nobody answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            if refusal := _refusal(scope):
                await _refuse(scope, receive, send, refusal)
                return
            scope["path"] = scope["raw_path"].decode("latin-1")  # encoded slashes in a name are no separators
        await self._app(scope, receive, send)


def _refusal(scope: AsgiScope) -> str | None:
    host = origin = ""
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1")
        elif name == b"origin":
            origin = value.decode("latin-1")
    if not _is_loopback(host):
        return f"the Host {host!r} is not this machine's loopback; call the platform as localhost or 127.0.0.1"
    if origin and _netloc(origin) != host:
        return f"requests of web pages from {origin!r} are not taken"
    return None


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def _refuse(scope: AsgiScope, receive: Receive, send: Send, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": why[:120]})
        return
    await problem(Forbidden(why))(scope, receive, send)


async def _on_soorma_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, SoormaError)  # noqa: S101 - registered for that class
    return problem(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    kind = {404: "not_found", 405: "method_not_allowed"}.get(status, "error")
    detail = f"there is no {request.method} {request.url.path}" if status in (404, 405) else str(error)
    document = {"type": f"urn:soorma:problem:{kind.replace('_', '-')}", "title": kind, "status": status,
                "detail": detail, "code": kind}  # fmt: skip
    return Response(msgspec.json.encode(document), status, getattr(error, "headers", None), PROBLEM)


async def _on_bug(request: Request, error: Exception) -> Response:
    log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    document = {"type": "urn:soorma:problem:internal", "title": "internal error", "status": 500,
                "detail": "the platform has a fault here; its log tells more (soorma dev --logs)",
                "code": "internal"}  # fmt: skip
    return Response(msgspec.json.encode(document), 500, media_type=PROBLEM)


def application(name: str, routes: list[BaseRoute], store: Store) -> ASGIApp:
    """A service: its routes, `GET /health`, errors as problem documents, guarded against web pages."""

    async def health(_: Request) -> Response:
        try:
            await store.check()
        except SoormaError as error:
            state = {"status": "failing", "detail": error.message}
            return answer({"service": name, "status": "failing", "version": __version__, "store": state}, status=503)
        return answer({"service": name, "status": "ok", "version": __version__, "store": {"status": "ok"}})

    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        SoormaError: _on_soorma_error,
        404: _on_http_error,
        405: _on_http_error,
        Exception: _on_bug,
    }
    inner = Starlette(routes=[Route("/health", health), *routes], exception_handlers=handlers)
    return _Guard(inner)
