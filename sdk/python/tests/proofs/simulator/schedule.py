"""One schedule: a seed decides who does what, and what goes wrong when; the outcome is judged."""

from __future__ import annotations

import logging
import math
import random
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from types import SimpleNamespace

import invariants

import soorma.agents.agent
import soorma.runtime.attempts
import soorma.runtime.session
import soorma_platform.assembly
import soorma_platform.buses.in_process
import soorma_platform.services.events
import soorma_platform.work.committer
import soorma_platform.work.payloads
from simulator.faults import Faults
from simulator.fleet import PATIENCE, Fleet
from simulator.leases import SimulatedLeases
from simulator.network import Network, SimulatedTransport
from simulator.platform import LEASE, Machine
from simulator.stage import Record, Stage, Workload
from simulator.workloads import WORKLOADS
from simulator.world import World
from soorma import ClientConfig, PlatformContext
from soorma.transport.calls import Caller
from soorma_common.limits import Limits
from soorma_platform.buses.protocol import bells
from soorma_platform.stores.sqlite import claims

LONGEST = 900.0
"""Seconds of the world's time that faults may take."""
CALM = 60.0
"""Seconds after the last fault in which all must be done.

Leases, retries and the longest handlers take less.
"""
RETENTION_IS_OVER = 60 * 86_400.0
LINE = 160


class _Absent:
    """A stand-in for an agent's entry in the registry, which is not part of these proofs."""

    refusal = None

    def __init__(self, *_: object) -> None: ...

    def begin(self, lease_seconds: float) -> None: ...

    def abandon(self) -> None: ...

    async def end(self) -> None: ...


@dataclass
class Outcome:
    """The outcome of a schedule."""

    seed: int
    names: list[str]
    steps: int = 0
    seconds: float = 0.0
    calm: float = 0.0
    caused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    record: bytes = b""

    def told(self) -> str:
        """The description of the failure."""
        faults = (
            ", ".join(f"{count} x {kind}" for kind, count in self.caused.items()) or "no faults"
        )
        about = f"schedule {self.seed} ({' and '.join(self.names)}; {faults}; {self.steps} steps)"
        again = (
            f"SOORMA_SCHEDULE={self.seed} sh tools/run prove tests/proofs/test_simulator.py "
            "-k schedules"
        )
        return "\n".join(
            [
                f"{about} ends wrong:",
                *self.wrong,
                "its last steps:",
                *self.trace,
                f"to repeat it: {again}",
            ]
        )


def run(seed: int, workloads: tuple[type[Workload], ...] = ()) -> Outcome:
    """Carries out the schedule of a seed, of drawn workloads or of those given."""
    world = World(seed)
    chosen = workloads or tuple(world.dice.sample(WORKLOADS, world.dice.choice((1, 1, 2))))
    schedule = _Schedule(world, chosen)
    with _by_seed(seed, schedule.machine):
        try:
            schedule.carry_out()
        finally:
            schedule.outcome.trace = (
                [_line(*entry) for entry in world.trace] if schedule.outcome.wrong else []
            )
            world.end()
            schedule.machine.disk.close()
    return schedule.outcome


class _Schedule:
    def __init__(self, world: World, chosen: tuple[type[Workload], ...]) -> None:
        self.world = world
        self.outcome = Outcome(world.seed, [kind.name for kind in chosen])
        self.network = Network(world)
        self.machine = Machine(world, self.network, Limits(plan_idle_seconds=100_000))
        size = world.dice.randint(1, 3)
        self.workloads = [kind(Stage(world, self.machine, kind.name, size)) for kind in chosen]
        self._driving = 0
        self._looked_at = 0.0

    def carry_out(self) -> None:
        """Runs it until all is done, and judges it."""
        world, machine = self.world, self.machine
        machine.boot()
        groups = {
            group: partial(load.register, group) for load in self.workloads for group in load.groups
        }
        fleet = Fleet(world, self.network, groups)
        world.run(lambda: self._are_subscribed(len(groups)), LONGEST)
        faults = Faults(world, machine, self.network, fleet)
        for load in self.workloads:
            self._drive(load)
        world.before_step = faults.before_step
        world.run(lambda: faults.are_over or (self._driving == 0 and self._is_done()), LONGEST)
        faults.end()
        world.before_step = None
        calm_since = world.now
        finished = world.run(lambda: self._driving == 0 and self._is_done(), CALM)
        self.outcome.calm = world.now - calm_since
        self.outcome.caused = faults.caused
        self._judge(finished)
        if finished and not self.outcome.wrong:
            self._purge()
        self.outcome.steps, self.outcome.seconds = world.steps, world.now

    def _drive(self, load: Workload) -> None:
        process = self.world.process(f"user of {load.name}")
        caller = Caller(SimulatedTransport(self.network, process), PATIENCE)
        context = PlatformContext.on(ClientConfig(retry_seconds=PATIENCE), "user", caller)
        self._driving += 1

        async def use() -> None:
            await load.drive(context)
            self._driving -= 1

        process.start(use())

    def _are_subscribed(self, groups: int) -> bool:
        """True if each group exists and has joined.

        A group that comes later gets only what no other has taken.
        """
        found = (
            "SELECT count(DISTINCT group_id), count(*) FILTER (WHERE joining) FROM subscriptions"
        )
        return Record(self.machine.disk.connection).rows(found) == [(groups, 0)]

    def _is_done(self) -> bool:
        """True if all is done; checked now and then, since a check costs as much as a step."""
        if self.world.now < self._looked_at + 0.2:
            return False
        self._looked_at = self.world.now
        self._look_at_attempts()
        record = Record(self.machine.disk.connection)
        left = (
            "SELECT 1 FROM deliveries UNION ALL SELECT 1 FROM timers UNION ALL SELECT 1 FROM chores"
        )
        return self.machine.is_up and not record.rows(f"{left} LIMIT 1")

    def _look_at_attempts(self) -> None:
        """Checks while it runs that no agent has lost room, and no event an attempt."""
        broken = invariants.broken_attempts(self.machine.disk.connection)
        if self.machine.is_up:
            broken += self.machine.broken_slots()
        self.outcome.wrong += broken[: max(0, 5 - len(self.outcome.wrong))]

    def _judge(self, finished: bool) -> None:
        connection, wrong = self.machine.disk.connection, self.outcome.wrong
        if not finished:
            wrong.append(f"it is not done {CALM:g} s after the last fault")
        wrong += invariants.broken(connection, at_rest=True)
        for load in self.workloads:
            try:
                load.judge(Record(connection))
            except (LookupError, TypeError) as error:
                load.wrong.append(
                    f"{load.name}: so much is missing that it cannot be judged: {error!r}"
                )
            wrong += load.wrong
        wrong += self.world.faults_of_code
        if finished:
            self.world.run(lambda: not self.machine.broken_slots(at_rest=True), 2 * LEASE)
            wrong += self.machine.broken_slots(at_rest=True)
        self.outcome.record = connection.serialize("main")

    def _purge(self) -> None:
        """Checks that two months later nothing is left of the plans that have ended."""
        record = Record(self.machine.disk.connection)
        ended = "SELECT plan_id FROM plans WHERE ended_at IS NOT NULL"
        if not record.rows(ended):
            return
        self.machine.clocks.standstill = math.inf
        self.world.now += RETENTION_IS_OVER
        # Also what upkeep tells then: sessions are idle.
        rest = f"{ended} UNION ALL SELECT kind FROM chores UNION ALL SELECT id FROM deliveries"
        purged = self.world.run(lambda: not record.rows(rest), 30)
        if not purged:
            self.outcome.wrong.append(f"not purged: {record.rows(rest)}")
        self.outcome.wrong += invariants.broken(self.machine.disk.connection, at_rest=True)


@contextmanager
def _by_seed(seed: int, machine: Machine) -> Iterator[None]:
    """Takes all randomness in the code from the seed, and opens the simulated disk."""
    ids, state = Random(f"{seed} names"), random.getstate()
    random.seed(seed)
    replaced: list[tuple[object, str, object]] = [
        (uuid, "os", SimpleNamespace(urandom=ids.randbytes)),
        (soorma_platform.work.committer, "os", SimpleNamespace(urandom=ids.randbytes)),
        (claims, "secrets", SimpleNamespace(token_hex=lambda size: ids.randbytes(size).hex())),
        (soorma_platform.assembly, "open_store", machine.open_store),
        (soorma_platform.services.events, "AgentConnection", machine.serving()),
        (
            soorma_platform.buses.in_process,
            "bells",
            lambda notice: _in_some_order(bells(notice), machine.world),
        ),
        (soorma.runtime.attempts, "LeaseKeeper", SimulatedLeases),
        (soorma.runtime.session, "Presence", _Absent),
        # Real seconds, which a busy machine has more of: others had a turn, or a schema was read
        # again, by that.
        (soorma_platform.work.committer, "TURN_SECONDS", math.inf),
        (soorma_platform.work.payloads, "TURN_SECONDS", math.inf),
        (soorma_platform.work.payloads, "FRESH_SECONDS", math.inf),
    ]
    before = [getattr(owner, name) for owner, name, _ in replaced]
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(replaced, before, strict=True):
            setattr(owner, name, value)
        logging.disable(level)
        random.setstate(state)


def _in_some_order(names: Iterable[str], world: World) -> list[str]:
    """The names in an order drawn from the seed, which the order of a set does not follow."""
    drawn = sorted(names)
    world.dice.shuffle(drawn)
    return drawn


def _line(at: float, who: str, what: str, about: object) -> str:
    text = (
        about.decode(errors="replace")
        if isinstance(about, bytes)
        else ""
        if about is None
        else str(about)
    )
    return f"{at:9.4f} {who}: {what} {text}"[:LINE].rstrip()
