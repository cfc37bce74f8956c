"""`tools/demo.py` as `make demo` and `make demo-crash` run it: a process, seen from outside."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from platform_process import PlatformProcess, clean_environment

from soorma.config import ClientConfig
from soorma.memory.client import MemoryClient
from soorma.workflow import WorkflowState

ROOT = Path(__file__).parents[4]
ACTIONS = [
    "planning.started",
    "workflow.started",
    "research.completed",
    "draft.completed",
    "review.completed",
    "workflow.completed",
]
SECONDS = 90
pytestmark = pytest.mark.timeout(120)


class Demo:
    """A running demo, with a folder for what it would leave behind."""

    def __init__(self, root: Path, temporary: Path, *arguments: str) -> None:
        temporary.mkdir(exist_ok=True)
        self.temporary = temporary
        self.process = subprocess.Popen(
            [sys.executable, "-u", root / "tools" / "demo.py", *arguments],
            env=clean_environment(TMPDIR=str(temporary), HOME="/nonexistent"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read_until(self, words: str) -> None:
        """Reads its output up to a line with this text."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if words in line:
                return
        raise AssertionError(f"it never said {words!r} but:\n{''.join(seen)}")

    def finish(self) -> tuple[int, str]:
        """Its exit code and its output (from here on)."""
        output, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, output

    def left_behind(self) -> list[str]:
        """Processes and files of it that are still there."""
        return [*map(str, self.temporary.iterdir()), *_processes_naming(str(self.temporary))]

    def expect_nothing_left_soon(self) -> None:
        """Waits for the guard's work, which nobody can await: an orphan does it."""
        for _ in range(500):
            if not self.left_behind():
                return
            time.sleep(0.02)
        raise AssertionError(f"left behind: {self.left_behind()}")


def _processes_naming(text: str) -> list[str]:
    """Command lines of processes that have the text in their command line or environment."""
    listed = subprocess.run(
        ["ps", "axeww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if text in line]


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[list[Demo]]:
    """Demos that end with the test, whatever happens."""
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.process.kill()
        demo.process.communicate()


def start(demos: list[Demo], tmp_path: Path, *arguments: str, root: Path = ROOT) -> Demo:
    demo = Demo(root, tmp_path / f"temporary-{len(demos)}", *arguments)
    demos.append(demo)
    return demo


def assert_shown(output: str) -> None:
    """The plan, the results and the numbered history, as the client prints them."""
    assert re.search(r"^Plan: [0-9a-f-]{36}$", output, re.MULTILINE), output
    assert "  research: Completed research for: Write a blog post about Docker" in output
    history = re.findall(r"^  (\d)\. (\S+)$", output, re.MULTILINE)
    assert history == [(str(number), action) for number, action in enumerate(ACTIONS, 1)], output
    assert "The record holds these six actions, once each and in this order." in output


@pytest.mark.behaviour("examples.demo")
def test_it_shows_the_workflow(demos: list[Demo], tmp_path: Path) -> None:
    demo = start(demos, tmp_path)
    code, output = demo.finish()
    assert code == 0, output
    assert_shown(output)
    assert demo.left_behind() == []


@pytest.mark.behaviour("examples.demo-crash")
def test_kills_change_nothing_but_the_attempts(demos: list[Demo], tmp_path: Path) -> None:
    demo = start(demos, tmp_path, "--crash")
    code, output = demo.finish()
    assert code == 0, output
    assert_shown(output)
    kills = re.findall(r"(\w+) +KILLED with -9 \(process \d+\) inside (\w+, attempt \d)", output)
    assert kills == [
        ("worker", "research, attempt 1"),
        ("worker", "draft, attempt 1"),
        ("platform", "draft, attempt 2"),
        ("worker", "review, attempt 1"),
    ]
    attempts = re.findall(r"worker +(\w+, attempt \d) of plan", output)
    assert attempts == [
        f"{task}, attempt {n}" for task in ("research", "draft", "review") for n in (1, 2)
    ]
    assert demo.left_behind() == []


@pytest.mark.behaviour("examples.demo")
def test_two_at_once_in_a_path_with_a_space(demos: list[Demo], tmp_path: Path) -> None:
    root = tmp_path / "a path with a space"
    for folder in "tools", "examples":
        shutil.copytree(ROOT / folder, root / folder)
    for _ in range(2):
        start(demos, tmp_path, root=root)
    for demo in demos:
        code, output = demo.finish()
        assert code == 0, output
        assert_shown(output)


@pytest.mark.behaviour("examples.demo")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_it(demos: list[Demo], tmp_path: Path, number: signal.Signals) -> None:
    demo = start(demos, tmp_path)
    demo.read_until("research, attempt 1")
    demo.process.send_signal(number)
    code, output = demo.finish()
    assert code == 128 + number, output
    assert f"Ended by {number.name}." in output
    assert demo.left_behind() == []


@pytest.mark.behaviour("examples.demo")
def test_killed_it_leaves_nothing_behind(demos: list[Demo], tmp_path: Path) -> None:
    demo = start(demos, tmp_path)
    demo.read_until("research, attempt 1")
    assert demo.left_behind()
    demo.process.kill()
    demo.finish()
    demo.expect_nothing_left_soon()


@pytest.mark.behaviour("examples.demo")
def test_an_agent_that_ends_fails_it(demos: list[Demo], tmp_path: Path) -> None:
    demo = start(demos, tmp_path)
    demo.read_until("research, attempt 1")
    (coordinator,) = (
        int(line.split()[0])
        for line in _processes_naming(str(demo.temporary))
        if "coordinator.py" in line
    )
    os.kill(coordinator, signal.SIGKILL)
    code, output = demo.finish()
    assert code == 1
    assert "Failed: the coordinator ended by itself: exit code -9" in output
    assert "The last lines of the platform:" in output
    assert demo.left_behind() == []


# --- In this process: what cannot be brought about from outside --------------------------------


@pytest.fixture
def demo_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("soorma_demo", ROOT / "tools" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "soorma_demo", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.behaviour("examples.demo")
def test_lost_ports_are_replaced(
    demo_module: ModuleType,
    platform: PlatformProcess,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Somebody takes the ports between the demo's look at them and its start of the platform."""
    real, taken = demo_module.PortClaim, [platform.offset]

    def claim() -> object:
        claimed = real()
        if taken:
            claimed.offset = taken.pop()
        return claimed

    async def nothing(stage: object) -> None:
        """Does nothing: the stage is enough."""

    monkeypatch.setattr(demo_module, "PortClaim", claim)
    monkeypatch.setattr(demo_module, "check_record", nothing)
    with demo_module.Keeper() as keeper:
        code = asyncio.run(demo_module.perform(nothing, keeper, demo_module.Screen()))
    output = capsys.readouterr().out
    assert code == 0, output
    assert "lost a port to somebody else" in output


@pytest.mark.behaviour("examples.demo")
@pytest.mark.parametrize(
    "actions",
    [ACTIONS[:-1], [*ACTIONS, ACTIONS[-1]], [*ACTIONS[:2], ACTIONS[3], ACTIONS[2], *ACTIONS[4:]]],
)
async def test_another_history_fails_it(
    demo_module: ModuleType, platform: PlatformProcess, actions: list[str]
) -> None:
    """An action missing, doubled, or out of order."""
    stage = SimpleNamespace(config=ClientConfig(platform.memory_url, platform.events_url))
    async with MemoryClient(config=stage.config) as memory:
        for action in actions:
            await WorkflowState(memory, "plan").record_action(action)
    with pytest.raises(demo_module.DemoFailed, match="the action history should be"):
        await demo_module.check_record(stage)


@pytest.mark.behaviour("examples.demo")
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_ports_in_use_are_not_claimed(
    demo_module: ModuleType, kind: socket.SocketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = demo_module.PortClaim()
    free = first.offset
    first.close()
    with socket.socket(socket.AF_INET, kind) as user:
        user.bind(("127.0.0.1", demo_module.PORTS["memory"] + free))
        if kind == socket.SOCK_STREAM:
            user.listen()
        monkeypatch.setattr(demo_module, "OFFSETS", [free])
        with pytest.raises(demo_module.DemoFailed, match="no free ports"):
            demo_module.PortClaim()
