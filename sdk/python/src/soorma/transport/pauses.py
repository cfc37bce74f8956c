"""Pauses between tries, doubled up to a maximum, with jitter so that many clients spread out."""

from __future__ import annotations

import random
from typing import Final

from soorma_common.errors import TooManyRequests, Unavailable

SPREAD = 0.1
"""The share by which a wait for a quota is longer than the platform says, at most."""


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


def room_after(error: Unavailable, backoff: Backoff) -> float:
    """Returns the seconds to wait after an error: until the quota has room, else a pause."""
    seconds = error.retry_after if isinstance(error, TooManyRequests) else None
    if seconds is None:
        return backoff.pause()
    return seconds * random.uniform(1, 1 + SPREAD)  # noqa: S311 - spreads tries, guards nothing
