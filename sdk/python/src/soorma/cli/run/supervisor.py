"""The supervisor of agents, each in a process of its own: starts, restarts and ends them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from soorma.cli.exits import CommandError, Exit
from soorma.cli.run import guard
from soorma.cli.run.agent_process import AgentProcess, cause
from soorma.cli.run.changes import changes
from soorma.cli.run.child import BROKEN
from soorma.cli.run.log import Style, Writer
from soorma.cli.run.targets import Wanted

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a dead agent is restarted, doubled with each death in a row up to the longest."""

SETTLED_SECONDS = 10.0
"""An agent that has lived this long was well: its next death is a first one again."""

OTHERS_SECONDS = 5.0
"""The time that the other agents get to load if one cannot, so that all mistakes are reported."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """The supervisor of agents, which runs them until a signal ends them.

    With `reload`, it starts them again when Python files change.
    """

    def __init__(self, wanted: Sequence[Wanted], style: Style, *, reload: bool) -> None:
        self.reload = reload
        self._style = style
        self._guard = -1
        self._ending = asyncio.Event()
        self._is_hurried = False
        self._failure: CommandError | None = None
        self._writer = Writer(sys.stdout.fileno())
        self._keepers = [Keeper(self, each) for each in wanted]
        self._saying: asyncio.Task[None] | None = None

    async def run(self, *first: str) -> None:
        """Logs `first` and runs the agents.

        CommandError if one cannot be loaded at the start, or nobody reads the log any more.
        """
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                loop.add_signal_handler(number, self._on_signal, number)
        for line in first:
            await self.say(line)
        async with _guarded() as self._guard:
            await self._keep_all()
        if self._failure is not None:
            raise self._failure

    async def _keep_all(self) -> None:
        watching = asyncio.create_task(self._watch()) if self.reload else None
        try:
            async with asyncio.TaskGroup() as group:
                for keeper in self._keepers:
                    group.create_task(keeper.keep())
        finally:
            if watching is not None:
                watching.cancel()
            self._kill_all()

    async def say(self, message: str, level: str = "info", label: str | None = None) -> None:
        """Logs a message about an agent, or about all."""
        await self._write(self._style.own(level, message, label))

    async def take(self, label: str, lines: list[bytes]) -> None:
        """Logs an agent's lines."""
        await self._write(b"".join(self._style.line(label, line) for line in lines))

    async def _write(self, data: bytes) -> None:
        """Writes to the log; if its reader is gone, ends all."""
        try:
            await self._writer.write(data)
        except OSError:
            self._failure = self._failure or CommandError(Exit.OUTPUT_CLOSED, "")
            self.end()

    async def start(self, wanted: Wanted) -> AgentProcess:
        """Starts a new process of an agent."""
        environment = {**os.environ, **self._style.environment}
        if self.reload:  # two changes in one second may leave an old compiled file in use
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        take = partial(self.take, wanted.label)
        return await AgentProcess.start(wanted, self._guard, environment, take)

    def gone(self, process: AgentProcess) -> None:
        """Signs off a process that has ended."""
        with suppress(BrokenPipeError):  # somebody has killed the guard
            os.write(self._guard, b"-%d\n" % process.pid)

    def is_ending(self) -> bool:
        """True if all are to end."""
        return self._ending.is_set()

    def is_hurried(self) -> bool:
        """True if they are to end at once."""
        return self._is_hurried

    async def give_up(self, reason: str) -> None:
        """Ends all because an agent could not be loaded at the start.

        The error reports the mistakes of the others, too.
        """
        if self._failure is not None:
            await self._ending.wait()  # or its keeper would start it again, and again
            return
        self._failure = CommandError(Exit.AGENT, reason)
        started = [
            (keeper.wanted, keeper.process)
            for keeper in self._keepers
            if keeper.process is not None
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(OTHERS_SECONDS):
                await asyncio.gather(*(process.has_spoken.wait() for _, process in started))
        told = [
            f"{wanted.target}: {process.word['broken']}"
            for wanted, process in started
            if "broken" in process.word
        ]
        self._failure = CommandError(Exit.AGENT, "\n".join(dict.fromkeys([reason, *told])))
        self.end()

    def end(self) -> None:
        """Asks all to end, each within its drain time."""
        self._ending.set()
        for keeper in self._keepers:
            keeper.end()

    def _on_signal(self, number: signal.Signals) -> None:
        if self.is_ending():
            self._is_hurried = True
            self._kill_all()
            return
        self.end()
        again = "; Ctrl+C again ends them at once" if number == signal.SIGINT else ""
        self._saying = asyncio.create_task(self.say(f"ends the agents{again}"))

    def _kill_all(self) -> None:
        for keeper in self._keepers:
            keeper.kill()

    async def _watch(self) -> None:
        files = [
            Path(keeper.wanted.target.place)
            for keeper in self._keepers
            if keeper.wanted.target.is_file
        ]
        async for changed in changes([Path.cwd(), *(file.parent for file in files)]):
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            here = changed[0].removeprefix(f"{Path.cwd()}{os.sep}")
            await self.say(f"{here}{more} changed: starts the agents again")
            for keeper in self._keepers:
                keeper.again()


class Keeper:
    """The keeper of one agent, which keeps it running."""

    def __init__(self, supervisor: Supervisor, wanted: Wanted) -> None:
        self.wanted = wanted
        self.process: AgentProcess | None = None
        self._supervisor = supervisor
        self._has_run = False
        self._changed = asyncio.Event()
        self._delay = FIRST_DELAY

    async def keep(self) -> None:
        """Runs the agent again and again, until all are to end."""
        while not self._supervisor.is_ending():
            self._changed.clear()
            try:
                self.process = process = await self._supervisor.start(self.wanted)
            except OSError as error:
                await self._rest(f"cannot be started: {error.strerror or error}")
                continue
            if self._changed.is_set():  # meanwhile
                process.end()
            try:
                status = await process.wait()
            finally:
                self._supervisor.gone(process)
            if not self._supervisor.is_ending():
                await self._after(process, status)
            elif status == -signal.SIGKILL and not self._supervisor.is_hurried():
                await self._say(
                    "did not end in the time that it takes to drain, and was killed", "error"
                )

    async def _after(self, process: AgentProcess, status: int) -> None:
        """Reacts to the end of the process: unless files changed, logs the reason and waits."""
        if self._changed.is_set():
            self._delay = FIRST_DELAY
        elif status == BROKEN and "broken" in process.word:
            await self._after_mistake(process.word["broken"])
        else:
            self._has_run = True
            await self._after_death(process, status)

    async def _after_mistake(self, mistake: str) -> None:
        if self._supervisor.reload:
            await self._say(f"cannot be loaded, waits for a change: {mistake}", "error")
            await self._changed_within(None)
        elif not self._has_run:
            await self._supervisor.give_up(f"{self.wanted.target}: {mistake}")
        else:
            await self._rest(f"cannot be loaded: {mistake}")

    async def _after_death(self, process: AgentProcess, status: int) -> None:
        if process.seconds > SETTLED_SECONDS:
            self._delay = FIRST_DELAY
        why = f" ({process.word['why']})" if "why" in process.word else ""
        ended = "has ended by itself" if status == 0 else "has died"
        await self._rest(f"{ended}: {cause(status)}{why}")

    async def _rest(self, reason: str) -> None:
        delay, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY)
        await self._say(f"{reason}; it is started again in {delay:g} s", "error")
        await self._changed_within(delay)

    async def _say(self, message: str, level: str) -> None:
        await self._supervisor.say(message, level, self.wanted.label)

    async def _changed_within(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def again(self) -> None:
        """Ends the process, so that the agent starts again with its changed files."""
        self._changed.set()
        if self.process is not None:
            self.process.end()

    def end(self) -> None:
        """Asks it to end."""
        self.again()

    def kill(self) -> None:
        """Kills it, if it runs."""
        if self.process is not None:
            self.process.kill()


@asynccontextmanager
async def _guarded() -> AsyncIterator[int]:
    """Starts a guard, and yields the pipe on which processes are signed on and off."""
    its_end, ours = os.pipe()
    process = subprocess.Popen(  # noqa: ASYNC220, S603 - it is there before the first agent
        [sys.executable, "-I", "-S", str(Path(guard.__file__))],
        stdin=its_end,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(its_end)
    try:
        yield ours
    finally:
        os.close(ours)
        await asyncio.to_thread(process.wait)
