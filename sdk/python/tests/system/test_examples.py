"""Examples 01 and 02, run as a person runs them. Example 05 has test_start_sh.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from platform_process import PlatformProcess, clean_environment
from running import Raw

EXAMPLES = Path(__file__).parents[4] / "examples"
SECONDS = 30


class Terminal:
    """A person's terminal in an example's folder."""

    def __init__(self, example: str, platform: PlatformProcess, logs: Path) -> None:
        self._folder = EXAMPLES / example
        self._page = (self._folder / "README.md").read_text("utf-8")
        self._logs = logs
        self._env = clean_environment(
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            VIRTUAL_ENV=sys.prefix,
            PYTHONUNBUFFERED="",  # a line of an agent's is written as one, whatever others write
            SOORMA_MEMORY_URL=platform.memory_url,
            SOORMA_EVENT_SERVICE_URL=platform.events_url,
            SOORMA_REGISTRY_URL=platform.registry_url,
            SOORMA_RETRY_SECONDS="1",  # none of these tests waits for a platform that comes late
        )

    def run(self, command: str, code: int = 0) -> str:
        """Runs a command to its end; returns its output. It must end with that code."""
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    @contextmanager
    def agents(self) -> Iterator[Agents]:
        """./start.sh, from the moment its agents are ready until Ctrl+C."""
        log = self._logs / f"agents-{time.monotonic_ns()}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["./start.sh"],
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        agents = Agents(log)
        try:
            wait_until(lambda: agents.said("Ready") or process.poll() is not None)
            assert agents.said("Ready")
            yield agents
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == 0
            assert "Traceback" not in log.read_text("utf-8")
        finally:
            sys.stderr.write(log.read_text("utf-8"))  # pytest shows it where a test fails
            process.terminate()
            process.wait(SECONDS)

    def shows(self, text: str) -> bool:
        """True if the example's page shows these lines."""
        return text in self._page


class Agents:
    """The output of a start.sh and its agents."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def said(self, beginning: str) -> list[str]:
        """The lines so far that begin so, sorted: agents do not wait for each other."""
        return sorted(
            line for line in self._log.read_text("utf-8").splitlines() if line.startswith(beginning)
        )


def wait_until(check: Callable[[], object]) -> None:
    """Waits until a function returns something true."""
    until = time.monotonic() + SECONDS
    while not check():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


@pytest.fixture
def hello(platform: PlatformProcess, tmp_path: Path) -> Terminal:
    return Terminal("01-hello-world", platform, tmp_path)


@pytest.fixture
def events(platform: PlatformProcess, tmp_path: Path) -> Terminal:
    return Terminal("02-events-simple", platform, tmp_path)


# --- 01 ------------------------------------------------------------------------------------


@pytest.mark.behaviour("examples.hello")
def test_a_greeting_as_the_page_shows_it(hello: Terminal) -> None:
    with hello.agents() as agents:
        assert agents.said("  python ") == ["  python client.py Ada"]
        assert hello.run("python client.py Ada") == "Hello, Ada!\n"
        assert agents.said("[worker]") == ["[worker] greets Ada"]
    assert agents.said("Stopping") == ["Stopping the worker"]
    assert hello.shows("Hello, Ada!")


@pytest.mark.behaviour("examples.hello", "groups.wait")
def test_a_question_waits_for_the_worker(hello: Terminal, platform: PlatformProcess) -> None:
    with hello.agents():
        pass
    with ThreadPoolExecutor() as pool:
        client = pool.submit(hello.run, "python client.py 'Ada Lovelace'")
        wait_until(
            lambda: (
                Raw(platform.events_url)("GET", "/v1/events/groups").json["groups"][0]["waiting"]
                == 1
            )
        )
        with hello.agents():
            assert client.result() == "Hello, Ada Lovelace!\n"


@pytest.mark.behaviour("examples.mistakes")
def test_a_client_without_a_name_or_a_platform_says_so(
    hello: Terminal, platform: PlatformProcess
) -> None:
    assert (
        hello.run("python client.py", code=1) == "Say who is to be greeted: python client.py Ada\n"
    )
    platform.kill()
    assert platform.events_url in hello.run("python client.py Ada", code=1)


# --- 02 ------------------------------------------------------------------------------------


def notes(name: str, *items: str) -> list[str]:
    """A subscriber's output for these orders."""
    return sorted(f"[{name}] notes an order of {item}" for item in items)


@pytest.mark.behaviour("examples.events", "groups.copy-and-share")
def test_each_name_gets_a_copy_as_the_page_shows_it(events: Terminal) -> None:
    with events.agents() as agents:
        assert agents.said("  python ") == ["  python publisher.py tea coffee"]
        announced = events.run("python publisher.py tea coffee")
        assert events.shows(announced)
        wait_until(lambda: len(agents.said("[")) >= 4)
    for name in "warehouse", "accounts":
        assert agents.said(f"[{name}]") == notes(name, "tea", "coffee")
        assert all(map(events.shows, notes(name, "tea", "coffee")))


@pytest.mark.behaviour("examples.events", "groups.copy-and-share")
def test_replicas_share(events: Terminal) -> None:
    """An order goes to whichever replica takes it, so orders are placed until each has had some."""
    rounds = 0
    with events.agents() as first, events.agents() as second:
        shares = [
            (script, name) for script in (first, second) for name in ("[warehouse]", "[accounts]")
        ]

        def all_noted() -> bool:
            return sum(len(script.said(name)) for script, name in shares) >= rounds * 8

        while rounds == 0 or (
            rounds < 10 and not all(script.said(name) for script, name in shares)
        ):
            assert events.run("python publisher.py salt pepper sugar flour").count("Announced") == 4
            rounds += 1
            wait_until(all_noted)
    assert all(script.said(name) for script, name in shares)
    for name in "warehouse", "accounts":
        together = first.said(f"[{name}]") + second.said(f"[{name}]")
        assert sorted(together) == notes(name, *["salt", "pepper", "sugar", "flour"] * rounds)


@pytest.mark.behaviour("examples.events", "groups.wait")
def test_what_is_announced_while_they_are_away_waits(events: Terminal) -> None:
    with events.agents():
        pass
    assert events.run("python publisher.py milk") == "Announced an order of milk\n"
    with events.agents() as agents:
        wait_until(lambda: len(agents.said("[")) >= 2)
    for name in "warehouse", "accounts":
        assert agents.said(f"[{name}]") == notes(name, "milk")
        assert all(map(events.shows, notes(name, "milk")))


@pytest.mark.behaviour("examples.mistakes")
def test_programs_without_arguments_or_a_platform_say_so(
    events: Terminal, platform: PlatformProcess
) -> None:
    assert (
        events.run("python publisher.py", code=1)
        == "Say what is ordered: python publisher.py tea coffee\n"
    )
    for command in ("python subscriber.py", "python subscriber.py ''", "python subscriber.py ' '"):
        said = events.run(command, code=1)
        assert said == "Give the subscriber a name: python subscriber.py warehouse\n"
    platform.kill()
    assert platform.events_url in events.run("python publisher.py tea", code=1)


# --- Both ----------------------------------------------------------------------------------


@pytest.mark.behaviour("examples.mistakes")
@pytest.mark.parametrize("example", ["01-hello-world", "02-events-simple"])
def test_without_a_platform_start_sh_says_what_to_do(
    example: str, platform: PlatformProcess, tmp_path: Path
) -> None:
    platform.kill()
    assert "soorma dev --build" in Terminal(example, platform, tmp_path).run("./start.sh", code=1)
