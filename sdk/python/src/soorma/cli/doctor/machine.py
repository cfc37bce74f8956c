"""Checks of this machine: limits and settings that apply to every program on it."""

from __future__ import annotations

import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from soorma.cli.doctor.finding import Finding, ok, problem, warning
from soorma.cli.doctor.scene import Scene

DAY = 86_400
FEWEST_FILES = 1024
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
LOCAL = ("localhost", "127.0.0.1")


def system(_: Scene) -> Iterator[Finding]:
    """Names the machine, for readers of the report."""
    yield ok(
        "system",
        f"{platform.system()} {platform.release()} on {platform.machine()}, {os.cpu_count()} CPUs",
    )


def python(_: Scene) -> Iterator[Finding]:
    """Names the interpreter that runs the command."""
    yield ok(
        "python",
        f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}",
    )


def clock(_: Scene) -> Iterator[Finding]:
    """Checks that the clock is not before the installation: it orders and expires things."""
    now, made = time.time(), Path(__file__).stat().st_mtime
    told = datetime.fromtimestamp(now, UTC).isoformat(" ", "seconds")
    if now < made - DAY:
        yield problem(
            "clock",
            f"it says {told}, which is before this was installed",
            "set the machine's clock",
        )
    else:
        yield ok("clock", told)


def open_files(_: Scene) -> Iterator[Finding]:
    """Checks the limit of open files: each agent and each reader takes a connection, so a file."""
    limit, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < FEWEST_FILES:
        yield warning(
            "open files",
            f"a process may have {limit} open; every agent and every reader takes one of the "
            "platform's",
            "allow more where you start it: ulimit -n 4096",
        )
    else:
        yield ok(
            "open files",
            "no limit" if limit == resource.RLIM_INFINITY else f"up to {limit} a process",
        )


def localhost(_: Scene) -> Iterator[Finding]:
    """Checks that localhost is this machine: the SDK's default addresses name it."""
    try:
        found = {
            str(entry[4][0])
            for entry in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
        }
    except OSError as error:
        yield problem("localhost", f"the name is not known here: {error.strerror}", _HOSTS)
        return
    strange = [
        address for address in found if not ip_address(address.partition("%")[0]).is_loopback
    ]
    if strange or "127.0.0.1" not in found:
        yield problem(
            "localhost",
            f"the name stands for {', '.join(sorted(found))}, not for 127.0.0.1",
            _HOSTS,
        )
    else:
        yield ok("localhost", ", ".join(sorted(found)))


_HOSTS = "have a line `127.0.0.1 localhost` in /etc/hosts"


def proxies(scene: Scene) -> Iterator[Finding]:
    """Checks for a proxy: the SDK bypasses it, but other programs may send it local requests."""
    given = [name for name in PROXIES if scene.environment.get(name)]
    spared = ",".join(scene.environment.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    hosts = {host.strip() for host in spared.split(",")}
    missing = [] if "*" in hosts else [host for host in LOCAL if host not in hosts]
    if not given:
        yield ok("proxies", "none for http")
    elif missing:
        proxy = urlsplit(scene.environment[given[0]]).hostname or "a proxy"
        yield warning(
            "proxies",
            f"{given[0]} sends {' and '.join(missing)} to {proxy}; Soorma does not mind it, but "
            "curl and others do",
            f"export no_proxy={','.join(filter(None, [*sorted(hosts), *missing]))}",
        )
    else:
        yield ok("proxies", f"{given[0]} spares this machine")


CHECKS = (system, python, clock, open_files, localhost, proxies)
