"""`soorma run`: a folder's agents as supervised processes, seen from outside."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_shell import SECONDS, SOORMA, eventually, is_gone
from platform_process import PlatformProcess, clean_environment
from running import addresses_of, config_of, context_of, unique

from soorma import WorkflowState
from soorma.cli.exits import CommandError, Exit
from soorma.cli.run.changes import changes
from soorma.cli.run.log import LONGEST_LINE, Style, whole_lines
from soorma.cli.run.targets import parse
from soorma.transport.calls import caller_for

EXAMPLES = Path(__file__).parents[4] / "examples"
AGENT = """
import os, sys, time
from soorma import Agent, Worker, WorkflowState
worker = Worker({name!r}, drain_timeout=20)
print("loaded", os.getpid(), flush=True)

@worker.on_event({event!r}, topic="action-requests", ordered=False)
async def handle(event, context):
    {body}
    await WorkflowState(context.memory, event.data["plan"]).increment("done")
"""

TALKING = """
import threading

def talk():
    while True:
        print("talk", flush=True)
        time.sleep(0.05)

threading.Thread(target=talk, daemon=True).start()
"""


class Run:
    """A `soorma run` in a folder; its output is read line by line."""

    def __init__(
        self, folder: Path, platform: PlatformProcess, *arguments: str, **env: str
    ) -> None:
        self.output = folder / f"{unique('output')}.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*SOORMA, "run", *arguments],
                cwd=folder,
                env=clean_environment(
                    **{"SOORMA_LOG_FORMAT": "console", **addresses_of(platform), **env}
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self.output.read_text("utf-8", "replace")

    def until(self, text: str, count: int = 1) -> str:
        """All output, once this text was printed so often."""

        def is_there() -> bool:
            assert self.process.poll() is None or self.said().count(text) >= count, self.said()
            return self.said().count(text) >= count

        eventually(is_there)
        return self.said()

    def pids(self) -> list[int]:
        """The numbers that the agents have printed, in the order in which they were loaded."""
        return [int(found) for found in re.findall(r"loaded (\d+)", self.said())]

    def end(self, number: int = signal.SIGINT) -> int:
        """The exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@pytest.fixture
def run(tmp_path: Path, running: PlatformProcess) -> Iterator[Callable[..., Run]]:
    """Starts `soorma run` in the test's folder, and leaves nothing of it behind."""
    started: list[Run] = []

    def start(*arguments: str, **env: str) -> Run:
        started.append(Run(tmp_path, running, *arguments, **env))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        eventually(lambda each=each: all(is_gone(pid) for pid in each.pids()))


def write_agent(
    folder: Path, module: str = "worker", body: str = "pass", name: str | None = None
) -> str:
    """Writes an agent into a module; returns the type of the events it takes."""
    event = unique("event")
    (folder / f"{module}.py").write_text(
        AGENT.format(name=name or unique(module), event=event, body=body), "utf-8"
    )
    return event


# --- What it is asked for ------------------------------------------------------------------


@pytest.mark.behaviour("run.targets")
@pytest.mark.parametrize(
    ("texts", "replicas", "labels"),
    [
        (["worker"], 1, ["worker"]),
        (["app.agents:writer"], 1, ["writer"]),
        (["agents/worker.py"], 1, ["worker"]),
        (["a:agent", "b:agent"], 1, ["a:agent", "b:agent"]),
        (["planner", "worker*2"], 1, ["planner", "worker.1", "worker.2"]),
        (["planner:p*1", "worker"], 3, ["p", "worker.1", "worker.2", "worker.3"]),
        (["worker", "worker"], 1, ["worker.1", "worker.2"]),
    ],
)
def test_what_a_target_means(texts: list[str], replicas: int, labels: list[str]) -> None:
    assert [wanted.label for wanted in parse(texts, replicas)] == labels


@pytest.mark.behaviour("run.targets")
@pytest.mark.parametrize(
    "text",
    ["", ":agent", "worker:", "worker:1", "no such", "a:b:c", "worker*0", "worker*999", "-x"],
)
def test_a_target_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse([text])
    assert refused.value.exit_code == Exit.USAGE
    assert len(refused.value.message.splitlines()) == 1


MISTAKES = {
    "syntax": ("x = 1\ndef f(:\n", "broken", "broken.py, line 2: SyntaxError: "),
    "import": (
        "\nimport nothing_of_that_name\n",
        "broken",
        "broken.py, line 2: ModuleNotFoundError: No module named",
    ),
    "raises": (
        "def f():\n    return 1 / 0\nf()\n",
        "broken",
        "broken.py, line 2: ZeroDivisionError: division by zero",
    ),
    "leaves": (
        "import sys\nsys.exit('no name')\n",
        "broken",
        "broken.py, line 2: it ends the program when it is imported",
    ),
    "no agent": ("x = 3\n", "broken", "broken.py holds no agents; make one at its top level"),
    "no attribute": (
        "from soorma import Worker\na = Worker('a')\n",
        "broken:b",
        "broken.py has no 'b'; run broken:a",
    ),
    "several": (
        "from soorma import Worker\na, b = Worker('a'), Worker('b')\n",
        "broken",
        "broken.py holds 2 agents; run broken:a or broken:b",
    ),
    "no handlers": (
        "from soorma import Worker\na = Worker('a')\n",
        "broken",
        "agent 'a' has no handlers",
    ),
    "another thing": ("x = 3\n", "broken:x", "broken.py: 'x' is no agent but a int; make one"),
    "a class": (
        "from soorma import Worker\n",
        "broken:Worker",
        "'Worker' is a class of agents; make an agent of it",
    ),
    "a bad name": (
        "from soorma import Worker\na = Worker('.')\n",
        "broken",
        "broken.py, line 2: InvalidName: name must",
    ),
    "no module": ("", "brokn", "there is no module 'brokn'"),
    "no file": ("", "folder/none.py:x", "there is no file folder/none.py"),
}


@pytest.mark.behaviour("run.authors-mistakes")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_authors_mistake_is_told_in_a_sentence_with_its_place(
    tmp_path: Path, run: Callable[..., Run], mistake: str
) -> None:
    content, target, sentence = MISTAKES[mistake]
    (tmp_path / "broken.py").write_text(content, "utf-8")
    started = run(target)
    assert started.process.wait(SECONDS) == Exit.AGENT, started.said()
    (told,) = [line for line in started.said().splitlines() if line.startswith("soorma: ")]
    assert sentence in told
    assert "Traceback" not in started.said()
    if mistake == "no module":
        assert "is broken meant?" in told


@pytest.mark.behaviour("run.authors-mistakes")
def test_all_mistakes_are_told_at_once(tmp_path: Path, run: Callable[..., Run]) -> None:
    (tmp_path / "one.py").write_text("1 / 0\n", "utf-8")
    (tmp_path / "two.py").write_text("def f(:\n", "utf-8")
    started = run("one", "two")
    assert started.process.wait(SECONDS) == Exit.AGENT
    assert "one: one.py, line 1: ZeroDivisionError" in started.said()
    assert "two: two.py, line 1: SyntaxError" in started.said()


@pytest.mark.behaviour("run.targets")
def test_a_file_in_a_package_may_import_its_neighbours(
    tmp_path: Path, run: Callable[..., Run]
) -> None:
    package = tmp_path / "place" / "app"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "names.py").write_text("NAME = 'relative'\n", "utf-8")
    write_agent(package, "worker")
    with (package / "worker.py").open("a", encoding="utf-8") as file:
        file.write(
            "from .names import NAME\nfrom app.names import NAME as SAME\nassert NAME is SAME\n"
        )
    run("place/app/worker.py:worker").until("is subscribed to")


# --- Its life ------------------------------------------------------------------------------


@pytest.mark.behaviour("run.ends")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_and_nothing_is_left(
    tmp_path: Path, run: Callable[..., Run], number: int
) -> None:
    write_agent(tmp_path, "one")
    write_agent(tmp_path, "two")
    started = run("one", "two", "--replicas", "2")
    started.until("is subscribed to", 4)
    assert started.end(number) == 0, started.said()
    assert len(started.pids()) == 4
    assert all(is_gone(pid) for pid in started.pids())


@pytest.mark.behaviour("run.ends")
async def test_what_is_in_hand_is_finished(
    tmp_path: Path, run: Callable[..., Run], running: PlatformProcess
) -> None:
    event = write_agent(
        tmp_path, body="print('begins', flush=True); await __import__('asyncio').sleep(1.5)"
    )
    started = run("worker")
    plan = unique("plan")
    async with context_of(running) as context:
        await asyncio.to_thread(started.until, "is subscribed to")
        await context.bus.publish(event, "action-requests", {"plan": plan})
        await asyncio.to_thread(started.until, "begins")
        assert await asyncio.to_thread(started.end) == 0
        assert await WorkflowState(context.memory, plan).get("done") == 1


@pytest.mark.behaviour("run.ends")
async def test_a_second_signal_ends_them_at_once(
    tmp_path: Path, run: Callable[..., Run], running: PlatformProcess
) -> None:
    event = write_agent(tmp_path, body="print('begins', flush=True); time.sleep(300)")
    started = run("worker")
    async with context_of(running) as context:
        await asyncio.to_thread(started.until, "is subscribed to")
        await context.bus.publish(event, "action-requests", {"plan": unique("plan")})
        await asyncio.to_thread(started.until, "begins")
    started.process.send_signal(signal.SIGINT)
    await asyncio.to_thread(started.until, "again ends them at once")
    began = time.monotonic()
    await asyncio.to_thread(started.end)
    assert time.monotonic() - began < 15
    assert all(is_gone(pid) for pid in started.pids())


@pytest.mark.behaviour("run.ends")
@pytest.mark.parametrize("body", ["pass", "import subprocess; subprocess.Popen(['sleep', '600'])"])
def test_no_agent_outlives_a_supervisor_that_is_killed(
    tmp_path: Path, run: Callable[..., Run], body: str
) -> None:
    write_agent(tmp_path)
    with (tmp_path / "worker.py").open("a", encoding="utf-8") as file:
        file.write(f"{body}\n")
    started = run("worker", "--replicas", "2")
    started.until("is subscribed to", 2)
    os.kill(started.pids()[0], signal.SIGSTOP)  # a frozen one too
    started.process.kill()
    eventually(lambda: all(is_gone(pid) for pid in started.pids()))


@pytest.mark.behaviour("run.restarts")
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("os._exit(7)", "has died: exit status 7"),
        ("os.kill(os.getpid(), 9)", "has died: killed by signal 9 (SIGKILL"),
        ("os.kill(os.getpid(), 11)", "has died: killed by signal 11 (SIGSEGV)"),
        ("os._exit(0)", "has ended by itself: exit status 0"),
    ],
)
def test_an_agent_that_dies_is_started_again_and_why_is_told(
    tmp_path: Path, run: Callable[..., Run], end: str, reason: str
) -> None:
    write_agent(tmp_path)
    with (tmp_path / "worker.py").open("a", encoding="utf-8") as file:
        file.write(f"@worker.on_startup\ndef once():\n    if not os.path.exists('died'):\n"
                   f"        open('died', 'w').close()\n        {end}\n")  # fmt: skip
    started = run("worker")
    said = started.until("is subscribed to")
    assert reason in said
    assert "it is started again in 0.5 s" in said
    assert len(set(started.pids())) == 2


@pytest.mark.behaviour("run.restarts")
def test_the_pauses_grow(tmp_path: Path, run: Callable[..., Run]) -> None:
    write_agent(tmp_path)
    with (tmp_path / "worker.py").open("a", encoding="utf-8") as file:
        file.write("@worker.on_startup\ndef die():\n    os._exit(3)\n")
    started = run("worker")
    said = started.until("started again in", 3)
    assert [line.rpartition("again in ")[2] for line in said.splitlines() if "again in" in line][
        :3
    ] == [
        "0.5 s",
        "1 s",
        "2 s",
    ]
    assert started.end() == 0


# --- Changes -------------------------------------------------------------------------------


@pytest.mark.behaviour("run.reload")
def test_a_change_starts_the_agents_again_and_a_mistake_is_waited_out(
    tmp_path: Path, run: Callable[..., Run]
) -> None:
    write_agent(tmp_path)
    good = (tmp_path / "worker.py").read_text()
    started = run("worker", "--reload")
    started.until("is subscribed to")

    (tmp_path / "worker.py").write_text(good + "def f(:\n")
    said = started.until("waits for a change")
    assert "worker.py changed: starts the agents again" in said
    assert "SyntaxError" in said
    (tmp_path / "worker.py").write_text(good)
    started.until("is subscribed to", 2)
    assert started.end() == 0


@pytest.mark.behaviour("run.reload")
async def test_what_counts_as_a_change(tmp_path: Path) -> None:
    for name in ("src", ".hidden", "env", "own_env"):
        (tmp_path / name).mkdir()
    (tmp_path / "own_env" / "pyvenv.cfg").touch()
    (tmp_path / "src" / "old.py").write_text("1")
    seen = changes([tmp_path, tmp_path / "src"])
    waiting = asyncio.ensure_future(anext(seen))
    (tmp_path / "src" / "old.py").unlink()
    number = 0
    while not waiting.done():  # the first look may have been after the first change
        number += 1
        assert number < SECONDS
        for path in (".hidden/a.py", "env/b.py", "own_env/c.py", "src/d.txt", "src/new.py"):
            (tmp_path / path).write_text("1" * number)
        await asyncio.wait({waiting}, timeout=2)
    names = {Path(path).name for path in waiting.result()}
    assert "new.py" in names
    assert names <= {"old.py", "new.py"}
    await seen.aclose()


# --- The log -------------------------------------------------------------------------------


@pytest.mark.behaviour("run.log")
def test_piped_it_is_an_object_a_line(tmp_path: Path, run: Callable[..., Run]) -> None:
    write_agent(tmp_path)
    started = run("worker", SOORMA_LOG_FORMAT="auto")
    said = started.until("is subscribed to")
    lines = [json.loads(line) for line in said.splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(
        *(set(line) for line in lines)
    )
    (printed,) = [line for line in lines if line["logger"] == "stdout"]
    assert printed["agent"] == "worker"
    assert printed["message"].startswith("loaded ")


@pytest.mark.behaviour("run.log")
def test_a_label_and_a_colour_for_each_on_a_terminal() -> None:
    style = Style.of(["a", "bb"], terminal=True, env={})
    first, second = style.line("a", b"text"), style.line("bb", b"text")
    assert first.endswith(b"text\n")
    assert first[:6] != second[:6]
    assert b"\x1b[" in first
    assert style.environment["SOORMA_LOG_FORMAT"] == "console"
    plain = Style.of(["a"], terminal=True, env={"NO_COLOR": "1"})
    assert plain.line("a", b"text") == b"a      | text\n"
    assert (
        Style.of(["a"], terminal=False, env={"SOORMA_LOG_FORMAT": "console"}).line("a", b"x")
        == b"a      | x\n"
    )
    assert (
        json.loads(Style.of(["a"], terminal=False, env={}).line("a", b"\xff not {json"))["agent"]
        == "a"
    )


@pytest.mark.behaviour("run.log")
def test_lines_are_whole_whatever_pieces_they_come_in() -> None:
    buffer, found = bytearray(), []
    for piece in (b"one\ntw", b"o\r\n", b"x" * (LONGEST_LINE + 1), b"end"):
        buffer += piece
        found += whole_lines(buffer)
    found += whole_lines(buffer, at_end=True)
    assert found == [b"one", b"two", b"x" * (LONGEST_LINE + 1), b"end"]


@pytest.mark.behaviour("run.log")
def test_the_end_of_its_reader_ends_it(tmp_path: Path, running: PlatformProcess) -> None:
    write_agent(tmp_path)
    with (tmp_path / "worker.py").open("a", encoding="utf-8") as file:
        file.write(TALKING)
    process = subprocess.Popen(
        [*SOORMA, "run", "worker"],
        cwd=tmp_path,
        env=clean_environment(**addresses_of(running)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        pid = next(
            int(json.loads(line)["message"].split()[1])
            for line in process.stdout
            if b"loaded" in line
        )
        process.stdout.close()
        assert process.wait(SECONDS) == Exit.OUTPUT_CLOSED
        assert is_gone(pid)
    finally:
        process.kill()
        process.wait()


# --- As the pages have it ------------------------------------------------------------------


@pytest.mark.behaviour("run.examples")
@pytest.mark.parametrize(
    ("example", "agents", "client", "outcome"),
    [
        ("01-hello-world", ["worker"], ["client.py", "Ada"], "Hello, Ada!"),
        (
            "02-events-simple",
            ["subscriber:warehouse", "subscriber:accounts"],
            ["publisher.py", "tea"],
            "an order of tea",
        ),
        (
            "05-memory-working",
            ["planner", "worker", "coordinator"],
            ["client.py", "a goal"],
            "6. workflow.completed",
        ),
    ],
)
def test_the_examples_run(
    tmp_path: Path,
    running: PlatformProcess,
    example: str,
    agents: list[str],
    client: list[str],
    outcome: str,
) -> None:
    for file in (EXAMPLES / example).glob("*.py"):
        (tmp_path / file.name).write_text(file.read_text("utf-8"), "utf-8")
    started = Run(tmp_path, running, *agents, TASK_SECONDS="0.05")
    try:
        started.until("is subscribed to", len(agents))
        done = subprocess.run(
            [sys.executable, *client],
            cwd=tmp_path,
            env=clean_environment(**addresses_of(running)),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        assert outcome in done.stdout
        if "02" in example:
            started.until("notes an order of tea", 2)
        assert started.end(signal.SIGTERM) == 0
    finally:
        started.process.kill()
        started.process.wait()


@pytest.mark.behaviour("examples.interrupted")
@pytest.mark.parametrize("example", ["01-hello-world", "05-memory-working"])
def test_ctrl_c_in_a_client_gives_no_traceback(running: PlatformProcess, example: str) -> None:
    """It waits for agents that nobody has started."""
    tenant = unique("tenant")
    client = subprocess.Popen(
        [sys.executable, "-u", "client.py", "somebody"],
        cwd=EXAMPLES / example,
        env=clean_environment(**addresses_of(running), SOORMA_TENANT_ID=tenant),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert client.stdout is not None
        if "01" in example:
            asyncio.run(seen(running, tenant))
        else:
            assert client.stdout.readline().startswith("Goal submitted")
        client.send_signal(signal.SIGINT)
        said, _ = client.communicate(timeout=SECONDS)
    finally:
        client.kill()
        client.wait()
    assert "Traceback" not in said
    assert "Interrupted" in said


async def seen(running: PlatformProcess, tenant: str) -> None:
    """Returns when an event of the tenant is in the log."""
    caller = caller_for(config_of(running))
    try:
        async with asyncio.timeout(SECONDS):
            query = {"after": 0, "tenant_id": tenant}
            async for kind, _, _ in caller.follow("events", "/v1/events/stream", None, query):
                if kind == "event":
                    return
    finally:
        await caller.close()
