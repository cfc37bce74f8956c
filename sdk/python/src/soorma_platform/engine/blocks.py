"""The rules of blocked tokens: refused from a block on, until it expires or is lifted."""

from __future__ import annotations

import json
from hashlib import sha256

from msgspec.structs import replace

from soorma_common.blocks import MOST_BLOCKS
from soorma_common.errors import LimitExceeded, NotFound, Unauthorized
from soorma_common.identity import AuditAction
from soorma_common.names import All, Owner
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.audit_log import NOBODY_KNOWN, Author, audit_row
from soorma_platform.engine.rows.blocks import (
    BlockFound,
    BlockNeed,
    BlockRow,
    ChangedBlock,
    TokenFound,
)

_ID_DIGITS = 32


def block_id(issuer: str, tenant_id: str, subject: str | None, jti: str | None) -> str:
    """Returns the id of a block, which is the same for the same tokens."""
    what = json.dumps([issuer, tenant_id, subject, jti])
    return sha256(what.encode()).hexdigest()[:_ID_DIGITS]


class BlockTokens:
    """Blocks tokens. A block that is there begins anew, with this expiry.

    `life` is the time in ms after which it expires. `decide` raises LimitExceeded past the limit on
    blocks.
    """

    scope: Owner = All.TENANTS

    def __init__(
        self, row: BlockRow, life: int | None = None, *, author: Author = NOBODY_KNOWN
    ) -> None:
        self._row = row
        self._life = life
        self._author = author

    def needs(self) -> list[Need]:
        return [BlockNeed(self._row.id, self._row.tenant_id)]

    def decide(self, found: Snapshot) -> Decision[BlockRow]:
        there = found.part(BlockFound)
        if there.row is None and there.count >= MOST_BLOCKS:
            raise LimitExceeded(
                f"{MOST_BLOCKS} blocks are there already; lift those of tokens that have expired",
                limit="blocks",
                maximum=MOST_BLOCKS,
                actual=there.count + 1,
            )
        until = None if self._life is None else found.now + self._life
        made = replace(self._row, created_at=found.now, expires_at=until)
        return _changed("block.created", made, self._author, found.now)


class LiftBlock:
    """Lifts a block: its tokens are accepted again. One that was lifted stays as it is.

    `decide` raises NotFound if there is no such block of the owner.
    """

    scope: Owner = All.TENANTS

    def __init__(self, owner: Owner, block_id: str, *, author: Author = NOBODY_KNOWN) -> None:
        self._owner = owner
        self._id = block_id
        self._author = author

    def needs(self) -> list[Need]:
        return [BlockNeed(self._id)]

    def decide(self, found: Snapshot) -> Decision[BlockRow]:
        row = found.part(BlockFound).row
        if row is None or self._owner not in (All.TENANTS, row.tenant_id):
            raise NotFound(f"there is no block {self._id!r}")
        if row.lifted_at is not None:
            return Decision(row)
        lifted = replace(row, lifted_at=found.now)
        return _changed("block.lifted", lifted, self._author, found.now)


def check_token(found: Snapshot) -> None:
    """Raises Unauthorized if the token of a change is not valid at the moment of its decision.

    So a block and a change have an order in the record: none is made after it.
    """
    token = found.part(TokenFound)
    has_expired = token.expires_at is not None and found.now >= token.expires_at
    if token.is_blocked or has_expired:
        raise Unauthorized("the token was blocked, or has expired; nothing was changed")


def _changed(action: AuditAction, row: BlockRow, author: Author, now: int) -> Decision[BlockRow]:
    whose = row.tenant_id or All.TENANTS
    noted = audit_row(action, whose, author, now, row.id, user=row.subject, token=row.jti)
    return Decision(row, [ChangedBlock(row), noted])
