"""Fences: what an agent shows to prove that a delivery is in its hands.

The agent alone has the fence. The record has its hash, so that whoever reads the file, a backup or
a stored response cannot act for the user of an event. A fence is 128 random bits, so a fast hash
does.
"""

from __future__ import annotations

import hashlib

BYTES = 16
"""Random bytes of a fence, which is their hexadecimal text."""
LONGEST_MS = 24 * 3_600_000
"""Milliseconds for which a delivery stays in the same hands at most, however it is renewed."""


def hashed(fence: str) -> str:
    """Returns what the record has of a fence."""
    return hashlib.blake2b(fence.encode(), digest_size=BYTES, person=b"soorma fence").hexdigest()
