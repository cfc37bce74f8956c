"""Quotas of what a tenant stores, checked in the transaction that would exceed them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from soorma_common.errors import LimitExceeded
from soorma_common.names import All, Owner
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.plans import PlanEditor
from soorma_platform.engine.rows.plans import PlansFound
from soorma_platform.engine.rows.usage import Usage, UsageCounted


class StoredQuota(msgspec.Struct, frozen=True):
    """How many plans a tenant may have, and how many bytes it may store; 0 is no limit."""

    plans: int
    stored_bytes: int

    def before(self, found: Snapshot) -> Before:
        """Notes what is there before a commit changes it."""
        return Before(self, found)


class Before:
    """What a tenant had stored before a commit."""

    def __init__(self, quota: StoredQuota, found: Snapshot) -> None:
        self._quota = quota
        self._usage = found.part(Usage)
        # The rows are changed in place.
        self._plans = {
            name: (state.row.live, state.row.size)
            for name, state in found.part(PlansFound).states.items()
        }

    def check(self, editors: Iterable[PlanEditor], *, remembers: bool) -> None:
        """Raises LimitExceeded if a commit adds to what is too much already, or a plan too many.

        Whoever has too much may still change and remove what is there: a commit is refused only if
        its plans grow, or if it `remembers` something. So the last one that is granted may exceed
        the quota, by no more than a commit can hold.
        """
        new_plans = growth = 0
        for editor in editors:
            was_live, size = self._plans[editor.row.plan_id]
            new_plans += editor.row.live and not was_live
            growth += editor.row.size - size
        plans = self._usage.plans + new_plans
        if self._quota.plans and new_plans and plans > self._quota.plans:
            told = f"{self._quota.plans:,} plans: it would have {plans:,}"
            raise _exceeded("plans", told, self._quota.plans, plans)
        stored = self._usage.stored_bytes
        most = self._quota.stored_bytes
        if most and stored >= most and (growth > 0 or remembers):
            told = f"{most:,} stored bytes: it has {stored:,}"
            raise _exceeded("stored_bytes", told, most, stored)


class CountUsage:
    """Lets the store count what tenants have stored, from what is there now."""

    scope: Owner = All.TENANTS

    def needs(self) -> list[Need]:
        return []

    def decide(self, _: Snapshot) -> Decision[None]:
        return Decision(None, [UsageCounted()])


def _exceeded(limit: str, told: str, most: int, actual: int) -> LimitExceeded:
    return LimitExceeded(
        f"the tenant has used up its quota of {told}; clean up plans or forget memories that are "
        f"not needed, or raise SOORMA_QUOTA_{limit.upper()}",
        limit=f"quota_{limit}",
        maximum=most,
        actual=actual,
    )
