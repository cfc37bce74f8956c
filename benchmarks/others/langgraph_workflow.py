"""The workflow on LangGraph with its SQLite checkpointer, in the client's process.

The database is in the folder named. The async saver is faster here than the plain one with threads.
With `durability="sync"` the checkpoint of a step is written before the next begins. The functional
API writes the results of tasks while others run, so it is not measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop
from common import Clock, State, check, next_state, start, tell
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

ENDLESS = 1_000_000_000
clock = Clock()


async def step(state: State) -> State:
    """One step."""
    return next_state(state)


async def timed_step(state: State) -> State:
    """One step of the long workflow."""
    clock.begins(state["step"])
    return next_state(state)


def workflow() -> StateGraph:
    """Three steps."""
    graph = StateGraph(State)
    for name in ("one", "two", "three"):
        graph.add_node(name, step)
    for before, after in ((START, "one"), ("one", "two"), ("two", "three"), ("three", END)):
        graph.add_edge(before, after)
    return graph


def long_workflow() -> StateGraph:
    """Steps until it is killed."""
    graph = StateGraph(State)
    graph.add_node("step", timed_step)
    graph.add_edge(START, "step")
    graph.add_edge("step", "step")
    return graph


class Program:
    """The commands of this process."""

    def __init__(self, saver: AsyncSqliteSaver) -> None:
        self._saver = saver
        self._workflow = workflow().compile(checkpointer=saver)
        self._long = long_workflow().compile(checkpointer=saver)
        self._threads = 0
        self._running: asyncio.Task[Any] | None = None

    async def run_one(self) -> float:
        """The seconds of one workflow, each in a thread of its own."""
        self._threads += 1
        thread = {"configurable": {"thread_id": f"workflow-{self._threads}"}}
        began = time.perf_counter()
        check(await self._workflow.ainvoke(start(), thread, durability="sync"))
        return time.perf_counter() - began

    async def run_many(self, count: int, width: int) -> float:
        """The seconds of many workflows, `width` in flight."""
        numbers = iter(range(count))

        async def work() -> None:
            for _ in numbers:
                await self.run_one()

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(width)))
        return time.perf_counter() - began

    def run_long(self, state: State | None) -> None:
        """Begins the long workflow, or takes it up from its last checkpoint."""
        thread = {"configurable": {"thread_id": "long"}, "recursion_limit": ENDLESS}
        self._running = asyncio.create_task(self._long.ainvoke(state, thread, durability="sync"))

    async def do(self, command: dict[str, Any]) -> None:
        """Carries out a command."""
        match command["do"]:
            case "watch":  # its only connection
                await self.run_many(command["count"], command["width"])
                tell(
                    commits={
                        "/".join(
                            [await self.asked("journal_mode"), await self.asked("synchronous")]
                        ): None
                    }
                )
            case "one":
                tell(latencies=[await self.run_one() for _ in range(command["count"])])
            case "many":
                tell(seconds=await self.run_many(command["count"], command["width"]))
            case "long":
                clock.measure(command["earlier"], command["more"])
                self.run_long(start())

    async def asked(self, name: str) -> str:
        """A pragma of its connection."""
        async with self._saver.conn.execute(f"PRAGMA {name}") as cursor:
            return str((await cursor.fetchone())[0])


async def main() -> None:
    """Serves until its input ends."""
    versions = (
        f"{version('langgraph')} with checkpoint-sqlite {version('langgraph-checkpoint-sqlite')}"
    )
    tell(version=versions, sqlite=sqlite3.sqlite_version)
    again = "--again" in sys.argv
    if again:
        sys.stdin.readline()  # the word to take up what is there
        clock.resume()
    async with AsyncSqliteSaver.from_conn_string(
        str(Path(sys.argv[1]) / "langgraph.sqlite")
    ) as saver:
        await saver.setup()
        await saver.conn.execute("PRAGMA synchronous=FULL")
        program = Program(saver)
        if again:
            program.run_long(None)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await program.do(json.loads(line))
        os._exit(0)  # whatever its threads do


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as Soorma's agents have it
        runner.run(main())
