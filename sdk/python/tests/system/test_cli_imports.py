"""The cost of starting a command: it imports what it needs, and nothing else."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from cli_terminal import Terminal
from platform_process import clean_environment

from soorma.cli import commands

HEAVY = {
    "aiohttp",
    "apsw",
    "http.client",
    "soorma_platform",
    "starlette",
    "structlog",
    "uvicorn",
    "uvloop",
    "websockets",
}
LISTING = """
import sys
from soorma.cli.main import main
sys.argv = ["soorma", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print("\\n" + " ".join(sys.modules), file=sys.stderr)
"""
WHAT_IT_STANDS_ON = "import typer.main, typer._adapters"
ROUNDS = 7


def modules_of(folder: Path, *arguments: str, **env: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", LISTING, *arguments],
        cwd=folder,
        env=clean_environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split("\n")[-2].split())


@pytest.mark.behaviour("costs.imports")
@pytest.mark.parametrize(
    "arguments",
    [
        ["version"],
        ["version", "--json"],
        ["--help"],
        ["completion", "bash"],
        ["init", "project"],
        *(
            [*words, "--help"]
            for words in (
                ["dev"],
                ["doctor"],
                ["init"],
                ["agents"],
                ["events", "tail"],
                ["state"],
                ["memory"],
                ["memory", "sessions"],
                ["memory", "skills"],
            )
        ),
    ],
    ids=" ".join,
)
def test_a_command_imports_little(tmp_path: Path, arguments: list[str]) -> None:
    assert HEAVY & modules_of(tmp_path, *arguments) == set()


@pytest.mark.behaviour("costs.imports")
def test_a_list_of_commands_imports_none_of_them(tmp_path: Path) -> None:
    # the root asks for that one
    homes = {home.module for name, home in commands.HOMES.items() if name != "completion"}
    assert homes & modules_of(tmp_path, "--help") == set()
    asked = modules_of(
        tmp_path, _SOORMA_COMPLETE="complete_bash", COMP_WORDS="soorma ", COMP_CWORD="1"
    )
    assert (homes | HEAVY) & asked == set()
    asked = modules_of(
        tmp_path, _SOORMA_COMPLETE="complete_bash", COMP_WORDS="soorma events ", COMP_CWORD="2"
    )
    assert (homes | HEAVY) & asked == {"soorma.cli.data.events"}


@pytest.mark.behaviour("costs.imports")
@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (
            ["version"],
            [
                "aiohttp",
                "asyncio",
                "msgspec",
                "rich.table",
                "soorma.cli.data.events",
                "soorma.cli.data.plans",
            ],
        ),
        (["events", "--help"], ["aiohttp", "soorma.cli.data.plans"]),
        (["state", "set", "plan", "key", "no json"], ["aiohttp", "soorma.cli.data.events"]),
        (["state", "list", "plan"], ["soorma.cli.data.events", "soorma.agents"]),
    ],
)
def test_a_command_imports_only_what_it_needs(
    terminal: Terminal, arguments: list[str], unwanted: list[str]
) -> None:
    program = f"""
import sys
from soorma.cli.main import run
run({arguments!r})
print("IMPORTED", *sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=terminal.env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    imported = done.stdout.partition("IMPORTED")[2].split()
    assert "soorma.cli.main" in imported
    assert not {"soorma_platform", *unwanted} & set(imported)


@pytest.mark.behaviour("costs.imports")
def test_a_doctor_needs_no_http_client_and_no_server(tmp_path: Path) -> None:
    found = modules_of(tmp_path, "doctor")
    assert {"aiohttp", "starlette", "uvicorn", "uvloop", "soorma_platform.runtime"} & found == set()
    assert "apsw" in found


@pytest.mark.behaviour("command.complete-help")
def test_what_is_listed_is_what_a_command_says_of_itself(tmp_path: Path) -> None:
    for name, home in commands.HOMES.items():
        said = subprocess.run(
            [sys.executable, "-P", "-m", "soorma.cli", name, "--help"],
            cwd=tmp_path,
            env=clean_environment(COLUMNS="200", NO_COLOR="1"),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        assert home.help in " ".join(said.split()), name


@pytest.mark.behaviour("costs.imports")
def test_starting_costs_little_more_than_the_library_it_stands_on(tmp_path: Path) -> None:
    """Processor seconds, each the least of several alternating rounds."""
    costs = [
        (
            seconds(tmp_path, "-c", WHAT_IT_STANDS_ON),
            seconds(tmp_path, "-m", "soorma.cli", "version"),
        )
        for _ in range(ROUNDS)
    ]
    floor, version = (min(each) for each in zip(*costs, strict=True))
    assert version < 2 * floor, costs


def seconds(folder: Path, *arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
