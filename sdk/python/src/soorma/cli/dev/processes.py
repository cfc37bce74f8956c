"""Processes of this machine, seen from outside: their command lines, files and ports."""

from __future__ import annotations

import errno
import pwd
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from soorma.local import ports_at

_LISTENING = "0A"


class Listener(NamedTuple):
    """A listening socket of this machine, as the kernel lists it."""

    inode: str
    uid: int


class Holder(NamedTuple):
    """The process that listens on a port; `pid` is None if it cannot be seen."""

    pid: int | None
    who: str


def command_line(pid: int) -> str:
    """Returns the command line of a process; empty if it cannot be seen."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return " ".join(part.decode("utf-8", "replace") for part in raw.split(b"\0") if part)


def working_folder(pid: int) -> str:
    """Returns the working folder of a process; empty if it cannot be seen."""
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def open_files(pid: int) -> set[str]:
    """Returns the files that a process has open; none if they cannot be seen.

    That is so for another user's process, one that is gone, and anywhere but on Linux.
    """
    found = set()
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(entry.readlink()))
    return found


def is_port_free(host: str, port: int) -> bool:
    """True if the platform could listen on the port, False if it is taken; OSError otherwise.

    The probe binds but does not listen, so that it never blocks a program that is about to listen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def free_offset(host: str) -> int | None:
    """Returns a small offset at which all ports are free, to suggest; None if there is none."""
    for offset in range(100, 3000, 100):
        with suppress(OSError):
            if all(is_port_free(host, port) for port in ports_at(offset).values()):
                return offset
    return None


def port_holder(host: str, port: int) -> Holder:
    """Returns the process that listens on a port; it can be named only on Linux."""
    listeners = list(_listeners(host, port))
    wanted = {f"socket:[{listener.inode}]" for listener in listeners}
    for pid in _pids() if wanted else ():
        if wanted & open_files(pid):
            return Holder(pid, f"process {pid} ({command_line(pid) or 'name unknown'})")
    if listeners:
        return Holder(None, f"a process of user {_user(listeners[0].uid)}")
    return Holder(None, "another process")


def listens_on(pid: int, host: str, ports: Iterable[int]) -> bool:
    """True if the process listens on all these ports, or if that cannot be seen."""
    if not Path("/proc/net/tcp").exists():
        return True
    owned = open_files(pid)
    return all(
        any(f"socket:[{each.inode}]" in owned for each in _listeners(host, port)) for port in ports
    )


def _listeners(host: str, port: int) -> Iterator[Listener]:
    ours = ip_address("127.0.0.1" if host == "localhost" else host)
    for file in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = file.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            written, _, number = fields[1].partition(":")
            if (
                fields[3] == _LISTENING
                and int(number, 16) == port
                and _collide(_address(written), ours)
            ):
                yield Listener(fields[9], int(fields[7]))


def _address(written: str) -> IPv4Address | IPv6Address:
    """Parses an address of the kernel's: hexadecimal words in the machine's byte order."""
    words = [bytes.fromhex(written[at : at + 8]) for at in range(0, len(written), 8)]
    return ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))


def _collide(theirs: IPv4Address | IPv6Address, ours: IPv4Address | IPv6Address) -> bool:
    mapped = theirs.ipv4_mapped if isinstance(theirs, IPv6Address) else None
    return theirs.is_unspecified or ours.is_unspecified or ours in (theirs, mapped)


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
