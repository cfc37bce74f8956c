"""Forgetting by a filter: found in a thread, then removed in commits of a bounded size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

from soorma_common.forgetting import ForgetBody, Receipt
from soorma_common.names import Scope
from soorma_common.times import time_of
from soorma_platform.engine.forgetting import ForgetSome
from soorma_platform.engine.rows.passages import EPISODIC, PROCEDURAL, SEMANTIC
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
        total: Counter[int] = Counter()
        after = 0
        while True:
            page = await self._store.memories.semantic.to_forget(scope, body, after, STEP)
            if body.preview:
                total.update(page.kinds)
            elif page.numbers:
                total.update(await self._store.transact(ForgetSome(scope, page.numbers)))
            if page.next is None:
                break
            after = page.next
        return await self._receipt(scope, total, is_preview=body.preview)

    async def forget_numbers(self, scope: Scope, numbers: list[int]) -> Receipt:
        """Forgets memories by their numbers."""
        total: Counter[int] = Counter()
        for first in range(0, len(numbers), STEP):
            some = ForgetSome(scope, numbers[first : first + STEP])
            total.update(await self._store.transact(some))
        return await self._receipt(scope, total)

    async def _receipt(
        self, scope: Scope, total: Mapping[int, int], *, is_preview: bool = False
    ) -> Receipt:
        now = time_of((await self._store.memories.semantic.collections(scope)).now)
        receipt = Receipt(
            passages=total.get(SEMANTIC, 0),
            interactions=total.get(EPISODIC, 0),
            procedures=total.get(PROCEDURAL, 0),
            at=now,
            is_preview=is_preview,
        )
        if is_preview:
            return receipt
        if sum(total.values()):
            log.info(
                "memories forgotten",
                tenant_id=scope.tenant_id,
                user_id=scope.user_id,
                passages=receipt.passages,
                interactions=receipt.interactions,
                procedures=receipt.procedures,
            )
        receipt.erased_by = now + timedelta(seconds=ERASED_SECONDS)
        return receipt
