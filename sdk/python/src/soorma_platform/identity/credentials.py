"""API keys as they travel, and what a checked one permits."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

import msgspec

from soorma_common.errors import Forbidden
from soorma_common.identity import ANY, DELIVERIES, EventGrant, TokenInfo, event_grants
from soorma_common.names import All, Owner
from soorma_common.times import time_of
from soorma_platform.engine.rows.blocks import TokenNeed
from soorma_platform.engine.rows.keys import CredentialNeed, KeyRow

PREFIX = "soorma_"
LONGEST_CREDENTIAL = 200
_ID_BYTES, _SECRET_BYTES = 8, 32
_HEX = frozenset("0123456789abcdef")


class FreshKey(NamedTuple):
    """A new credential: its id, the text that is shown once, and the SHA-256 of its secret."""

    id: str
    credential: str
    digest: bytes


def fresh_key() -> FreshKey:
    """Returns a new credential of 256 random bits."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
    return FreshKey(key_id, f"{PREFIX}{key_id}_{secret}", digest_of(secret))


def digest_of(secret: str) -> bytes:
    """Returns the SHA-256 of a secret.

    It is random, so there is nothing to gain from a slow hash.
    """
    return sha256(secret.encode()).digest()


def split(credential: str) -> tuple[str, str] | None:
    """Returns the id and the secret of a credential; None if it is none of ours."""
    key_id, _, secret = credential.removeprefix(PREFIX).partition("_")
    is_ours = (
        credential.startswith(PREFIX)
        and (len(key_id), len(secret)) == (2 * _ID_BYTES, 2 * _SECRET_BYTES)
        and _HEX.issuperset(key_id + secret)
    )
    return (key_id, secret) if is_ours else None


class Credential(msgspec.Struct, frozen=True):
    """A credential that was checked, and what it permits.

    `family` stays the same when a key is rotated. `user_id` is None if it is for all users.
    """

    id: str
    family: str
    name: str
    owner: Owner
    user_id: str | None
    scopes: frozenset[str]
    agents: frozenset[str] = frozenset()
    subscribe: tuple[EventGrant, ...] = ()
    publish: tuple[EventGrant, ...] = ()

    def __str__(self) -> str:
        return f"the key {self.id} ({self.name})"

    @property
    def need(self) -> CredentialNeed | TokenNeed:
        """What a change needs to know of it, to be made only while it is valid."""
        return CredentialNeed(self.id)

    @property
    def takes_deliveries(self) -> bool:
        """True for agents."""
        return DELIVERIES in self.scopes

    def check_agent(self, name: str) -> None:
        """Raises Forbidden if the agent of that name may not have this credential."""
        if ANY not in self.agents and name not in self.agents:
            raise Forbidden(
                f"{self} is for agents named {_listed(self.agents)}, not {name!r}", key=self.id
            )

    def sees_group(self, name: str) -> bool:
        """Returns whether it permits to look at a group; an agent's own has the agent's name."""
        return "events:read" in self.scopes or ANY in self.agents or name in self.agents

    def check_subscription(self, event_type: str, topic: str) -> None:
        """Raises Forbidden if an agent may not take events of a type and topic."""
        self._check("take", self.subscribe, event_type, topic)

    def check_publish(self, event_type: str, topic: str) -> None:
        """Raises Forbidden if an agent may not publish events of a type and topic."""
        self._check("publish", self.publish, event_type, topic)

    def check_definition(self, event_type: str, topic: str) -> None:
        """Raises Forbidden unless an agent may take or publish events of a type and topic."""
        self._check("define", (*self.publish, *self.subscribe), event_type, topic)

    def _check(self, what: str, grants: Iterable[EventGrant], event_type: str, topic: str) -> None:
        if not any(grant.permits(event_type, topic) for grant in grants):
            raise Forbidden(
                f"{self} may {what} {_listed(map(str, grants))}, not {event_type} on {topic}",
                key=self.id,
            )


class TokenCredential(Credential, frozen=True, kw_only=True, cache_hash=True):
    """A token of the issuer that was verified, of the user `name`.

    `expires_at` is in ms of the wall clock; `signed_by` is the thumbprint of its key.
    """

    issuer: str
    expires_at: int
    signed_by: str
    jti: str | None = None

    def __str__(self) -> str:
        return f"the token of {self.name}"

    @property
    def need(self) -> CredentialNeed | TokenNeed:
        return TokenNeed(self.issuer, str(self.owner), self.name, self.jti, self.expires_at)


def token_info(token: TokenCredential) -> TokenInfo:
    """Returns a token as its holder may see it."""
    return TokenInfo(
        issuer=token.issuer,
        subject=token.name,
        expires_at=time_of(token.expires_at),
        jti=token.jti,
    )


def credential_of(row: KeyRow) -> Credential:
    """Returns what a key permits."""
    grants = row.grants
    return Credential(
        row.id,
        row.family,
        row.name,
        row.tenant_id or All.TENANTS,
        row.user_id,
        frozenset(grants.scopes),
        frozenset(grants.agents),
        event_grants("subscribe", grants.subscribe),
        event_grants("publish", grants.publish),
    )


def _listed(names: Iterable[str]) -> str:
    """Returns names for a message, a few of them if there are many."""
    found = sorted(names)
    if not found:
        return "nothing"
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
