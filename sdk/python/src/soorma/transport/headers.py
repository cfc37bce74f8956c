"""The headers of a call: for whom it is made, and in which version of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote

from soorma.config import Unnamed
from soorma_common.errors import Forbidden, TooManyAttempts, TooManyRequests, Unauthorized
from soorma_common.names import Scope
from soorma_common.protocol import PROTOCOL, PROTOCOL_HEADER, WHY_HEADER, mismatch

PROBLEM = "application/problem+json"
SPOKEN = {PROTOCOL_HEADER: str(PROTOCOL)}
"""The header with the protocol version of this SDK."""

FENCE_HEADER = "X-Soorma-Fence"
"""The header with the fence of the delivery whose handler makes the call. A secret."""


def scope_headers(scope: Scope | None) -> dict[str, str]:
    """Returns the headers that name the tenant and user of a call, as far as somebody has."""
    if scope is None:
        return {}
    headers: dict[str, str] = {}
    if not isinstance(scope.tenant_id, Unnamed):
        headers |= tenant_headers(scope.tenant_id)
    if not isinstance(scope.user_id, Unnamed):
        headers["X-User-ID"] = quote(scope.user_id, safe="")
    return headers


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


def check_handshake(status: int, headers: Mapping[str, str]) -> None:
    """Raises the error of a WebSocket that is refused: for the sake of its key, or of a quota."""
    why = unquote(headers.get(WHY_HEADER, ""))
    if status == TooManyRequests.status and why:
        seconds = headers.get("Retry-After", "")
        wait = float(seconds) if seconds.isdecimal() else None
        if "WWW-Authenticate" in headers:
            raise TooManyAttempts(why, retry_after=wait)
        raise TooManyRequests(why, retry_after=wait)
    if status == Unauthorized.status:
        raise Unauthorized(why or "the platform does not accept the key; look at SOORMA_API_KEY")
    if status == Forbidden.status and why:
        raise Forbidden(why)
