"""`soorma version`: the version, the Python, and the place of the installation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma_common import __version__

app = command_group()


@app.command(help="Show the version, the Python and where it is installed.")
def version(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    show_version(as_json=as_json)


def show_version(*, as_json: bool) -> None:
    """Prints the version, the Python, and the place of the installation."""
    place = str(Path(__file__).resolve().parents[1])
    python = sys.version.split(maxsplit=1)[0]
    if as_json:
        facts = {
            "version": __version__,
            "python": python,
            "executable": sys.executable,
            "installed": place,
        }
        output.say_json_facts(facts)
    else:
        output.say(
            f"soorma {__version__} (Python {python}, {sys.executable})\ninstalled in {place}"
        )
