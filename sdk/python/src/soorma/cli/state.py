"""The note that a started platform leaves in `.soorma/platform.json`, for the commands after it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from soorma.cli import services
from soorma.cli.processes import Process


@dataclass(frozen=True)
class Running:
    """A platform that was started: its process, where it listens, and its database."""

    pid: int
    born: str
    host: str
    port_offset: int
    ports: dict[str, int]
    started_at: str
    database: str
    foreground: bool

    @classmethod
    def now(cls, pid: int, host: str, offset: int, database: Path, *, foreground: bool = False) -> Running:
        """The note of a platform that starts at this moment."""
        return cls(
            pid=pid,
            born=Process.of(pid).born,
            host=host,
            port_offset=offset,
            ports=services.ports_at(offset),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            database=str(database),
            foreground=foreground,
        )

    @property
    def process(self) -> Process:
        """Its process."""
        return Process(self.pid, self.born)

    def health(self, seconds: float = services.HEALTH_SECONDS) -> dict[str, str]:
        """The health of each of its services."""
        return services.health_of_all(self.host, self.ports, seconds)

    def address(self, service: str) -> str:
        """The base address of a service."""
        return services.address(self.host, self.ports[service])

    def since(self) -> str:
        """When it was started, in this place's time."""
        return datetime.fromisoformat(self.started_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")

    def write(self, file: Path) -> None:
        """Leaves the note; a reader sees the old one or the new one, never a half."""
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n", "ascii")
        draft.replace(file)

    @classmethod
    def read(cls, file: Path) -> Running | None:
        """The note, or None if there is none. ValueError if it cannot be understood."""
        try:
            text = file.read_text("utf-8")
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
