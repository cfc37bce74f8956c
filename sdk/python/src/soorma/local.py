"""The platform that `soorma dev` runs for a folder: the note it leaves, and how to find it.

The command and the SDK read the same note, so that a program connects to the platform of the folder
it is started in.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

FOLDER = ".soorma"
NOTE = "platform.json"
KEYS = "keys.toml"
"""The keys of a platform that `soorma dev --secure` has started."""
LARGEST_NOTE = 64 * 1024
LOOK_SECONDS = 0.02

PORTS = {"gateway": 8080, "registry": 8081, "events": 8082, "memory": 8083, "identity": 8085}
"""The services and their ports without the offset, as in the platform's settings."""

VARIABLES = {
    "memory": "SOORMA_MEMORY_URL",
    "events": "SOORMA_EVENT_SERVICE_URL",
    "registry": "SOORMA_REGISTRY_URL",
    "identity": "SOORMA_IDENTITY_URL",
}
"""The variable that holds the address of each service.

Without it, the SDK looks in the folder's note, then on localhost.
"""


# --- Addresses -----------------------------------------------------------------------------


def ports_at(offset: int) -> dict[str, int]:
    """The port of each service."""
    return {service: port + offset for service, port in PORTS.items()}


def address(host: str, port: int) -> str:
    """The base address of a service, with localhost for 127.0.0.1 as in the documentation."""
    if host == "127.0.0.1":
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def shown(url: str) -> str:
    """The address without credentials, for logs and messages."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def variables(host: str, ports: Mapping[str, int]) -> dict[str, str]:
    """The environment variables with which the SDK finds this platform from any folder."""
    return {
        name: address(host, ports[service])
        for service, name in VARIABLES.items()
        if service in ports
    }


# --- The process ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    """A process; `born` tells it from later ones with the same pid, also after a reboot."""

    pid: int
    born: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this pid now."""
        return cls(pid, _born(pid) or "")

    def is_alive(self) -> bool:
        """True if it is running; a zombie is not."""
        born = _born(self.pid)
        return bool(born) and self.born in ("", born)

    def ended_within(self, seconds: float) -> bool:
        """Waits up to `seconds` for it to end; returns True if it has."""
        until = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() > until:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def end(self, patience: float) -> bool:
        """Terminates it, and kills it after `patience` seconds; returns False if it was killed.

        Raises PermissionError if it is another user's.
        """
        if self._signal(signal.SIGTERM) and not self.ended_within(patience):
            self._signal(signal.SIGKILL)
            self.ended_within(patience)
            return False
        return True

    def _signal(self, number: signal.Signals) -> bool:
        if not self.is_alive():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


# --- The note ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """A started platform: its process, addresses and database."""

    pid: int
    born: str
    host: str
    port_offset: int
    ports: dict[str, int]
    started_at: str
    database: str
    foreground: bool
    secure: bool = False
    """true if it needs keys, which are in KEYS beside the note"""

    @classmethod
    def now(
        cls,
        pid: int,
        host: str,
        offset: int,
        database: Path,
        *,
        foreground: bool = False,
        secure: bool = False,
    ) -> Running:
        """The note of a platform that starts now."""
        return cls(
            pid=pid,
            born=Process.of(pid).born,
            host=host,
            port_offset=offset,
            ports=ports_at(offset),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            database=str(database),
            foreground=foreground,
            secure=secure,
        )

    @property
    def process(self) -> Process:
        """Its process."""
        return Process(self.pid, self.born)

    def address(self, service: str) -> str:
        """The base address of a service."""
        return address(self.host, self.ports[service])

    def since(self) -> str:
        """The local time at which it was started, as text."""
        return datetime.fromisoformat(self.started_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")

    def write(self, file: Path) -> None:
        """Writes the note atomically: a reader sees the old one or the new one."""
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n", "ascii")
        draft.replace(file)

    @classmethod
    def read(cls, file: Path) -> Running | None:
        """Reads the note; None if there is none, ValueError if it is damaged."""
        try:
            with file.open(encoding="utf-8") as opened:
                text = opened.read(LARGEST_NOTE)
        except FileNotFoundError:
            return None
        try:
            found = cls(**json.loads(text))
            found.since()
            found.process.is_alive()
            found.ports["memory"] + found.ports["events"]
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{file} is damaged and cannot be understood ({error})") from error
        return found


# --- Finding it ----------------------------------------------------------------------------


def root_of(here: Path) -> Path | None:
    """The nearest folder that has a `.soorma`, from this one upwards; None if there is none."""
    return next((root for root in (here, *here.parents) if os.path.lexists(root / FOLDER)), None)


class Found(NamedTuple):
    """The platform of a folder: its addresses by variable, the folder, and trouble with its note.

    `addresses` is empty if no platform is running; `trouble` is empty if there is none. `keys` are
    those of `soorma dev --secure`, by their roles.
    """

    addresses: dict[str, str]
    root: Path | None = None
    trouble: str = ""
    keys: Mapping[str, str] = {}


def platform_here() -> Found:
    """The running platform of the nearest folder with a `.soorma`, from the current one upwards."""
    try:
        root = root_of(Path.cwd())
    except OSError:  # the current folder is gone or unreadable
        root = None
    if root is None:
        return Found({})
    note = root / FOLDER / NOTE
    try:
        if (stranger := _stranger(note)) is not None:
            return Found(
                {}, root, f"{note} belongs to another user ({stranger}) and is not believed"
            )
        running = Running.read(note)
    except (OSError, ValueError) as error:
        return Found({}, root, str(error))
    if running is None or not running.process.is_alive():
        return Found({}, root)
    keys = keys_in(root / FOLDER / KEYS) if running.secure else {}
    return Found(variables(running.host, running.ports), root, keys=keys)


def keys_in(file: Path) -> dict[str, str]:
    """Returns the credentials of a file of keys, by their roles; none if it cannot be read.

    They are for whoever can read the file: it belongs to the user, as the note beside it does.
    """
    import tomllib  # noqa: PLC0415 - only with keys

    try:
        found = tomllib.loads(file.read_text("utf-8"))["keys"]
        return {str(key["role"]): str(key["credential"]) for key in found if "role" in key}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _stranger(note: Path) -> int | None:
    """The owner of the note if it is another user, who is not root; else None.

    Whoever can write to a folder above must not be able to redirect, and so read, what we store.
    Root trusts itself, and under sudo the user who called it.
    """
    try:
        owner = note.stat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        return None
    me = os.geteuid()
    caller = os.environ.get("SUDO_UID") if me == 0 else None
    return None if owner in (0, me) or str(owner) == caller else owner


def _born(pid: int) -> str | None:
    """A text unique among all processes that ever have this pid; None if none is alive."""
    if Path("/proc/self/stat").exists():
        return _born_linux(pid)
    return _born_elsewhere(pid)


def _born_linux(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # proc(5): the name before may hold anything
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def _born_elsewhere(pid: int) -> str | None:
    import subprocess  # noqa: PLC0415 - not needed on Linux

    told = subprocess.run(  # noqa: S603
        ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)],  # noqa: S607 - its path varies
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        check=False,
        text=True,
    ).stdout.split(maxsplit=1)
    return None if len(told) < 2 or told[0].startswith("Z") else " ".join(told[1].split())
