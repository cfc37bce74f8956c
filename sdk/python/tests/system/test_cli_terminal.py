"""The command at a person's terminal: its questions, its output there, the look of its help."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_shell import SECONDS, SOORMA, Shell
from cli_terminal import COMMANDS, Terminal
from depth import drawn

from soorma.cli import commands, output
from soorma.cli.exits import Exit

README = Path(__file__).parents[2] / "README.md"
PLAN = "4071009d-1111-2222-3333-44445555666"


class Person:
    """Somebody at a terminal of 80 columns."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def runs(self, *arguments: str, answer: str = "") -> tuple[int, str]:
        """The exit code of a command, and what the terminal shows."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        env = {name: value for name, value in self._shell.env.items() if name != "COLUMNS"}
        process = subprocess.Popen(
            [*SOORMA, *arguments],
            cwd=self._shell.folder,
            env=env,
            stdin=its,
            stdout=its,
            stderr=its,
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
        return process.wait(SECONDS), shown.decode().replace("\r\n", "\n")


@pytest.fixture
def person(shell: Shell) -> Person:
    return Person(shell)


# --- Removing ------------------------------------------------------------------------------


@pytest.mark.behaviour("dev.clean-asks")
def test_clean_asks_and_takes_no_for_an_answer(shell: Shell, person: Person) -> None:
    shell.soorma("dev")
    code, said = person.runs("dev", "--stop", "--clean", answer="n\n")
    assert code == Exit.FAILED
    assert f"all that the platform of {shell.folder} has stored" in " ".join(said.split())
    assert "nothing was stopped or removed" in said
    assert shell.is_up()

    code, said = person.runs("dev", "--stop", "--clean", answer="y\n")
    assert code == Exit.OK, said
    assert not (shell.folder / ".soorma").exists()


@pytest.mark.behaviour("dev.clean-asks")
def test_where_nobody_can_be_asked_it_wants_yes(shell: Shell) -> None:
    shell.soorma("dev", "--stop", "--clean")  # nothing was ever started: nothing to ask about
    shell.soorma("dev")
    done = shell.soorma("dev", "--stop", "--clean", exits=Exit.USAGE)
    assert "--yes" in done.stderr
    assert shell.is_up()
    shell.soorma("dev", "--stop", "--clean", "--yes")
    assert not (shell.folder / ".soorma").exists()
    shell.soorma("dev", "--yes", exits=Exit.USAGE)


@pytest.mark.behaviour("dev.crash")
def test_after_a_kill_nothing_sounds_like_a_loss_of_data(shell: Shell) -> None:
    shell.soorma("dev")
    os.kill(shell.pid(), 9)
    said = shell.soorma("dev").stderr
    assert "its data is kept" in said
    assert "cleaned up" not in said


# --- What it shows -------------------------------------------------------------------------


@pytest.mark.behaviour("command.tables", "dev.logs-in-words")
def test_tables_and_logs_at_80_columns(shell: Shell, person: Person) -> None:
    shell.soorma("dev")
    for number in range(3):
        shell.soorma("state", "set", f"{PLAN}{number}", "goal", json.dumps({"planId": "x" * 300}))

    code, said = person.runs("state", "plans")
    lines = said.splitlines()
    assert code == Exit.OK
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if PLAN in line] == [
        f"{PLAN}{number}" for number in (2, 1, 0)
    ]
    assert any(line.startswith("note: no room for ") for line in lines)
    assert person.runs("state", "plans", "--limit", "1")[1].count(PLAN) == 1
    assert max(map(len, person.runs("state", "list", f"{PLAN}1")[1].splitlines())) <= 80

    log = person.runs("dev", "--logs")[1]
    assert '{"' not in log
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} .*info +.*soorma", log, flags=re.MULTILINE)
    assert all(
        json.loads(line)["level"] for line in shell.soorma("dev", "--logs").stdout.splitlines()
    )


@pytest.mark.behaviour("command.tables")
def test_the_newest_of_many(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"number": number} for number in range(150)]
    assert [row["number"] for row in output.newest(rows, "number", None)] == list(
        range(149, 49, -1)
    )
    assert "the newest 100 of 150" in capsys.readouterr().err
    assert [row["number"] for row in output.newest(rows, "number", 2)] == [149, 148]
    assert capsys.readouterr().err == ""
    assert output.some(rows, "number", None) == rows
    assert [row["number"] for row in output.some(rows, "number", 2)] == [148, 149]


@pytest.mark.behaviour("command.snake-case")
def test_json_is_snake_case_and_what_users_have_stored_is_untouched(shell: Shell) -> None:
    shell.soorma("dev")
    mine = {"planId": {"innerName": [{"deepName": 1}]}}
    shell.soorma("state", "set", "plan", "myKey", json.dumps(mine))
    shell.soorma(
        "events",
        "publish",
        "order.placed",
        "--topic",
        "business-facts",
        "--delay",
        "900",
        "--plan",
        "plan",
    )
    documents = {
        " ".join(command): json.loads(shell.soorma(*command, "--json").stdout)
        for command in (
            ["state", "plans"],
            ["state", "list", "plan"],
            ["state", "get", "plan", "myKey"],
            ["state", "history", "plan"],
            ["state", "diff", "plan", "0"],
            ["state", "fork", "plan", "other"],
            ["events", "timers"],
            ["events", "groups"],
            ["dev", "--status"],
        )
    }
    for command, document in documents.items():
        assert not [
            name
            for name in ours(document)
            if name != name.lower() and not name.startswith("SOORMA_")
        ], command
    assert documents["state get plan myKey"]["value"] == mine
    assert documents["state get plan myKey"]["plan_id"] == "plan"
    assert documents["state history plan"]["changes"][0]["argument"] == mine
    assert documents["events timers"]["timers"][0]["plan_id"] == "plan"


def ours(document: Any) -> Iterator[str]:
    """The names of a document, but those that a user has given."""
    if isinstance(document, list):
        for each in document:
            yield from ours(each)
    elif isinstance(document, dict):
        for name, value in document.items():
            yield name
            if name not in ("value", "argument", "before", "after", "data", "result"):
                yield from ours(value)


@pytest.mark.behaviour("clients.silence")
def test_an_outage_is_told_before_it_ends_the_command(shell: Shell) -> None:
    done = shell.soorma(
        "state", "plans", exits=Exit.UNAVAILABLE, SOORMA_MEMORY_URL="http://localhost:1"
    )
    first, last = done.stderr.splitlines()
    assert first.startswith(
        "note: no answer from the memory service at http://localhost:1; trying for another 2 s"
    )
    assert last.startswith("soorma: the memory service at http://localhost:1 cannot be reached")


# --- Help ----------------------------------------------------------------------------------

PAGES = [
    [],
    *([name] for name in commands.HOMES),
    *(
        ["events", name]
        for name in ("tail", "publish", "groups", "dead-letters", "replay", "timers", "cancel")
    ),
    *(
        ["state", name]
        for name in (
            "plans",
            "list",
            "get",
            "set",
            "delete",
            "history",
            "watch",
            "fork",
            "complete",
        )
    ),
]


@pytest.mark.behaviour("command.help-fits")
@pytest.mark.parametrize("command", drawn("pages of help", PAGES, 10), ids=" ".join)
def test_help_fits_the_terminal(person: Person, command: list[str]) -> None:
    code, said = person.runs(*command, "--help")
    assert code == Exit.OK
    assert "<bool>" not in said
    assert not [line for line in said.splitlines() if len(line) > 80]
    assert not re.search(r"[a-z]-$", said, flags=re.MULTILINE), "a word is broken"
    assert "…" not in said.replace("SOORMA_…", "").replace("(…000", "").replace("KEY…", "").replace(
        "ID…", ""
    )


def listed(help_text: str) -> list[str]:
    """The commands that a help lists."""
    return re.findall(
        r"^  ([a-z][a-z-]*) ", help_text.partition("\nCommands:\n")[2], flags=re.MULTILINE
    )


@pytest.mark.behaviour("command.complete-help")
def test_help_and_readme_name_every_command(terminal: Terminal) -> None:
    told = terminal.process("--help").stdout
    assert all(noun in told for noun in commands.HOMES)
    found = {
        f"{noun} {name}"
        for noun in commands.HOMES
        for name in listed(terminal.process(noun, "--help").stdout)
    }
    assert found - {"keys generate"} == {" ".join(command[:2]) for command in COMMANDS}
    section = README.read_text("utf-8").partition("\n## The command\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `soorma ([a-z]+ [a-z-]+)", section, flags=re.MULTILINE)) == found
    codes = " ".join(terminal.process("dev", "--help").stdout.split())
    assert all(f"{code.value} {code.meaning}" in codes for code in Exit)
