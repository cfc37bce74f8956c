"""A walk through the commands of the pages in a copy of the repository, as after a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from doc_pages import ROOT
from platform_process import (
    EVENTS_PORT,
    MEMORY_PORT,
    REGISTRY_PORT,
    PortReservation,
    clean_environment,
)

SECONDS = 60

# Stands in for curl where there is none, and lets none that fails pass.
CURL = """#!{python}
import argparse, sys, urllib.request
parser = argparse.ArgumentParser()
parser.add_argument("-X", dest="method", default="GET")
parser.add_argument("-H", dest="headers", action="append", default=[])
parser.add_argument("-d", dest="data")
parser.add_argument("url")
given = parser.parse_args()
headers = dict(header.split(": ", 1) for header in given.headers)
body = given.data.encode() if given.data is not None else None
request = urllib.request.Request(given.url, body, headers, method=given.method)
print(urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(\
request, timeout=30).read().decode())
"""


class Tour:
    """A shell in a copy of the repository, on ports of its own. Ends what it has started."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone"
        self.cwd = self.root
        self._ports = PortReservation()
        self._agents: subprocess.Popen[str] | None = None
        skipped = shutil.ignore_patterns("__pycache__", ".*", "tests")
        for part in ("examples", "sdk"):
            shutil.copytree(ROOT / part, self.root / part, ignore=skipped)
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        curl = bin_folder / "curl"
        curl.write_text(CURL.format(python=sys.executable), "utf-8")
        curl.chmod(0o755)
        offset = self._ports.offset
        self.env = clean_environment(
            PATH=os.pathsep.join(
                [str(bin_folder), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            VIRTUAL_ENV=sys.prefix,
            SOORMA_PORT_OFFSET=str(offset),
            SOORMA_MEMORY_URL=f"http://localhost:{MEMORY_PORT + offset}",
            SOORMA_EVENT_SERVICE_URL=f"http://localhost:{EVENTS_PORT + offset}",
            SOORMA_REGISTRY_URL=f"http://localhost:{REGISTRY_PORT + offset}",
            TASK_SECONDS="0.1",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop_agents()
        finally:
            self.cwd = self.root
            self.run("soorma dev --stop --clean --yes")
            self._ports.close()

    def run(self, command: str) -> str:
        """Runs a command as the page shows it, but for the ports; returns its output.

        It must succeed.
        """
        if folder := re.fullmatch(r"cd (\S+)", command):
            self.cwd = self.cwd / folder[1]
            assert self.cwd.is_dir(), f"{command}: there is no {self.cwd}"
            return ""
        done = subprocess.run(
            ["/bin/sh", "-c", self._moved(command)],
            cwd=self.cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command!r} gave {done.returncode}:\n{done.stdout}"
        return done.stdout

    def start_agents(self, command: str) -> None:
        """Starts the example's agents; returns when they say that they are ready."""
        self._agents = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=self.cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._agents.stdout is not None
        said = []
        for line in self._agents.stdout:
            said.append(line)
            if line.startswith("Ready"):
                return
        raise AssertionError(f"{command!r} ended before its agents were ready:\n{''.join(said)}")

    def stop_agents(self) -> None:
        """Stops them as Ctrl+C does."""
        agents, self._agents = self._agents, None
        if agents is None:
            return
        agents.send_signal(signal.SIGINT)
        try:
            said, _ = agents.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            # without the script, nobody would end its agents
            for pid in [*_children_of(agents.pid), agents.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            agents.communicate()
            raise
        assert agents.returncode == 0, said

    def _moved(self, command: str) -> str:
        return re.sub(
            r"localhost:(808\d)\b",
            lambda port: f"localhost:{int(port[1]) + self._ports.offset}",
            command,
        )


def _children_of(parent: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = [map(int, line.split()) for line in listed.stdout.splitlines()]
    return [pid for pid, of in pairs if of == parent]
