"""Pauses between tries, which double up to a longest one and vary, so that many who try do not come at once."""

from __future__ import annotations

import random
from typing import Final


class Backoff:
    """The pauses (seconds) of one series of tries: from `least` of a delay to all of it."""

    def __init__(self, first: float, longest: float, least: float = 0.5) -> None:
        self._first: Final = first
        self._longest: Final = longest
        self._least: Final = least
        self._delay = first

    def pause(self) -> float:
        """Returns how long to wait before the next try; each time twice as long as before, at most `longest`."""
        delay, self._delay = self._delay, min(2 * self._delay, self._longest)
        return delay * random.uniform(self._least, 1)  # noqa: S311 - spreads tries, guards nothing

    def reset(self) -> None:
        """Begins anew, after a try that has worked."""
        self._delay = self._first
