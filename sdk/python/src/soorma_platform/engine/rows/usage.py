"""What a tenant has stored: for quotas of plans and of bytes."""

from __future__ import annotations

import msgspec

from soorma_platform.engine.commands import Need


class UsageNeed(Need):
    """Asks for what the tenant has stored; a part `Usage`."""


class Usage(msgspec.Struct):
    """The plans of a tenant that hold something, and the bytes of all that it has stored.

    These are keys and histories of plans, and memories with their files.
    """

    plans: int = 0
    stored_bytes: int = 0


class UsageCounted(msgspec.Struct, frozen=True):
    """A row that lets the store count from now on; it begins with what is there."""
