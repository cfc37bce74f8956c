"""The agents of a simulation: replicas, each a process that may die and be replaced, or freeze."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeAlias

from simulator.network import Network, SimulatedTransport
from simulator.stage import PERSISTENT
from simulator.world import Process, World
from soorma import Agent, ClientConfig
from soorma.runtime.session import Session
from soorma.transport.calls import Caller

PATIENCE = 120.0
REPLICAS = 2
Place: TypeAlias = tuple[str, int]
"""group and number of a replica"""


class Fleet:
    """Keeps replicas of each group running."""

    def __init__(
        self, world: World, network: Network, groups: dict[str, Callable[[Agent], None]]
    ) -> None:
        self.places: list[Place] = [
            (group, number) for group in groups for number in range(REPLICAS)
        ]
        self._world = world
        self._network = network
        self._groups = groups
        self._numbers = count(1)
        self._supervisor = world.process("agents' supervisor")
        self._processes: dict[Place, Process] = {}
        self._agents: dict[Process, Agent] = {}
        for place in self.places:
            self._start(place)

    def _start(self, place: Place) -> None:
        group, _ = place
        process = self._world.process(f"{group} {next(self._numbers)}")
        self._processes[place] = process
        process.start(self._live(process, group))

    async def _live(self, process: Process, group: str) -> None:
        caller = Caller(SimulatedTransport(self._network, process), PATIENCE)
        agent = Agent(
            group, config=ClientConfig(retry_seconds=PATIENCE), retry=PERSISTENT, caller=caller
        )
        agent.instance = process.name
        self._agents[process] = agent
        begun: list[Session] = []
        self._world.on_end.append(lambda: _let_go(begun))
        self._groups[group](agent)
        begun.append(await agent._begin())

    def drawn(self) -> Place:
        """A replica to be hit, for the most part one that is at work."""
        dice = self._world.dice
        busy = [place for place in self.places if _is_at_work(self._processes[place])]
        return dice.choice(busy if busy and dice.random() < 0.8 else self.places)

    def kill(self, place: Place) -> None:
        """Kills a replica; the platform notices some time later, and another one starts."""
        process = self._processes[place]
        if process.is_dead:
            return
        self._world.note(process.name, "killed")
        process.kill()
        for link in [link for link in self._network.links if link.client.process is process]:
            link.cut()
        self._supervisor.call_later(self._world.dice.uniform(0.01, 1), self._start, place)

    def stop(self, place: Place, drain_timeout: float) -> None:
        """Stops an agent: it drains for at most `drain_timeout` seconds, and another one starts."""
        process = self._processes[place]
        agent = self._agents.get(process)
        if agent is None or agent._session is None or process.is_dead:
            return
        self._world.note(process.name, "told to stop")
        process.start(self._stop(agent, place, drain_timeout))

    async def _stop(self, agent: Agent, place: Place, drain_timeout: float) -> None:
        await agent.stop(drain_timeout=drain_timeout)
        self.kill(place)

    def freeze(self, place: Place, seconds: float) -> None:
        """Freezes a replica for some seconds, with its connection open."""
        process = self._processes[place]
        self._world.note(process.name, "frozen", seconds)
        process.is_frozen = True
        self._supervisor.call_later(seconds, self._thaw, process)

    def _thaw(self, process: Process) -> None:
        self._world.note(process.name, "wakes up")
        process.thaw()


def _let_go(begun: list[Session]) -> None:
    """Lets attempts end when they are cancelled, as they do when their agent ends them."""
    for session in begun:
        session.attempts._ended.update(session.attempts._tasks)


def _is_at_work(process: Process) -> bool:
    return any(task.get_name().startswith("soorma-handler") for task in process.tasks)
