"""Replay of dead letters."""

from __future__ import annotations

from soorma_common.errors import Conflict
from soorma_common.names import All, Owner
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.life import check_replay
from soorma_platform.engine.rows.audit_log import NOBODY_KNOWN, Author, audit_row
from soorma_platform.engine.rows.dead_letters import LetterFound, LetterNeed, LetterReplayed
from soorma_platform.engine.rows.idempotency import KeyNeed, KeySeen, SeenKey

KEEP_REPLAYS = 15 * 60_000
"""Milliseconds for which a replay is not repeated under its idempotency key."""


class ReplayDeadLetter:
    """The replay of a dead letter to its group, from attempt 1.

    The outcome is True if a dead letter of that number exists. Under one idempotency key it is
    replayed once, and the outcome is True again.
    """

    def __init__(
        self,
        owner: Owner,
        number: int,
        key: str | None = None,
        *,
        author: Author = NOBODY_KNOWN,
    ) -> None:
        self.scope = owner
        self._number = number
        self._author = author
        tenant_id = "" if owner is All.TENANTS else owner
        self._key = None if key is None else f"replay:{tenant_id}:{number}:{key}"

    def needs(self) -> list[Need]:
        seen: list[Need] = [] if self._key is None else [KeyNeed(self._key)]
        return [*seen, LetterNeed(self._number)]

    def decide(self, found: Snapshot) -> Decision[bool]:
        if found.part(KeySeen).is_seen:
            return Decision(True)
        of = found.part(LetterFound)
        if of.letter is None:
            return Decision(False)
        if of.plan is not None:
            check_replay(of.letter, of.plan, found.now)
        if of.subscription_id is None:
            raise Conflict(
                f"dead letter {self._number} cannot be replayed: its group has no subscription to "
                f"{of.letter.type!r} "
                "any more; start an agent that handles it, then replay it"
            )
        writes = [
            LetterReplayed(of.letter, of.subscription_id, found.uptime),
            audit_row(
                "deadletter.replayed", of.letter.scope, self._author, found.now,
                f"{self._number}", type=of.letter.type,
            ),
        ]  # fmt: skip
        if self._key is None:
            return Decision(True, writes)
        return Decision(True, [SeenKey(self._key, found.uptime + KEEP_REPLAYS), *writes])
