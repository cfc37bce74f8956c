"""Units for systemd, as far as it takes to run what they say."""

from __future__ import annotations

import shlex
from pathlib import Path

from compose_file import DEPLOY

UNITS = DEPLOY / "systemd"


class Unit:
    """A unit file, and its drop-ins; a directive may occur several times."""

    def __init__(self, *files: Path) -> None:
        self._lines: dict[str, list[str]] = {}
        for line in "\n".join(file.read_text("utf-8") for file in files).splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                self._lines.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        (value,) = self._lines[name]
        return value

    def all(self, name: str) -> list[str]:
        """The values of a directive."""
        return self._lines.get(name, [])

    @property
    def environment(self) -> dict[str, str]:
        """What Environment= sets."""
        words = [word for line in self.all("Environment") for word in shlex.split(line)]
        return dict(word.split("=", 1) for word in words)
