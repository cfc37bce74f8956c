"""The audit of actions over HTTP, a part of the identity service."""

from __future__ import annotations

from soorma_common.errors import InvalidRequest
from soorma_common.identity import AUDIT_ACTIONS, AuditAction, AuditEntry, AuditPage
from soorma_common.json_text import decode
from soorma_common.names import Owner
from soorma_common.times import time_of
from soorma_platform import http
from soorma_platform.engine.rows.audit_log import AuditLogRow
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access
from soorma_platform.stores.ports.audit_log import AuditLogStore

_MANAGERS = frozenset({Access.TENANT, Access.OPERATOR})
_ACTION = http.Text("action", "Of this kind only.", one_of=AUDIT_ACTIONS)
_BEFORE = http.Number("before", "Older than this row: `next` of the page before.", least=1)
_LIMIT = http.page_limit()
_NEWEST = 10**18
"""Above the number of any row."""


def audit_log_endpoints(audit: AuditLogStore) -> list[Endpoint]:
    """Returns the endpoints of the audit of actions."""
    faces = _AuditLog(audit)
    return [
        Endpoint("GET", "/v1/identity/audit", _MANAGERS, faces.list_audit, AuditPage,
                 query=(http.TENANT_ID, _ACTION, _BEFORE, _LIMIT)),
    ]  # fmt: skip


class _AuditLog:
    def __init__(self, audit: AuditLogStore) -> None:
        self._audit = audit

    async def list_audit(self, request: Request) -> Response:
        """Lists who has done what that people may have to account for, the last first.

        Keys made, rotated and revoked, dead letters replayed, plans deleted, memories forgotten,
        quarantines, subscriptions ended. Rows name things by id; none holds content or a secret.
        """
        size, text = _LIMIT.size(request), _ACTION.of(request)
        action = next((one for one in AUDIT_ACTIONS if one == text), None)
        if text is not None and action is None:
            raise InvalidRequest(
                f"action must be one of {', '.join(AUDIT_ACTIONS)}, not {text[:40]!r}"
            )
        before = _BEFORE.value(request, _NEWEST)
        rows = await self._audit.list(http.TENANT_ID.owner(request), action, before, size.to_read)
        page, following = size.cut(rows, lambda row: row.id)
        return http.json_response(AuditPage([_seen(row) for row in page], following))


async def page_of(
    audit: AuditLogStore, owner: Owner, action: AuditAction | None, limit: int
) -> AuditPage:
    """Returns the last rows of an audit, and where there are older ones."""
    rows = await audit.list(owner, action, _NEWEST, limit + 1)
    page = rows[:limit]
    return AuditPage([_seen(row) for row in page], page[-1].id if len(rows) > limit else None)


def _seen(row: AuditLogRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=time_of(row.at),
        action=row.action,
        tenant_id=row.tenant_id or None,
        user_id=row.user_id,
        by=row.author.by_id,
        by_name=row.author.by_name,
        subject=row.subject,
        detail=decode(row.detail),
    )
