"""Rows of blocked tokens."""

from __future__ import annotations

import msgspec

from soorma_platform.engine.commands import Need


class BlockRow(msgspec.Struct, frozen=True):
    """A block of a user's tokens, or of one token by its `jti`; times are in ms of the wall clock.

    An empty `tenant_id` stands for all tenants. `change` counts the changes of all blocks.
    """

    id: str
    issuer: str
    tenant_id: str
    subject: str | None = None
    jti: str | None = None
    created_at: int = 0
    created_by: str | None = None
    expires_at: int | None = None
    lifted_at: int | None = None
    change: int = 0

    def holds(self, now: int) -> bool:
        """Returns whether tokens are refused at a time."""
        return self.lifted_at is None and (self.expires_at is None or now < self.expires_at)


class BlockNeed(Need):
    """A block, and how many its tenant has that were not lifted."""

    id: str
    tenant_id: str = ""


class BlockFound(msgspec.Struct):
    """The block, None if there is none."""

    row: BlockRow | None = None
    count: int = 0


class TokenNeed(Need):
    """The validity of the token by which a change was requested; it expires at a time in ms."""

    issuer: str
    tenant_id: str
    subject: str
    jti: str | None
    expires_at: int


class TokenFound(msgspec.Struct):
    """Whether the token is blocked, and when it expires; None if none was asked for."""

    is_blocked: bool = False
    expires_at: int | None = None


class ChangedBlock(msgspec.Struct):
    """A block as it is to be from now on."""

    row: BlockRow
