"""The keys of the record in memory, so that a request costs a hash, and a revocation a second."""

from __future__ import annotations

import asyncio
import hmac

from msgspec.structs import replace

from soorma_common.errors import Unauthorized
from soorma_platform.engine.rows.keys import KeyRow
from soorma_platform.identity.admissions import NOT_VALID, Admissions
from soorma_platform.identity.credentials import Credential, credential_of, digest_of, split
from soorma_platform.stores.ports.keys import KeyStore

FOLLOW_SECONDS = 1.0
"""Seconds after which a change made elsewhere is known here at the latest."""
PAGE = 1_000
USED_EVERY = 300_000
"""Milliseconds within which the last use of a key is not noted again."""
_NOBODYS = digest_of("")


class Keyring:
    """All keys, by id. It follows the record, and ends what was admitted with a revoked one."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._now = store.now
        self._change = 0
        self._rows: dict[str, KeyRow] = {}
        self._credentials: dict[str, Credential] = {}
        self._admissions: Admissions[str] = Admissions()
        self._used: dict[str, int] = {}
        self._following = asyncio.Lock()
        self._followed_at = 0
        self.epoch = 0
        """counts how often it has followed: what was valid before may not be any more"""

    @property
    def has_keys(self) -> bool:
        """True if a key is valid now."""
        return self.counts()["valid"] > 0

    def counts(self) -> dict[str, int]:
        """Returns how many keys are valid, have expired, and were revoked."""
        now, counts = self._now(), {"valid": 0, "expired": 0, "revoked": 0}
        for row in self._rows.values():
            state = "revoked" if row.revoked_at is not None else "expired"
            counts["valid" if row.is_valid(now) else state] += 1
        return counts

    async def follow(self) -> None:
        """Reads what has changed, and ends what was admitted with a key that is not valid now."""
        async with self._following:
            await self._follow()
        self._end_invalid()

    async def _follow(self) -> None:
        while True:
            rows = await self._store.changed(self._change, PAGE)
            for row in rows:
                self._take(row)
            if len(rows) < PAGE:
                break
        self._followed_at = self._now()
        self.epoch += 1

    async def credential(self, authorization: str | None) -> Credential:
        """Returns what the credential in an Authorization header permits.

        Raises Unauthorized without one, and if it is not valid.
        """
        if authorization is None:
            raise Unauthorized(
                "this platform takes requests with a credential only: send the header "
                "Authorization: Bearer soorma_…; the SDK reads it from SOORMA_API_KEY"
            )
        scheme, _, text = authorization.partition(" ")
        parts = split(text.strip()) if scheme.lower() == "bearer" else None
        if parts is None:
            raise Unauthorized("the header Authorization holds no API key: Bearer soorma_…")
        key_id, secret = parts
        row = self._rows.get(key_id)
        digest = digest_of(secret)
        if not _is_of(row, digest):
            # It may have been created elsewhere, a moment ago. A wrong secret takes the same way as
            # an unknown key, so that its response takes as long.
            await self._look_again()
            row = self._rows.get(key_id)
        if row is None or not _is_of(row, digest):
            raise Unauthorized("the API key is not known here; it may have been mistyped")
        now = self._now()
        if not row.is_valid(now):
            raise Unauthorized(
                f"the key {row.id} ({row.name}) "
                f"{'has expired' if row.revoked_at is None else 'was revoked'}: use another one"
            )
        if now - (self._used.get(key_id) or row.used_at or 0) >= USED_EVERY:
            self._used[key_id] = now
        return self._credentials[key_id]

    async def _look_again(self) -> None:
        """Follows, unless that was just done: a storm of unknown keys costs a query a second."""
        async with self._following:
            if self._now() - self._followed_at >= FOLLOW_SECONDS * 1000:
                await self._follow()

    def is_valid(self, credential: Credential) -> bool:
        """Returns whether a credential is accepted now."""
        row = self._rows.get(credential.id)
        return row is not None and row.is_valid(self._now())

    def admit(self, credential: Credential) -> None:
        """Notes the running task as admitted: it is cancelled once the credential is not valid."""
        self._admissions.add(credential.id)

    async def note_use(self) -> None:
        """Writes when keys were last used, of those of which that was long ago."""
        if self._used:
            used, self._used = self._used, {}
            self._rows |= {one: replace(self._rows[one], used_at=at) for one, at in used.items()}
            await self._store.note_use(used)

    def _take(self, row: KeyRow) -> None:
        self._change = row.change
        self._rows[row.id] = row
        self._credentials[row.id] = credential_of(row)

    def _end_invalid(self) -> None:
        now = self._now()

        def is_valid(key_id: str) -> bool:
            row = self._rows.get(key_id)
            return row is not None and row.is_valid(now)

        self._admissions.end(is_valid)


def is_revocation(error: asyncio.CancelledError) -> bool:
    """Returns whether a task was cancelled as its credential is not valid any more.

    If so, the task goes on: it is not cancelled for anybody who waits for it.
    """
    if error.args != (NOT_VALID,):
        return False
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
    return True


def revoked_error() -> Unauthorized:
    """Returns the error of what was under way with a credential that is not valid any more."""
    return Unauthorized("the credential was revoked, or has expired, meanwhile")


def _is_of(row: KeyRow | None, digest: bytes) -> bool:
    """Returns whether a secret's digest is that of a key; as fast if there is none."""
    return hmac.compare_digest(digest, _NOBODYS if row is None else row.digest) and row is not None
