"""The version of the protocol between SDK and platform. Each refuses a peer of another version.

Without it, an outdated agent would receive fields that it does not know, and go on as if all were
well.
"""

from __future__ import annotations

from soorma_common.errors import ProtocolMismatch

PROTOCOL = 1
"""Incremented with each incompatible change of paths, bodies, headers or frames."""

PROTOCOL_HEADER = "X-Soorma-Protocol"
"""The header with the version: the SDK's in each request, the platform's in each response."""

WHY_HEADER = "X-Soorma-Refusal"
"""The header that says why a WebSocket is refused: a client does not see the body."""


def mismatch(*, sdk: str | int, platform: str | int, at: str = "") -> ProtocolMismatch:
    """Returns the error for an SDK and a platform of these versions; it says which to update.

    A version is a number, 0 if the peer predates versions, or whatever text its header holds. `at`
    is the platform's address, if known.
    """
    advice = "update the SDK" if _number(sdk) < _number(platform) else "update the platform"
    if not platform:
        advice += ", or check the address that the SDK calls"
    return ProtocolMismatch(
        f"the SDK speaks {_named(sdk)} and the platform{at and ' at '}{at} {_named(platform)}: "
        f"{advice}. One installation brings both",
        sdk_protocol=sdk,
        platform_protocol=platform,
    )


def _number(version: str | int) -> int:
    text = str(version)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _named(version: str | int) -> str:
    return f"protocol {str(version)[:20]}" if version else "none that has a version"
