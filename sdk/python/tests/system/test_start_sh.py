"""`examples/05-memory-working/start.sh`, run as a person would from another folder."""

from __future__ import annotations

import os
import pty
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from platform_process import PlatformProcess, clean_environment

EXAMPLE = Path(__file__).parents[4] / "examples" / "05-memory-working"
AGENTS = {"planner", "worker", "coordinator"}
SECONDS = 60


class StartScript:
    """A running start.sh in a session of its own, whose terminal is `terminal` (as in a window)."""

    def __init__(self, script: Path, env: dict[str, str], folder: Path) -> None:
        self.terminal, theirs = pty.openpty()
        self.output = ""
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, script],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=env,
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with (
            suppress(OSError),
            os.fdopen(os.dup(self.terminal), errors="replace", newline="\n") as lines,
        ):
            for line in lines:  # OSError: the last process has closed the terminal
                self._lines.put(line.rstrip())
        self._lines.put(None)

    def read_until(self, words: str) -> None:
        """Waits for a line with these words."""
        while (line := self._lines.get(timeout=SECONDS)) is not None:
            self.output += line + "\n"
            if words in line:
                return
        raise AssertionError(f"it never said {words!r} but:\n{self.output}")

    def press_ctrl_c(self) -> None:
        os.write(self.terminal, b"\x03")

    def agents(self) -> dict[str, int]:
        """Its agents and their processes."""
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        )
        children = re.findall(
            rf"^ *(\d+) +{self.process.pid} .* (\w+)\.py$", listed.stdout, re.MULTILINE
        )
        return {name: int(pid) for pid, name in children}

    def finish(self) -> int:
        """Waits until it and all that writes to its terminal has ended."""
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            while not self._lines.empty():
                self.output += f"{self._lines.get()}\n"
            raise AssertionError(
                f"it did not end; its agents are {self.agents()}, it said:\n{self.output}"
            ) from None
        while (line := self._lines.get(timeout=SECONDS)) is not None:
            self.output += line + "\n"
        return code

    def close(self) -> None:
        for pid in [*self.agents().values(), self.process.pid]:
            if self.process.poll() is None or pid != self.process.pid:
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(SECONDS)
        os.close(self.terminal)


_ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""

Start = Callable[..., StartScript]


@pytest.fixture
def start(platform: PlatformProcess, tmp_path: Path) -> Iterator[Start]:
    """Starts start.sh on the platform, in the environment of the tests; it ends with the test."""
    started: list[StartScript] = []

    def begin(script: Path = EXAMPLE / "start.sh", **more: str) -> StartScript:
        found = {
            "VIRTUAL_ENV": sys.prefix,
            "SOORMA_MEMORY_URL": platform.memory_url,
            "SOORMA_EVENT_SERVICE_URL": platform.events_url,
            "SOORMA_REGISTRY_URL": platform.registry_url,
        }
        env = clean_environment(**found | more)
        started.append(StartScript(script, env, tmp_path))
        return started[-1]

    yield begin
    for script in started:
        script.close()


def submit(platform: PlatformProcess) -> str:
    """Runs the client and returns its output."""
    client = subprocess.run(
        [sys.executable, EXAMPLE / "client.py", "Write a blog post about Docker"],
        env=clean_environment(
            SOORMA_EVENT_SERVICE_URL=platform.events_url, SOORMA_MEMORY_URL=platform.memory_url
        ),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    return client.stdout


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.behaviour("document.start-sh")
def test_it_runs_the_three_and_ctrl_c_stops_them(start: Start, platform: PlatformProcess) -> None:
    script = start(TASK_SECONDS="0")
    script.read_until("Ready: all three are subscribed.")
    script.read_until('  python client.py "Write a blog post about Docker"')
    agents = script.agents()
    assert agents.keys() == AGENTS
    assert "  6. workflow.completed" in submit(platform)
    script.press_ctrl_c()
    assert script.finish() == 0
    assert not any(map(is_running, agents.values()))
    for line in "[planner] plan ", "[worker] review, attempt 1 of plan ", "[coordinator] plan ":
        assert line in script.output
    assert "Traceback" not in script.output


@pytest.mark.behaviour("document.start-sh")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_the_three(start: Start, number: signal.Signals) -> None:
    script = start()
    script.read_until("Ctrl+C stops them.")
    agents = script.agents()
    script.process.send_signal(number)
    assert script.finish() == 0
    assert not any(map(is_running, agents.values()))


@pytest.mark.behaviour("document.start-sh")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_they_start_leaves_none_behind(start: Start, number: signal.Signals) -> None:
    script = start()
    script.read_until("Starting planner, worker and coordinator")
    script.process.send_signal(number)
    assert script.finish() == 0  # its terminal is closed: nobody who could write to it is left
    assert script.agents() == {}


@pytest.mark.behaviour("document.start-sh")
def test_a_lost_agent_is_named_and_ends_the_others(start: Start) -> None:
    script = start()
    script.read_until("Ctrl+C stops them.")
    agents = script.agents()
    os.kill(agents["worker"], signal.SIGKILL)
    assert script.finish() == 1
    assert "the worker has ended by itself (exit code 137), the others are stopped" in script.output
    assert not any(map(is_running, agents.values()))


@pytest.mark.behaviour("document.start-sh")
def test_twice_at_once_and_from_a_path_with_a_space(
    start: Start, platform: PlatformProcess, tmp_path: Path
) -> None:
    copy = tmp_path / "a path with a space" / "examples" / "05-memory-working"
    shutil.copytree(EXAMPLE.parent, copy.parent)
    scripts = [start(copy / "start.sh", TASK_SECONDS="0"), start(TASK_SECONDS="0")]
    for script in scripts:
        script.read_until("Ctrl+C stops them.")
    assert "  6. workflow.completed" in submit(platform)
    for script in scripts:
        script.press_ctrl_c()
        assert script.finish() == 0


@pytest.mark.behaviour("document.start-sh")
def test_without_a_platform_it_says_what_to_do(start: Start, platform: PlatformProcess) -> None:
    platform.kill()
    script = start()
    assert script.finish() == 1
    assert (
        f"The memory service is not well at {platform.memory_url}: Connection refused"
        in script.output
    )
    assert (
        f"The events service is not well at {platform.events_url}: Connection refused"
        in script.output
    )
    assert "soorma dev --build" in script.output


@pytest.mark.behaviour("document.start-sh")
def test_without_the_sdk_it_says_how_to_install_it(start: Start, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "examples" / "05-memory-working"
    shutil.copytree(EXAMPLE.parent, copy.parent)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in "bash", "dirname", "env":
        (tools / name).symlink_to(shutil.which(name) or name)
    script = start(copy / "start.sh", VIRTUAL_ENV=str(tmp_path / "none"), PATH=str(tools))
    assert script.finish() == 1
    assert "pip install -e sdk/python" in script.output
