"""The programs of the simulated agents, as users write them, and their expected outcomes."""

from __future__ import annotations

from simulator.counting import Counters, Fans
from simulator.later import Payments, Timers
from simulator.lives import Chains, Sagas, Walks
from simulator.practising import Practices
from simulator.remembering import Memories
from simulator.stage import Workload

WORKLOADS: tuple[type[Workload], ...] = (
    Counters,
    Chains,
    Fans,
    Sagas,
    Timers,
    Walks,
    Payments,
    Memories,
    Practices,
)
