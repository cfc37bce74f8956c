"""The headers of a call: for whom it is made, and in which version of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from soorma_common.names import Scope
from soorma_common.protocol import PROTOCOL, PROTOCOL_HEADER, mismatch

PROBLEM = "application/problem+json"
SPOKEN = {PROTOCOL_HEADER: str(PROTOCOL)}
"""The header with the protocol version of this SDK."""

FENCE_HEADER = "X-Soorma-Fence"
"""The header with the fence of the delivery whose handler makes the call. A secret."""


def scope_headers(scope: Scope | None) -> dict[str, str]:
    """Returns the headers that name the tenant and user of a call."""
    if scope is None:
        return {}
    return {**tenant_headers(scope.tenant_id), "X-User-ID": quote(scope.user_id, safe="")}


def tenant_headers(tenant_id: str | None) -> dict[str, str]:
    """Returns the header that names the tenant of a call; none for all tenants."""
    return {} if tenant_id is None else {"X-Tenant-ID": quote(tenant_id, safe="")}


def check_answer(status: int, headers: Mapping[str, str], address: str) -> None:
    """Raises ProtocolMismatch unless a response has the protocol version of this SDK.

    A success or problem document without a version comes from an older platform. Any other response
    without one may come from a proxy or another program; its reader reports that.
    """
    spoken = headers.get(PROTOCOL_HEADER)
    if spoken == SPOKEN[PROTOCOL_HEADER]:
        return
    if spoken is not None or status < 400 or headers.get("Content-Type") == PROBLEM:
        raise mismatch(sdk=PROTOCOL, platform=spoken or 0, at=address)
