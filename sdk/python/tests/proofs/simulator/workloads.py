"""What the simulated agents do: programs as users write them, and what must have come of them at the end."""

from __future__ import annotations

from simulator.counting import Counters, Fans
from simulator.later import Payments, Timers
from simulator.lives import Chains, Sagas, Walks
from simulator.stage import Workload

WORKLOADS: tuple[type[Workload], ...] = (Counters, Chains, Fans, Sagas, Timers, Walks, Payments)
