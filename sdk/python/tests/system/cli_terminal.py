"""A terminal for the commands on data: runs them on a platform, for a tenant of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any, Self

from cli_here import run_here
from platform_process import PlatformProcess, clean_environment
from running import WAIT, config_of, unique

from soorma import PlatformContext
from soorma.cli.exits import Exit

SOORMA = [sys.executable, "-P", "-m", "soorma.cli"]
FEW_SECONDS = "0.2"

COMMANDS = [
    ("memory", "search", "dogs"),
    ("memory", "said", "dogs"),
    ("memory", "add", "text"),
    ("memory", "list"),
    ("memory", "show", "passage"),
    ("memory", "update", "passage", "--tag", "t"),
    ("memory", "publish", "passage"),
    ("memory", "forget", "passage", "--yes"),
    ("memory", "history"),
    ("memory", "log", "user", "text"),
    ("memory", "sessions"),
    ("memory", "skills"),
    ("memory", "quarantine"),
    ("memory", "quarantine", "add", "--source", "web"),
    ("memory", "audit"),
    ("events", "tail"),
    ("events", "publish", "a", "--topic", "business-facts"),
    ("events", "groups"),
    ("events", "unsubscribe", "group", "type", "--yes"),
    ("events", "dead-letters"),
    ("events", "replay", "1"),
    ("events", "timers"),
    ("events", "cancel", "event-1"),
    ("state", "plans"),
    ("state", "complete", "plan"),
    ("state", "fail", "plan", "--reason", "lost"),
    ("state", "cancel", "plan"),
    ("state", "list", "plan"),
    ("state", "get", "plan", "key"),
    ("state", "set", "plan", "key", "1"),
    ("state", "delete", "plan", "key"),
    ("state", "history", "plan"),
    ("state", "at", "plan", "1"),
    ("state", "diff", "plan", "1"),
    ("state", "restore", "plan", "key", "1"),
    ("state", "fork", "plan", "new"),
    ("state", "actions", "plan"),
    ("state", "watch", "plan"),
    ("keys", "create", "ops", "--role", "operator"),
    ("keys", "list"),
    ("keys", "rotate", "key"),
    ("keys", "revoke", "key", "--yes"),
    ("blocks", "create", "--user", "alice"),
    ("blocks", "list"),
    ("blocks", "lift", "block"),
]
"""Every command on data, with the arguments that it needs."""


class Terminal:
    """A shell in a folder without a platform's note; the environment names platform and tenant."""

    def __init__(self, platform: PlatformProcess, folder: Path) -> None:
        self.platform = platform
        self.folder = folder
        self.tenant = unique("tenant")
        self.env = clean_environment(
            SOORMA_MEMORY_URL=platform.memory_url,
            SOORMA_EVENT_SERVICE_URL=platform.events_url,
            SOORMA_REGISTRY_URL=platform.registry_url,
            SOORMA_IDENTITY_URL=platform.identity_url,
            SOORMA_TENANT_ID=self.tenant,
            COLUMNS="200",
            NO_COLOR="1",
        )

    def run(
        self, *arguments: str, exits: Exit = Exit.OK, stdin: bytes = b"", **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command, which must end with this exit code, and explain a failure in one line.

        It runs in this process, and takes the tree of commands that an earlier one has built. That
        only spares the import and the building: the tests need hundreds of them.
        """
        code, said, told = run_here(arguments, self.folder, {**self.env, **env}, stdin)
        return _checked(arguments, code, exits, said, told)

    def process(self, *arguments: str, exits: Exit = Exit.OK) -> subprocess.CompletedProcess[str]:
        """Runs the command in a process of its own, concurrently with this one."""
        done = subprocess.run(
            [*SOORMA, *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return _checked(arguments, done.returncode, exits, done.stdout, done.stderr)

    def json(self, *arguments: str, **more: Any) -> Any:
        """The one document that a command prints with --json."""
        return json.loads(self.run(*arguments, "--json", **more).stdout)

    def set(self, plan: str, key: str, value: Any) -> int:
        """Sets a key; returns its revision."""
        return int(self.json("state", "set", plan, key, json.dumps(value))["revision"])

    def context(self) -> PlatformContext:
        """The same platform for the same tenant, without the command."""
        return PlatformContext.on(config_of(self.platform, tenant_id=self.tenant), "test")


def _checked(
    arguments: tuple[str, ...], code: int, exits: Exit, stdout: bytes, stderr: bytes
) -> subprocess.CompletedProcess[str]:
    said, told = stdout.decode(), stderr.decode()
    assert code == exits, f"{arguments} gave {code}:\n{said}\n{told}"
    assert "Traceback" not in said + told
    if exits not in (Exit.OK, Exit.USAGE):
        errors = [line for line in told.splitlines() if not line.startswith("note: ")]
        assert len(errors) == 1, told
        assert errors[0].startswith("soorma: ")
    return subprocess.CompletedProcess(arguments, code, said, told)


class Follower:
    """A command that runs until Ctrl+C.

    Use it as a context manager: the command is connected inside, and gone at the end.
    """

    def __init__(self, terminal: Terminal, *arguments: str) -> None:
        # as in a script's background: it would ignore it too
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            [*SOORMA, *arguments],
            cwd=terminal.folder,
            env=terminal.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        assert said == b"note: following; Ctrl+C ends it\n"
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """The next line; the test's own timeout bounds the wait."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said, self.process.communicate()
        return said.decode().rstrip("\n")

    def end(self) -> tuple[str, str]:
        """Ends it with Ctrl+C, which is no failure, and returns the rest of its output."""
        self.process.send_signal(signal.SIGINT)
        said, told = self.process.communicate(timeout=WAIT)
        assert self.process.returncode == Exit.OK, told
        assert b"Traceback" not in told
        return said.decode(), told.decode()


def at_terminal(terminal: Terminal, *arguments: str, answer: str = "") -> tuple[int, str]:
    """The exit code of a command at a person's terminal of 80 columns, and what that shows."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {name: value for name, value in terminal.env.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [*SOORMA, *arguments], cwd=terminal.folder, env=env, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    os.write(ours, answer.encode())
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return process.wait(WAIT), shown.decode().replace("\r\n", "\n")


def rows(table: str) -> list[list[str]]:
    """The cells of a printed table, its headings first."""
    lines = [line.strip() for line in table.splitlines() if line.strip() and "──" not in line]
    return [re.split(r"\s{2,}", line) for line in lines]


def publish(terminal: Terminal, *arguments: str, **more: Any) -> str:
    """Publishes on business-facts; returns the event's id."""
    return terminal.run(
        "events", "publish", *arguments, "--topic", "business-facts", **more
    ).stdout.strip()
