"""Rows of the audit: who has done what, when, to which thing; never what that thing holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from soorma_common.identity import AuditAction
from soorma_common.names import All, Owner, Scope


class Author(NamedTuple):
    """Who asks for a change: the id and the name of the key.

    The id is None where no key is asked for: on an open platform, or beside the store.
    """

    by_id: str | None = None
    by_name: str | None = None


NOBODY_KNOWN = Author()
"""Anybody who reaches an open platform."""


class AuditLogRow(msgspec.Struct, frozen=True):
    """An action, at a time in ms of the wall clock.

    An empty `tenant_id` stands for all tenants; without `user_id` it concerns no single user.
    `subject` is an id or a name, `detail` JSON text: numbers and further names.
    """

    at: int
    tenant_id: str
    user_id: str | None
    action: AuditAction
    author: Author
    subject: str | None
    detail: str
    id: int = 0
    """that of a stored row, which grows"""


def audit_row(
    action: AuditAction,
    whose: Scope | Owner,
    author: Author,
    at: int,
    subject: str | None = None,
    **detail: str | int | None,
) -> AuditLogRow:
    """Returns the row of an action on what belongs to a user, a tenant, or all of them."""
    tenant_id, user_id = _columns(whose)
    return AuditLogRow(at, tenant_id, user_id, action, author, subject, _text(detail))


def _columns(whose: Scope | Owner) -> tuple[str, str | None]:
    if isinstance(whose, Scope):
        return whose.tenant_id, whose.user_id
    return "" if whose is All.TENANTS else whose, None


def _text(detail: Mapping[str, str | int | None]) -> str:
    known = {name: value for name, value in detail.items() if value is not None}
    return msgspec.json.encode(known).decode()
