"""A server as docs/DEPLOYMENT.md sets one up, in a folder: its files, and what its units run.

There is no systemd in a test, so `systemctl` starts and stops what the installed units say: their
command, with their variables, files of variables and credentials. sudo does without asking.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from containers import wait_for
from depth import DEPTH
from doc_pages import ROOT, pages
from platform_process import PortReservation, clean_environment
from unit_file import Unit

import soorma

PAGE = ROOT / "docs" / "DEPLOYMENT.md"
SECONDS = 60
VARIABLES = {"MEMORY": 8083, "EVENT_SERVICE": 8082, "REGISTRY": 8081, "IDENTITY": 8085}
INSTALLS = re.compile(r"sudo (python3 -m venv|\S+/pip install)")
UNIT = re.compile(r"sudo systemctl (enable --now|start|stop|restart) (.+)")

WALKED, ELSEWHERE = (
    "docs/test_deployment.py::test_a_server_is_set_up_and_kept",
    "system/test_deploy.py",
)
OF_CONTAINERS = {
    "sh deploy/make-secrets.sh": "test_the_keys_permit_what_example_05_does",
    "docker compose --file deploy/compose.yaml up": "test_docker_compose_accepts_it",
    "docker build": "test_the_commands_of_the_image_build_what_runs",
    'SOORMA="docker run': "test_the_keys_permit_what_example_05_does",
    "env SOORMA_API_KEY_FILE=deploy/secrets/app.key": "test_the_services_do_the_work_of_example_05",
    "docker compose --file deploy/compose.yaml exec": "test_the_services_do_the_work_of_example_05",
    "docker compose --file deploy/compose.yaml cp": "test_docker_compose_accepts_it",
    "kubectl": "test_the_schema_of_kubernetes_accepts_it",
}
"""Tests of what needs an engine of containers or a cluster, by the beginning of a command."""


def commands_of_the_page() -> dict[str, str]:
    """The test that runs each command, for the check that each has one."""
    return {
        command: next(
            (
                f"{ELSEWHERE}::{test}"
                for start, test in OF_CONTAINERS.items()
                if command.startswith(start)
            ),
            WALKED,
        )
        for block in pages()[PAGE].blocks
        if block.language == "bash"
        for command in block.commands
    }


class Server:
    """A machine whose root is a folder. Ends what it has started."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._ports = PortReservation()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        # What is pretended to be installed are the packages under test.
        sources = {"PYTHONPATH": str(Path(soorma.__file__).parents[1])}
        self._packages = sources if DEPTH == "sample" else {"PYTHONPATH": ""}
        for place in ("opt", "etc/systemd/system", "etc/ssl", "var/lib/soorma"):
            (self.root / place).mkdir(parents=True)
        programs = folder / "bin"
        programs.mkdir()
        sudo = programs / "sudo"
        sudo.write_text('#!/bin/sh\n[ "$1" != -u ] || shift 2\nexec "$@"\n')
        sudo.chmod(0o755)
        self.env = clean_environment(
            PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
            **self._packages,
            **self._addresses(),
        )

    def _addresses(self) -> dict[str, str]:
        return {
            f"SOORMA_{name}_URL": f"http://localhost:{port + self._ports.offset}"
            for name, port in VARIABLES.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            for log in self.root.glob("*.log"):
                sys.stderr.write(f"--- {log.name}\n{log.read_text('utf-8')[-2000:]}\n")
        for process in self._running.values():
            process.kill()
            process.wait()
        self._ports.close()

    def run(self, command: str) -> str:
        """Runs a command as the page shows it, but in this root; returns what it prints.

        It must succeed.
        """
        if INSTALLS.match(command) and DEPTH == "sample":
            self._pretend_to_install()
            return ""
        if found := UNIT.fullmatch(command):
            self._control(found[1], found[2].split())
            return ""
        if command in ("sudo systemctl daemon-reload", "sudo systemd-sysusers"):
            return ""
        done = subprocess.run(
            ["/bin/sh", "-c", self.moved(command)],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=5 * SECONDS,
            check=False,
        )
        assert done.returncode == 0, (
            f"{command!r} gave {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def moved(self, text: str) -> str:
        """The text with this root's paths and ports."""
        text = re.sub(r"(?<![\w./~-])/(?=(opt|etc|var)/)", f"{self.root}/", text)
        return re.sub(
            r"localhost:(80\d\d)\b",
            lambda port: f"localhost:{int(port[1]) + self._ports.offset}",
            text,
        )

    def _pretend_to_install(self) -> None:
        """Makes programs that run those of this environment: the real commands take the index."""
        folder = self.root / "opt/soorma/bin"
        folder.mkdir(parents=True, exist_ok=True)
        for name, words in {"python": "", "soorma": "-m soorma.cli"}.items():
            program = folder / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
            program.chmod(0o755)

    # --- Units ---------------------------------------------------------------------------------

    def _control(self, what: str, units: list[str]) -> None:
        for unit in units:
            if what in ("stop", "restart"):
                self._stop(unit)
            if what != "stop":
                self._start(unit)

    def _stop(self, name: str) -> None:
        process = self._running.pop(name)
        process.terminate()
        assert process.wait(SECONDS) == 0, f"{name} did not end well"

    def _start(self, name: str) -> None:
        assert name not in self._running, f"{name} runs already"
        template, _, instance = name.partition("@")
        installed = self.root / "etc/systemd/system"
        file = installed / (f"{template}@.service" if instance else f"{template}.service")
        unit = Unit(file, *sorted(file.with_name(file.name + ".d").glob("*.conf")))
        credentials = self.root / "run" / name
        shutil.rmtree(credentials, ignore_errors=True)
        credentials.mkdir(parents=True)
        for line in unit.all("LoadCredential"):
            credential, _, source = line.partition(":")
            shutil.copy(self.moved(source), credentials / credential)
        environment = {
            **{
                key: value.replace("%d", str(credentials))
                for key, value in unit.environment.items()
            },
            **self._files_of(unit, instance),
        }
        # Servers of tests listen on loopback only.
        environment = {
            key: value.replace("0.0.0.0", "127.0.0.1") for key, value in environment.items()
        }
        command = self.moved(unit["ExecStart"]).replace("%i", instance)
        log = self.root / f"{name}.log"
        with log.open("ab") as output:
            said = output.tell()
            self._running[name] = subprocess.Popen(
                shlex.split(command),
                cwd=self.moved(f"{unit['WorkingDirectory']}/"),
                env=clean_environment(
                    **self._packages,
                    SOORMA_PORT_OFFSET=str(self._ports.offset),
                    TASK_SECONDS="0.05",
                    **(({**self._addresses(), **environment}) if instance else environment),
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        if not instance:
            wait_for(lambda: b"platform ready" in log.read_bytes()[said:], f"{name} is not ready")

    def _files_of(self, unit: Unit, instance: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in unit.all("EnvironmentFile"):
            file = Path(self.moved(line.removeprefix("-").replace("%i", instance)))
            if file.exists():
                lines = file.read_text("utf-8").splitlines()
                found |= dict(one.split("=", 1) for one in lines if one and one[0] != "#")
        return found
