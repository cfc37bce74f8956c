"""What tenants have stored, counted by triggers: no writer of rows can forget to.

The counts and their triggers are temporary: they belong to the connection that writes, and exist
only where there are quotas. So they cost nothing elsewhere, and can never differ from the record
for longer than a process lives.
"""

from __future__ import annotations

from typing import Any

from soorma_common.names import Scope
from soorma_platform.engine.rows.usage import Usage, UsageCounted, UsageNeed
from soorma_platform.stores.sqlite.statements import execute, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_STEPS = (
    "make_usage",
    "count_usage_of_plans",
    "count_usage_of_passages",
    "count_usage_of_files",
    "on_plan_added",
    "on_plan_changed",
    "on_plan_removed",
    "on_passage_added",
    "on_passage_removed",
    "on_file_added",
    "on_file_removed",
)


def load(loading: Loading, _: UsageNeed) -> None:
    """Loads what the tenant has stored."""
    whose = loading.whose
    tenant_id = whose.tenant_id if isinstance(whose, Scope) else str(whose)
    usage = loading.found.part(Usage)
    usage.plans = value(loading.connection, "plans_used", tenant_id) or 0
    usage.stored_bytes = value(loading.connection, "bytes_used", tenant_id) or 0


def count(writing: Writing, _: UsageCounted) -> None:
    """Counts what is there, and lets triggers count what changes."""
    for step in _STEPS:
        execute(writing.connection, step)


LOADERS: dict[type[Any], Any] = {UsageNeed: load}
WRITERS: dict[type[Any], Any] = {UsageCounted: count}
