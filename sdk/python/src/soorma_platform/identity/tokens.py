"""Tokens of the user's own issuer as credentials: JSON Web Tokens (RFC 7519, RFC 8725)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from soorma_common.errors import Unauthorized
from soorma_platform.identity.admissions import Admissions
from soorma_platform.identity.blocks import Blocks
from soorma_platform.identity.claims import identity_in, refused
from soorma_platform.identity.credentials import TokenCredential
from soorma_platform.identity.issuer import Issuer
from soorma_platform.identity.jose import LONGEST_KEY_ID, SigningKey, decoded, object_in
from soorma_platform.identity.oidc import OidcSettings

LARGEST_TOKEN = 8 * 1024
CACHE_SECONDS = 60.0
"""Seconds for which a verified token is not verified again."""
MOST_CACHED = 10_000


class _Unverified(NamedTuple):
    """A token that was read, but not verified: nothing in it is believed."""

    algorithm: str
    kid: str | None
    payload: bytes
    signed: bytes
    signature: bytes


class _Verified(NamedTuple):
    credential: TokenCredential
    until: float
    version: int


class TokenCheck:
    """Checks tokens, and ends what was admitted with one that is not valid any more.

    `now` is the wall clock's time in ms, `monotonic` seconds that never jump.
    """

    def __init__(
        self,
        issuer: Issuer,
        blocks: Blocks,
        now: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = issuer.settings
        self.issuer = issuer.settings.issuer
        self._keys = issuer
        self._blocks = blocks
        self._now = now
        self._monotonic = monotonic
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._admissions: Admissions[TokenCredential] = Admissions()
        self.epoch = 0
        """counts how often it has looked: what was valid before may not be any more"""

    async def credential(self, token: str) -> TokenCredential:
        """Returns what a token permits.

        Raises Unauthorized if it is not valid, Unavailable if its key has to be fetched and cannot
        be.
        """
        if len(token) > LARGEST_TOKEN:
            raise refused(f"has more than {LARGEST_TOKEN:,} characters")
        # By its hash: the cache holds nothing that could be shown again.
        digest = sha256(token.encode()).digest()
        found = self._verified.get(digest)
        if found is None or found.version != self._keys.version or self._is_old(found):
            found = await self._verify(token, digest)
        else:
            self._verified.move_to_end(digest)
        self._check_now(found.credential)
        return found.credential

    def is_valid(self, credential: TokenCredential) -> bool:
        """Returns whether a token that was verified is not expired, blocked, or without its key."""
        now = self._now()
        return (
            now < credential.expires_at
            and not self._is_blocked(credential, now)
            and self._keys.publishes(credential.signed_by)
        )

    def admit(self, credential: TokenCredential) -> None:
        """Notes the running task as admitted: it is cancelled once the token is not valid."""
        self._admissions.add(credential)

    def end_invalid(self) -> None:
        """Ends what was admitted with a token that has expired, is blocked, or lost its key."""
        self.epoch += 1
        self._admissions.end(self.is_valid)

    async def follow(self) -> None:
        """Learns of blocks, and ends what was admitted with a token that is not valid now."""
        await self._blocks.follow()
        self.end_invalid()

    async def _verify(self, token: str, digest: bytes) -> _Verified:
        parts = _read(token, self._settings)
        key = await self._keys.key(parts.kid, parts.algorithm)
        version = self._keys.version
        credential = self._credential(parts, key)
        found = _Verified(credential, self._monotonic() + CACHE_SECONDS, version)
        self._verified[digest] = found
        self._verified.move_to_end(digest)
        if len(self._verified) > MOST_CACHED:
            self._verified.popitem(last=False)
        return found

    def _credential(self, parts: _Unverified, key: SigningKey) -> TokenCredential:
        if not key.verifies(parts.algorithm, parts.signed, parts.signature):
            raise refused("has a signature that does not fit")
        try:
            claims = object_in(parts.payload)
        except ValueError as error:
            raise refused(f"holds no claims: {error}") from None
        found = identity_in(claims, self._settings, self._now())
        name = f"token:{found.subject}"
        return TokenCredential(
            id=name,
            family=name,
            name=found.subject,
            owner=found.tenant_id,
            user_id=None if found.is_manager else found.subject,
            scopes=found.scopes,
            issuer=self._settings.issuer,
            jti=found.jti,
            expires_at=found.expires_at,
            signed_by=key.thumbprint,
        )

    def _is_old(self, found: _Verified) -> bool:
        return self._monotonic() >= found.until

    def _check_now(self, credential: TokenCredential) -> None:
        now = self._now()
        if now >= credential.expires_at:
            raise Unauthorized(f"the token has expired; get a new one from {self._settings.issuer}")
        if self._is_blocked(credential, now):
            raise Unauthorized("the token, or its user, was blocked here")

    def _is_blocked(self, credential: TokenCredential, now: int) -> bool:
        return self._blocks.is_blocked(
            credential.issuer, str(credential.owner), credential.name, credential.jti, now
        )


def _read(token: str, settings: OidcSettings) -> _Unverified:
    """Reads a token without believing it; raises Unauthorized if it can be none of ours.

    `jku`, `x5u`, `x5c` and `jwk` in its header are ignored: it does not say which key to trust.
    """
    head, body, tail = token.split(".")
    try:
        header, payload, signature = object_in(decoded(head)), decoded(body), decoded(tail)
    except ValueError:
        raise refused("is none: its parts are base64url, its header JSON") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in settings.algorithms:
        raise refused(
            f"is not signed by an algorithm that is allowed: {', '.join(settings.algorithms)}"
        )
    if "crit" in header:
        # RFC 7515, 4.1.11: what it names changes how the token is to be read.
        raise refused("needs extensions (crit), and none is known here")
    if kid is not None and not _is_id(kid):
        raise refused(f"has a kid that is no text of up to {LONGEST_KEY_ID} characters")
    return _Unverified(algorithm, kid, payload, f"{head}.{body}".encode(), signature)


def _is_id(kid: Any) -> bool:
    return isinstance(kid, str) and len(kid) <= LONGEST_KEY_ID
