"""The retry policy of deliveries: its bounds and its backoff."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from soorma_common.errors import InvalidRequest


class RetryPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules for retrying a delivery that has failed, or whose process has died.

    After failure n the next attempt waits `first_delay` x `factor`^(n-1) seconds, give or take the
    share `jitter`, and at most `longest_delay`. After `max_attempts` failures the event becomes a
    dead letter, and its lane goes on or, with `then="park"`, waits until the dead letter is
    replayed.

    Deaths of processes are counted separately: an event becomes a dead letter after `max_deaths` of
    them if the process that died last was handling nothing else. Until then, another event may have
    been the cause.
    """

    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5
    first_delay: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.5
    factor: Annotated[float, msgspec.Meta(ge=1, le=100)] = 2.0
    longest_delay: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 30.0
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    then: Literal["dead_letter", "park"] = "dead_letter"
    max_deaths: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3

    def __post_init__(self) -> None:
        """Raises InvalidRequest, which names the field and its bounds, if a field is invalid."""
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            kinds: tuple[type, ...] = (int,) if name in _COUNTS else (int, float)
            if type(value) not in kinds or not least <= value <= most:
                what = "a whole number" if name in _COUNTS else "a number"
                raise InvalidRequest(
                    f"{name} of a RetryPolicy is {what} from {least} to {most}, not {value!r}"
                )
        if self.then not in ("dead_letter", "park"):
            raise InvalidRequest(
                f"then of a RetryPolicy is 'dead_letter' or 'park', not {self.then!r}"
            )

    def delay(self, attempt: int, draw: float) -> float:
        """Returns the seconds to wait after the failed `attempt` (from 1).

        `draw` in [-1, 1] spreads them by the jitter.
        """
        wait = self.first_delay * self.factor ** min(attempt - 1, 64) * (1 + self.jitter * draw)
        return min(wait, self.longest_delay)


_COUNTS = ("max_attempts", "max_deaths")
_BOUNDS = {
    "max_attempts": (1, 1000),
    "max_deaths": (1, 1000),
    "first_delay": (0, 86_400),
    "factor": (1, 100),
    "longest_delay": (0, 86_400),
    "jitter": (0, 1),
}
"""The bounds of a `RetryPolicy`'s fields, the same as a decoder checks."""
