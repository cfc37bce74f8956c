"""Other processes: what can be seen of them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from soorma.local import Process

__all__ = ["Process", "command_line", "open_files", "working_folder"]


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
