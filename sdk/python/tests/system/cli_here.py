"""Runs of the command in the process of the test, which spares it a start of half a second."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from soorma.cli import commands, main

QUICK = {"audit", "backup", "blocks", "events", "keys", "memory", "state", "whoami"}
"""Commands that do their work and end, and leave nothing behind in their process."""

_build = cache(commands.get_command)


def can_run_here(arguments: Sequence[str], env: Mapping[str, str]) -> bool:
    """Returns whether a command may run in this process.

    Not while an event loop runs, as it runs one of its own, nor with modules of its own.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return arguments[:1] != () and arguments[0] in QUICK and "PYTHONPATH" not in env
    return False


def run_here(
    arguments: Sequence[str], folder: Path, env: Mapping[str, str], stdin: bytes = b""
) -> tuple[int, bytes, bytes]:
    """Runs the command in this process; returns its exit code, output and errors.

    It takes the tree of commands that an earlier one has built.
    """
    with (
        pytest.MonkeyPatch.context() as shell,
        TemporaryFile() as said,
        TemporaryFile() as told,
    ):
        for name, file in (("stdin", io.BytesIO(stdin)), ("stdout", said), ("stderr", told)):
            shell.setattr(sys, name, io.TextIOWrapper(file, "utf-8", write_through=True))
        for name in os.environ.keys() - env.keys():
            shell.delenv(name)
        for name, value in env.items():
            shell.setenv(name, value)
        shell.chdir(folder)
        shell.setattr(commands, "get_command", _build)
        code = main.run(list(arguments))
        for file in (said, told):
            file.seek(0)
        return code, said.read(), told.read()
