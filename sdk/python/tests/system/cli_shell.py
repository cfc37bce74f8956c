"""A terminal in which tests run the `soorma` command, and helpers to inspect its effects."""

from __future__ import annotations

import json
import os
import selectors
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cli_here import can_run_here, run_here
from platform_process import EVENTS_PORT, MEMORY_PORT, answer_of, clean_environment

from soorma.cli.exits import Exit
from soorma.local import Process

SOORMA = [sys.executable, "-m", "soorma.cli"]
SECONDS = 60


class Shell:
    """A person's terminal in a folder: runs `soorma …` there, and finally ends what it started."""

    def __init__(self, folder: Path, offset: int) -> None:
        self.folder = folder
        self.offset = offset
        self.env = clean_environment(SOORMA_PORT_OFFSET=str(offset), COLUMNS="200")
        self._platforms: set[Process] = set()
        self._children: list[subprocess.Popen[str]] = []

    def soorma(
        self, *arguments: str, exits: Exit = Exit.OK, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command; it must end with this exit code, and never with a traceback.

        A quick one runs in this process.
        """
        done = self._run(arguments, cwd or self.folder, {**self.env, **env})
        self.remember(cwd)
        assert done.returncode == exits, (
            f"{arguments} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def _run(
        self, arguments: tuple[str, ...], folder: Path, env: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        if can_run_here(arguments, env):
            code, said, told = run_here(arguments, folder, env)
            return subprocess.CompletedProcess(arguments, code, said.decode(), told.decode())
        return subprocess.run(
            [*SOORMA, *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
        )

    def spawn(
        self, *arguments: str, program: Sequence[str] = SOORMA, **env: str
    ) -> subprocess.Popen[str]:
        """Starts the command, or another program, concurrently with this test."""
        child = subprocess.Popen(
            [*program, *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._children.append(child)
        return child

    def make_key(self, database: Path | None = None, role: str = "operator") -> str:
        """Makes a key in a database on which no platform runs, and returns its credential."""
        file = database or self.folder / ".soorma" / "soorma.db"
        file.parent.mkdir(parents=True, exist_ok=True)
        made = self.soorma("keys", "create", role, "--role", role, "--database", str(file))
        return made.stdout.strip()

    def python(self, program: str) -> subprocess.Popen[str]:
        """Starts another program and waits for its first output; it lives until the end."""
        child = self.spawn("-c", program, program=[sys.executable])
        read_until(child, "begun")
        return child

    @property
    def state(self) -> Path:
        return self.folder / ".soorma" / "platform.json"

    def pid(self) -> int:
        """The platform's process, as the command knows it."""
        found: int = json.loads(self.state.read_text())["pid"]
        return found

    def url(self, port: int) -> str:
        return f"http://127.0.0.1:{port + self.offset}"

    def is_up(self) -> bool:
        return bool(answer_of(self.url(EVENTS_PORT)) and answer_of(self.url(MEMORY_PORT)))

    def remember(self, cwd: Path | None = None) -> None:
        """Notes the running platform, to end it with the test even if the command forgets it."""
        for folder in (self.folder, cwd or self.folder):
            with suppress(OSError, ValueError, TypeError, KeyError):
                found = json.loads((folder / ".soorma" / "platform.json").read_text())
                self._platforms.add(Process(found["pid"], found["born"]))

    def close(self) -> None:
        self.remember()
        for child in self._children:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
        for platform in self._platforms:
            if platform.pid != os.getpid() and platform.born and platform.is_alive():
                os.kill(platform.pid, signal.SIGKILL)


def read_until(child: subprocess.Popen[str], text: str) -> str:
    """Reads the child's output up to this text, within a bounded time."""
    assert child.stdout is not None
    said = b""
    until = time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while text.encode() not in said:
            assert selector.select(until - time.monotonic()), (
                f"{text!r} was not said, but:\n{said.decode()}"
            )
            chunk = os.read(child.stdout.fileno(), 65536)
            assert chunk, f"it ended without {text!r}, saying:\n{said.decode()}"
            said += chunk
    return said.decode()


def eventually(condition: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    return not Process.of(pid).born


def keep(shell: Shell, plan_id: str, value: str) -> None:
    """Writes one value into the platform's memory."""
    ask_memory(shell, "PUT", plan_id, json.dumps({"value": value}).encode())


def kept(shell: Shell, plan_id: str) -> object:
    """The value that `keep` wrote, None if there is none."""
    try:
        return ask_memory(shell, "GET", plan_id)["value"]
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 404:
            raise
        return None


def ask_memory(
    shell: Shell, method: str, plan_id: str, body: bytes | None = None
) -> dict[str, object]:
    request = urllib.request.Request(
        f"{shell.url(MEMORY_PORT)}/v1/memory/working/{plan_id.replace(' ', '%20')}/key",
        data=body,
        method=method,
        headers={
            "X-Tenant-ID": "t",
            "X-User-ID": "u",
            "Content-Type": "application/json",
            "Authorization": f"Bearer {shell.env.get('SOORMA_API_KEY', '')}",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        found: dict[str, object] = json.load(response)
    return found


def locked_database(shell: Shell) -> Path:
    """A database that another program keeps locked until the end of the test."""
    database = shell.folder / ".soorma" / "soorma.db"
    database.parent.mkdir()
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    shell.python(
        f"import sqlite3, time; c = sqlite3.connect({str(database)!r}); c.execute('BEGIN "
        "EXCLUSIVE'); "
        "print('begun', flush=True); time.sleep(600)"
    )
    return database
