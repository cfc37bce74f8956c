"""The entry point of the `soorma` command: runs the named command and reports its failure."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from soorma.cli import completion, output
from soorma.cli.commands import Commands
from soorma.cli.exits import CommandError, Exit

app = typer.Typer(
    name="soorma",
    cls=Commands,
    help="Shared working memory and events for AI agents: start the platform and look after it.",
    epilog="Start with: soorma dev --build",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def soorma(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from soorma.cli.version import show_version  # noqa: PLC0415 - a command does without

        show_version(as_json=False)
        raise typer.Exit


def main() -> None:
    """Runs the command of `sys.argv` and exits with its code (`soorma.cli.exits.Exit`)."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs the command and returns its exit code; reports errors without a traceback."""
    output.never_fail_to_print()
    if completion.VARIABLE in os.environ:
        completion.prepare()
    try:
        app(arguments, prog_name="soorma")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except CommandError as error:
        if error.message:
            output.complain(error.message)
        return error.exit_code
    except OSError as error:
        output.complain(str(error))
        return Exit.FAILED
    return Exit.OK
