"""`soorma dev --stop`: stops the platform, and with `--clean` removes all that it has stored."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from soorma.cli import output
from soorma.cli.dev.folder import Folder
from soorma.cli.exits import CommandError, Exit
from soorma.local import Running


def stop_platform(folder: Folder, *, clean: bool, ask: bool, seconds: float) -> None:
    """Stops the platform of this folder, killing it after `seconds`.

    With `clean`, removes store and logs, too; with `ask`, asks a person before that, and before
    anything is stopped.
    """
    if not folder.exists():
        output.say(f"Nothing runs here, and nothing was ever started in {folder.root}.")
        return
    if clean and ask:
        _ask(folder)
    with folder.lock():
        running = folder.running()
        if running is None:
            output.say(f"No platform runs in {folder.root}.")
        else:
            _end(running, seconds)
            folder.forget(running.pid)
        if clean:
            _clean(folder, running)


def _ask(folder: Folder) -> None:
    """Raises CommandError unless a person at the terminal says yes."""
    what = (
        f"all that the platform of {folder.root} has stored: plans, events, their history and "
        "its log"
    )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError(
            Exit.USAGE, f"--clean removes {what}; say --yes where nobody can be asked"
        )
    sys.stdout.write(f"This removes {what}.\nRemove it? [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError(Exit.FAILED, "nothing was stopped or removed")


def _end(running: Running, seconds: float) -> None:
    try:
        gently = running.process.end(seconds)
    except PermissionError as error:
        raise CommandError(
            Exit.NOT_STOPPED,
            f"the platform (process {running.pid}) belongs to another user; stop it as that user "
            "or as root",
        ) from error
    if running.process.is_alive():
        raise CommandError(
            Exit.NOT_STOPPED,
            f"the platform (process {running.pid}) does not end, even when killed; look at its "
            "disk",
        )
    if gently:
        output.say(f"The platform (process {running.pid}) has stopped.")
    else:
        output.note(
            f"the platform (process {running.pid}) did not stop within {seconds:g} s and was "
            "killed; what it had acknowledged is safe"
        )


def _clean(folder: Folder, running: Running | None) -> None:
    if not folder.exists():
        return
    outside = os.environ.get("SOORMA_DATABASE") or (running.database if running else None)
    for path in folder.clean():
        output.say(f"Removed {path}")
    if outside and Path(outside) != folder.database:
        output.note(f"the database {outside} lies elsewhere and was kept; remove it yourself")
