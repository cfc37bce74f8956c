"""Forgetting by a filter: found in a thread, then removed in commits of a bounded size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

from soorma_common.forgetting import ForgetBody, Receipt, described
from soorma_common.names import Scope
from soorma_common.times import time_of
from soorma_platform.engine.forgetting import ForgetSome
from soorma_platform.engine.rows.audit_log import NOBODY_KNOWN, Author
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

    async def forget(
        self, scope: Scope, body: ForgetBody, author: Author = NOBODY_KNOWN
    ) -> Receipt:
        """Forgets, or counts for a preview; returns what."""
        total = await self._forgotten(scope, body, author)
        return await self._receipt(scope.tenant_id, scope.user_id, total, is_preview=body.preview)

    async def forget_tenant(
        self, tenant_id: str, body: ForgetBody, author: Author = NOBODY_KNOWN
    ) -> Receipt:
        """Forgets what all users of a tenant have stored and fits, or counts it for a preview."""
        total: Counter[int] = Counter()
        after = ""
        while users := await self._store.memories.life.users(tenant_id, after, STEP):
            for user_id in users:
                scope = Scope(tenant_id, user_id)
                total.update(await self._forgotten(scope, body, author))
            after = users[-1]
        return await self._receipt(tenant_id, None, total, is_preview=body.preview)

    async def _forgotten(self, scope: Scope, body: ForgetBody, author: Author) -> Counter[int]:
        total: Counter[int] = Counter()
        after = 0
        while True:
            page = await self._store.memories.semantic.to_forget(scope, body, after, STEP)
            if body.preview:
                total.update(page.kinds)
            elif page.numbers:
                some = ForgetSome(scope, page.numbers, author, described(body))
                total.update(await self._store.transact(some))
            if page.next is None:
                break
            after = page.next
        return total

    async def forget_numbers(
        self, scope: Scope, numbers: list[int], author: Author, what: str
    ) -> Receipt:
        """Forgets memories by their numbers; `what` describes them for the audit."""
        total: Counter[int] = Counter()
        for first in range(0, len(numbers), STEP):
            some = ForgetSome(scope, numbers[first : first + STEP], author, what)
            total.update(await self._store.transact(some))
        return await self._receipt(scope.tenant_id, scope.user_id, total)

    async def _receipt(
        self,
        tenant_id: str,
        user_id: str | None,
        total: Mapping[int, int],
        *,
        is_preview: bool = False,
    ) -> Receipt:
        # Any scope will do: it is asked for the time.
        own = await self._store.memories.semantic.collections(Scope(tenant_id, user_id or ""))
        now = time_of(own.now)
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
                tenant_id=tenant_id,
                user_id=user_id or "all",
                passages=receipt.passages,
                interactions=receipt.interactions,
                procedures=receipt.procedures,
            )
        receipt.erased_by = now + timedelta(seconds=ERASED_SECONDS)
        return receipt
