"""The port of plans: what is read of them. What changes them are commands."""

from __future__ import annotations

import builtins
from typing import Protocol

import msgspec

from soorma_common.names import Scope
from soorma_platform.engine.rows.plans import EntryRow, HistoryRow, KeyPast, LoadedPlan, PlanRow


class HistoryPage(msgspec.Struct):
    """Rows of a plan's history from behind the revision `start`, with the plan."""

    plan: PlanRow
    start: int
    rows: list[HistoryRow]


class KeyAt(msgspec.Struct):
    """A key as it was, with the plan: its `entry` if it was not written since, else what its history says."""

    plan: PlanRow
    entry: EntryRow | None
    past: KeyPast | None


class KeysAt(msgspec.Struct):
    """Keys of a plan as they were: those not written since, and the others.

    There may be more behind `next`.
    """

    plan: PlanRow
    entries: list[EntryRow]
    pasts: list[KeyPast]
    next: str | None


class PlanStore(Protocol):
    """Plans as they are and as they were."""

    async def entry(self, scope: Scope, plan_id: str, key: str) -> EntryRow | None:
        """The key's live row."""
        ...

    async def get(self, scope: Scope, plan_id: str, keys: set[str]) -> LoadedPlan:
        """The plan as of now: its row (revision 0 if it was never written) and the live rows of those keys."""
        ...

    async def entries(
        self, scope: Scope, plan_id: str, prefix: str, after: str, limit: int
    ) -> tuple[PlanRow, builtins.list[EntryRow]]:
        """The plan and its live keys in order, from behind `after`."""
        ...

    async def list(
        self,
        scope: Scope,
        after: str,
        limit: int,
        status: str | None = None,
        *,
        stalled: bool = False,
    ) -> builtins.list[PlanRow]:
        """The user's plans that hold keys or actions or have ended, by id, from behind `after`; of one status or all.

        `stalled`: only those that were reported as such and have not moved since.
        A key that has expired counts until it is swept, which takes a second or two.
        """
        ...

    async def history(
        self,
        scope: Scope,
        plan_id: str,
        key: str | None,
        after: int | None,
        until: int | None,
        limit: int,
    ) -> HistoryPage:
        """Rows of revisions in (after, until], oldest first.

        From no `after` on, all that is kept, with the fork that the plan began with.

        About `limit` of them, and of each revision all. There is more while the last is below the
        plan's revision.
        """
        ...

    async def actions(
        self, scope: Scope, plan_id: str, after: int, limit: int
    ) -> builtins.list[HistoryRow]:
        """The plan's actions with a number above `after`, in order."""
        ...

    async def value_at(
        self, scope: Scope, plan_id: str, key: str, revision: int, seq: int
    ) -> KeyAt:
        """The key after operation `seq` of `revision`, as far as that is kept."""
        ...

    async def keys_at(
        self, scope: Scope, plan_id: str, revision: int, prefix: str, after: str, limit: int
    ) -> KeysAt:
        """The plan's keys after a revision, as far as that is kept, in order, from behind `after`; holds up nobody.

        Looks at no more than `limit` keys.
        """
        ...
