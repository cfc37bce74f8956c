"""Blocked tokens in memory: those of a user, or one by its id, although they are signed and valid.

An issuer cannot take a token back; whoever manages keys can refuse it here.
"""

from __future__ import annotations

from typing import NamedTuple

from soorma_platform.engine.rows.blocks import BlockRow
from soorma_platform.stores.ports.blocks import BlockStore

PAGE = 1_000


class _Blocked(NamedTuple):
    """The tokens that a block is for."""

    issuer: str
    tenant_id: str
    subject: str | None
    jti: str | None = None


class Blocks:
    """All blocks, so that a request costs a look. They follow the record."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._change = 0
        self._rows: dict[_Blocked, BlockRow] = {}

    async def follow(self) -> None:
        """Reads what has changed."""
        while True:
            rows = await self._store.changed(self._change, PAGE)
            for row in rows:
                self._take(row)
            if len(rows) < PAGE:
                return

    def is_blocked(
        self, issuer: str, tenant_id: str, subject: str, jti: str | None, now: int
    ) -> bool:
        """Returns whether a token is blocked at a time in ms: its user, or its own id."""
        if not self._rows:
            return False
        there = [_Blocked(issuer, tenant_id, subject), _Blocked(issuer, "", subject)]
        if jti is not None:
            there += [_Blocked(issuer, tenant_id, None, jti), _Blocked(issuer, "", None, jti)]
        return any(row.holds(now) for one in there if (row := self._rows.get(one)) is not None)

    def _take(self, row: BlockRow) -> None:
        self._change = row.change
        place = _Blocked(row.issuer, row.tenant_id, row.subject, row.jti)
        if row.lifted_at is None:
            self._rows[place] = row
        else:
            self._rows.pop(place, None)
