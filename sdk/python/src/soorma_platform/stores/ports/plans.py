"""The port of plans, for reading. Commands change them."""

from __future__ import annotations

import builtins
from typing import Protocol

import msgspec

from soorma_common.names import Scope
from soorma_platform.engine.rows.plans import EntryRow, HistoryRow, KeyPast, LoadedPlan, PlanRow


class HistoryPage(msgspec.Struct):
    """Rows of a plan's history after the revision `start`, with the plan."""

    plan: PlanRow
    start: int
    rows: list[HistoryRow]


class KeyAt(msgspec.Struct):
    """A key as it was, with the plan.

    `entry` is the key if it was not written since; otherwise `past` is what its history says.
    """

    plan: PlanRow
    entry: EntryRow | None
    past: KeyPast | None


class KeysAt(msgspec.Struct):
    """Keys of a plan as they were: those not written since, and the others.

    There may be more after `next`.
    """

    plan: PlanRow
    entries: list[EntryRow]
    pasts: list[KeyPast]
    next: str | None


class PlanStore(Protocol):
    """Plans as they are and as they were."""

    async def entry(self, scope: Scope, plan_id: str, key: str) -> EntryRow | None:
        """Returns the key's live row."""
        ...

    async def get(self, scope: Scope, plan_id: str, keys: set[str]) -> LoadedPlan:
        """Returns the plan's row and the live rows of those keys, as of now.

        The row has revision 0 if the plan was never written.
        """
        ...

    async def entries(
        self, scope: Scope, plan_id: str, prefix: str, after: str, limit: int
    ) -> tuple[PlanRow, builtins.list[EntryRow]]:
        """Returns the plan and its live keys above `after`, in order."""
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
        """Returns the user's plans with an id above `after`, by id, of one status or all.

        Lists only plans that hold keys or actions or have ended; with `stalled`, only those that
        were reported as stalled and have not moved since. A key that has expired counts until it is
        swept, which takes a second or two.
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
        """Returns rows of revisions in (after, until], oldest first.

        Without `after`, all that is kept, including the fork that the plan began with. About
        `limit` rows, but no revision is split. There is more while the last row's revision is below
        the plan's.
        """
        ...

    async def actions(
        self, scope: Scope, plan_id: str, after: int, limit: int
    ) -> builtins.list[HistoryRow]:
        """Returns the plan's actions with a number above `after`, in order."""
        ...

    async def value_at(
        self, scope: Scope, plan_id: str, key: str, revision: int, seq: int
    ) -> KeyAt:
        """Returns the key after operation `seq` of `revision`, as far as that is kept."""
        ...

    async def keys_at(
        self, scope: Scope, plan_id: str, revision: int, prefix: str, after: str, limit: int
    ) -> KeysAt:
        """Returns the plan's keys above `after` as of a revision, in order, as far as that is kept.

        Looks at no more than `limit` keys, and blocks nobody.
        """
        ...
