"""Other processes: whether one still is the one we mean, and ending it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Process:
    """A process; `born` tells it from a later one that was given the same number, also after a reboot."""

    pid: int
    born: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this number now."""
        return cls(pid, _born(pid) or "")

    def is_alive(self) -> bool:
        """Whether it runs; one that has ended but was not yet collected by its parent does not."""
        born = _born(self.pid)
        return bool(born) and self.born in ("", born)

    def ended_within(self, seconds: float) -> bool:
        """Waits until it has ended, at most so long."""
        until = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() > until:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def end(self, patience: float) -> bool:
        """Asks it to end, kills it after `patience` seconds; whether it went when asked.

        PermissionError if it is another user's.
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


def command_line(pid: int) -> str:
    """How the process was started, or nothing if that cannot be seen."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return " ".join(part.decode("utf-8", "replace") for part in raw.split(b"\0") if part)


def working_folder(pid: int) -> str:
    """The folder it works in, or nothing if that cannot be seen."""
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def open_files(pid: int) -> set[str]:
    """What it has open; nothing where that cannot be seen: another user's, or gone meanwhile, or no Linux."""
    found = set()
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(entry.readlink()))
    return found


def _born(pid: int) -> str | None:
    """A text that no other process of this number has; None if there is none alive."""
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
    told = subprocess.run(  # noqa: S603
        ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)],  # noqa: S607 - where it lies differs
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        check=False,
        text=True,
    ).stdout.split(maxsplit=1)
    return None if len(told) < 2 or told[0].startswith("Z") else " ".join(told[1].split())
