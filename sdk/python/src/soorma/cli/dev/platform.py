"""The platform to start: its options, its process, and the reason if it does not start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from soorma.cli.dev import processes, services
from soorma.cli.dev.folder import Folder
from soorma.cli.exits import CommandError, Exit, exit_of
from soorma.local import Running
from soorma_common.errors import SoormaError

if TYPE_CHECKING:
    from soorma_platform.settings import AccessMode

LOOK_SECONDS = 0.03
END_SECONDS = 10.0
TAIL_LINES = 15
_START_CODES = {
    int(code): code
    for code in (
        Exit.PORT_TAKEN,
        Exit.RUNNING_ELSEWHERE,
        Exit.UNWRITABLE,
        Exit.DATABASE,
        Exit.NEEDS_BUILD,
        Exit.NO_KEYS,
    )
}
"""Exit codes that are also those of a platform that cannot start (`soorma_common.starting`)."""


@dataclass(frozen=True)
class Options:
    """The options of a platform to start; `seconds` is the time that it may take.

    It is open, unless a file of `keys` is named to begin with, or it is `closed`.
    """

    host: str
    offset: int
    database: Path
    build: bool
    seconds: float
    keys: Path | None = None
    closed: bool = False

    @property
    def access(self) -> AccessMode:
        """Whether credentials are needed."""
        return "closed" if self.closed or self.keys is not None else "open"

    @property
    def ports(self) -> dict[str, int]:
        """The port of each service."""
        return services.ports_at(self.offset)

    def environment(self) -> dict[str, str]:
        """Returns the environment of the platform's process."""
        return {
            **os.environ,
            "SOORMA_HOST": self.host,
            "SOORMA_PORT_OFFSET": str(self.offset),
            "SOORMA_DATABASE": str(self.database),
            "SOORMA_MAY_MIGRATE": "1" if self.build else "0",
            "SOORMA_ACCESS": self.access,
            "SOORMA_BOOTSTRAP_KEYS_FILE": "" if self.keys is None else str(self.keys),
        }


def check_ports(options: Options) -> None:
    """Raises CommandError if a port is taken, saying by whom, or cannot be used."""
    for service, port in options.ports.items():
        try:
            free = processes.is_port_free(options.host, port)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise CommandError(
                Exit.START_FAILED,
                f"port {port} of {options.host} cannot be used: {why}; check SOORMA_HOST",
            ) from error
        if not free:
            raise _taken(options, service, port)


def start_process(folder: Folder, options: Options) -> Running:
    """Starts a platform and waits until it is healthy on all its ports.

    CommandError, with nothing left running, if it is not.
    """
    log = folder.open_log()
    try:
        said_before = os.fstat(log).st_size
        process = _spawn(folder, options, log)
    finally:
        os.close(log)
    running = Running.now(
        process.pid, options.host, options.offset, options.database, secure=options.keys is not None
    )
    try:
        folder.write(running)
        unwell = what_is_wrong(running, options.seconds, lambda: process.poll() is None)
        if unwell:
            _explain(folder, options, unwell, said_before, process.poll())
    except BaseException:
        running.process.end(END_SECONDS)
        process.wait()
        folder.forget(running.pid)
        raise
    process.returncode = 0  # it outlives this process: no warning that nobody waited for it
    return running


def run_here(options: Options, on_ready: Callable[[], None] = lambda: None) -> None:
    """Runs the platform in this process until SIGINT or SIGTERM.

    CommandError if it cannot start.
    """
    import asyncio  # noqa: PLC0415 - one in a process of its own needs none of these here

    from uvicorn.loops.auto import auto_loop_factory  # noqa: PLC0415

    from soorma_platform import logs  # noqa: PLC0415
    from soorma_platform.runtime import run  # noqa: PLC0415
    from soorma_platform.settings import Settings  # noqa: PLC0415

    try:
        settings = Settings.from_env(
            host=options.host,
            port_offset=options.offset,
            database=options.database,
            may_migrate=options.build,
            access=options.access,
            bootstrap_keys=options.keys,
        )
        logs.configure(settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            runner.run(run(settings, on_ready))
    except SoormaError as error:
        raise start_failure(options, exit_of(error), error.message) from error


def what_is_wrong(running: Running, seconds: float, is_alive: Callable[[], bool]) -> str:
    """Waits until the platform is healthy, and returns an empty string.

    If it has ended, or is not healthy after `seconds`, returns what is wrong with it.
    """
    until = time.monotonic() + seconds
    while is_alive():
        left = max(until - time.monotonic(), LOOK_SECONDS)
        states = services.health_of(running, min(left, services.HEALTH_SECONDS))
        unwell = services.unwell(states)
        if not unwell and not processes.listens_on(
            running.pid, running.host, running.ports.values()
        ):
            # The other one was faster, and this one is about to end.
            unwell = "another platform answers on its ports"
        if time.monotonic() > until or not unwell:
            return unwell
        time.sleep(LOOK_SECONDS)
    return "it has ended"


def _explain(
    folder: Folder, options: Options, unwell: str, said_before: int, status: int | None
) -> NoReturn:
    if status is not None:
        raise start_failure(options, status, _tail(folder.log, said_before))
    raise CommandError(
        Exit.START_TIMEOUT,
        f"the platform was not healthy within {options.seconds:g} s and was stopped ({unwell}); "
        f"its log {folder.log} may say why, and --timeout gives it longer",
    )


def start_failure(options: Options, status: int, reason: str) -> CommandError:
    """Returns the error of a platform that ended while starting, for its status and reason."""
    if status == Exit.PORT_TAKEN:
        for service, port in options.ports.items():
            if not processes.is_port_free(options.host, port):
                return _taken(options, service, port)
    if status in _START_CODES:
        return CommandError(_START_CODES[status], reason)
    return CommandError(Exit.START_FAILED, f"the platform ended while starting: {reason}")


def _spawn(folder: Folder, options: Options, log: int) -> subprocess.Popen[bytes]:
    """Starts the platform's process.

    Its own session outlives the shell; -P keeps the folder's files from being imported as modules.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "soorma_platform"],
        cwd=folder.root,
        env=options.environment(),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _taken(options: Options, service: str, port: int) -> CommandError:
    suggested = processes.free_offset(options.host)
    advice = "choose other ports with --port-offset" + (
        f", for example {suggested}" if suggested else ""
    )
    holder = processes.port_holder(options.host, port)
    if not _is_soorma(options.host, port):
        return CommandError(
            Exit.PORT_TAKEN,
            f"port {port} of the {service} service is taken by {holder.who}; end it or {advice}",
        )
    place = processes.working_folder(holder.pid) if holder.pid else ""
    stop = f"stop it with `soorma dev --stop` in {place}" if place else "stop it"
    return CommandError(
        Exit.RUNNING_ELSEWHERE,
        f"port {port} of the {service} service is taken by another Soorma platform, {holder.who}; "
        f"{stop} or {advice}",
    )


def _is_soorma(host: str, port: int) -> bool:
    try:
        return services.ask(host, port).get("service") in services.PORTS
    except OSError:
        return False


def _tail(log: Path, start: int) -> str:
    """Returns the reason that the process gave, else the end of its output."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [
            line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()
        ]
    for line in reversed(lines):
        if line.startswith("soorma: "):
            return line.removeprefix("soorma: ")
    if not lines:
        return f"it said nothing ({log})"
    return "\n".join([f"the end of its log {log}:", *lines[-TAIL_LINES:]])
