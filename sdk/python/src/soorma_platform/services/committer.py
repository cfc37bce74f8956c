"""The way of a commit through the platform: checked here, decided in the engine, written by the store."""

from __future__ import annotations

import hashlib
import random
from functools import partial
from uuid import uuid4

from soorma_common.limits import Limits
from soorma_common.memory import Commit, Committed
from soorma_common.names import Scope
from soorma_platform.engine import commits, deliveries
from soorma_platform.stores.protocol import Store

DAY = 24 * 3600 * 1000
SDK_KEY = "sdk:"
"""Idempotency keys of the SDK begin so; their answers are kept for minutes, a caller's own for a day."""


def fingerprint(body: bytes) -> str:
    """A short text that two bodies share only if they are the same."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


class Committer:
    """Runs commits and failures of deliveries against a store."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self.limits = limits

    async def commit(self, scope: Scope, commit: Commit, *, body: bytes, key: str | None = None) -> Committed:
        """Decides and writes a commit; `body` is what tells it from another under the same idempotency key."""
        commits.check_commit(commit, self.limits)
        for event in commit.events:
            event.id = event.id or str(uuid4())
        request = commits.Request(scope, commit, fingerprint(body), key)
        if key is not None and not key.startswith(SDK_KEY):
            request.keep_answer = DAY
        commits.place_events(request)
        decide = partial(commits.decide, request, limits=self.limits)
        decision = await self._store.transact(commits.needs(request), lambda snapshot: decide(snapshot=snapshot))
        if decision.replayed is not None:
            return decision.replayed.committed
        assert decision.committed is not None  # noqa: S101 - a decision is either an answer or a first one
        return decision.committed

    async def fail(
        self,
        scope: Scope,
        plan_id: str | None,
        fence: str,
        reason: str,
        *,
        after: float | None = None,
        reject: bool = False,
    ) -> None:
        """Reports a failed attempt: it is tried again later, or becomes a dead letter."""
        draw = random.uniform(-1, 1)  # noqa: S311 - spreads retries, guards nothing
        failure = deliveries.Failure(fence, reason, draw, str(uuid4()), after, reject)
        await self._store.transact(
            deliveries.needs_of_failure(failure, scope, plan_id),
            lambda snapshot: deliveries.fail(failure, snapshot, self.limits),
        )
