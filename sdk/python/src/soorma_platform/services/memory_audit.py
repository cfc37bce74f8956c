"""The audit of memories over HTTP, a part of the memory service."""

from __future__ import annotations

from collections import Counter

from soorma_common.audit import MOST_AUDITED, MOST_NAMED, MemoryAudit, SourceCount
from soorma_common.names import All
from soorma_common.times import time_of
from soorma_platform import http
from soorma_platform.engine.rows.passages import EPISODIC, PROCEDURAL, SEMANTIC
from soorma_platform.http import TENANT_ID, USER_ID, Endpoint, Request, Response
from soorma_platform.identity import Access
from soorma_platform.stores.ports.audit import AuditCounts, AuditRow, AuditStore
from soorma_platform.work.secrets import SecretDoor

_READERS = frozenset({Access.USER, Access.DELIVERY, Access.TENANT, Access.OPERATOR})


def audit_endpoints(store: AuditStore, secrets: SecretDoor) -> list[Endpoint]:
    """Returns the endpoint of the audit."""
    faces = _Audit(store, secrets)
    return [
        Endpoint("GET", "/v1/memory/audit", _READERS, faces.audit, MemoryAudit,
                 query=(TENANT_ID, USER_ID)),
    ]  # fmt: skip


class _Audit:
    def __init__(self, store: AuditStore, secrets: SecretDoor) -> None:
        self._store = store
        self._secrets = secrets

    async def audit(self, request: Request) -> Response:
        """Counts what memories hold: of a user, or without one of all users, without any names."""
        owner, user_id = TENANT_ID.owner(request), USER_ID.user(request)
        rows, counts = await self._store.count(owner, user_id, MOST_AUDITED)
        found = audit_of(rows, counts)
        is_of_one = user_id is not None and not isinstance(owner, All)
        if not is_of_one:
            found.by_source = []
        wanted = (None if isinstance(owner, All) else owner, user_id)
        found.redacted, found.refused = self._secrets.counts(*wanted)
        return http.json_response(found)


def audit_of(rows: list[AuditRow], counts: AuditCounts) -> MemoryAudit:
    """Returns the audit of what was counted."""
    known = [row for row in rows if row.kind == SEMANTIC]
    versions = [row for row in rows if row.kind == PROCEDURAL]
    passages, closed = (sum(getattr(one, name) for one in known) for name in ("passages", "closed"))
    recalled = sum(one.recalled for one in known)
    statements = sum(one.stated for one in known) + recalled
    restated = sum(one.restated for one in known)
    trust: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for one in known:
        trust[one.trust] += one.passages
        if one.source is not None:
            sources[one.source] += one.passages
    most = max(counts.looked_at, counts.sessions, counts.procedures, counts.parts)
    return MemoryAudit(
        passages=passages,
        closed=closed,
        statements=statements,
        restated=restated,
        recalled=recalled,
        restated_share=_share(restated, statements),
        recalled_share=_share(recalled, statements),
        closed_share=_share(closed, passages + closed),
        alike=sum(one.alike for one in known),
        derived=sum(one.derived for one in known),
        public=sum(one.public for one in known),
        proposed=sum(one.proposed for one in known),
        by_trust=dict(sorted(trust.items())),
        by_source=[
            SourceCount(source, count)
            for source, count in sorted(sources.items(), key=lambda one: (-one[1], one[0]))
        ][:MOST_NAMED],
        sessions=counts.sessions,
        interactions=sum(one.passages for one in rows if one.kind == EPISODIC),
        procedures=counts.procedures,
        versions=sum(one.passages + one.closed for one in versions),
        active=sum(one.passages for one in versions),
        proposed_versions=sum(one.proposed for one in versions),
        parts=counts.parts,
        unembedded=counts.unembedded,
        bytes=sum(one.bytes for one in rows),
        redacted=0,
        refused=0,
        oldest=time_of(min(one.oldest for one in rows)) if rows else None,
        newest=time_of(max(one.newest for one in rows)) if rows else None,
        is_whole=most < MOST_AUDITED,
    )


def _share(count: int, of: int) -> float:
    return round(count / of, 4) if of else 0.0
