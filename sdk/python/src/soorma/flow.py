"""What a handler raises to steer the delivery of its event. These are no errors."""

from __future__ import annotations


class Retry(Exception):
    """Try this event again, after `after` seconds (None: the backoff of the handler's retry policy).

    Nothing of this attempt is kept. It counts as an attempt.
    """

    def __init__(self, reason: str = "the handler asked to be tried again", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Reject(Exception):
    """Give this event up at once: it becomes a dead letter with this reason. Nothing of this attempt is kept."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
