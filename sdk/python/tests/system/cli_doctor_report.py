"""The report of a `soorma doctor`, and runs of it in a shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli_here import run_here
from cli_shell import Shell

from soorma.cli.dev import services
from soorma.cli.exits import Exit


class Report:
    """The JSON output of a doctor."""

    def __init__(self, text: str) -> None:
        self.document = json.loads(text)
        self.checks = self.document["checks"]

    def of(self, check: str, group: str = "") -> list[dict[str, Any]]:
        return [one for one in self.checks if one["check"] == check and group in ("", one["group"])]

    def one(self, check: str, group: str = "") -> dict[str, Any]:
        (found,) = self.of(check, group)
        return dict(found)

    def worse(self, state: str) -> list[str]:
        return [f"{one['check']}: {one['found']}" for one in self.checks if one["state"] == state]


def doctor(
    shell: Shell, *options: str, exits: Exit = Exit.OK, cwd: Path | None = None, **env: str
) -> Report:
    """Runs the doctor in this process: the tests need a hundred of them.

    With another `PYTHONPATH`, which only a new process heeds, it has one of its own.
    """
    command = ("doctor", "--json", *options)
    if "PYTHONPATH" in {**shell.env, **env}:
        return Report(shell.soorma(*command, exits=exits, cwd=cwd, **env).stdout)
    code, said, told = run_here(command, cwd or shell.folder, {**shell.env, **env})
    assert code == exits, f"{command} gave {code}:\n{said.decode()}\n{told.decode()}"
    assert "Traceback" not in told.decode()
    return Report(said.decode())


def here(shell: Shell) -> dict[str, str]:
    """The variables that a person exports to reach the platform of the shell's folder."""
    return services.variables("127.0.0.1", services.ports_at(shell.offset))
