"""The rules of API keys: created, rotated with an overlap, revoked for good."""

from __future__ import annotations

from msgspec.structs import replace

from soorma_common.errors import Conflict, LimitExceeded, NotFound, Unauthorized
from soorma_common.identity import MOST_KEYS, AuditAction
from soorma_common.names import All, Owner, Scope
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.audit_log import NOBODY_KNOWN, Author, audit_row
from soorma_platform.engine.rows.keys import (
    ApiKeyFound,
    ApiKeyNeed,
    ChangedKey,
    CredentialFound,
    KeyRow,
    is_valid,
)


class CreateKey:
    """Creates a key. One that exists with the same secret stays as it is.

    `life` is the time in ms after which it expires. `decide` raises Conflict if the id has another
    secret, LimitExceeded past the limit on keys.
    """

    scope: Owner = All.TENANTS

    def __init__(
        self, row: KeyRow, life: int | None = None, *, author: Author = NOBODY_KNOWN
    ) -> None:
        self._row = row
        self._life = life
        self._author = author

    def needs(self) -> list[Need]:
        return [ApiKeyNeed(self._row.id, self._row.tenant_id)]

    def decide(self, found: Snapshot) -> Decision[KeyRow]:
        there, row = found.part(ApiKeyFound), self._row
        if there.row is not None:
            if there.row.digest != row.digest:
                raise Conflict(f"the key {row.id} exists, with another secret")
            return Decision(there.row)
        _check_room(there.count)
        made = _created(row, found.now, self._life)
        return _changed("key.created", made, self._author, found.now)


class RotateKey:
    """Creates the successor of a key, which stays valid beside it for `overlap` ms.

    The successor has the grants and the expiry of the key. `decide` raises NotFound if there is no
    such key of the owner, Conflict if it is not valid any more.
    """

    scope: Owner = All.TENANTS

    def __init__(
        self,
        owner: Owner,
        key_id: str,
        *,
        new_id: str,
        digest: bytes,
        overlap: int,
        author: Author = NOBODY_KNOWN,
    ) -> None:
        self._owner = owner
        self._id = key_id
        self._new_id, self._digest = new_id, digest
        self._overlap = overlap
        self._author = author

    def needs(self) -> list[Need]:
        return [ApiKeyNeed(self._id)]

    def decide(self, found: Snapshot) -> Decision[KeyRow]:
        old = _of_owner(found, self._owner, self._id)
        if not old.is_valid(found.now):
            raise Conflict(f"the key {self._id} is not valid any more: create a new one")
        new = replace(
            old, id=self._new_id, digest=self._digest, created_at=found.now,
            created_by=self._author.by_id, used_at=None,
        )  # fmt: skip
        until = found.now + self._overlap
        ending = until if old.expires_at is None else min(until, old.expires_at)
        noted = audit_row(
            "key.rotated", _whose(old), self._author, found.now, old.id,
            name=old.name, successor=new.id,
        )  # fmt: skip
        return Decision(new, [ChangedKey(new), ChangedKey(replace(old, expires_at=ending)), noted])


class RevokeKey:
    """Revokes a key, for good; one that is revoked stays as it is.

    `decide` raises NotFound if there is no such key of the owner.
    """

    scope: Owner = All.TENANTS

    def __init__(self, owner: Owner, key_id: str, *, author: Author = NOBODY_KNOWN) -> None:
        self._owner = owner
        self._id = key_id
        self._author = author

    def needs(self) -> list[Need]:
        return [ApiKeyNeed(self._id)]

    def decide(self, found: Snapshot) -> Decision[KeyRow]:
        row = _of_owner(found, self._owner, self._id)
        if row.revoked_at is not None:
            return Decision(row)
        revoked = replace(row, revoked_at=found.now)
        return _changed("key.revoked", revoked, self._author, found.now)


def check_credential(found: Snapshot) -> None:
    """Raises Unauthorized if the key of a change is not valid at the moment of its decision.

    So a revocation and a change have an order in the record: none is made after it.
    """
    there = found.part(CredentialFound)
    if there.is_asked and (there.validity is None or not is_valid(*there.validity, found.now)):
        raise Unauthorized("the key was revoked, or has expired; nothing was changed")


def _created(row: KeyRow, now: int, life: int | None) -> KeyRow:
    return replace(row, created_at=now, expires_at=None if life is None else now + life)


def _check_room(count: int) -> None:
    if count >= MOST_KEYS:
        raise LimitExceeded(
            f"{MOST_KEYS} keys are valid already; revoke those that are not in use",
            limit="keys",
            maximum=MOST_KEYS,
            actual=count + 1,
        )


def _of_owner(found: Snapshot, owner: Owner, key_id: str) -> KeyRow:
    row = found.part(ApiKeyFound).row
    if row is None or owner not in (All.TENANTS, row.tenant_id):
        raise NotFound(f"there is no key {key_id!r}")
    return row


def _changed(action: AuditAction, row: KeyRow, author: Author, now: int) -> Decision[KeyRow]:
    noted = audit_row(action, _whose(row), author, now, row.id, name=row.name, role=row.role)
    return Decision(row, [ChangedKey(row), noted])


def _whose(row: KeyRow) -> Scope | Owner:
    if row.user_id is not None:
        return Scope(row.tenant_id, row.user_id)
    return row.tenant_id or All.TENANTS
