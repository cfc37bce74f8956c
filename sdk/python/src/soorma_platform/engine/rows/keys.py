"""Rows of API keys."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from soorma_common.identity import Role
from soorma_platform.engine.commands import Need


def is_valid(expires_at: int | None, revoked_at: int | None, now: int) -> bool:
    """Returns whether a key is accepted at a time."""
    return revoked_at is None and (expires_at is None or now < expires_at)


class Grants(msgspec.Struct, frozen=True):
    """What a key permits: scopes, and the names and events of the agents that have it."""

    scopes: tuple[str, ...]
    agents: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()


class KeyRow(msgspec.Struct, frozen=True):
    """A key, known by the SHA-256 of its secret; times are in ms of the wall clock.

    An empty `tenant_id` stands for all tenants; without `user_id` it is for all users. `family` is
    the id of the first key that it was rotated from. `change` counts the changes of all keys.
    """

    id: str
    family: str
    name: str
    tenant_id: str
    user_id: str | None
    role: Role | None
    grants: Grants
    digest: bytes
    created_at: int = 0
    created_by: str | None = None
    expires_at: int | None = None
    revoked_at: int | None = None
    used_at: int | None = None
    change: int = 0

    def is_valid(self, now: int) -> bool:
        """Returns whether it is accepted at a time."""
        return is_valid(self.expires_at, self.revoked_at, now)


class ApiKeyNeed(Need):
    """A key, and how many its tenant has that are not revoked."""

    id: str
    tenant_id: str = ""


class ApiKeyFound(msgspec.Struct):
    """The key, None if there is none."""

    row: KeyRow | None = None
    count: int = 0


class CredentialNeed(Need):
    """The validity of the key by which a change was requested."""

    id: str


class Validity(NamedTuple):
    """Until when a key is valid, in ms; None: for ever, and not revoked."""

    expires_at: int | None
    revoked_at: int | None


class CredentialFound(msgspec.Struct):
    """The validity of the key; None if there is no such key, or if none was asked for."""

    validity: Validity | None = None
    is_asked: bool = False


class ChangedKey(msgspec.Struct):
    """A key as it is to be from now on."""

    row: KeyRow
