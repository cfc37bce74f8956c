"""The parts of the benchmarks, by the names that `--only` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import over_example
import over_http
import over_others
import over_process
import over_sdk
import over_transactions
from stage import Stage

Measures: TypeAlias = tuple[Callable[[Stage], None], ...]

try:
    import over_memories
    import over_memories_others
    import over_retrieval
except ImportError:  # an older checkout, measured for a comparison, has no such memories
    _retrieval: Measures = ()
    _memories: Measures = ()
    _memories_others: Measures = ()
else:
    _retrieval = (over_retrieval.retrieval,)
    _memories = (over_memories.memories,)
    _memories_others = (over_memories_others.memories_others,)

try:
    import over_doors
except ImportError:  # nor has it keys
    _doors: Measures = ()
else:
    _doors = (over_doors.keyed_requests, over_doors.token_requests, over_doors.keyed_events)

PARTS: dict[str, Measures] = {
    "cpu": (over_http.cost_per_request,),
    "doors": _doors,
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
    "memories": _memories,
    "retrieval": _retrieval,
    "memories_others": _memories_others,
}
ALONE = {
    **{name: of for name, of in PARTS.items() if name not in {"retrieval", "memories_others"}},
    "others": (over_others.alone,),
}
"""The parts for a comparison of two checkouts: without other products, and without what is found,
which no two rounds differ in. A part that a checkout lacks is empty.
"""
