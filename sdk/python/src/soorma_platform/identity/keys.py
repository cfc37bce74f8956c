"""Keys that are made beside a platform: from the command line, or from a file at the start."""

from __future__ import annotations

from soorma_common.identity import CreatedKey, KeyInfo, NewKey, scopes_of
from soorma_common.names import All
from soorma_common.times import time_of
from soorma_platform.engine.keys import CreateKey, RevokeKey, RotateKey
from soorma_platform.engine.rows.audit_log import Author
from soorma_platform.engine.rows.keys import Grants, KeyRow
from soorma_platform.identity.credentials import FreshKey, fresh_key
from soorma_platform.stores.ports import Store

PAGE = 1_000
BESIDE = Author(by_name="command line")
"""Whoever works on the record itself, while no platform runs on it."""


async def created_in(store: Store, body: NewKey, by: str | None = None) -> CreatedKey:
    """Creates a key as it was described and checked."""
    fresh = fresh_key()
    life = None if body.expires_in is None else round(body.expires_in * 1000)
    row = await store.transact(CreateKey(new_row(body, fresh, by), life, author=BESIDE))
    return CreatedKey(key=key_info(row), credential=fresh.credential)


async def rotated_in(store: Store, key_id: str, overlap: float) -> CreatedKey:
    """Creates the successor of a key, which stays valid beside it for `overlap` seconds."""
    fresh = fresh_key()
    row = await store.transact(
        RotateKey(
            All.TENANTS,
            key_id,
            new_id=fresh.id,
            digest=fresh.digest,
            overlap=round(overlap * 1000),
            author=BESIDE,
        )
    )
    return CreatedKey(key=key_info(row), credential=fresh.credential)


async def revoked_in(store: Store, key_id: str) -> KeyInfo:
    """Revokes a key."""
    return key_info(await store.transact(RevokeKey(All.TENANTS, key_id, author=BESIDE)))


async def keys_in(store: Store) -> list[KeyInfo]:
    """Returns all keys."""
    rows: list[KeyRow] = []
    while True:
        page = await store.keys.changed(rows[-1].change if rows else 0, PAGE)
        rows += page
        if len(page) < PAGE:
            return [key_info(row) for row in rows]


def new_row(body: NewKey, fresh: FreshKey, by: str | None) -> KeyRow:
    """Returns the row of a key that was checked."""
    grants = Grants(
        tuple(sorted(scopes_of(body))),
        tuple(body.agents),
        tuple(body.subscribe),
        tuple(body.publish),
    )
    return KeyRow(
        id=fresh.id,
        family=fresh.id,
        name=body.name,
        tenant_id=body.tenant_id or "",
        user_id=body.user_id,
        role=body.role,
        grants=grants,
        digest=fresh.digest,
        created_by=by,
    )


def key_info(row: KeyRow) -> KeyInfo:
    """Returns a key as it is listed."""
    grants = row.grants
    return KeyInfo(
        id=row.id,
        family=row.family,
        name=row.name,
        role=row.role,
        scopes=list(grants.scopes),
        tenant_id=row.tenant_id or None,
        user_id=row.user_id,
        agents=list(grants.agents),
        subscribe=list(grants.subscribe),
        publish=list(grants.publish),
        created_at=time_of(row.created_at),
        created_by=row.created_by,
        expires_at=None if row.expires_at is None else time_of(row.expires_at),
        revoked_at=None if row.revoked_at is None else time_of(row.revoked_at),
        last_used_at=None if row.used_at is None else time_of(row.used_at),
    )
