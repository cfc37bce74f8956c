"""Pauses between tries, doubled up to a maximum, with jitter so that many clients spread out."""

from __future__ import annotations

import random
from typing import Final


class Backoff:
    """The pauses (seconds) in a series of tries: a random share, from `least` to 1, of a delay."""

    def __init__(self, first: float, longest: float, least: float = 0.5) -> None:
        self._first: Final = first
        self._longest: Final = longest
        self._least: Final = least
        self._delay = first

    def pause(self) -> float:
        """Returns the pause before the next try, and doubles the delay, up to `longest`."""
        delay, self._delay = self._delay, min(2 * self._delay, self._longest)
        return delay * random.uniform(self._least, 1)  # noqa: S311 - spreads tries, guards nothing

    def reset(self) -> None:
        """Starts over, after a successful try."""
        self._delay = self._first
