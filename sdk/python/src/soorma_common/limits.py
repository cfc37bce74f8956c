"""The limits of a plan and of a request."""

from __future__ import annotations

import msgspec

from soorma_common.errors import LimitExceeded

MIB = 1024 * 1024
LARGEST_BODY = 32 * MIB
"""Bytes of a request's body, beyond which it is refused."""


class Limits(msgspec.Struct, frozen=True):
    """The limits of a plan, a value, an event and a commit.

    Sizes are in bytes of UTF-8 text, periods in the unit that is in their name. A plan is reported
    as stalled after `plan_idle_seconds` if events of it were published, it has not ended, nothing
    is in flight and no timer waits.
    """

    value_bytes: int = MIB
    plan_bytes: int = 16 * MIB
    plan_keys: int = 10_000
    plan_actions: int = 1_000_000
    plan_timers: int = 10_000
    plan_idle_seconds: int = 600
    plan_compensations: int = 1_000
    commit_operations: int = 1_000
    commit_events: int = 1_000
    commit_bytes: int = 30 * MIB
    commit_work_bytes: int = 32 * MIB
    result_bytes: int = 16 * MIB
    event_bytes: int = 512 * 1024
    step_bytes: int = MIB
    delivery_steps: int = 1_000
    delivery_step_bytes: int = 16 * MIB
    passage_bytes: int = MIB
    memory_bytes: int = 10 * MIB
    memory_operations: int = 1_000
    memory_parts: int = 200_000
    procedures: int = 2_000
    procedure_versions: int = 1_000
    history_revisions: int = 10_000
    history_bytes: int = 64 * MIB

    def check(self, limit: str, actual: int, what: str, *about: object) -> None:
        """Raises LimitExceeded, which names the limit, if `actual` exceeds it.

        `what` describes the quantity; `about` fills in its placeholders.
        """
        maximum: int = getattr(self, limit)
        if actual > maximum:
            told = what.format(*about) if about else what
            raise LimitExceeded(
                f"{told} would be {actual:,}, and the limit {limit} is {maximum:,}; nothing was "
                "changed",
                limit=limit,
                maximum=maximum,
                actual=actual,
            )
