"""`soorma dev`: prepares and starts the platform of a folder, and prints where it is."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from soorma.cli import output
from soorma.cli.dev import platform, services
from soorma.cli.dev.folder import Folder
from soorma.cli.dev.platform import Options
from soorma.cli.exits import CommandError, Exit, exit_of
from soorma.local import FOLDER, KEYS, Running
from soorma_common.errors import SoormaError


def start_platform(folder: Folder, options: Options) -> None:
    """Starts the platform, unless it runs already, and prints its addresses."""
    folder.make()
    with folder.lock():
        running = folder.running()
        if running is not None:
            _join(running, options)
            output.say(f"The platform runs already: process {running.pid}, since {running.since()}")
            _show_addresses(running)
            return
        _prepare(options)
        running = platform.start_process(folder, options)
    _announce(running)


def run_in_foreground(folder: Folder, options: Options) -> None:
    """Runs the platform in this process until Ctrl+C or `soorma dev --stop` elsewhere."""
    folder.make()
    with ExitStack() as until_ready:
        until_ready.enter_context(folder.lock())
        running = folder.running()
        if running is not None:
            raise CommandError(
                Exit.RUNNING_ELSEWHERE,
                f"a platform of this folder runs already (process {running.pid}); stop it first: "
                "soorma dev --stop",
            )
        _prepare(options)
        running = Running.now(
            os.getpid(),
            options.host,
            options.offset,
            options.database,
            foreground=True,
            secure=options.keys is not None,
        )
        folder.write(running)

        def on_ready() -> None:
            until_ready.close()
            _announce(running)

        try:
            platform.run_here(options, on_ready)
        finally:
            folder.forget(running.pid)
    output.say("The platform has stopped.")


def _prepare(options: Options) -> None:
    platform.check_ports(options)
    if options.keys is not None:
        from soorma.cli.identity.local_keys import make_keys  # noqa: PLC0415 - only with keys

        make_keys(options.keys)
    if options.build:
        _build(options)


def _build(options: Options) -> None:
    """Prepares the database and prints what was done; CommandError if that fails."""
    from soorma_platform.stores.engines import tools_for  # noqa: PLC0415 - only --build needs it

    output.say(f"Preparing the store {options.database} …")
    try:
        prepared = tools_for(options.database).prepare()
    except SoormaError as error:
        raise platform.start_failure(options, exit_of(error), error.message) from error
    if not prepared.steps:
        output.say(f"It is up to date (schema {prepared.schema}).")
    elif prepared.steps == prepared.schema:
        output.say(f"It is new (schema {prepared.schema}).")
    else:
        output.say(
            f"It was migrated from schema {prepared.schema - prepared.steps} to {prepared.schema}."
        )


def _join(running: Running, options: Options) -> None:
    """Raises CommandError unless the running platform is the one that is wanted, and healthy."""
    differences = [
        f"{what} {having}, not {wanting}"
        for what, having, wanting in (
            ("port offset", running.port_offset, options.offset),
            ("host", running.host, options.host),
            ("database", running.database, str(options.database)),
            ("access", *(_access(one) for one in (running.secure, options.keys is not None))),
        )
        if having != wanting
    ]
    if differences:
        raise CommandError(
            Exit.RUNNING_ELSEWHERE,
            f"a platform of this folder runs already (process {running.pid}), but with "
            f"{', '.join(differences)}; use it with --port-offset {running.port_offset} "
            "or stop it first: soorma dev --stop",
        )
    unwell = platform.what_is_wrong(running, options.seconds, running.process.is_alive)
    if unwell:
        raise CommandError(
            Exit.UNHEALTHY,
            f"the platform of this folder runs (process {running.pid}), but is not healthy "
            f"({unwell}); see soorma dev --logs, then soorma dev --stop and start it again",
        )


def _announce(running: Running) -> None:
    """Prints that the platform is ready, its addresses, and the next steps."""
    output.say(f"The platform is ready: process {running.pid}, database {running.database}")
    if running.secure:
        output.say(
            "It is closed: programs that are started in this folder find their keys in "
            f"{FOLDER}/{KEYS}, others need SOORMA_API_KEY."
        )
    else:
        output.say("It listens on this machine only, and takes everybody at their word.")
    _show_addresses(running)
    output.say(f"A page shows how they are: {running.address('gateway')}")
    if running.foreground:
        output.say("Next: start your agents in another terminal. Ctrl+C stops the platform.")
    else:
        output.say(f"Next: {_next()}")
        output.say(
            "`soorma dev --status` looks at the platform, `--logs -f` follows its log, `--stop` "
            "ends it"
        )


def _access(secure: bool) -> str:
    return "secure" if secure else "open"


def _next() -> str:
    """Returns the next step from here: the examples are in the repository, not in the package."""
    example = Path("examples", "05-memory-working")
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (place := folder / example).is_dir():
            return (
                "start your agents, for example `python manual_state.py` in "
                f"{os.path.relpath(place)}"
            )
    return "start your agents; `soorma init my-agents` makes some to begin with"


def _show_addresses(running: Running) -> None:
    """Prints the services' addresses, and the lines a shell needs for the SDK to find them."""
    output.table(
        ("Service", "Address"), [(service, running.address(service)) for service in running.ports]
    )
    lines = services.exports(running.host, running.ports)
    if lines:
        output.say(
            "Agents that are started in this folder find it by themselves. Elsewhere, say first:"
        )
        output.say("\n".join(f"  {line}" for line in lines) + "\n")
