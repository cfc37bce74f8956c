"""The parts of the benchmarks, by the names that `--only` takes."""

from __future__ import annotations

from collections.abc import Callable

import over_example
import over_http
import over_others
import over_process
import over_sdk
import over_transactions
from stage import Stage

PARTS: dict[str, tuple[Callable[[Stage], None], ...]] = {
    "cpu": (over_http.cost_per_request,),
    "sdk": (over_sdk.single_calls,),
    "events": (over_sdk.events,),
    "example": (over_example.example,),
    "handler": (over_transactions.handler,),
    "others": (over_others.workflows,),
    "process": (over_process.start, over_process.memory),
    "open": (over_http.open_loop,),
    "payloads": (over_http.payloads,),
    "plans": (over_http.plan_sizes,),
    "history": (over_http.histories,),
    "contention": (over_http.contention,),
}
ALONE = {**PARTS, "others": (over_others.alone,)}
"""The parts for a comparison of two checkouts, without those that belong to other products."""
