"""Workloads: their base class, their stage, and the record in which their end is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import apsw
import msgspec

from soorma import Agent, PlatformContext, RetryPolicy, WorkflowState
from soorma.context import HandlerContext
from soorma_common.events import Event
from soorma_common.times import milliseconds

if TYPE_CHECKING:
    from simulator.platform import Machine
    from simulator.world import World

PERSISTENT = RetryPolicy(
    max_attempts=1000, first_delay=0.05, factor=1.2, longest_delay=1, max_deaths=1000
)
REQUESTS, RESULTS, FACTS = "action-requests", "action-results", "business-facts"
Drive: TypeAlias = Callable[[PlatformContext], Coroutine[Any, Any, None]]


@dataclass
class Stage:
    """The stage of a workload: the world's dice and the outside, which no crash takes back."""

    world: World
    machine: Machine
    prefix: str
    size: int

    @property
    def dice(self) -> Random:
        """The world's."""
        return self.world.dice

    async def pause(self) -> None:
        """Lets something else happen."""
        draw = self.dice.random()
        if draw < 0.5:
            await asyncio.sleep(self.dice.uniform(0, 0.02))
        elif draw < 0.6:
            await asyncio.sleep(self.dice.uniform(0.02, 0.6))

    def plan(self, number: int) -> str:
        """The name of a plan."""
        return f"{self.prefix}-{number}"


class Record:
    """The record, read with SQL."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        return self._connection.execute(sql, values).fetchall()

    def state(self, plan_id: str) -> dict[str, Any]:
        """Keys and values of a plan."""
        rows = self.rows(
            "SELECT e.key, e.value FROM plans p JOIN held e ON e.plan = p.id AND e.incarnation = "
            "p.incarnation"
            " WHERE p.plan_id = ?",
            plan_id,
        )
        return {key: msgspec.json.decode(value) for key, value in rows}

    def status(self, plan_id: str) -> str:
        """The status of a plan, "none" without one."""
        return next(
            (row[0] for row in self.rows("SELECT status FROM plans WHERE plan_id = ?", plan_id)),
            "none",
        )

    def actions(self, plan_id: str) -> list[str]:
        """A plan's actions."""
        rows = self.rows(
            "SELECT h.argument FROM plans p JOIN history h ON h.plan = p.id AND h.incarnation = "
            "p.incarnation"
            " WHERE p.plan_id = ? AND h.action IS NOT NULL ORDER BY h.action",
            plan_id,
        )
        return [msgspec.json.decode(row[0]) for row in rows]

    def events(self, kind: str, plan_id: str | None = None) -> list[tuple[str, int, Any]]:
        """Events of a type, of one plan or all, in order: (id, wall-clock time in ms, data)."""
        rows = self.rows(
            "SELECT event_id, envelope ->> '$.time', envelope -> '$.data' FROM events"
            " WHERE type = ?1 AND (?2 IS NULL OR plan_id = ?2) ORDER BY position",
            kind,
            plan_id,
        )
        return [
            (event_id, milliseconds(time), None if data is None else msgspec.json.decode(data))
            for event_id, time, data in rows
        ]


class Workload:
    """A workload: agents, a user's actions with them, and the expected outcome."""

    name: ClassVar[str]
    groups: ClassVar[tuple[str, ...]]

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.wrong: list[str] = []

    def register(self, group: str, agent: Agent) -> None:
        """Registers the handlers of an agent of a group."""
        raise NotImplementedError

    async def drive(self, context: PlatformContext) -> None:
        """Does what the user does, who does not die and waits for each response."""
        raise NotImplementedError

    def judge(self, record: Record) -> None:
        """Notes what is wrong at the end."""
        raise NotImplementedError

    def same(self, what: str, found: Any, wanted: Any) -> None:
        """Notes a difference."""
        if found != wanted:
            self.wrong.append(f"{self.name}: {what}: {found!r}, but it should be {wanted!r}")


def on(context: HandlerContext, event: Event) -> WorkflowState:
    """The state of the event's plan."""
    return WorkflowState(context.memory, str(event.plan_id))
