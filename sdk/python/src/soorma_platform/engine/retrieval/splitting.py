"""The parts of a long text: what is embedded and ranked as a whole."""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST_PART = 1_000
"""Characters of a part, about as many as an embedding model of 256 tokens reads."""
OVERLAP = 150
"""Characters that a part shares with the one before, so that no sentence is torn in both."""

_ENDS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"(?<=[.!?\u3002\uff01\uff1f\u0964])\s+|(?<=[\u3002\uff01\uff1f])|\n"),
    re.compile(r"\s+"),
)
"""Ends of paragraphs, sentences and words: a part ends at the best of them."""


class Span(NamedTuple):
    """A part's place in its text, in characters."""

    start: int
    end: int


def split(text: str) -> list[Span]:
    """Returns the parts of a text, in order; a short one is a single part.

    They cover all of it, and each but the first begins in the end of the one before.
    """
    spans: list[Span] = []
    start = 0
    while len(text) - start > LONGEST_PART:
        end = _end(text, start + LONGEST_PART // 2, start + LONGEST_PART)
        spans.append(Span(start, end))
        start = _end(text, end - OVERLAP, end - OVERLAP // 2)
    return [*spans, Span(start, len(text))]


def _end(text: str, least: int, most: int) -> int:
    """Returns the last good place to end a part between two others; `most` if there is none."""
    for ends in _ENDS:
        last = None
        for last in ends.finditer(text, least, most):  # noqa: B007 - the last one counts
            pass
        if last is not None:
            return last.end()
    return most
