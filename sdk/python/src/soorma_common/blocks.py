"""Blocks of tokens: those of an issuer that a platform is to refuse."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, TypeAlias

import msgspec

from soorma_common.errors import InvalidRequest
from soorma_common.identity import LONGEST_LIFE, Seconds
from soorma_common.names import Name, check_name

MOST_BLOCKS: Final = 10_000
"""Blocks that a tenant may have at a time, and as many for all tenants."""


LONGEST_ISSUER = 1_000
IssuerName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ISSUER)]


class NewBlock(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A block of the tokens of a user (`subject`), or of one token (`jti`).

    Without `tenant_id` it is for all tenants, without `expires_in` (seconds) for good. The `issuer`
    is that of the platform's settings unless another is named.
    """

    subject: Name | None = None
    jti: Name | None = None
    tenant_id: Name | None = None
    issuer: IssuerName | None = None
    expires_in: Seconds | None = None


class BlockInfo(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A block as it is listed."""

    id: str
    issuer: str
    created_at: datetime
    subject: str | None = None
    jti: str | None = None
    tenant_id: str | None = None
    created_by: str | None = None
    expires_at: datetime | None = None
    lifted_at: datetime | None = None


class TokenBlocks(msgspec.Struct):
    """Blocks, those changed last at the end; there are more after `next`."""

    blocks: list[BlockInfo]
    next: int | None = None


def check_new_block(body: NewBlock) -> None:
    """Raises InvalidRequest, which names the field, if a block cannot be as it is described."""
    if (body.subject is None) == (body.jti is None):
        raise InvalidRequest("a block has either a subject, a user, or a jti, the id of a token")
    for name in ("subject", "jti", "tenant_id"):
        if getattr(body, name) is not None:
            check_name(name, getattr(body, name))
    if body.issuer is not None and not 0 < len(body.issuer) <= LONGEST_ISSUER:
        raise InvalidRequest(
            f"issuer has 1 to {LONGEST_ISSUER:,} characters, not {len(body.issuer)}"
        )
    if body.expires_in is not None and not 0 < body.expires_in <= LONGEST_LIFE:
        raise InvalidRequest(
            f"expires_in must be more than 0 and at most {LONGEST_LIFE:.0f} seconds, not "
            f"{body.expires_in:g}"
        )
