"""The same workflow on Soorma, DBOS and LangGraph, all on SQLite in WAL mode with synchronous=FULL.

Soorma runs as its users run it: a platform, three agents and a client, each in a process of its
own. The other two are libraries and run in the client's process, in an environment of their own
(.venv-others, made by tools/run).
"""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import uuid4

import uvloop
from measuring import FULL_COMMIT, Figure, Table, ms, ratio_of, rounds, say, times
from over_sdk import in_flight, timed_calls
from platform_process import PlatformProcess  # of the tests: stage.py has put them in the path
from stage import ROOT, Stage, clean_environment

from soorma import ClientConfig, Event, EventClient

ENVIRONMENT = ROOT / ".venv-others"
SCRIPTS = Path(__file__).with_name("others")
AGENTS = ("1", "2", "3")
IN_FLIGHT = 50
WATCHED = 40
TAKEN_UP = {"Soorma": 11, "DBOS": 3, "LangGraph": 11}
"""The number of takeovers measured: few for DBOS, which replays for seconds."""
PATIENCE = 180.0
SYSTEMS = ("Soorma", "DBOS", "LangGraph")


class Program:
    """One of the scripts in others/, in a process of its own, which carries out commands."""

    def __init__(
        self, python: str | Path, script: str, *arguments: str, env: dict[str, str]
    ) -> None:
        self._script = script
        command = [str(python), str(SCRIPTS / script), *arguments]
        self._process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    async def told(self) -> dict[str, Any]:
        """The next line that it prints."""
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        async with asyncio.timeout(PATIENCE):
            line = await asyncio.to_thread(self._process.stdout.readline)
        if not line:
            raise RuntimeError(f"{self._script} has ended")
        told: dict[str, Any] = json.loads(line)
        return told

    async def ask(self, what: str, **more: int | str) -> dict[str, Any]:
        """Sends a command and returns the response."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(json.dumps({"do": what, **more}).encode() + b"\n")
        self._process.stdin.flush()
        return await self.told()

    def halt(self) -> None:
        """Stops it where it is."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets it go on from there."""
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class Found:
    """The measurements of one system."""

    version: str
    commits: dict[str, int | None] = field(default_factory=dict)
    p50: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    next_step: list[float] = field(default_factory=list)
    first_steps: float = 0.0
    taken_up: list[float] = field(default_factory=list)


class System(Protocol):
    """One of the three while it runs."""

    async def latencies(self, count: int) -> list[float]:
        """The seconds of workflows, one at a time."""

    async def seconds(self, count: int, width: int) -> float:
        """The seconds of `count` workflows with `width` of them in flight."""


class Elsewhere:
    """DBOS or LangGraph: its script is its client as well."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def latencies(self, count: int) -> list[float]:
        found: list[float] = (await self._program.ask("one", count=count))["latencies"]
        return found

    async def seconds(self, count: int, width: int) -> float:
        return float((await self._program.ask("many", count=count, width=width))["seconds"])


class Here:
    """Soorma: its client is this process."""

    def __init__(self, client: EventClient) -> None:
        self._client = client
        self._waiting: dict[str, asyncio.Future[int]] = {}
        client.on_event("workflow.ended", topic="action-results")(self._ended)

    def _ended(self, event: Event) -> None:
        waiting = self._waiting.pop(str(event.plan_id), None)
        if waiting is not None:
            waiting.set_result(event.data["step"])

    async def run(self, _: int) -> None:
        """One workflow, from its first event until its end is received."""
        name = uuid4().hex
        # it may come before the answer
        ended = self._waiting[name] = asyncio.get_running_loop().create_future()
        await self._client.publish("step.1", "action-requests", {"plan_id": name})
        async with asyncio.timeout(PATIENCE):
            if await ended != len(AGENTS):
                raise RuntimeError("a workflow has ended too early")

    async def latencies(self, count: int) -> list[float]:
        return await timed_calls(count, self.run)

    async def seconds(self, count: int, width: int) -> float:
        return await in_flight(count, width, self.run)


def is_there() -> bool:
    """True if tools/run has completely made the environment of the other two."""
    stamp = ENVIRONMENT / "soorma-stamp"
    return stamp.exists() and "unfinished" not in stamp.read_text("utf-8")


def workflows(stage: Stage) -> None:
    """One at a time, many in flight, and one workflow with many steps in its past."""
    if not is_there():
        say("others: .venv-others is not there, sh tools/run bench makes it: not measured")
        stage.report.notes.append(
            "**The same workflow elsewhere was not measured:** the environment of DBOS and "
            "LangGraph (.venv-others) "
            "was not there, or not whole. `sh tools/run bench` makes it."
        )
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_workflows(stage))
    _report(stage, found)


def alone(stage: Stage) -> None:
    """The same on Soorma alone, for a comparison of two checkouts of it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_alone(stage))
    stage.report.numbers |= {
        "3-step workflow, p50, s": median(found.p50),
        f"3-step workflow, {IN_FLIGHT} in flight, /s": median(found.rate),
        f"one more step of a workflow of {stage.sizes.earlier_steps:,} steps, p50, s": median(
            found.next_step
        ),
        "a workflow taken up by a new process, s": median(found.taken_up),
    }


async def _alone(stage: Stage) -> Found:
    found = {SYSTEMS[0]: Found("")}
    async with _here(stage, "flight", found[SYSTEMS[0]]) as here:
        await _in_turns(stage, {SYSTEMS[0]: here}, found)
    await _long(stage, found)
    return found[SYSTEMS[0]]


async def _workflows(stage: Stage) -> dict[str, Found]:
    found: dict[str, Found] = {}
    async with AsyncExitStack() as held:
        running: dict[str, System] = {}
        for name in SYSTEMS[1:]:
            program = held.enter_context(_elsewhere(stage, name, "flight"))
            found[name] = Found(await _version(program, name))
            found[name].commits = (await program.ask("watch", count=WATCHED, width=10))["commits"]
            running[name] = Elsewhere(program)
        found["Soorma"] = Found("")
        found["Soorma"].commits = await _watched(stage)
        running["Soorma"] = await held.enter_async_context(_here(stage, "flight", found["Soorma"]))
        await _in_turns(stage, running, found)
    await _long(stage, found)
    return {name: found[name] for name in SYSTEMS}


async def _in_turns(stage: Stage, running: dict[str, System], found: dict[str, Found]) -> None:
    """Workflows one at a time and in flight; each system by turns, the others idle."""
    sizes = stage.sizes
    say(f"others: a workflow of 3 steps on {', '.join(running)}")
    for system in running.values():  # until its write-ahead log has its size
        await system.seconds(sizes.goals_in_flight, IN_FLIGHT)
    for _ in rounds(sizes.ladder_rounds, 25):
        for name, system in running.items():
            found[name].p50.append(median(await system.latencies(sizes.goals)))
            found[name].rate.append(
                sizes.goals_in_flight / await system.seconds(sizes.goals_in_flight, IN_FLIGHT)
            )


async def _long(stage: Stage, found: dict[str, Found]) -> None:
    """A workflow of many steps: the cost of the next, and of taking it over in a new process."""
    sizes = stage.sizes
    with ExitStack() as held:
        starts = {name: _starter(stage, name, held) for name in SYSTEMS if name in found}
        done = dict.fromkeys(starts, 0)
        with ExitStack() as running:
            programs = {name: running.enter_context(start()) for name, start in starts.items()}
            # Soorma last: what its agent has in hand has a lease
            for name, program in reversed(programs.items()):
                say(f"others: {name}, {sizes.earlier_steps:,} steps of one workflow")
                await program.told()
                told = await program.ask("long", earlier=sizes.earlier_steps, more=sizes.sdk_calls)
                found[name].first_steps = told["first"]
                program.halt()
            for _ in rounds(sizes.long_rounds, 30):  # each by turns, the others halted
                for name, program in programs.items():
                    program.go_on()
                    told = await program.told()
                    program.halt()
                    found[name].next_step.append(told["p50"])
                    done[name] = told["done"]
        for turn in range(max(TAKEN_UP.values())):
            for name, start in starts.items():
                if turn >= TAKEN_UP[name]:
                    continue
                with start("--again") as program:
                    await program.told()
                    told = await program.ask("resume")
                if told["done"] <= done[name]:
                    raise RuntimeError(
                        f"{name} has taken up its workflow at step {told['done']}, after "
                        f"{done[name]}"
                    )
                done[name] = told["done"]
                found[name].taken_up.append(told["seconds"])


def _starter(stage: Stage, name: str, held: ExitStack) -> Callable[..., Program]:
    """Returns a function that starts the long workflow's process, for the first time or again."""
    if name != "Soorma":
        return lambda *more: _elsewhere(stage, name, "long", *more)
    env = _settings(_config(held.enter_context(_platform(stage, "long"))))
    return lambda *more: Program(sys.executable, "soorma_workflow.py", "long", *more, env=env)


def elsewhere(script: str, *arguments: str) -> Program:
    """A script in the environment of the others, without any settings of theirs."""
    private = ("DBOS", "LANGSMITH", "LANGCHAIN", "LANGGRAPH", "MEM0", "OPENAI", "OTEL", "PYTHON",
               "SSL_CERT_FILE")  # fmt: skip
    env = {key: value for key, value in clean_environment().items() if not key.startswith(private)}
    env |= {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}
    return Program(ENVIRONMENT / "bin" / "python", script, *arguments, env=env)


def _elsewhere(stage: Stage, name: str, folder: str, *more: str) -> Program:
    """A process of DBOS or LangGraph, with its database in a folder."""
    place = stage.folder / f"{name.lower()}-{folder}"
    place.mkdir(exist_ok=True)
    return elsewhere(f"{name.lower()}_workflow.py", str(place), *more)


async def _version(program: Program, name: str) -> str:
    told = await program.told()
    return f"{name} {told['version']}, SQLite {told['sqlite']}"


@asynccontextmanager
async def _here(stage: Stage, folder: str, found: Found, **more: str) -> AsyncIterator[Here]:
    """A platform, the three agents and a client."""
    with ExitStack() as held:
        platform = held.enter_context(_platform(stage, folder, **more))
        config = _config(platform)
        agents = [
            held.enter_context(
                Program(sys.executable, "soorma_workflow.py", role, env=_settings(config))
            )
            for role in AGENTS
        ]
        for agent in agents:
            found.version = await _version(agent, "Soorma")
        async with EventClient("bench-client", config=config) as client:
            here = Here(client)
            await client.connect(["action-results"])
            yield here


async def _watched(stage: Stage) -> dict[str, int | None]:
    """Counts the commits of a platform by durability, as its connection reports it."""
    notes = stage.folder / "commits"
    notes.touch()
    watching = {"PYTHONPATH": str(SCRIPTS / "watching"), "BENCH_COMMITS": str(notes)}
    async with _here(stage, "watched", Found(""), **watching) as here:
        await here.seconds(WATCHED, 10)
    return dict(Counter(notes.read_text("utf-8").split()))


def _platform(stage: Stage, name: str, **more: str) -> PlatformProcess:
    folder = stage.folder / f"soorma-{name}"
    folder.mkdir()
    return PlatformProcess(folder, {"SOORMA_LOG_LEVEL": "warning", **more})


def _config(platform: PlatformProcess) -> ClientConfig:
    return ClientConfig(
        platform.memory_url,
        platform.events_url,
        "bench",
        "bench",
        registry_url=platform.registry_url,
    )


def _settings(config: ClientConfig) -> dict[str, str]:
    return clean_environment(
        SOORMA_MEMORY_URL=config.memory_url,
        SOORMA_EVENT_SERVICE_URL=config.events_url,
        SOORMA_REGISTRY_URL=config.registry_url,
        SOORMA_LOG_LEVEL="warning",
    )


def _report(stage: Stage, found: dict[str, Found]) -> None:
    earlier = f"{stage.sizes.earlier_steps:,}"
    alone = {name: median(one.p50) for name, one in found.items()}
    rates = {name: median(one.rate) for name, one in found.items()}
    later = {name: median(one.next_step) for name, one in found.items()}
    again = {name: median(one.taken_up) for name, one in found.items()}
    here, *others = SYSTEMS
    nearest = {
        name: ratio_of(zip(found[here].rate, found[name].rate, strict=True)) for name in others
    }
    behind = {
        name: ratio_of(zip(found[here].next_step, found[name].next_step, strict=True))
        for name in others
    }
    slower = {
        name: ratio_of(zip(found[here].taken_up, found[name].taken_up, strict=False))
        for name in others
    }

    def figure(
        what: str,
        values: dict[str, float],
        shown: Callable[[float], str],
        ratio: float,
        target: str,
    ) -> Figure:
        ahead = None if not target else ratio > 1 if target.startswith(">") else ratio < 1
        floor = ", ".join(f"{name} {shown(values[name])}" for name in others)
        return Figure(
            what, shown(values[here]), floor, times(ratio), target or "–", ahead, FULL_COMMIT
        )

    def against(values: dict[str, float]) -> float:
        return values[here] / min(values[name] for name in others)

    stage.report.figures += [
        figure("3-step workflow, one at a time, p50", alone, ms, against(alone), ""),
        figure(f"3-step workflow, {IN_FLIGHT} in flight", rates, lambda rate: f"{rate:,.0f}/s",
               min(nearest.values()), "> 1 ×, both"),
        figure(f"one more step of a workflow of {earlier} steps, "
               "p50", later, ms, max(behind.values()),
               "< 1 ×, both"),
        figure(f"a workflow of {earlier} steps, taken up by a new process: from its imports to the "
               "next step's end",
               again, ms, max(slower.values()), "< 1 ×, both"),
    ]  # fmt: skip
    stage.report.tables.append(
        Table(
            "The same workflow elsewhere",
            "Three steps, each of which reads what the one before has left, adds 100 bytes of JSON "
            "and hands over; the "
            "client learns of the end. All on SQLite in WAL mode with synchronous=FULL. Soorma "
            "with its platform, an "
            "agent for each step and the client in processes of their own. DBOS and LangGraph are "
            "libraries and run in "
            "the client's process, which spares them the way between processes and leaves them one "
            "interpreter. "
            'DBOS with plain steps, LangGraph with its async saver, `durability="sync"` and '
            'uvloop: the fastest way of '
            "each that is durable at each step. The next two columns: one workflow that has done "
            f"{earlier} steps, "
            "with a counter and the last result as its state, in one value with each; on Soorma "
            "one plan and one "
            "agent, which hands over to itself. The three go on by turns, some hundred steps each, "
            "while the other two "
            "are halted; the figure is the median of the turns' ratios. Then the process is killed "
            "with -9 and another "
            "takes the workflow up. That is timed from when its imports are done until the next "
            "step is: Soorma's "
            "agent connects and subscribes in that time (the platform runs on), LangGraph opens "
            "its database and loads "
            "the last checkpoint, DBOS waits for its queue's turn and replays. "
            "Were the platform killed together with the agent, an event in hand would wait for its "
            "lease, 30 s.",
            ("system", "one, p50", f"{IN_FLIGHT} in flight", "next step, p50 (of its first steps)",
             "taken up", "commits, as their connection says", "processes"),
            [_row(one, name) for name, one in found.items()],
        )
    )  # fmt: skip


def _row(found: Found, name: str) -> tuple[str, ...]:
    return (
        found.version, ms(median(found.p50)), f"{median(found.rate):,.0f}/s",
        f"{ms(median(found.next_step))} ({ms(found.first_steps)})",
        ms(median(found.taken_up)), _commits(found.commits),
        "platform, 3 agents, client" if name == "Soorma" else "1",
    )  # fmt: skip


def _commits(commits: dict[str, int | None]) -> str:
    """`wal/2`: journal_mode and synchronous."""
    full, soft = commits.pop("wal/2", 0), commits.pop("wal/1", 0)
    if commits:
        raise RuntimeError(f"not in WAL mode with FULL: {commits}")
    if full is None:
        return "WAL, FULL: its one connection"
    if soft:
        return f"WAL, FULL: {full}; {soft} NORMAL, that only claim an event for an agent"
    return f"WAL, FULL: {full} of {full}"
