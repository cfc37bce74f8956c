"""The process of one agent as its supervisor sees it: started, listened to, ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from soorma.cli.run import log
from soorma.cli.run.child import Word
from soorma.cli.run.targets import Wanted

GRACE_SECONDS = 5.0
"""The time beyond its drain time that a draining agent has for its hooks and its farewell."""

LOADING_SECONDS = 5.0
"""The time to end for an agent that does not run yet: it has nothing to drain."""

LAST_WORDS_SECONDS = 1.0
"""The time for which output is read after the end: a process left behind may hold it open."""

Take = Callable[[list[bytes]], Awaitable[None]]


class AgentProcess:
    """A process that runs an agent; `word` is its last report about itself."""

    def __init__(self, process: Process, output_end: int, words_end: int, take: Take) -> None:
        self.began = time.monotonic()
        self.word = Word()
        self.has_spoken = asyncio.Event()
        self._process = process
        self._reading = asyncio.create_task(_read(output_end, take))
        self._hearing = asyncio.create_task(_read(words_end, self._hear))
        self._ending: asyncio.Task[None] | None = None
        self._is_gone = False

    @classmethod
    async def start(
        cls, wanted: Wanted, guard: int, environment: Mapping[str, str], take: Take
    ) -> AgentProcess:
        """Starts it in a process group of its own.

        Ctrl+C thus reaches only the supervisor, which asks each agent once to end.
        """
        (output_end, its_output), (words_end, its_words) = os.pipe(), os.pipe()
        arguments = [str(guard), str(its_words), wanted.target.place, wanted.target.attribute]
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "soorma.cli.run.child", *arguments),
                env=dict(environment),
                stdin=DEVNULL,
                stdout=its_output,
                stderr=its_output,
                pass_fds=(guard, its_words),
                process_group=0,
            )
        finally:
            os.close(its_output)
            os.close(its_words)
        return cls(process, output_end, words_end, take)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def seconds(self) -> float:
        """The seconds since it was started."""
        return time.monotonic() - self.began

    async def wait(self) -> int:
        """Waits until it is gone and its output is read.

        Returns its exit status, or the negative number of the signal that ended it.
        """
        status = await self._process.wait()
        self.kill()  # what it has left behind in its group
        self._is_gone = True
        if self._ending is not None:
            self._ending.cancel()
        await asyncio.wait({self._reading, self._hearing}, timeout=LAST_WORDS_SECONDS)
        for task in (self._reading, self._hearing):
            task.cancel()
        results = await asyncio.gather(self._reading, self._hearing, return_exceptions=True)
        for failure in results:
            if isinstance(failure, Exception):
                raise failure
        return status

    def end(self) -> None:
        """Asks it to end, and kills it if it has not ended after its time to drain."""
        if self._ending is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            self._ending = asyncio.create_task(self._kill_late())

    def kill(self) -> None:
        """Kills its whole process group, unless it is gone: the id may be another's by then."""
        if self._is_gone:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _kill_late(self) -> None:
        await asyncio.sleep(
            self.word["drain"] + GRACE_SECONDS if "drain" in self.word else LOADING_SECONDS
        )
        self.kill()

    async def _hear(self, lines: list[bytes]) -> None:
        for line in lines:
            self.word = json.loads(line)
            self.has_spoken.set()


def cause(status: int) -> str:
    """Describes the cause of an end, for an exit status or a negative signal number."""
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else "unknown"
    hint = ", perhaps by the kernel, for want of memory" if -status == signal.SIGKILL else ""
    return f"killed by signal {-status} ({name}{hint})"


async def _read(descriptor: int, take: Take) -> None:
    """Passes whole lines to `take` until the other end is closed."""
    reader, buffer = asyncio.StreamReader(), bytearray()
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        while chunk := await reader.read(log.LONGEST_LINE):
            buffer += chunk
            if lines := log.whole_lines(buffer):
                await take(lines)
    finally:
        transport.close()
    if lines := log.whole_lines(buffer, at_end=True):
        await take(lines)
