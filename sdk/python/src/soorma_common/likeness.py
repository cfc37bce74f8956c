"""Passages that seem to state the same as a text."""

from __future__ import annotations

import msgspec

from soorma_common.errors import InvalidRequest
from soorma_common.limits import Limits
from soorma_common.semantic import LONGEST_WAIT, Content, Score, Wait, check_content

WAIT_SECONDS = 10.0
"""Seconds for which a comparison waits for what is stored to be embedded, unless told otherwise."""


class AlikeBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A text to compare with all passages of the user, and the public ones of the tenant.

    `wait` is how many seconds to wait until all of them are embedded.
    """

    content: Content
    wait: Wait = WAIT_SECONDS


class AlikePassage(msgspec.Struct, omit_defaults=True):
    """A passage that seems to state the same, with the cosine of its vector and the text's."""

    id: str
    content: str
    cosine: Score
    is_public: bool = False


class AlikePassages(msgspec.Struct):
    """What seems to state the same as a text, the nearest first."""

    alike: list[AlikePassage]


def check_alike(body: AlikeBody, limits: Limits) -> None:
    """Raises InvalidRequest, InvalidValue or LimitExceeded if it cannot be compared."""
    check_content(body.content, limits)
    if not 0 <= body.wait <= LONGEST_WAIT:
        raise InvalidRequest(f"wait is 0 to {LONGEST_WAIT} seconds, not {body.wait}")
