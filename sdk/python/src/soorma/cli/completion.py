"""`soorma completion SHELL`: the script with which a shell completes this command.

The script runs the command itself with an environment variable, and typer responds, so that the
completions are always up to date.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

# Private: typer has no public way to the script that its own option installs into a user's files.
from typer._completion_classes import completion_init
from typer._completion_shared import get_completion_script

from soorma.cli import output
from soorma.cli.commands import command_group

app = command_group()

VARIABLE = "_SOORMA_COMPLETE"
"""The variable that the scripts set to request completions."""


class Shell(StrEnum):
    """The shells that have a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


STEPS = {
    Shell.BASH: 'add to ~/.bashrc: eval "$(soorma completion bash)"',
    Shell.ZSH: 'add to ~/.zshrc, after compinit: eval "$(soorma completion zsh)"',
    Shell.FISH: "say once: soorma completion fish >~/.config/fish/completions/soorma.fish",
}
"""The steps that enable completion in every new shell."""

_HELP = "\n".join(
    [
        "Print the script with which your shell completes commands, options and choices.\n",
        "\b\nTo have it in every new shell:",
        *(f"{shell.value:<5}{step}" for shell, step in STEPS.items()),
    ]
)


@app.command(help=_HELP, epilog="Exit codes are listed by: soorma dev --help")
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    output.say(get_completion_script(prog_name="soorma", complete_var=VARIABLE, shell=shell.value))
    if sys.stdout.isatty():
        output.note(f"to have it in every new shell, {STEPS[shell]}")


def prepare() -> None:
    """Registers the shells with typer, so that it can respond to a request for completions."""
    completion_init()
