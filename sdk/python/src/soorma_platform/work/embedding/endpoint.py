"""A model behind an address, as OpenAI's API and those that follow it have it.

The address comes from the settings alone. Off loopback it has to be https; redirects are not
followed, and size and time of a response are bounded: what is embedded is what users have stored.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import msgspec

from soorma_common.errors import InvalidRequest, Unavailable
from soorma_platform.work.embedding.protocol import TextRefused

if TYPE_CHECKING:
    from soorma_platform.engine.retrieval.vectors import Vector

SECONDS = 30.0
"""Time for a response."""
LARGEST_RESPONSE = 32 * 1024 * 1024
LARGEST_DIMENSION = 8_192
_LARGEST = 1e30
"""More than a component of a vector, less than a 32-bit float holds."""
_REFUSED = (400, 413, 422)
"""Responses to a text that is too long, or not taken for another reason of its own."""


class _Embedding(msgspec.Struct):
    index: int
    embedding: list[float]


class _Response(msgspec.Struct):
    data: list[_Embedding]


_decode = msgspec.json.Decoder(_Response).decode


def check_address(address: str) -> str:
    """Returns the address of an endpoint; raises InvalidRequest if it may not be used."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(
            "SOORMA_EMBEDDINGS is auto, offline, none, or the address of an API such as "
            f"https://host/v1, not {address[:80]!r}"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidRequest(
            "the address in SOORMA_EMBEDDINGS holds no user, password, query or fragment; the key "
            "is in SOORMA_EMBEDDINGS_KEY"
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise InvalidRequest(
            f"SOORMA_EMBEDDINGS must be https off loopback, not {address[:80]!r}: texts and key "
            "would be readable on the way"
        )
    return address.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def name_at(address: str, model: str) -> str:
    """Returns what identifies a model behind an address."""
    return f"{model} at {urlsplit(address).netloc}"


class EndpointEmbedder:
    """A model behind an address."""

    calibration = None

    def __init__(self, address: str, model: str, key: str | None = None) -> None:
        self._address = check_address(address)
        self._model = model
        self._key = key
        self._session: aiohttp.ClientSession | None = None
        self.name = name_at(address, model)

    def __repr__(self) -> str:
        return f"EndpointEmbedder({self.name!r})"  # without the key

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        import numpy as np  # noqa: PLC0415 - it takes a while

        data = await self._ask({"model": self._model, "input": list(texts)})
        try:
            found = _decode(data).data
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"{self._what} sent no embeddings: {error}") from error
        if sorted(one.index for one in found) != list(range(len(texts))):
            raise Unavailable(
                f"{self._what} sent {len(found)} embeddings for {len(texts)} texts, or the same "
                "one twice"
            )
        vectors = [np.array(one.embedding) for one in sorted(found, key=_index)]
        if any(not 0 < len(one) <= LARGEST_DIMENSION or not (np.abs(one) < _LARGEST).all()
               for one in vectors):  # fmt: skip
            raise Unavailable(
                f"{self._what} sent a vector without numbers, or of more than "
                f"{LARGEST_DIMENSION:,} of them"
            )
        return [vector.astype(np.float32) for vector in vectors]

    @property
    def _what(self) -> str:
        return f"the embedding model {self.name}"

    async def _ask(self, body: dict[str, object]) -> bytes:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=SECONDS)
            self._session = aiohttp.ClientSession(
                timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            async with self._session.post(
                f"{self._address}/embeddings",
                data=msgspec.json.encode(body),
                headers=headers,
                allow_redirects=False,
            ) as response:
                if response.status in _REFUSED:
                    raise TextRefused(
                        f"{self._what} does not take a text (it responded with {response.status})"
                    )
                if response.status != 200:
                    raise Unavailable(
                        f"{self._what} responded with {response.status}; check "
                        "SOORMA_EMBEDDINGS, _MODEL and _KEY"
                    )
                data = bytearray()
                async for chunk in response.content.iter_chunked(65_536):
                    data += chunk
                    if len(data) > LARGEST_RESPONSE:
                        raise Unavailable(f"{self._what} sent more than {LARGEST_RESPONSE:,} bytes")
                return bytes(data)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"{self._what} cannot be reached: {type(error).__name__}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _index(embedding: _Embedding) -> int:
    return embedding.index
