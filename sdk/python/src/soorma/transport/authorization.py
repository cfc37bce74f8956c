"""The API key of calls: in a header of each, and asked for again when it is not accepted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

from soorma.config import Service
from soorma.transport.http import Socket, Transport
from soorma_common.errors import InvalidRequest, TooManyAttempts, Unauthorized

ApiKey: TypeAlias = str | Callable[[], str]
"""A key, or a function that returns one and is called again when it is not accepted any more."""

_ATTEMPTS = f'"code":"{TooManyAttempts.code}"'.encode()
_is_token = re.compile(r"[A-Za-z0-9._~+/=-]{1,8192}").fullmatch


class KeyedTransport:
    """A transport that sends a key with each call.

    If the key comes from a function, a call that is refused with it is made once more with another.
    """

    def __init__(self, transport: Transport, api_key: ApiKey) -> None:
        self._transport = transport
        self._api_key = api_key
        self._headers = _headers(api_key) if isinstance(api_key, str) else None

    async def request(
        self,
        service: Service,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> tuple[int, bytes]:
        sent = await self._current()
        answer = await self._transport.request(service, method, path, {**headers, **sent}, body)
        if _is_refused(*answer) and (other := await self._another(sent)) is not None:
            return await self._transport.request(service, method, path, {**headers, **other}, body)
        return answer

    @asynccontextmanager
    async def stream(
        self, service: Service, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        sent = await self._current()
        async with self._transport.stream(service, path, {**headers, **sent}) as found:
            status, pieces = found
            if status < Unauthorized.status:
                yield found
                return
            body = b"".join([piece async for piece in pieces])
            other = await self._another(sent) if _is_refused(status, body) else None
            if other is None:
                yield status, _again(body)
                return
        async with self._transport.stream(service, path, {**headers, **other}) as found:
            yield found

    @asynccontextmanager
    async def connect(
        self, service: Service, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Socket]:
        sent = await self._current()
        more = dict(headers or {})
        connecting = self._transport.connect(service, path, {**more, **sent})
        try:
            socket = await connecting.__aenter__()
        except Unauthorized:
            if (other := await self._another(sent)) is None:
                raise
            connecting = self._transport.connect(service, path, {**more, **other})
            socket = await connecting.__aenter__()
        try:
            yield socket
        finally:
            await connecting.__aexit__(None, None, None)

    def request_blocking(
        self, service: Service, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        sent = self._headers or self._asked()
        return self._transport.request_blocking(service, path, body, {**(headers or {}), **sent})

    async def close(self) -> None:
        await self._transport.close()

    async def _current(self) -> dict[str, str]:
        if self._headers is not None:
            return self._headers
        return await asyncio.to_thread(self._asked)

    async def _another(self, refused: Mapping[str, str]) -> dict[str, str] | None:
        """Returns the headers of another key than the refused one; None if there is none."""
        if isinstance(self._api_key, str):
            return None
        known = self._headers
        if known is None or known == refused:  # else another call has asked for one meanwhile
            known = await asyncio.to_thread(self._asked)
        return None if known == refused else known

    def _asked(self) -> dict[str, str]:
        assert not isinstance(self._api_key, str)  # noqa: S101 - whoever calls this has seen to it
        found = _headers(self._api_key())
        self._headers = found
        return found


def _is_refused(status: int, body: bytes) -> bool:
    """Returns whether a response says that the key is not accepted."""
    return status == Unauthorized.status or (status == TooManyAttempts.status and _ATTEMPTS in body)


async def _again(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _headers(api_key: object) -> dict[str, str]:
    """Returns the header with a key; raises InvalidRequest, without the key, if it can be none."""
    text = api_key.strip() if isinstance(api_key, str) else ""
    if not _is_token(text):
        raise InvalidRequest(
            "an API key is a text as soorma_… without blanks; look at api_key and SOORMA_API_KEY"
        )
    return {"Authorization": f"Bearer {text}"}
