"""`soorma run`: its arguments, and the platform that the agents will use."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer

from soorma.cli import connection
from soorma.cli.commands import command_group
from soorma.cli.connection import config_for
from soorma.cli.exits import CommandError, Exit
from soorma.cli.run.targets import Wanted, parse
from soorma_common.errors import SoormaError

app = command_group()

LOOK_SECONDS = 1.0

_HELP = """Run agents, each in a process of its own, until Ctrl+C.

An agent is named by its module, or by its file, and the name that it has there; the name may be \
left out where there is only one. An agent that dies is started again, after a growing pause of \
0.5 to 30 s. Ctrl+C lets all of them finish what they have in hand; a second one ends them at \
once. They use the platform that the SOORMA_… variables name, else that of this folder.

\b
Examples:
  soorma run planner worker coordinator   three agents, one log
  soorma run app.agents:writer --reload   again whenever a Python file changes
  soorma run agents/worker.py:worker      an agent in a file
  soorma run planner 'worker*3'           three processes share the events
"""


@app.command(help=_HELP, epilog="Exit codes are listed by: soorma dev --help")
def run(
    agents: Annotated[
        list[str],
        typer.Argument(
            metavar="AGENT...", help="module:agent, file.py:agent or module; *N: N processes."
        ),
    ],
    reload: Annotated[
        bool,
        typer.Option(
            "--reload", help="Start the agents again when a Python file of this folder changes."
        ),
    ] = False,
    replicas: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Processes of each agent that does not say *N itself."
        ),
    ] = 1,
) -> None:
    wanted = parse(agents, replicas)
    try:
        asyncio.run(_run(wanted, reload=reload))
    except SoormaError as error:
        raise CommandError(Exit.USAGE, error.message) from error


async def _run(wanted: list[Wanted], *, reload: bool) -> None:
    from soorma.cli.run.log import Style  # noqa: PLC0415 - --help does without
    from soorma.cli.run.supervisor import Supervisor  # noqa: PLC0415

    style = Style.of([each.label for each in wanted], terminal=sys.stdout.isatty(), env=os.environ)
    first = await asyncio.to_thread(_platform)
    names = ", ".join(each.label for each in wanted)
    await Supervisor(wanted, style, reload=reload).run(first, f"runs {names}; Ctrl+C ends them")


def _platform() -> str:
    """Describes the platform that the agents will use, and says if it does not respond."""
    config = config_for(None, None)
    answer = connection.probe(config.events_url, "/health", seconds=LOOK_SECONDS)
    said = f"uses the platform {config.origin}: events at {config.events_url}"
    if answer.trouble:
        return (
            f"{said}; {answer.trouble}: the agents wait for it, and `soorma dev --build` starts one"
        )
    return said
