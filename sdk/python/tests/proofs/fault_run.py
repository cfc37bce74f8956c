"""Carries out a script of faults on a platform, replicas of three agents and two writers.

Each is a process.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Any, Self

from fault_script import AGENTS, WRITERS, Fault, Script
from platform_process import PlatformProcess
from running import PythonProcess, config_of

from soorma import EventClient
from soorma.context import caller_for
from soorma_common.json_text import decode

STALLED_SECONDS = 60.0
PAUSE = 0.02

AGENT = """
role = os.environ["ROLE"]
persistent = RetryPolicy(max_attempts=1000, max_deaths=1000, first_delay=0.05, factor=1)
agent = Worker(role, retry=persistent, max_concurrency=4)

async def pause():
    await asyncio.sleep(float(os.environ["PAUSE"]))

if role == "planner":
    @agent.on_event("goal.asked", topic="action-requests")
    async def plan(event, context):
        say("begins")
        state = WorkflowState(context.memory, event.plan_id)
        await state.set("tasks", event.data["tasks"])
        await pause()
        await state.record_action("planned")
        for task in range(event.data["tasks"]):
            await context.bus.publish("task.asked", "action-requests", {"task": task})
        await pause()

if role == "worker":
    @agent.on_event("task.asked", topic="action-requests", ordered=False)
    async def work(event, context):
        say("begins")
        await pause()
        state, ledger = WorkflowState(context.memory, event.plan_id), \
WorkflowState(context.memory, "ledger")
        await state.increment("done")
        await state.append("results", event.data["task"], blind=True)
        await ledger.increment("total", blind=event.data["task"] % 2 == 0)
        for shared in (state, ledger):  # read, change and write, as agents do
            await shared.set("sum", await shared.get("sum", 0) + 1 + event.data["task"])
        await context.bus.publish("task.done", "action-results", event.data)
        await pause()

if role == "collector":
    @agent.on_event("task.done", topic="action-results")
    async def collect(event, context):
        say("begins")
        state = WorkflowState(context.memory, event.plan_id)
        collected = await state.append("collected", event.data["task"])
        await pause()
        if len(collected) == await state.get("tasks"):
            await state.record_action("completed")
            await context.bus.publish("goal.done", "business-facts", {"tasks": len(collected)})

say("starts")
agent.run()
"""

WRITER = """
async def main():
    end = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    async with MemoryClient() as memory:
        ledger = WorkflowState(memory, "ledger")
        while not end.done():
            number = await ledger.increment(os.environ["ME"])
            await ledger.append("written", [os.environ["ME"], number], blind=True)
            say("acknowledged", number)
            await asyncio.sleep(0.02)

say("starts")
asyncio.run(main())
"""


class FaultRun:
    """A run of a script. Use it with `async with`: all its processes are gone at the end."""

    def __init__(self, platform: PlatformProcess, script: Script) -> None:
        self.config = config_of(platform, retry_seconds=STALLED_SECONDS)
        self.events: list[dict[str, Any]] = []
        self.writers: list[tuple[str, PythonProcess]] = []
        """all writers there ever were, each under a name of its own"""
        self.caused: Counter[str] = Counter()
        self._platform = platform
        self._script = script
        self._agents: list[PythonProcess] = []
        self._processes: dict[str, PythonProcess] = {}
        self._numbers = count()
        self._stack = AsyncExitStack()
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        for name in AGENTS + WRITERS:
            self._start(name)
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._stack.aclose()

    def attempts(self) -> int:
        """The number of attempts that handlers have begun."""
        return sum(line == "begins" for agent in self._agents for line in agent.lines)

    def _start(self, name: str) -> PythonProcess:
        """A new process for an agent's replica, or for a writer."""
        if name in WRITERS:
            me = f"{name} {next(self._numbers)}"
            process = PythonProcess(
                self._platform, WRITER, ME=me, SOORMA_RETRY_SECONDS=str(STALLED_SECONDS)
            )
            self.writers.append((me, process))
        else:
            process = PythonProcess(
                self._platform, AGENT, ROLE=name.partition("-")[0], PAUSE=str(PAUSE)
            )
            self._agents.append(process)
        self._processes[name] = self._stack.enter_context(process)
        return process

    async def carry_out(self) -> None:
        """Returns once each goal is done, each fault was caused, and the writers have ended."""
        async with asyncio.TaskGroup() as tasks:
            follower = tasks.create_task(self._follow())
            tasks.create_task(self._ask())
            for fault in self._script.faults:
                await self._until(fault.after)
                await self._cause(fault, tasks)
            await self._until(self._script.events)
            follower.cancel()
        for name in WRITERS:
            writer = self._processes[name]
            writer.go()
            assert await asyncio.to_thread(writer.wait) == 0, writer.lines[-10:]

    async def _follow(self) -> None:
        caller = caller_for(self.config)
        try:
            async for kind, _, data in caller.follow(
                "events", "/v1/events/stream", None, {"after": 0}
            ):
                if kind == "event":
                    async with self._news:
                        self.events.append(decode(data))
                        self._news.notify_all()
        finally:
            await caller.close()

    async def _ask(self) -> None:
        async with EventClient("asker", config=self.config) as client:
            for goal in self._script.goals:
                while self._done() < goal.after:
                    await self._until(len(self.events) + 1)
                await client.publish(
                    "goal.asked", "action-requests", {"tasks": goal.tasks}, plan_id=goal.name
                )

    def _done(self) -> int:
        return sum(event["type"] == "goal.done" for event in self.events)

    async def _until(self, number: int) -> None:
        """Waits until so many events are in the log.

        Fails if there is no new one for a long time.
        """
        while len(self.events) < number:
            before = len(self.events)
            try:
                async with asyncio.timeout(STALLED_SECONDS), self._news:
                    await self._news.wait_for(lambda before=before: len(self.events) > before)
            except TimeoutError:
                told = {name: process.lines[-5:] for name, process in self._processes.items()}
                raise AssertionError(
                    f"{before} of {number} events, and no more come; last said: {told}"
                ) from None

    async def _cause(self, fault: Fault, tasks: asyncio.TaskGroup) -> None:
        self.caused[fault.kind] += 1
        match fault.kind:
            case "kill agent" | "kill writer":
                self._processes[fault.who].kill()
                self._start(fault.who)
            case "freeze agent":
                frozen = self._processes[fault.who]
                frozen.send(signal.SIGSTOP)
                tasks.create_task(
                    self._wake(frozen, min(fault.after + fault.lasts, self._script.events))
                )
            case "kill platform":
                await asyncio.to_thread(self._platform.restart)
            case "freeze platform":
                await self._freeze_platform(fault.who)
            case "kill all":
                self._platform.kill()
                for name in AGENTS:
                    self._processes[name].kill()
                await asyncio.to_thread(self._platform.start)
                for name in AGENTS:
                    self._start(name)

    async def _wake(self, frozen: PythonProcess, number: int) -> None:
        await self._until(number)
        frozen.send(signal.SIGCONT)

    async def _freeze_platform(self, agent: str) -> None:
        """It sleeps while an agent dies and another one starts."""
        os.kill(self._platform.pid, signal.SIGSTOP)
        try:
            self._processes[agent].kill()
            await self._start(agent).until("starts", seconds=STALLED_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.kill(self._platform.pid, signal.SIGCONT)
