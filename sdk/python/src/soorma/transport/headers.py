"""For whom a call is made, as the platform's door reads it."""

from __future__ import annotations

from urllib.parse import quote

from soorma_common.names import Scope


def scope_headers(scope: Scope | None) -> dict[str, str]:
    """The headers that say for which user a call is made."""
    if scope is None:
        return {}
    return {**tenant_headers(scope.tenant_id), "X-User-ID": quote(scope.user_id, safe="")}


def tenant_headers(tenant_id: str | None) -> dict[str, str]:
    """The headers that say for which tenant a call is made; none: for all."""
    return {} if tenant_id is None else {"X-Tenant-ID": quote(tenant_id, safe="")}
