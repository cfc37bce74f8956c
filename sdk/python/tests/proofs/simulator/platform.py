"""The platform of the simulation: real services, engine and SQL, on a record that outlives them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import apsw

from simulator.network import Network
from simulator.world import Process, World
from soorma_common.limits import Limits
from soorma_platform.assembly import Platform
from soorma_platform.clock import STANDSTILL_SECONDS
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.metrics import HOLDS, SECONDS, SIZES, Distribution
from soorma_platform.services.agents import AgentConnection
from soorma_platform.settings import Settings
from soorma_platform.stores.sqlite import SqliteStore, deaths
from soorma_platform.stores.sqlite.clock import RecordClock
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.database import FailuresNamed, migrate
from soorma_platform.stores.sqlite.health import SqliteHealth
from soorma_platform.stores.sqlite.overview import Overview
from soorma_platform.stores.sqlite.prefetch import Prefetches
from soorma_platform.stores.sqlite.upkeep import SqliteUpkeep
from soorma_platform.stores.sqlite.writer import GroupCommitter, _Ticket

LEASE = 3.0
IDLE_SECONDS = 0.4
"""Without an interaction, after which a session is idle: some become so while faults happen."""
START = 1_800_000_000.0
PLACE = Path("the record of the simulation")


class _Dies(BaseException):
    """The process ends at this statement."""


@cache
def empty_record() -> bytes:
    """A migrated database without a row."""
    connection = apsw.Connection(":memory:")
    migrate(connection, PLACE)
    return connection.serialize("main")


class Disk:
    """The disk, which outlives the platform: an in-memory SQLite database, and its flushed part."""

    keeps_the_last_commit: ClassVar[bool] = True
    """a fault to be planted: a crash undoes the last commit, although it was confirmed"""

    def __init__(self) -> None:
        self._image: bytes | None = None
        self.connection = self._of(empty_record())

    def _of(self, image: bytes) -> apsw.Connection:
        connection = apsw.Connection(":memory:")
        connection.deserialize("main", image)
        return connection

    def before_commit(self, *, durable: bool, power_cut_planned: bool) -> None:
        """Keeps what a power cut leaves, if one is planned."""
        is_first = power_cut_planned and self._image is None
        if not self.keeps_the_last_commit if durable else is_first:
            self._image = self.connection.serialize("main")

    def flush(self) -> None:
        """Makes all that was committed durable."""
        if self.keeps_the_last_commit:
            self._image = None

    def lose_power(self) -> None:
        """Discards all that was not durable."""
        if self._image is not None:
            self.close()
            self.connection, self._image = self._of(self._image), None

    def close(self) -> None:
        """Frees its memory: the garbage collector does not see what SQLite's callbacks refer to."""
        self.connection.close()


class SimulatedWriter(GroupCommitter):
    """The writer without its thread: the same batches, and crashes between any two statements."""

    def __init__(
        self, machine: Machine, on_commit: Callable[[Notice], None], prefetches: Prefetches
    ) -> None:
        self._machine = machine
        self._prefetches = prefetches
        self.connection = machine.disk.connection
        self._failures = FailuresNamed(PLACE)
        self._on_commit = on_commit
        self._fresh: list[_Ticket] = []
        self._process = asyncio.get_running_loop()
        self.failure = None
        self._under_way = 0
        self.batches = Distribution(SIZES)
        self.seconds = Distribution(SECONDS)
        self.held = Distribution(HOLDS)
        self.written_at = 0.0

    async def run(self, job: Any, *, durable: bool = True, brief: bool = False) -> Any:
        ticket = _Ticket(job, self._process.create_future(), durable=durable)
        if not self._fresh:
            self._process.call_later(self._machine.world.dice.uniform(0, 0.002), self._write)
        self._fresh.append(ticket)
        return await ticket.future

    async def close(self) -> None:
        pass

    def _write(self) -> None:
        batch, self._fresh = self._fresh, []
        machine = self._machine
        durable = any(ticket.durable for ticket in batch)
        machine.disk.before_commit(durable=durable, power_cut_planned=machine.power_cut_planned)
        crash, machine.crash_in_commit = machine.crash_in_commit, None
        if crash is not None and crash >= 0:
            self._die_at_statement(crash)
        changes = self.connection.total_changes()
        try:
            self._commit_all(batch)
        except _Dies:
            self.connection.exec_trace = None
            self.connection.execute("ROLLBACK")
            machine.world.note("platform", "dies between two statements", crash)
            machine.crash()
            return
        finally:
            self.connection.exec_trace = None
        if durable and self.connection.total_changes() != changes:
            machine.disk.flush()
        if crash is not None:
            machine.world.note("platform", "dies after the commit, before the answer")
            machine.crash()
            return
        self._process.call_later(machine.world.dice.uniform(0, 0.003), self._report, batch)

    def _flush(self, wanted: bool) -> None:
        """A database in memory has nothing to flush; see `Disk`."""

    def _die_at_statement(self, number: int) -> None:
        left = number

        def trace(_: Any, sql: str, __: Any) -> bool:
            nonlocal left
            if not sql.lstrip().startswith(("SELECT", "BEGIN", "--")):
                left -= 1
                if left < 0:
                    raise _Dies
            return True

        self.connection.exec_trace = trace


class SimulatedHealth(SqliteHealth):
    """The health of a simulated disk, which works as long as the process lives."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def hopeless(self) -> str | None:
        return None

    def silence(self) -> float:
        return 0.0


class SimulatedOverview(Overview):
    """There are no threads in the simulation, and no log beside the record."""

    async def empty_log(self) -> bool:
        return True


class SimulatedUpkeep(SqliteUpkeep):
    """The disk of the simulation has no file whose pages could be overwritten."""

    async def _erased(self) -> bool:
        return True


class SimulatedStore(SqliteStore):
    """The store on the simulated disk, with one connection: nothing runs beside a transaction."""

    def __init__(self, machine: Machine, on_commit: Callable[[Notice], None], lease: float) -> None:
        connection = machine.disk.connection
        clock = RecordClock(connection, machine.clocks)
        deaths.spare(connection, clock.read(), lease)
        prefetches = Prefetches(clock.read, lease)
        connections = Connections(
            PLACE, connection, SimulatedWriter(machine, on_commit, prefetches), clock
        )
        connections.overview = SimulatedOverview(PLACE)
        super().__init__(connections, prefetches, SimulatedHealth(connections), None)
        self.upkeep = SimulatedUpkeep(connections, prefetches, self.health.silence)

    async def close(self) -> None:
        pass


class Clocks:
    """The clocks of the platform's machine, a `soorma_platform.clock.Readings`: wall time jumps."""

    boot: str | None = "the only one"

    def __init__(self, world: World) -> None:
        self._world = world
        self.standstill = STANDSTILL_SECONDS
        self.jumped = 0.0
        """how far the wall clock is ahead of where it began"""
        self.read_at: dict[int, tuple[float, float]] = {}
        """by time of the wall clock (ms): the world's time of its first and its last reading"""

    def wall(self) -> float:
        """Seconds since 1970."""
        now, told = self._world.now, START + self._world.now + self.jumped
        at = int(told * 1000 + 0.5)  # as the record rounds it: `round` takes a half to an even one
        first, _ = self.read_at.get(at, (now, now))
        self.read_at[at] = (first, now)
        return told

    def awake(self) -> float:
        """Seconds of a clock that does not jump."""
        return self._world.now

    since_boot = awake


class Machine:
    """The platform's machine: it crashes and comes back, and its clock jumps."""

    def __init__(self, world: World, network: Network, limits: Limits) -> None:
        self.world = world
        self.disk = Disk()
        self.power_cut_planned = False
        self.power_was_cut = False
        self.crash_in_commit: int | None = None
        """die at this statement of the next commit; -1: after it"""
        self.clocks = Clocks(world)
        self.settings = Settings(
            access="open", lease=LEASE, limits=limits, embeddings="none", session_idle=IDLE_SECONDS
        )
        self.supervisor = world.process("supervisor")
        """who starts the platform again, and never dies"""
        self._network = network
        self._process: Process | None = None
        self._boots = 0
        self.connections: list[AgentConnection] = []
        """of agents, with the process of the platform that runs now"""

    @property
    def is_up(self) -> bool:
        """True if the platform can be reached."""
        return self._network.platform is not None

    def boot(self) -> None:
        """Starts a process of the platform."""
        self._boots += 1
        self.connections.clear()
        process = self._process = self.world.process(f"platform {self._boots}")
        self.world.note(process.name, "starts")
        process.start(self._serve(process))

    async def _serve(self, process: Process) -> None:
        platform = self._platform = Platform(self.settings, self.clocks)
        await platform.__aenter__()
        self._network.connected(process, platform.services)

    def stop(self) -> None:
        """Tells the platform to stop: it sees its connections end; agents keep what they have."""
        if self._process is not None and self.is_up:
            self.world.note(self._process.name, "told to stop")
            self._platform.stopping()
            self._network.disconnect_platform()
            self.supervisor.call_later(0.5, self._gone, self._process)

    def _gone(self, process: Process) -> None:
        if process is self._process:
            self.crash()

    def crash(self, *, power_cut: bool = False) -> None:
        """Kills the process, or cuts the power; it starts again after a while."""
        if self._process is None:
            return
        self.world.note(self._process.name, "power cut" if power_cut else "killed")
        self._process.kill()
        self._process = None
        self._network.disconnect_platform()
        self.power_was_cut |= power_cut
        if power_cut or not self.disk.keeps_the_last_commit:
            self.disk.lose_power()
        dice = self.world.dice
        away = dice.uniform(0.05, 0.5) if dice.random() < 0.8 else dice.uniform(0.5, 2 * LEASE)
        self.supervisor.call_later(away, self.boot)

    def serving(self) -> type[AgentConnection]:
        """Returns a subclass of the agents' connections that lets each be inspected."""
        machine = self

        class Watched(AgentConnection):
            async def serve(self) -> None:
                machine.connections.append(self)
                try:
                    await super().serve()
                finally:
                    if self in machine.connections:
                        machine.connections.remove(self)

        return Watched

    def broken_slots(self, *, at_rest: bool = False) -> list[str]:
        """Lists agents whose prefetch and deliveries in hand do not add up to their maximum."""
        found = []
        for one in self.connections:
            if not one._socket.is_open:
                # Its end may interrupt a claim, and returns all that the agent has.
                continue
            prefetch = one._prefetch
            held, most = len(one._in_hand) + len(prefetch.filled), prefetch.most
            if prefetch.group_id and most and prefetch.room + held != most:
                found.append(
                    f"{one._hello.instance} has {held} in hand and room for {prefetch.room} of "
                    f"{most}"
                )
            elif at_rest and held and not one._draining:
                found.append(
                    f"{one._hello.instance} is thought to have in hand what is over: {held}"
                )
        return found

    async def open_store(
        self, _: Path, on_commit: Callable[[Notice], None], *, lease: float, **__: Any
    ) -> SimulatedStore:
        """Replaces the function that opens a store: it opens the record on this disk."""
        with self.disk.connection:
            return SimulatedStore(self, on_commit, lease)
