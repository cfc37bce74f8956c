"""An agent of the examples as a process, with handlers slow enough to be killed inside one."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from platform_process import PlatformProcess, clean_environment

EXAMPLE = Path(__file__).parents[4] / "examples" / "05-memory-working"
_ATTEMPT = re.compile(rb"event (\S+) (\S+) \(plan (\S+), attempt (\d+)\): (begins|ended)")

# Runs an example's file as it is; every write to working memory takes a moment first.
_SLOWLY = """
import asyncio, runpy, sys
from soorma.workflow import WorkflowState
path, seconds = sys.argv[1], float(sys.argv[2])
for name in ("set", "record_action"):
    def slow(call):
        async def slowed(*arguments, **options):
            await asyncio.sleep(seconds)
            return await call(*arguments, **options)
        return slowed
    setattr(WorkflowState, name, slow(getattr(WorkflowState, name)))
runpy.run_path(path, run_name="__main__")
"""


class AgentProcess:
    """One replica. Its attempts are read from its own log, which outlives it."""

    def __init__(
        self,
        name: str,
        platform: PlatformProcess,
        log: Path,
        *,
        pause: float,
        api_key: str | None = None,
    ) -> None:
        self.name = name
        self.log = log
        env = clean_environment(
            SOORMA_MEMORY_URL=platform.memory_url,
            SOORMA_EVENT_SERVICE_URL=platform.events_url,
            SOORMA_REGISTRY_URL=platform.registry_url,
            SOORMA_LOG_LEVEL="debug",
            TASK_SECONDS=str(4 * pause),
            **({} if api_key is None else {"SOORMA_API_KEY": api_key}),
        )
        self._begun: dict[bytes, str] = {}
        self._unread = b""
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _SLOWLY, str(EXAMPLE / f"{name}.py"), str(pause)],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._reader = log.open("rb")

    def unfinished(self) -> list[str]:
        """The attempts that its log says have begun and not ended."""
        self._unread += self._reader.read()
        *lines, self._unread = self._unread.split(b"\n")
        for kind, event, _, attempt, what in _ATTEMPT.findall(b"\n".join(lines)):
            if what == b"begins":
                self._begun[event] = f"{self.name}: {kind.decode()} attempt {attempt.decode()}"
            else:
                self._begun.pop(event, None)
        return list(self._begun.values())

    def kill(self) -> list[str]:
        """Kills the process with -9; returns the attempts that were interrupted."""
        self._process.kill()
        self._process.wait()
        cut_short = self.unfinished()
        self._reader.close()
        return cut_short

    def stop(self) -> int:
        """SIGTERM, and -9 if that takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reader.close()
        return self._process.wait()
