"""Claims: a key that one holder has for a time, and what is done under it, fenced by its revision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from soorma.memory.client import check_ttl
from soorma_common.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from soorma.memory.transactions import StateTransaction
    from soorma.workflow import WorkflowState


class Claim:
    """A key of a plan that is held until it is released or its time to live (`ttl`, seconds) is over.

    Whoever comes late is refused by the `revision`: `async with claim.transaction() as tx` commits only while the
    claim is held. Use it as a context manager, and it is released at the end.
    """

    def __init__(self, state: WorkflowState, key: str, ttl: float, revision: int, holder: str) -> None:
        self.key = key
        self.ttl = ttl
        self.revision = revision
        self._state = state
        self._holder = holder
        self._changing = asyncio.Lock()

    @classmethod
    async def take(cls, state: WorkflowState, key: str, ttl: float) -> Claim | None:
        """The claim of a key; None if another holds it."""
        holder, ttl = str(uuid4()), _claim_ttl(ttl)
        try:
            revision = await _set(state, key, holder, ttl, 0)
        except Conflict:
            return None
        return cls(state, key, ttl, revision, holder)

    async def renew(self, ttl: float | None = None) -> None:
        """Holds it for its time to live from now on, or for `ttl` seconds; Conflict if it was lost meanwhile."""
        seconds = self.ttl if ttl is None else _claim_ttl(ttl)
        async with self._changing:
            self.revision = await _set(self._state, self.key, self._holder, seconds, self.revision)

    async def release(self) -> bool:
        """Gives it up; tells whether it was still held."""
        state = self._state
        place = (state.plan_id, self.key, state.tenant_id, state.user_id)
        try:
            return await state.memory.delete_plan_state(*place, expected_revision=self.revision)
        except Conflict:
            return False

    def transaction(self) -> StateTransaction:
        """Changes and events that are committed only while the claim is held; Conflict otherwise.

        It is looked at when the block ends, and may be renewed before that.
        """
        tx = self._state.transaction()
        tx._claim = self  # noqa: SLF001 - of the same package
        return tx

    @asynccontextmanager
    async def _settled(self) -> AsyncIterator[int]:
        """The claim's revision, which does not change by a `renew` as long as this is held."""
        async with self._changing:
            yield self.revision

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()


def _claim_ttl(seconds: float | None) -> float:
    checked = check_ttl(seconds)
    if checked is None:
        raise InvalidRequest("a claim ends with its holder at the latest: ttl is a number of seconds, not None")
    return checked


async def _set(state: WorkflowState, key: str, holder: str, ttl: float, expected_revision: int) -> int:
    place = (state.plan_id, key, {"holder": holder}, state.tenant_id, state.user_id)
    return (await state.memory.set_plan_state(*place, ttl=ttl, expected_revision=expected_revision)).revision
