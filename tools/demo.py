"""The workflow of example 05, from an empty folder to its result, on a platform of its own.

    python tools/demo.py            platform, planner, worker, coordinator, one goal, its result
    python tools/demo.py --crash    the same while the worker and the platform are killed with -9

Needs what `make venv` installs. Exits with 0 if the record holds exactly the actions that it
should.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import aiohttp
from rich.console import Console
from rich.text import Text

from soorma.config import ClientConfig
from soorma.memory.client import MemoryClient
from soorma.workflow import WorkflowState
from soorma_platform.settings import PORTS

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "05-memory-working"
AGENTS = ("planner", "worker", "coordinator")
GOAL = "Write a blog post about Docker"
TASKS = ("research", "draft", "review")
TASK_SECONDS = 1
ACTIONS = [
    "planning.started",
    "workflow.started",
    *(f"{task}.completed" for task in TASKS),
    "workflow.completed",
]

PATIENCE_SECONDS = 60
STOP_SECONDS = 10
# above the ports of services, below those of outgoing connections
OFFSETS = range(2_000, 20_000, 10)
MOST_LOST_RACES = 5

COLORS = {
    "platform": "magenta",
    "planner": "cyan",
    "worker": "yellow",
    "coordinator": "blue",
    "client": "green",
}

T = TypeVar("T")


class DemoFailed(Exception):
    """The error of a demo that did not show what it should."""


class PortTaken(DemoFailed):
    """The error when somebody else took a port between our check and the start of the platform."""


class Attempt(NamedTuple):
    """An attempt of the worker's handler, as the worker reports it."""

    task: str
    number: int
    plan_id: str

    @classmethod
    def told_in(cls, line: str) -> Attempt | None:
        found = re.fullmatch(r"\[worker\] (\w+), attempt (\d+) of plan (\S+)", line)
        return cls(found[1], int(found[2]), found[3]) if found else None

    def __str__(self) -> str:
        return f"{self.task}, attempt {self.number}"


# --- What is seen --------------------------------------------------------------------------


class Screen:
    """A timeline: seconds since the start, who, what."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._begin

    def tell(self, who: str, what: str, style: str = "") -> None:
        """One line of the timeline."""
        line = Text(f"{self.seconds:6.2f} s  ", style="dim")
        line.append(f"{who:<13}", style=f"not dim {COLORS.get(who, '')}")
        line.append(what, style=f"not dim {style}")
        self._console.print(line, soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        """A line of text."""
        self._console.print(Text(text, style=style), soft_wrap=True)


# --- Processes -----------------------------------------------------------------------------


class Keeper:
    """A guard that ends all that the demo started, even if the demo is killed with -9.

    A shell that leads the process group of all that the demo starts waits for the end of the pipe
    that the demo holds, and then removes group and folder.
    """

    SCRIPT = 'while read -r _; do :; done; rm -rf -- "$1"; kill -9 0'

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="soorma-demo-"))
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", self.SCRIPT, "keeper", self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        self.group = self._shell.pid
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shell.communicate()
        # what was being written while the shell removed it
        shutil.rmtree(self.folder, ignore_errors=True)


class Program:
    """A process of the demo.

    Each line that it writes goes to `on_line` and, for a while, into `tail`.
    """

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        tail: deque[str],
        on_line: Callable[[str], None],
    ) -> None:
        self.name = name
        self.process = process
        self.tail = tail
        self.may_end = False
        self._on_line = on_line
        self.ended = asyncio.create_task(self._follow(), name=f"demo-{name}")

    async def _follow(self) -> int:
        assert self.process.stdout is not None  # noqa: S101 - it was started with a pipe
        async for line in self.process.stdout:
            text = line.decode(errors="replace").rstrip()
            self.tail.append(text)
            self._on_line(text)
        return await self.process.wait()

    async def end(self, number: signal.Signals) -> None:
        """Sends the signal and waits until the process is gone."""
        self.may_end = True
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.shield(self.ended)
        except TimeoutError:
            raise DemoFailed(
                f"the {self.name} did not end within {STOP_SECONDS} s of {number.name}"
            ) from None


class PortClaim:
    """Ports for a platform which are free, and which no other demo will take.

    The claim is held by UDP sockets of the same numbers, which a platform does not need: the system
    releases it whatever becomes of us.
    """

    def __init__(self) -> None:
        self._held = ExitStack()
        self.offset = next(self._free_offsets())

    def close(self) -> None:
        self._held.close()

    def _free_offsets(self) -> Iterator[int]:
        for offset in random.sample(OFFSETS, len(OFFSETS)):
            with suppress(OSError), ExitStack() as held:
                for port in PORTS.values():
                    held.enter_context(_bound(socket.SOCK_DGRAM, port + offset))
                    _bound(socket.SOCK_STREAM, port + offset).close()
                self._held = held.pop_all()
                yield offset
        raise DemoFailed("no free ports were found for the platform")


def _bound(kind: socket.SocketKind, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, kind)
    try:
        if kind == socket.SOCK_STREAM:  # as the platform does: connections that linger do no harm
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        if kind == socket.SOCK_STREAM:
            bound.listen()
    except OSError:
        bound.close()
        raise
    return bound


# --- The stage -----------------------------------------------------------------------------


class Stage:
    """The platform and the agents, each a process; `attempts` are the worker's as they begin."""

    def __init__(self, keeper: Keeper, screen: Screen) -> None:
        self.screen = screen
        self.attempts: asyncio.Queue[Attempt] = asyncio.Queue()
        self._keeper = keeper
        self._claim = PortClaim()
        self._database = keeper.folder / f"{self._claim.offset}.db"
        self._programs: dict[str, Program] = {}
        self._tails: dict[str, deque[str]] = {}
        self._is_up = asyncio.Event()
        self._trouble: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.config = ClientConfig(
            memory_url=self._address("memory"),
            events_url=self._address("events"),
            registry_url=self._address("registry"),
        )

    def _address(self, service: str) -> str:
        return f"http://127.0.0.1:{PORTS[service] + self._claim.offset}"

    async def begin(self) -> None:
        """Starts everything at once: agents wait for their platform by themselves."""
        ports = ", ".join(f"{name} {port + self._claim.offset}" for name, port in PORTS.items())
        self.screen.tell("platform", f"is starting, and its agents with it; ports: {ports}")
        for name in ("platform", *AGENTS):
            await self.start(name)
        await self._until_subscribed()
        self.screen.tell("platform", f"is ready, {', '.join(AGENTS)} are subscribed")

    async def start(self, name: str, *arguments: str) -> Program:
        """Starts the platform, an agent or the client."""
        what = (
            ["-m", "soorma_platform"]
            if name == "platform"
            else [str(EXAMPLE / f"{name}.py"), *arguments]
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *what,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._keeper.folder,
            env=self._environment(),
            process_group=self._keeper.group,
            limit=2**20,
        )
        tail = self._tails.setdefault(name, deque(maxlen=20))
        program = Program(
            name, process, tail, self._show_client if name == "client" else self._show_agent
        )
        program.ended.add_done_callback(lambda _: self._on_end(program))
        self._programs[name] = program
        return program

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SOORMA_")}
        return kept | {
            "SOORMA_PORT_OFFSET": str(self._claim.offset),
            "SOORMA_DATABASE": str(self._database),
            "SOORMA_ACCESS": "open",
            "SOORMA_MEMORY_URL": self.config.memory_url,
            "SOORMA_EVENT_SERVICE_URL": self.config.events_url,
            "SOORMA_REGISTRY_URL": self.config.registry_url,
            "TASK_SECONDS": str(TASK_SECONDS),
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
        }

    def _show_agent(self, line: str) -> None:
        if "platform ready" in line:
            self._is_up.set()
        # the rest are logs: shown if something goes wrong
        if found := re.fullmatch(r"\[(\w+)\] (.*)", line):
            self.screen.tell(
                found[1], re.sub(r"(\b[0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"\1", found[2])
            )
        if attempt := Attempt.told_in(line):
            self.attempts.put_nowait(attempt)

    def _show_client(self, line: str) -> None:
        if line.startswith("Goal submitted"):
            self.screen.tell("client", line)
        else:
            self.screen.say(line)

    def _on_end(self, program: Program) -> None:
        if program.may_end or self._trouble.done() or program.ended.cancelled():
            return
        taken = program.name == "platform" and any(
            "cannot be used" in line for line in program.tail
        )
        kind = PortTaken if taken else DemoFailed
        outcome = program.ended.exception() or f"exit code {program.process.returncode}"
        self._trouble.set_exception(kind(f"the {program.name} ended by itself: {outcome}"))

    async def _until_subscribed(self) -> None:
        await self._is_up.wait()  # ours, and nobody else's on the same ports
        pids = {str(self._programs[name].process.pid) for name in AGENTS}
        async with aiohttp.ClientSession() as session:
            while not pids <= await self._subscribed_pids(session):  # noqa: ASYNC110 - remote
                await asyncio.sleep(0.02)

    async def _subscribed_pids(self, session: aiohttp.ClientSession) -> set[str]:
        try:
            async with session.get(f"{self.config.events_url}/v1/events/groups") as answer:
                groups = (await answer.json())["groups"]
        except aiohttp.ClientConnectionError:
            return set()
        return {
            replica["instance"].split(":")[-2] for group in groups for replica in group["replicas"]
        }

    async def unless_trouble(self, work: Coroutine[None, None, T]) -> T:
        """Returns the result of the work; raises DemoFailed once a process ends unexpectedly."""
        task = asyncio.create_task(work)
        try:
            either: set[asyncio.Future[Any]] = {task, self._trouble}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._trouble.done():
                self._trouble.result()
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def submit(self) -> None:
        """Runs the client until it has its result."""
        client = await self.start("client", GOAL)
        client.may_end = True
        if code := await asyncio.shield(client.ended):
            raise DemoFailed(f"the client ended with exit code {code}")

    async def kill(self, name: str, attempt: Attempt) -> None:
        """Kills a process with -9 in the middle of an attempt, and starts it again."""
        program = self._programs[name]
        await program.end(signal.SIGKILL)
        self.screen.tell(
            name, f"KILLED with -9 (process {program.process.pid}) inside {attempt}", "bold red"
        )
        program = await self.start(name)
        self.screen.tell(name, f"is started again (process {program.process.pid})")

    async def stop(self) -> None:
        """Ends agents and platform as a service manager would: agents first, which drain."""
        for names in AGENTS, ("platform",):
            await asyncio.gather(*(self._programs[name].end(signal.SIGTERM) for name in names))
            for name in names:
                if code := self._programs[name].process.returncode:
                    raise DemoFailed(
                        f"the {name} was asked to stop and ended with exit code {code}"
                    )

    async def clear(self) -> None:
        """Kills whatever still runs."""
        await asyncio.gather(*(program.end(signal.SIGKILL) for program in self._programs.values()))
        self._claim.close()

    def tails(self) -> Iterator[tuple[str, list[str]]]:
        """The last lines of each process."""
        for name, tail in self._tails.items():
            yield name, list(tail)


# --- The two stories -----------------------------------------------------------------------

Story = Callable[[Stage], Awaitable[None]]


async def plain(stage: Stage) -> None:
    """Submits the goal."""
    await stage.submit()


async def with_crashes(stage: Stage) -> None:
    """Submits the goal; kills the worker in each task's first attempt, the platform in a second."""
    submitting = asyncio.create_task(stage.submit())
    try:
        for task in TASKS:
            await stage.kill("worker", await _next_attempt(stage, task))
            attempt = await _next_attempt(stage, task)
            if task == "draft":
                await stage.kill("platform", attempt)
        await submitting
    finally:
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)


async def _next_attempt(stage: Stage, task: str) -> Attempt:
    attempt = await stage.attempts.get()
    if attempt.task != task:
        raise DemoFailed(f"{attempt} began where one at {task} should have: the kill came too late")
    return attempt


async def check_record(stage: Stage) -> None:
    """Raises DemoFailed unless the record has one plan with its six actions, once, in order."""
    async with MemoryClient(config=stage.config) as memory:
        plans = [plan.plan_id async for plan in memory.list_plans()]
        if len(plans) != 1:
            raise DemoFailed(f"the one goal should have made one plan, not {len(plans)}")
        history = await WorkflowState(memory, plans[0]).get_action_history()
    if history != ACTIONS:
        raise DemoFailed(
            f"the action history should be {', '.join(ACTIONS)}, not {', '.join(history)}"
        )
    stage.screen.say(
        "\nThe record holds these six actions, once each and in this order.", "bold green"
    )


# --- The performance -----------------------------------------------------------------------


async def perform(story: Story, keeper: Keeper, screen: Screen) -> int:
    """Runs a story on a stage of its own; returns the exit code.

    SIGINT, SIGTERM and SIGHUP end it early.
    """
    signals = _cancelling_signals()
    for _ in range(MOST_LOST_RACES):
        stage = Stage(keeper, screen)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await stage.unless_trouble(_from_start_to_end(stage, story))
        except PortTaken:
            screen.tell("platform", "lost a port to somebody else: once more with others")
            continue
        except (DemoFailed, TimeoutError) as error:
            _report(stage, str(error) or f"it was not over within {PATIENCE_SECONDS} s")
            return 1
        except asyncio.CancelledError:
            screen.say(f"\nEnded by {signals[0].name}.")
            return 128 + signals[0]
        finally:
            await stage.clear()
        return 0
    screen.say("Failed: somebody else was always quicker to take the ports", "bold red")
    return 1


async def _from_start_to_end(stage: Stage, story: Story) -> None:
    await stage.begin()
    await story(stage)
    await check_record(stage)
    await stage.stop()


def _cancelling_signals() -> list[signal.Signals]:
    """Makes signals to stop cancel the current task, once; returns the list that will hold them."""
    seen: list[signal.Signals] = []
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we run in one

    def cancel(number: signal.Signals) -> None:
        if not seen:
            task.cancel()
        seen.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, cancel, number)
    return seen


def _report(stage: Stage, reason: str) -> None:
    stage.screen.say(f"\nFailed: {reason}", "bold red")
    for name, lines in stage.tails():
        stage.screen.say(f"\nThe last lines of the {name}:", "bold")
        for line in lines or ["(none)"]:
            stage.screen.say(f"  {line}")


def main() -> int:
    """Runs the demo; returns its exit code."""
    parser = argparse.ArgumentParser(
        description="Run the workflow of example 05 on a platform of its own."
    )
    parser.add_argument(
        "--crash", action="store_true", help="kill the worker and the platform while they work"
    )
    story = with_crashes if parser.parse_args().crash else plain
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    screen = Screen()
    with Keeper() as keeper:
        code = asyncio.run(perform(story, keeper, screen))
    if code == 0:
        pauses = len(TASKS) * TASK_SECONDS
        screen.say(
            f"All is stopped again. It took {screen.seconds:.1f} s; {pauses} of them the worker "
            "paused."
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
