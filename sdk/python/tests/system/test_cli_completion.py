"""`soorma completion`: bash completes with its script; requests as of zsh and fish are answered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_shell import SOORMA, Shell
from platform_process import clean_environment

from soorma.cli import commands
from soorma.cli.exits import Exit
from soorma_common.topics import Topic

README = Path(__file__).parents[2] / "README.md"
COMMANDS = set(commands.HOMES)
BASH = """
eval "$(soorma completion bash)"
words=("$@")
COMP_WORDS=("${words[@]}")
COMP_CWORD=$((${#words[@]} - 1))
$(complete -p soorma | sed -n 's/.*-F \\([^ ]*\\).*/\\1/p') soorma
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""The way of bash at a press of Tab: it calls the function that the script has registered."""


def environment() -> dict[str, str]:
    """With the command on the PATH, as in an activated environment."""
    own = str(Path(sys.executable).parent)
    return clean_environment(PATH=os.pathsep.join([own, os.environ["PATH"]]), NO_COLOR="1")


def in_bash(*words: str) -> list[str]:
    """The offers of bash after these words, the last of which is incomplete."""
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", "soorma", *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


def asked(shell: str, text: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as the script of another shell does, with this text before the cursor."""
    return subprocess.run(
        SOORMA,
        env={
            **environment(),
            "_SOORMA_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": text,
            **more,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.behaviour("completion.shells")
def test_bash_completes_commands() -> None:
    assert set(in_bash("")) == COMMANDS
    assert in_bash("ev") == ["events"]
    assert in_bash("nothing-like-it") == []


@pytest.mark.behaviour("completion.shells")
def test_bash_completes_what_is_below_a_command() -> None:
    assert set(in_bash("events", "")) == {
        "tail", "publish", "groups", "unsubscribe", "dead-letters", "replay", "timers", "cancel",
    }  # fmt: skip
    assert in_bash("state", "wa") == ["watch"]
    assert set(in_bash("memory", "s")) == {"said", "search", "sessions", "show", "skills"}
    assert set(in_bash("memory", "skills", "")) == {
        "list", "show", "versions", "relevant", "add", "import", "export", "activate", "roll-back",
        "retire", "outcome", "forget",
    }  # fmt: skip
    assert in_bash("memory", "skills", "list", "--kind", "") == ["skill", "prompt", "rule"]


@pytest.mark.behaviour("completion.shells")
def test_bash_completes_options_and_choices() -> None:
    assert in_bash("dev", "--lo") == ["--logs"]
    assert in_bash("doctor", "--thor") == ["--thorough"]
    assert set(in_bash("events", "publish", "--topic", "")) == {topic.value for topic in Topic}
    assert in_bash("completion", "") == ["bash", "zsh", "fish"]
    assert in_bash("init", "name", "--type", "") == ["worker", "workflow"]


@pytest.mark.behaviour("command.complete-help")
def test_the_reference_names_every_command() -> None:
    section = README.read_text("utf-8").partition("\n## The command\n")[2].partition("\n## ")[0]
    assert {name for name in in_bash("") if f"| `soorma {name}" not in section} == {"dev"}, (
        "dev has a table of its own"
    )


@pytest.mark.behaviour("completion.shells")
def test_zsh_is_answered() -> None:
    answer = asked("zsh", "soorma e")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("_arguments")
    assert '"events":"' in answer.stdout
    assert '"state":"' not in answer.stdout


@pytest.mark.behaviour("completion.shells")
def test_fish_is_answered() -> None:
    answer = asked("fish", "soorma events ", _TYPER_COMPLETE_FISH_ACTION="get-args")
    assert answer.returncode == 0, answer.stderr
    assert {line.split("\t")[0] for line in answer.stdout.splitlines()} == set(
        in_bash("events", "")
    )
    assert asked("fish", "soorma zzz", _TYPER_COMPLETE_FISH_ACTION="is-args").returncode == 1


@pytest.mark.behaviour("completion.shells")
@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_scripts(shell: Shell, name: str) -> None:
    script = shell.soorma("completion", name).stdout
    assert f"_SOORMA_COMPLETE=complete_{name}" in script
    assert "soorma" in script
    assert f"soorma completion {name}" in " ".join(
        shell.soorma("completion", "--help").stdout.split()
    )


@pytest.mark.behaviour("completion.shells")
def test_a_shell_without_a_script(shell: Shell) -> None:
    assert "tcsh" in shell.soorma("completion", "tcsh", exits=Exit.USAGE).stderr
