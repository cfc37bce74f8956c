"""A request: its principal, path, query, headers and body.

All of it is checked here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from soorma_common.errors import InvalidRequest, LimitExceeded, Unavailable
from soorma_common.json_text import compact
from soorma_common.limits import LARGEST_BODY
from soorma_common.names import Scope, check_name
from soorma_platform.http.asgi import AsgiScope, Receive
from soorma_platform.identity import ANYBODY, Principal
from soorma_platform.identity.door import SAID_ONCE
from soorma_platform.percent import BLANKS, decoded

LARGE = 128 * 1024
"""Bytes from which each step over all of a body has a turn of the event loop of its own."""
MOST_PARAMETERS = 100
_MANY_DIGITS = len(str(LARGEST_BODY))
_PLAIN_JSON = b"application/json"
_PLAIN_CODINGS = {b"content-encoding": (b"", b"identity"), b"transfer-encoding": (b"", b"chunked")}
_SAID_ONCE = (
    b"host",
    b"origin",
    b"content-type",
    b"content-length",
    *SAID_ONCE,
    b"idempotency-key",
    b"if-match",
    b"if-none-match",
    b"last-event-id",
)

T = TypeVar("T")


class UnsupportedMediaType(InvalidRequest):
    """The body is not declared as JSON, or it is compressed."""

    code = "unsupported_media_type"
    status = 415


class Request:
    """A request on its way through a service.

    `principal` is the identity behind it, and `names` are the parts of the path that its endpoint
    names, decoded. `sent` is the body as received, once `body` has read it: an idempotency key
    stands for that, whatever is stored of it. Raises InvalidRequest, which names the header, if one
    that must be unique is repeated.
    """

    __slots__ = (
        "_asgi",
        "_has_turn",
        "_query",
        "_receive",
        "_share",
        "headers",
        "method",
        "names",
        "path",
        "principal",
        "sent",
    )

    def __init__(self, asgi: AsgiScope, receive: Receive) -> None:
        self._asgi = asgi
        self._receive = receive
        self.headers: dict[bytes, bytes] = dict(asgi["headers"])
        if len(self.headers) != len(asgi["headers"]):
            check_once(asgi["headers"])
        self._query: dict[str, str] | None = None
        self.method: str = asgi["method"]
        # As it was sent: an encoded slash in a name does not separate.
        self.path: str = asgi["raw_path"].decode("latin-1")
        self.names: dict[str, str] = {}
        self.principal: Principal = ANYBODY
        self.sent = b""
        self._share: asyncio.Semaphore | None = None
        self._has_turn = False

    async def in_turn(
        self,
        share: asyncio.Semaphore,
        respond: Callable[[Request], Awaitable[T]],
        *,
        once_read: bool,
    ) -> T:
        """Responds when the share of its tenant has room.

        With `once_read`, it waits for that only when its body is there: a client that sends slowly
        takes no room.
        """
        self._share = share
        try:
            if not once_read:
                await self._begin_turn(share)
            return await respond(self)
        finally:
            if self._has_turn:
                share.release()

    async def _begin_turn(self, share: asyncio.Semaphore) -> None:
        await share.acquire()
        self._has_turn = True

    @property
    def is_encrypted(self) -> bool:
        """True if its client speaks TLS, with the platform or with a trusted proxy."""
        return self._asgi.get("scheme") == "https"

    @property
    def scope(self) -> Scope:
        """The scope, if its endpoint admits only principals that act for one user."""
        scope = self.principal.scope
        assert scope is not None  # noqa: S101 - the door has checked that
        return scope

    def name(self, name: str) -> str:
        """Returns a name from the path."""
        return check_name(name, self.names[name])

    def header(self, name: str) -> str | None:
        """Returns a header as it was sent, None if it is absent.

        Blanks around it are removed (RFC 9110, 5.5).
        """
        value = self.headers.get(name.lower().encode())
        return None if value is None else value.decode("latin-1").strip(BLANKS)

    @property
    def idempotency_key(self) -> str | None:
        """The key under which the response is stored for repeated requests (Idempotency-Key)."""
        key = self.header("Idempotency-Key")
        return (
            None
            if key is None
            else check_name("Idempotency-Key", check_name("Idempotency-Key", key).strip('"'))
        )

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query."""
        if self._query is None:
            text = self._asgi["query_string"].decode("latin-1")
            self._query = _query_of(text) if text else {}
        return self._query

    def check_query(self, known: frozenset[str]) -> None:
        """Raises InvalidRequest if the query has a parameter that is not `known`."""
        if self._asgi["query_string"] and (unknown := self.query.keys() - known):
            there = f"there are {', '.join(sorted(known))}" if known else "there is none"
            raise InvalidRequest(
                f"{self.method} {self.path} has no query parameter {min(unknown)[:80]!r}; {there}",
                unknown=sorted(unknown),
            )

    @property
    def media_type(self) -> str:
        """The declared media type of the body, without parameters."""
        return (
            self.headers.get(b"content-type", b"")
            .partition(b";")[0]
            .strip()
            .lower()
            .decode("latin-1")
        )

    async def body(self) -> bytes:
        """Reads the body, which must be declared as JSON and be no larger than LARGEST_BODY.

        It is returned without whitespace between its tokens, so that whatever is stored of it has
        no line breaks.
        """
        body = await self._body()
        if self._share is not None and not self._has_turn:
            await self._begin_turn(self._share)
        return body

    async def _body(self) -> bytes:
        headers = self.headers
        if headers.get(b"content-type") != _PLAIN_JSON:
            self._check_media_type()
        if b"content-encoding" in headers or b"transfer-encoding" in headers:
            self._check_codings()
        if len(length := headers.get(b"content-length", b"")) >= _MANY_DIGITS:
            _bounded(b"", int(length))  # before any of it has arrived
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body") and message["type"] == "http.request":
            self.sent = body
            return compact(_bounded(body, len(body)))
        return await self._rest_of(body, message["type"])

    async def _rest_of(self, first: bytes, kind: str) -> bytes:
        chunks, size, more = [first], len(first), True
        while more and kind == "http.request":
            message = await self._receive()
            kind, more = message["type"], message.get("more_body", False)
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            _bounded(b"", size)
        if kind != "http.request":
            raise Unavailable("the client went away before its request was whole")
        self.sent = body = b"".join(chunks)
        chunks.clear()
        if size > LARGE:  # each step over all of it gets its own turn of the event loop
            await asyncio.sleep(0)
            body = compact(body)
            await asyncio.sleep(0)
            return body
        return compact(body)

    def _check_media_type(self) -> None:
        kind = self.media_type
        if kind != "application/json" and not (
            kind.startswith("application/") and kind.endswith("+json")
        ):
            raise UnsupportedMediaType(
                f"send the body as Content-Type: application/json, not {kind or 'undeclared'}"
            )

    def _check_codings(self) -> None:
        for name, plain in _PLAIN_CODINGS.items():
            coding = self.headers.get(name, b"").strip().lower()
            if coding not in plain:
                said = f"{name.decode().title()}: {coding[:40].decode('latin-1')}"
                raise UnsupportedMediaType(f"send the body as it is, not packed as {said!r}")


def peer_of(asgi: AsgiScope) -> str:
    """Returns the address of a client, behind proxies that are trusted; empty if it has gone."""
    return (asgi.get("client") or ("", 0))[0]


def check_once(headers: list[tuple[bytes, bytes]]) -> None:
    """Raises InvalidRequest if a header that must be unique is repeated.

    Of two, different readers would believe different ones.
    """
    counted = Counter(name for name, _ in headers)
    if twice := sorted(name.decode("latin-1") for name in _SAID_ONCE if counted[name] > 1):
        raise InvalidRequest(
            f"the header {twice[0]} is sent {counted[twice[0].encode()]} times; send it once",
            repeated=twice,
        )


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decodes the body as the decoder's type; raises InvalidRequest, which says where it fails."""
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body does not have the form it must have: {error}") from error


def whole(name: str, text: str, least: int = 0, most: int | None = None) -> int:
    """Parses a whole number; raises InvalidRequest if it is none, or out of bounds."""
    if text.isascii() and text.isdigit() and len(text) <= 18:
        value = int(text)
        if least <= value and (most is None or value <= most):
            return value
    bounds = f"from {least} on" if most is None else f"from {least} to {most:,}"
    raise InvalidRequest(f"{name} must be a whole number {bounds}, not {text[:40]!r}")


def _query_of(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS
        )
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the query must be percent-encoded UTF-8: {text[:80]!r}") from error
    except ValueError as error:
        raise InvalidRequest(f"a query has at most {MOST_PARAMETERS} parameters") from error
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRequest(f"{name[:80]!r} is in the query more than once; say it once")
        found[name] = value
    return found


def path_text(name: str, value: str) -> str:
    """Decodes a part of the path."""
    return decoded(f"{name} in the path", value) if "%" in value or not value.isascii() else value


def _bounded(body: bytes, size: int) -> bytes:
    if size > LARGEST_BODY:
        raise LimitExceeded(
            f"the request's body is larger than {LARGEST_BODY:,} bytes",
            limit="request_bytes",
            maximum=LARGEST_BODY,
            actual=size,
        )
    return body
