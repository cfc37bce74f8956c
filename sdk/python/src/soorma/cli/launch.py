"""Starting the platform as a process of its own, and waiting until it is there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from soorma.cli import ports, services
from soorma.cli.exits import CommandError, Exit
from soorma.cli.folder import Folder
from soorma.cli.processes import working_folder
from soorma.local import Running

LOOK_SECONDS = 0.03
END_SECONDS = 10.0
TAIL_LINES = 15
_TOLD = {
    int(told): told
    for told in (Exit.PORT_TAKEN, Exit.RUNNING_ELSEWHERE, Exit.UNWRITABLE, Exit.DATABASE, Exit.NEEDS_BUILD)
}
"""what the platform tells by its exit status (soorma_common.starting)"""


@dataclass(frozen=True)
class Wanted:
    """What platform to start; `seconds` is how long it may take."""

    host: str
    offset: int
    database: Path
    build: bool
    seconds: float

    @property
    def ports(self) -> dict[str, int]:
        """The port of each service."""
        return services.ports_at(self.offset)

    def environment(self) -> dict[str, str]:
        """The settings of the platform's process."""
        return {
            **os.environ,
            "SOORMA_HOST": self.host,
            "SOORMA_PORT_OFFSET": str(self.offset),
            "SOORMA_DATABASE": str(self.database),
            "SOORMA_MAY_MIGRATE": "1" if self.build else "0",
        }


def check_ports(wanted: Wanted) -> None:
    """CommandError if one of the ports is taken, saying by whom."""
    for service, port in wanted.ports.items():
        try:
            free = ports.is_free(wanted.host, port)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise CommandError(
                Exit.START_FAILED, f"port {port} of {wanted.host} cannot be used: {why}; check SOORMA_HOST"
            ) from error
        if not free:
            raise _taken(wanted, service, port)


def start(folder: Folder, wanted: Wanted) -> Running:
    """A platform that answers on all its ports. CommandError, and nothing left behind, if it does not."""
    log = folder.open_log()
    try:
        said_before = os.fstat(log).st_size
        process = _spawn(folder, wanted, log)
    finally:
        os.close(log)
    running = Running.now(process.pid, wanted.host, wanted.offset, wanted.database)
    try:
        folder.write(running)
        unwell = what_is_wrong(running, wanted.seconds, lambda: process.poll() is None)
        if unwell:
            _explain(folder, wanted, unwell, said_before, process.poll())
    except BaseException:
        running.process.end(END_SECONDS)
        process.wait()
        folder.forget(running.pid)
        raise
    process.returncode = 0  # it is to outlive this process: no warning that nobody waited for it
    return running


def what_is_wrong(running: Running, seconds: float, is_alive: Callable[[], bool]) -> str:
    """Nothing as soon as it is healthy; what is wrong with it if it has ended, or is not well after `seconds`."""
    until = time.monotonic() + seconds
    while is_alive():
        left = max(until - time.monotonic(), LOOK_SECONDS)
        states = services.health_of(running, min(left, services.HEALTH_SECONDS))
        unwell = services.unwell(states)
        if not unwell and not ports.belong_to(running.pid, running.host, running.ports.values()):
            unwell = "another platform answers on its ports"  # it was quicker, and this one is about to end
        if time.monotonic() > until or not unwell:
            return unwell
        time.sleep(LOOK_SECONDS)
    return "it has ended"


def _explain(folder: Folder, wanted: Wanted, unwell: str, said_before: int, status: int | None) -> NoReturn:
    if status is not None:
        raise why_it_ended(wanted, status, _tail(folder.log, said_before))
    raise CommandError(
        Exit.START_TIMEOUT,
        f"the platform was not healthy within {wanted.seconds:g} s and was stopped ({unwell}); "
        f"its log {folder.log} may tell why, and --timeout gives it longer",
    )


def why_it_ended(wanted: Wanted, status: int, reason: str) -> CommandError:
    """The error of a platform that ended while starting, of its exit status and the reason it gave."""
    if status == Exit.PORT_TAKEN:
        for service, port in wanted.ports.items():
            if not ports.is_free(wanted.host, port):
                return _taken(wanted, service, port)
    if status in _TOLD:
        return CommandError(_TOLD[status], reason)
    return CommandError(Exit.START_FAILED, f"the platform ended while starting: {reason}")


def _spawn(folder: Folder, wanted: Wanted, log: int) -> subprocess.Popen[bytes]:
    """A session of its own outlives the shell; -P keeps the folder's files from passing for modules."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "soorma_platform"],
        cwd=folder.root,
        env=wanted.environment(),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _taken(wanted: Wanted, service: str, port: int) -> CommandError:
    suggested = ports.free_offset(wanted.host)
    advice = "choose other ports with --port-offset" + (f", for example {suggested}" if suggested else "")
    holder = ports.holder(wanted.host, port)
    if not _is_soorma(wanted.host, port):
        return CommandError(
            Exit.PORT_TAKEN,
            f"port {port} of the {service} service is taken by {holder.who}; end it or {advice}",
        )
    place = working_folder(holder.pid) if holder.pid else ""
    stop = f"stop it with `soorma dev --stop` in {place}" if place else "stop it"
    return CommandError(
        Exit.RUNNING_ELSEWHERE,
        f"port {port} of the {service} service is taken by another Soorma platform, {holder.who}; {stop} or {advice}",
    )


def _is_soorma(host: str, port: int) -> bool:
    try:
        return services.ask(host, port).get("service") in services.PORTS
    except OSError:
        return False


def _tail(log: Path, start: int) -> str:
    """What the process gave as its reason, else the end of what it said."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("soorma: "):
            return line.removeprefix("soorma: ")
    if not lines:
        return f"it said nothing ({log})"
    return "\n".join([f"the end of its log {log}:", *lines[-TAIL_LINES:]])
