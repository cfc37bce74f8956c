"""`soorma dev`: the platform for the one who develops on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from soorma.cli import announcing, launch, screen
from soorma.cli.build import build
from soorma.cli.exits import CommandError, Exit
from soorma.cli.folder import Folder
from soorma.cli.launch import Wanted
from soorma.local import Running
from soorma_common.errors import SoormaError
from soorma_common.starting import exit_status


def wanted(folder: Folder, offset: int, *, build_first: bool, seconds: float) -> Wanted:
    """What the command line and the environment ask for."""
    database = os.environ.get("SOORMA_DATABASE")
    return Wanted(
        host=os.environ.get("SOORMA_HOST") or "127.0.0.1",
        offset=offset,
        database=Path(os.path.abspath(database)) if database else folder.database,  # noqa: PTH100 - no symlink followed
        build=build_first,
        seconds=seconds,
    )


def start(folder: Folder, asked: Wanted) -> None:
    """Starts the platform, unless it runs, and shows where it is."""
    folder.make()
    with folder.lock():
        running = folder.running()
        if running is not None:
            _join(running, asked)
            screen.say(f"The platform runs already: process {running.pid}, since {running.since()}")
            announcing.show_addresses(running)
            return
        _prepare(asked)
        running = launch.start(folder, asked)
    announcing.announce(running)


def run_in_foreground(folder: Folder, asked: Wanted) -> None:
    """Runs the platform in this process until Ctrl+C or `soorma dev --stop` elsewhere."""
    folder.make()
    with ExitStack() as until_ready:
        until_ready.enter_context(folder.lock())
        running = folder.running()
        if running is not None:
            raise CommandError(
                Exit.RUNNING_ELSEWHERE,
                f"a platform of this folder runs already (process {running.pid}); stop it first: soorma dev --stop",
            )
        _prepare(asked)
        running = Running.now(os.getpid(), asked.host, asked.offset, asked.database, foreground=True)
        folder.write(running)

        def on_ready() -> None:
            until_ready.close()
            announcing.announce(running)

        try:
            _serve(asked, on_ready)
        finally:
            folder.forget(running.pid)
    screen.say("The platform has stopped.")


def _prepare(asked: Wanted) -> None:
    launch.check_ports(asked)
    if asked.build:
        build(asked)


def _serve(asked: Wanted, on_ready: Callable[[], None]) -> None:
    from soorma.cli import runner  # noqa: PLC0415 - imports the platform

    try:
        runner.serve(
            runner.settings(
                host=asked.host, port_offset=asked.offset, database=asked.database, may_migrate=asked.build
            ),
            on_ready,
        )
    except SoormaError as error:
        raise launch.why_it_ended(asked, exit_status(error), error.message) from error


def _join(running: Running, asked: Wanted) -> None:
    """CommandError unless the platform that runs is the one asked for, and well."""
    differences = [
        f"{what} {having}, not {wanting}"
        for what, having, wanting in (
            ("port offset", running.port_offset, asked.offset),
            ("host", running.host, asked.host),
            ("database", running.database, str(asked.database)),
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
    unwell = launch.what_is_wrong(running, asked.seconds, running.process.is_alive)
    if unwell:
        raise CommandError(
            Exit.UNHEALTHY,
            f"the platform of this folder runs (process {running.pid}), but is not healthy ({unwell}); "
            "see soorma dev --logs, then soorma dev --stop and start it again",
        )
