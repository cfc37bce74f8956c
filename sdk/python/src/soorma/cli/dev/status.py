"""`soorma dev --status`: the health of the platform of this folder."""

from __future__ import annotations

from soorma.cli import output
from soorma.cli.dev import services
from soorma.cli.dev.folder import Folder
from soorma.cli.exits import CommandError, Exit
from soorma.cli.output import Column
from soorma.local import Running


def show_status(folder: Folder, *, as_json: bool) -> Exit:
    """Prints the health; the exit code says whether the platform runs and is well."""
    running = _alive(folder)
    health = services.health_of(running) if running else {}
    if as_json:
        output.say_json_facts(_document(folder, running, health))
    elif running:
        output.table(
            (
                Column("Service", 0),
                Column("Address", 0),
                Column("Health", 0, is_text=True),
                Column("Pid", 1),
                Column("Since", 2),
                Column("Database", 3),
            ),
            [_row(running, service, state) for service, state in health.items()],
        )
    if running is None:
        if not as_json:
            raise CommandError(
                Exit.NOT_RUNNING, f"no platform runs in {folder.root}; start one: soorma dev"
            )
        return Exit.NOT_RUNNING
    return Exit.UNHEALTHY if services.unwell(health) else Exit.OK


def _row(running: Running, service: str, state: str) -> tuple[str, ...]:
    return (
        service,
        running.address(service),
        state,
        str(running.pid),
        running.since(),
        running.database,
    )


def _alive(folder: Folder) -> Running | None:
    """Reads the note without the lock, so that it never waits; hence it cleans nothing up."""
    try:
        found = Running.read(folder.state)
    except ValueError as error:
        output.note(f"{error}; the next `soorma dev` removes it")
        return None
    except OSError as error:
        raise CommandError(
            Exit.UNWRITABLE, f"{folder.state} cannot be read: {error.strerror}"
        ) from error
    if found and not found.process.is_alive():
        output.note(f"the platform of process {found.pid} is gone without a word")
        return None
    return found


def _document(folder: Folder, running: Running | None, health: dict[str, str]) -> dict[str, object]:
    if running is None:
        return {"running": False, "healthy": False, "folder": str(folder.path), "services": []}
    return {
        "running": True,
        "healthy": not services.unwell(health),
        "folder": str(folder.path),
        "pid": running.pid,
        "started_at": running.started_at,
        "foreground": running.foreground,
        "port_offset": running.port_offset,
        "database": running.database,
        "services": [
            {"service": service, "address": running.address(service), "health": state}
            for service, state in health.items()
        ],
        "environment": services.variables(running.host, running.ports),
    }
