"""The faults and orderly stops of a simulation, and their times, drawn from the world's dice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from simulator.platform import LEASE

if TYPE_CHECKING:
    from simulator.fleet import Fleet
    from simulator.network import Network
    from simulator.platform import Machine
    from simulator.world import World

WEIGHTS = {
    "kill agent": 6,
    "stop agent": 2,
    "freeze agent": 5,
    "cut connection": 4,
    "stop platform": 2,
    "crash platform": 3,
    "crash between statements": 3,
    "crash after commit": 3,
    "power cut": 2,
    "bad network": 4,
    "clock jumps": 2,
}
GAP = 80
"""Steps between two faults, on average."""
MOST = 8
HOUR, MONTH = 3600.0, 30 * 86_400.0


class Faults:
    """Causes faults between the world's steps, until there have been enough."""

    def __init__(self, world: World, machine: Machine, network: Network, fleet: Fleet) -> None:
        self.caused: Counter[str] = Counter()
        self._world = world
        self._machine = machine
        self._network = network
        self._fleet = fleet
        dice = world.dice
        count = dice.choice((0, *range(1, MOST + 1)))
        self._left = dice.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
        machine.power_cut_planned = "power cut" in self._left
        self._next = world.steps + self._gap()

    @property
    def are_over(self) -> bool:
        """True if no more faults will come."""
        return not self._left

    def before_step(self) -> None:
        """Causes the next one, if it is time."""
        if self._left and self._world.steps >= self._next:
            self._next = self._world.steps + self._gap()
            self._cause(self._left.pop())

    def _gap(self) -> int:
        return 1 + round(self._world.dice.expovariate(1 / GAP))

    def _cause(self, kind: str) -> None:
        dice, machine, fleet = self._world.dice, self._machine, self._fleet
        self._world.note("FAULT", kind)
        self.caused[kind] += 1
        match kind:
            case "kill agent":
                fleet.kill(fleet.drawn())
            case "stop agent":
                fleet.stop(fleet.drawn(), dice.uniform(0, 1))
            case "freeze agent":
                fleet.freeze(fleet.drawn(), dice.uniform(0.01, 3 * LEASE))
            case "cut connection":
                if self._network.links:
                    unnoticed = dice.uniform(0, 2 * LEASE) if dice.random() < 0.4 else 0.0
                    dice.choice(list(self._network.links)).cut(unnoticed=unnoticed)
            case "crash platform":
                machine.crash()
            case "stop platform":
                machine.stop()
            case "power cut":
                machine.crash(power_cut=True)
            case "crash between statements":
                machine.crash_in_commit = dice.randrange(8)
            case "crash after commit":
                machine.crash_in_commit = -1
            case "bad network":
                self._spoil_network(dice.uniform(0.1, 3))
            case "clock jumps":
                machine.clocks.jumped += (
                    dice.choice((-1, 1)) * dice.choice((LEASE, HOUR, MONTH)) * dice.uniform(0, 3)
                )

    def _spoil_network(self, seconds: float) -> None:
        dice, network = self._world.dice, self._network
        network.lost_requests, network.lost_answers = dice.uniform(0, 0.4), dice.uniform(0, 0.4)
        network.repeated = dice.uniform(0, 0.3)
        self._machine.supervisor.call_later(seconds, self.mend_network)

    def mend_network(self) -> None:
        """Stops losing and repeating requests and responses."""
        self._network.lost_requests = self._network.lost_answers = self._network.repeated = 0.0

    def end(self) -> None:
        """Ends all faults."""
        self._left.clear()
        self._machine.crash_in_commit = None
        self.mend_network()
