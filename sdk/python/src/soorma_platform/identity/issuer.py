"""The keys of an issuer: fetched from the configured address only, and cached.

A token never says where its key is to be found. Off loopback the address is https; no redirect is
followed; the size and time of a response are bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from soorma_common.errors import InvalidRequest, Unauthorized, Unavailable
from soorma_platform.identity.jose import SigningKey, signing_keys
from soorma_platform.identity.oidc import OidcSettings, check_url
from soorma_platform.logs import Log
from soorma_platform.metrics import IssuerStanding

FETCH_SECONDS = 5.0
"""Maximum seconds of one response."""
FRESH_SECONDS = 600.0
"""Seconds after which the keys are fetched again, in the background."""
FAILED_SECONDS = 30.0
"""Seconds after a failure until they are fetched again, in the background."""
AGAIN_SECONDS = 10.0
"""Minimum seconds between two fetches, however many tokens name keys that are not known.

A failure is remembered for as long.
"""
KEPT_SECONDS = 86_400.0
"""Seconds for which keys are used while the issuer cannot be reached.

It cannot withdraw a key meanwhile.
"""
LARGEST_RESPONSE = 256 * 1024
MOST_KEYS = 100
MOST_WAITING = 100
"""Requests that wait for one fetch. Further ones are refused at once, or a storm would pile up."""
DISCOVERY = "/.well-known/openid-configuration"

log = Log("soorma.identity")


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


class Issuer:
    """An issuer, and its keys by id and algorithm.

    `version` changes with the keys: whatever was verified before is to be verified again.
    """

    def __init__(
        self, settings: OidcSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self._monotonic = monotonic
        self._keys: dict[tuple[str | None, str], SigningKey] = {}
        self._ids: frozenset[str | None] = frozenset()
        self._thumbprints: frozenset[str] = frozenset()
        self.version = 0
        self._fetching: asyncio.Task[None] | None = None
        self._waiting = 0
        self._failure: str | None = "they were not fetched yet"
        self._fetched_at = self._known_at = -KEPT_SECONDS
        self._failing_since: float | None = None
        self._session: aiohttp.ClientSession | None = None

    async def key(self, kid: str | None, algorithm: str) -> SigningKey:
        """Returns the key with which a token says to be signed.

        Raises Unauthorized if the issuer publishes no such key, Unavailable if it cannot be asked.
        """
        found = self._keys.get((kid, algorithm))
        if found is None and kid not in self._ids and self._may_ask():
            await self._ask()
            found = self._keys.get((kid, algorithm))
        if found is None:
            raise self._unknown(kid, algorithm)
        return found

    def standing(self) -> IssuerStanding:
        """Returns how many keys are known, and for how long they could not be fetched."""
        since = self._failing_since
        failing = 0.0 if since is None else self._monotonic() - since
        return IssuerStanding(len(self._thumbprints), failing)

    def publishes(self, thumbprint: str) -> bool:
        """Returns whether a key is still one of the issuer's."""
        return thumbprint in self._thumbprints

    async def run(self) -> None:
        """Keeps the keys fresh."""
        while True:
            await self.refresh()
            await asyncio.sleep(FRESH_SECONDS if self._failure is None else FAILED_SECONDS)

    async def refresh(self) -> None:
        """Fetches the keys, or waits for the fetch under way; a failure is noted, not raised."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        # Shielded: whoever is cancelled while waiting ends no fetch that others wait for.
        await asyncio.shield(self._fetching)

    async def close(self) -> None:
        """Ends a fetch under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _unknown(self, kid: str | None, algorithm: str) -> Unauthorized | Unavailable:
        issuer = self.settings.issuer
        if kid in self._ids:
            return Unauthorized(f"the token names a key that is not for {algorithm}")
        if self._failure is not None:
            return Unavailable(
                f"the keys of the issuer {issuer} cannot be fetched: {self._failure}; tokens whose "
                "key is not known are not accepted until they can"
            )
        if kid is None:
            return Unauthorized(
                f"the token names no key (kid), and the issuer {issuer} has several, or none, for "
                f"{algorithm}"
            )
        return Unauthorized(
            f"the token is signed with a key that the issuer {issuer} does not publish"
        )

    def _may_ask(self) -> bool:
        is_due = self._monotonic() - self._fetched_at >= AGAIN_SECONDS
        return is_due or self._fetching is not None

    async def _ask(self) -> None:
        """Waits for a fetch, if not too many do."""
        if self._waiting >= MOST_WAITING:
            raise Unavailable(
                f"the keys of the issuer {self.settings.issuer} are being fetched; try again in "
                "some seconds"
            )
        self._waiting += 1
        try:
            await self.refresh()
        finally:
            self._waiting -= 1

    async def _fetch(self) -> None:
        try:
            self._take(await self._published())
            failure = None
        except Unavailable as error:
            failure = error.message
        except Exception:
            log.exception("keys of the issuer not read", issuer=self.settings.issuer)
            failure = "they were not understood"
        finally:
            self._fetching = None
            self._fetched_at = self._monotonic()
        self._note(failure)

    def _note(self, failure: str | None) -> None:
        """Notes the outcome of a fetch, and logs it if it is another than that before."""
        before, self._failure = self._failure, failure
        issuer = self.settings.issuer
        if failure is None:
            self._failing_since = None
            self._known_at = self._fetched_at
            if before is not None:
                log.info("keys of the issuer fetched", issuer=issuer, keys=len(self._thumbprints))
            return
        if self._failing_since is None:
            self._failing_since = self._fetched_at
        if failure != before:
            log.warning("keys of the issuer not fetched", issuer=issuer, reason=failure)
        if self._fetched_at - self._known_at >= KEPT_SECONDS:
            self._set([])

    async def _published(self) -> list[dict[str, Any]]:
        """Returns the published keys; raises Unavailable, which says why not."""
        url = self.settings.jwks_url or await self._discovered()
        try:
            keys = msgspec.json.decode(await self._get(url), type=_KeySet).keys
        except (ValueError, RecursionError):
            raise Unavailable(f"{url} responded with no key set") from None
        if len(keys) > MOST_KEYS:
            raise Unavailable(f"{url} responded with more than {MOST_KEYS} keys")
        return keys

    async def _discovered(self) -> str:
        """Returns the address of the keys as the issuer's discovery document has it."""
        issuer = self.settings.issuer
        url = issuer.rstrip("/") + DISCOVERY
        try:
            found = msgspec.json.decode(await self._get(url), type=_Discovery)
        except (ValueError, RecursionError):
            raise Unavailable(f"{url} responded with no discovery document") from None
        if found.issuer != issuer:
            raise Unavailable(f"{url} is of another issuer than SOORMA_OIDC_ISSUER")
        try:
            is_own = check_url("jwks_uri", found.jwks_uri).hostname == urlsplit(issuer).hostname
        except InvalidRequest as error:
            raise Unavailable(f"{url}: {error.message}") from None
        if not is_own:
            raise Unavailable(
                f"{url} names keys on another host; set SOORMA_OIDC_JWKS_URL to their address if "
                "that is right"
            )
        return found.jwks_uri

    async def _get(self, url: str) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=FETCH_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Nothing is unpacked: a small response must not become a large one.
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,
            )
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                return await _body_of(response, url)
        except Unavailable:
            raise
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise Unavailable(f"{url} cannot be reached: {type(error).__name__}") from error

    def _take(self, published: list[dict[str, Any]]) -> None:
        found, left_out = signing_keys(published, self.settings.algorithms)
        if not found:
            raise Unavailable(
                "none of the published keys verifies a signature by "
                f"{', '.join(self.settings.algorithms)}" + (f" ({left_out[0]})" if left_out else "")
            )
        self._set(found)

    def _set(self, keys: list[SigningKey]) -> None:
        by_id = _by_id(keys, self.settings.algorithms)
        if _prints(by_id) != _prints(self._keys):
            self.version += 1
        self._keys = by_id
        self._ids = frozenset(kid for kid, _ in by_id)
        self._thumbprints = frozenset(key.thumbprint for key in by_id.values())


async def _body_of(response: aiohttp.ClientResponse, url: str) -> bytes:
    if response.status != 200:
        raise Unavailable(f"{url} responded with {response.status}")
    data = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        data += chunk
        if len(data) > LARGEST_RESPONSE:
            raise Unavailable(f"{url} responded with more than {LARGEST_RESPONSE:,} bytes")
    return bytes(data)


def _by_id(
    keys: list[SigningKey], algorithms: tuple[str, ...]
) -> dict[tuple[str | None, str], SigningKey]:
    """Returns keys by their id and each of their algorithms.

    A token that names no key means the only one of its algorithm.
    """
    found = dict[tuple[str | None, str], SigningKey]()
    for key in keys:
        for algorithm in key.algorithms:
            if key.kid is not None:
                found.setdefault((key.kid, algorithm), key)
    for algorithm in algorithms:
        fitting = [key for key in keys if algorithm in key.algorithms]
        if len(fitting) == 1:
            found[None, algorithm] = fitting[0]
    return found


def _prints(keys: Mapping[tuple[str | None, str], SigningKey]) -> dict[Any, str]:
    return {place: key.thumbprint for place, key in keys.items()}
