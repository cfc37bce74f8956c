"""`soorma completion SHELL`: the script with which a shell completes this command.

The script asks the command itself, by an environment variable; the library answers. So what is
completed is always what there is.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer
from typer._completion_classes import (
    completion_init,
)  # the library has no public way to what its own
from typer._completion_shared import (
    get_completion_script,
)  # option would install into a user's files

from soorma.cli import output
from soorma.cli.commands import command_group

app = command_group()

VARIABLE = "_SOORMA_COMPLETE"
"""Set by the scripts when a shell asks what could come next."""


class Shell(StrEnum):
    """The shells there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


STEPS = {
    Shell.BASH: 'add to ~/.bashrc: eval "$(soorma completion bash)"',
    Shell.ZSH: 'add to ~/.zshrc, after compinit: eval "$(soorma completion zsh)"',
    Shell.FISH: "say once: soorma completion fish >~/.config/fish/completions/soorma.fish",
}
"""The steps by which every new shell comes to have it."""

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
    """Lets the library answer a shell that asks; it knows no shell before."""
    completion_init()
