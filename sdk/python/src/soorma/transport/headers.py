"""What a call says of itself, as the platform's door reads it: for whom, and in which version."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from soorma_common.names import Scope
from soorma_common.protocol import PROTOCOL, PROTOCOL_HEADER, mismatch

PROBLEM = "application/problem+json"
SPOKEN = {PROTOCOL_HEADER: str(PROTOCOL)}
"""The header that says the version which this SDK speaks."""

FENCE_HEADER = "X-Soorma-Fence"
"""Under which delivery a call is made, of the handler that has it in hand. A secret."""


def scope_headers(scope: Scope | None) -> dict[str, str]:
    """The headers that say for which user a call is made."""
    if scope is None:
        return {}
    return {**tenant_headers(scope.tenant_id), "X-User-ID": quote(scope.user_id, safe="")}


def tenant_headers(tenant_id: str | None) -> dict[str, str]:
    """The headers that say for which tenant a call is made; none: for all."""
    return {} if tenant_id is None else {"X-Tenant-ID": quote(tenant_id, safe="")}


def check_answer(status: int, headers: Mapping[str, str], address: str) -> None:
    """Raises ProtocolMismatch unless an answer is of a platform that speaks this SDK's version.

    One that names no version is of an older platform if it is a success or a problem document. Any
    other may come from a proxy on the way, or from another program: whoever reads it says so.
    """
    spoken = headers.get(PROTOCOL_HEADER)
    if spoken == SPOKEN[PROTOCOL_HEADER]:
        return
    if spoken is not None or status < 400 or headers.get("Content-Type") == PROBLEM:
        raise mismatch(sdk=PROTOCOL, platform=spoken or 0, at=address)
