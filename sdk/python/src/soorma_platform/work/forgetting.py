"""Forgetting by a filter: found in a thread, then removed in commits of a bounded size."""

from __future__ import annotations

from datetime import timedelta

from soorma_common.forgetting import ForgetBody, Receipt
from soorma_common.names import Scope
from soorma_common.times import time_of
from soorma_platform.engine.forgetting import ForgetSome, Forgotten
from soorma_platform.logs import Log
from soorma_platform.stores.ports import Store

STEP = 200
"""Memories that are forgotten in one commit, which takes some 20 ms."""
ERASED_SECONDS = 60
"""Seconds within which upkeep has emptied the log that still holds what was forgotten."""

log = Log("soorma.memories")


class Forgetting:
    """Forgets what a filter describes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def forget(self, scope: Scope, body: ForgetBody) -> Receipt:
        """Forgets, or counts for a preview; returns what."""
        semantic = self._store.memories.semantic
        total, after = Forgotten(), 0
        while True:
            page = await semantic.to_forget(scope, body, after, STEP)
            if body.preview:
                total = total.plus(Forgotten(page.passages, page.interactions))
            elif page.numbers:
                total = total.plus(await self._store.transact(ForgetSome(scope, page.numbers)))
            if page.next is None:
                break
            after = page.next
        now = time_of((await semantic.collections(scope)).now)
        if body.preview:
            return Receipt(
                passages=total.passages, interactions=total.interactions, at=now, is_preview=True
            )
        if total.passages or total.interactions:
            log.info(
                "memories forgotten",
                tenant_id=scope.tenant_id,
                user_id=scope.user_id,
                passages=total.passages,
                interactions=total.interactions,
            )
        return Receipt(
            passages=total.passages,
            interactions=total.interactions,
            at=now,
            erased_by=now + timedelta(seconds=ERASED_SECONDS),
        )
