"""What a person hears of a platform that runs: where it is, and what to do next."""

from __future__ import annotations

import os
from pathlib import Path

from soorma.cli import screen, services
from soorma.local import Running


def announce(running: Running) -> None:
    """Tells a person that the platform is there, where, and what to do with it."""
    screen.say(f"The platform is ready: process {running.pid}, database {running.database}")
    screen.say("It listens on this machine only, and takes everybody at their word.")
    show_addresses(running)
    screen.say(f"A page shows how they are: {running.address('gateway')}")
    if running.foreground:
        screen.say("Next: start your agents in another terminal. Ctrl+C stops the platform.")
    else:
        screen.say(f"Next: {_next()}")
        screen.say("`soorma dev --status` looks at the platform, `--logs -f` follows its log, `--stop` ends it")


def _next() -> str:
    """What can be done here: the examples lie in the repository, not in what is installed."""
    example = Path("examples", "05-memory-working")
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (place := folder / example).is_dir():
            return f"start your agents, for example `python manual_state.py` in {os.path.relpath(place)}"
    return "start your agents; `soorma init my-agents` makes some to begin with"


def show_addresses(running: Running) -> None:
    """The services' addresses, and what a shell must be told so that the SDK finds them."""
    screen.table(("Service", "Address"), [(service, running.address(service)) for service in running.ports])
    lines = services.exports(running.host, running.ports)
    if lines:
        screen.say("Agents that are started in this folder find it by themselves. Elsewhere, say first:")
        screen.say("\n".join(f"  {line}" for line in lines) + "\n")
