"""Checks of the platform: it runs, responds, and matches this command."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from soorma.cli import connection
from soorma.cli.connection import Response
from soorma.cli.dev import processes, services
from soorma.cli.doctor.finding import Finding, ok, problem, warning
from soorma.cli.doctor.scene import PATIENCE_SECONDS, Scene, speaks_for
from soorma_common import __version__

CLOCK_SECONDS = 5.0


def process(scene: Scene) -> Iterator[Finding]:
    """Names the platform that was started in this folder."""
    if scene.running is not None:
        yield ok(
            "process", f"{scene.running.pid} of {scene.folder.root}, since {scene.running.since()}"
        )
    else:
        yield ok(
            "process", f"no platform runs in {scene.folder.root}", "start one: soorma dev --build"
        )


def ports_to_be(scene: Scene) -> Iterator[Finding]:
    """Checks that the ports are free for a platform to start here."""
    if scene.running is not None or scene.settings is None:
        return
    host, offset = scene.settings.host, scene.settings.port_offset
    taken = list(_taken(host, services.ports_at(offset)))
    yield from taken
    if not taken:
        numbers = ", ".join(map(str, services.ports_at(offset).values()))
        yield ok("ports", f"{numbers} of {host} are free")


def health(scene: Scene) -> Iterator[Finding]:
    """Checks the services' own reports, at the addresses of the environment or this folder."""
    for service, response in scene.responses.items():
        wrong = _wrong(service, response)
        if not wrong:
            yield ok("health", f"{service} at {response.address} is well")
        elif scene.expects(service):
            yield problem(
                "health", f"{service} at {response.address}: {wrong}", _advice(scene, service)
            )


def version(scene: Scene) -> Iterator[Finding]:
    """Checks that the platform is of the same version as the command."""
    told = {
        str(response.document["version"])
        for response in scene.responses.values()
        if response.document and "version" in response.document
    }
    if told - {__version__}:
        yield warning(
            "version",
            f"the platform is of version {', '.join(sorted(told))}, this command of {__version__}",
            "restart it with this one: soorma dev --stop, then soorma dev --build",
        )
    elif told:
        yield ok("version", f"{__version__}, as this command")


def clock(scene: Scene) -> Iterator[Finding]:
    """Checks that the platform's clock agrees with this machine's and has not jumped.

    Times to live depend on it.
    """
    dates = [
        response.date
        for response in scene.responses.values()
        if response.document and response.date
    ]
    if not dates:
        return
    apart = (parsedate_to_datetime(dates[0]) - datetime.now(UTC)).total_seconds()
    if abs(apart) > CLOCK_SECONDS:
        yield warning(
            "clock",
            f"the platform's differs from this machine's by {apart:+.0f} s",
            "set the clock that is off",
        )
    else:
        yield ok("clock", "the platform's agrees with this machine's")
    yield from _jumps(scene)


def _jumps(scene: Scene) -> Iterator[Finding]:
    stores = [
        response.document.get("store") for response in scene.responses.values() if response.document
    ]
    told = next((store for store in stores if isinstance(store, dict)), {})
    jumps, left = told.get("clock_jumps", 0), told.get("clock_settles_in", 0)
    waits = f"nothing that has expired is removed for {math.ceil(left / 60)} min" if left else ""
    if jumps:
        times = "once" if jumps == 1 else f"{jumps} times"
        yield warning(
            "clock",
            f"the platform's jumped {times} since it started{', ' if waits else ''}{waits}",
            "soorma dev --logs tells when, and how far; see that the machine's time is kept by NTP",
        )
    elif waits:
        yield ok("clock", f"the machine was booted, or slept: {waits}")


def _taken(host: str, wanted: dict[str, int]) -> Iterator[Finding]:
    for service, port in wanted.items():
        try:
            if processes.is_port_free(host, port):
                continue
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            yield problem(
                "ports", f"port {port} of {host} cannot be used: {why}", "check SOORMA_HOST"
            )
            continue
        offset = processes.free_offset(host)
        other = f"soorma dev --port-offset {offset}" if offset else "soorma dev --port-offset"
        holder = processes.port_holder(host, port)
        response = connection.probe(
            services.address(host, port), "/health", seconds=PATIENCE_SECONDS
        )
        if response.document and response.document.get("service") in services.PORTS:
            place = processes.working_folder(holder.pid) if holder.pid else ""
            of = f" of {place}" if place else ""
            yield warning(
                "ports",
                f"{port} ({service}) has another Soorma platform{of}",
                f"use that one, stop it there, or say {other}",
            )
        else:
            yield problem(
                "ports", f"{port} ({service}) is taken by {holder.who}", f"end it, or say {other}"
            )


def _wrong(service: str, response: Response) -> str:
    """Returns the trouble with a service; empty if it is well."""
    if response.document is None:
        return response.trouble
    if not speaks_for(response, service):
        return "another program answers"
    status = response.document.get("status")
    store = response.document.get("store")
    detail = store.get("detail") if isinstance(store, dict) else None
    return "" if status == services.OK else f"failing ({detail or status})"


def _advice(scene: Scene, service: str) -> str:
    if scene.running is not None:
        return "soorma dev --logs says more; then soorma dev --stop, and start it again"
    variable = services.VARIABLES[service]
    if not scene.environment.get(variable):
        return f"say where it is: export {variable}=http://…, as the other addresses do"
    return f"start it there, or unset {variable} and start one here: soorma dev --build"


CHECKS = (process, ports_to_be, health, version, clock)
