"""The version of what SDK and platform say to each other. Two that differ refuse each other.

Without it, an agent of yesterday would be told of fields that it does not know, and would go on as
if all were well.
"""

from __future__ import annotations

from soorma_common.errors import ProtocolMismatch

PROTOCOL = 1
"""Rises with each change of paths, bodies, headers or frames that one side alone understands."""

PROTOCOL_HEADER = "X-Soorma-Protocol"
"""Says the version: the SDK's in each request, the platform's in each response."""


def mismatch(*, sdk: str | int, platform: str | int, at: str = "") -> ProtocolMismatch:
    """Returns the refusal of an SDK and a platform of these versions; it says which to update.

    A version is a number, 0 standing for the time before there were any, or what a header says in
    place of one. `at` is the platform's address, where it is known.
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
