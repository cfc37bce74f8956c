"""The script of a fault run: the goals requested, and who is killed or frozen when.

All of it follows from dice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

ROLES = ("planner", "worker", "collector")
REPLICAS = 2
AGENTS = tuple(f"{role}-{number}" for role in ROLES for number in range(REPLICAS))
WRITERS = ("writer-0", "writer-1")

Kind: TypeAlias = Literal[
    "kill agent", "freeze agent", "kill writer", "kill platform", "freeze platform", "kill all"
]
WEIGHTS: dict[Kind, int] = {
    "kill agent": 8,
    "freeze agent": 4,
    "kill writer": 2,
    "kill platform": 4,
    "freeze platform": 2,
    "kill all": 1,
}


@dataclass(frozen=True)
class Goal:
    """A goal of so many tasks, requested once so many goals are done."""

    name: str
    tasks: int
    after: int

    @property
    def events(self) -> int:
        """The number of its events: its request and completion, and each task's request and end."""
        return 2 + 2 * self.tasks


@dataclass(frozen=True)
class Fault:
    """A fault that happens once `after` events are in the log.

    A frozen process wakes up `lasts` events later.
    """

    after: int
    kind: Kind
    who: str = ""
    lasts: int = 0

    def __str__(self) -> str:
        return f"{self.after}: {self.kind} {self.who}".rstrip() + (
            f" for {self.lasts}" if self.lasts else ""
        )


@dataclass(frozen=True)
class Script:
    """A run."""

    goals: tuple[Goal, ...]
    faults: tuple[Fault, ...]

    @property
    def events(self) -> int:
        """The number of events in the log at the end."""
        return sum(goal.events for goal in self.goals)


def drawn(dice: Random, goals: int, faults: int) -> Script:
    """A script of that many goals, up to five of them at once, and that many faults."""
    asked = tuple(
        Goal(f"goal {n}", dice.randint(1, 6), max(0, n - dice.randint(1, 5))) for n in range(goals)
    )
    events = sum(goal.events for goal in asked)
    moments = sorted(dice.sample(range(2, events - 2), faults))
    return Script(asked, tuple(_with_somebody_awake([_fault(dice, moment) for moment in moments])))


def _with_somebody_awake(faults: list[Fault]) -> Iterator[Fault]:
    """Kills instead of freezing where a role's last replica awake would freeze: all would stop."""
    asleep: dict[str, int] = {}
    for fault in faults:
        role = fault.who.partition("-")[0]
        if fault.kind != "freeze agent":
            yield fault
        elif any(until > fault.after for who, until in asleep.items() if who.startswith(role)):
            yield Fault(fault.after, "kill agent", fault.who)
        else:
            asleep[fault.who] = fault.after + fault.lasts
            yield fault


def _fault(dice: Random, moment: int) -> Fault:
    kind = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    match kind:
        case "kill agent" | "freeze platform":
            return Fault(moment, kind, dice.choice(AGENTS))
        case "freeze agent":
            return Fault(moment, kind, dice.choice(AGENTS), dice.randint(2, 20))
        case "kill writer":
            return Fault(moment, kind, dice.choice(WRITERS))
    return Fault(moment, kind)
