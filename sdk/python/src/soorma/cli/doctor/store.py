"""Checks of the store: its folder, the disk under it, and the database."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

from soorma.cli.dev import processes
from soorma.cli.doctor.finding import Finding, ok, problem, warning
from soorma.cli.doctor.scene import LOOK_SECONDS, Scene
from soorma_platform.stores.tools import Examination, Fault

MIB = 1 << 20
MUST_BE_FREE = 50 * MIB
SHOULD_BE_FREE = 1024 * MIB
SLOW_SECONDS = 0.010
SYNCS, SYNCING_SECONDS = 7, 0.3
PAGE = 4096
LARGE_LOG = 256 * MIB

NETWORK = {"9p", "afs", "ceph", "cifs", "drvfs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4",
           "smb3", "smbfs", "vboxsf", "virtiofs"}  # fmt: skip
"""File systems whose locks and shared memory SQLite's write-ahead log cannot rely on."""

MOUNTS = Path("/proc/self/mounts")
FLEETING = {"ramfs", "tmpfs"}


def folder(scene: Scene) -> Iterator[Finding]:
    """Checks that this user can write to the folder."""
    path = scene.database.parent
    if os.path.lexists(path) and not path.is_dir():
        yield problem(
            "folder", f"{path} is not a folder", "move it away, or start from another folder"
        )
    elif not os.access(scene.place, os.W_OK | os.X_OK):
        yield problem(
            "folder",
            f"{scene.place} cannot be written by this user",
            "make it writable, or start from a folder of your own",
        )
    else:
        yield ok("folder", str(path) if path.is_dir() else f"{path} is made when a platform starts")


def privacy(scene: Scene) -> Iterator[Finding]:
    """Checks that only their owner can read store and logs: the platform has no other guard."""
    files = [*scene.store.files(), scene.folder.log, scene.folder.old_log]
    if open_files := [str(file) for file in files if file.exists() and _others_read(file)]:
        yield warning(
            "privacy",
            f"other users can read {', '.join(open_files)}",
            f"chmod go= {shlex.join(open_files)}",
        )


def file_system(scene: Scene) -> Iterator[Finding]:
    """Checks the file system: one over a network may damage the database, one in memory loses it.

    SQLite's write-ahead log needs shared memory and locks that work; over a network, they may not.
    """
    kind, mount = _mount_of(scene.place.resolve())
    if kind in NETWORK:
        yield warning(
            "file system",
            f"{mount} is {kind}, on which SQLite may lose or damage data",
            "keep the database on a disk of this machine: SOORMA_DATABASE=/path/soorma.db",
        )
    elif kind in FLEETING:
        yield warning(
            "file system",
            f"{mount} is {kind}, which a restart of the machine empties",
            "keep what is to last on a disk: SOORMA_DATABASE=/path/soorma.db",
        )
    elif kind:
        yield ok("file system", f"{kind} on {mount}")


def disk(scene: Scene) -> Iterator[Finding]:
    """Checks for free space and inodes: a full disk refuses every change."""
    free, there = shutil.disk_usage(scene.place).free, os.statvfs(scene.place)
    told = f"{size(free)} free"
    if free < MUST_BE_FREE:
        yield problem(
            "disk", f"{told} in {scene.place}", "free some space: a full disk refuses every change"
        )
    elif there.f_files and not there.f_favail:
        yield problem(
            "disk", f"no file can be made in {scene.place}: its inodes are used up", "remove files"
        )
    elif free < SHOULD_BE_FREE:
        yield warning(
            "disk", f"{told} in {scene.place}", "free some space: a full disk refuses every change"
        )
    else:
        yield ok("disk", told)


def flush(scene: Scene) -> Iterator[Finding]:
    """Measures how long the disk takes to make a page durable: every change waits for that."""
    if not os.access(scene.place, os.W_OK | os.X_OK):
        return
    took = statistics.median(_flushes(scene.place))
    told = f"{took * 1000:.2f} ms until a page is on the disk"
    if took > SLOW_SECONDS:
        yield warning(
            "flush",
            f"{told}; every change waits for one",
            "use a faster disk, and `update` for many keys at once",
        )
    else:
        yield ok("flush", told)


def note(scene: Scene) -> Iterator[Finding]:
    """Reports what is wrong with the note that a platform has left behind."""
    if scene.note:
        yield warning(
            "note",
            scene.note,
            "soorma dev --logs may say why; soorma dev starts one, and removes an old note",
        )


def database(scene: Scene) -> Iterator[Finding]:
    """Checks that the database is whole and of this version, without disturbing a platform."""
    path = scene.database
    if not os.access(path.parent, os.X_OK) or not scene.store.exists():
        yield ok("database", f"{path} is made when a platform starts")
        return
    yield _judged(path, scene.store.examine(scene.seconds))


def engine(scene: Scene) -> Iterator[Finding]:
    """Names the database engine that the platform brings along, which is not Python's."""
    name, version, driver = scene.store.engine()
    yield ok(name, f"{version}, with {driver}")


def in_use(scene: Scene) -> Iterator[Finding]:
    """Names the process that has the database open, and checks the size of the write-ahead log."""
    use = scene.store.use()
    if use.pid is not None and scene.is_store_used:
        yield ok(
            "in use", f"by process {use.pid} ({processes.command_line(use.pid) or 'name unknown'})"
        )
    if use.log_bytes > LARGE_LOG:
        yield warning(
            "in use",
            f"{use.log.name} has grown to {size(use.log_bytes)}: "
            "a program that reads the file keeps it from being moved into it",
            f"end that program (`fuser {scene.database}` names it)",
        )


def _judged(path: Path, found: Examination) -> Finding:
    known = found.known_schema
    if found.fault is not None:
        return _faulty(path, found.fault, found.reason)
    if not found.is_ours and (found.schema or found.bytes):
        return problem(
            "database", f"{path} is not Soorma's", "name another: SOORMA_DATABASE=/path/soorma.db"
        )
    if found.schema > known:
        return problem(
            "database",
            f"{path} was made by a newer Soorma (schema {found.schema}, this one knows {known})",
            "install that version or a later one",
        )
    if found.schema < known:
        return warning(
            "database",
            f"{path} is of an earlier Soorma (schema {found.schema} of {known})",
            "soorma dev --build migrates it",
        )
    told = f"{path}, {size(found.bytes)}, schema {known}"
    if found.is_whole:
        return ok("database", f"{told}, undamaged")
    return ok(
        "database",
        f"{told}; too large to be read in {LOOK_SECONDS:g} s",
        "soorma doctor --thorough reads all of it",
    )


def _others_read(file: Path) -> bool:
    """True if other users can read the file, judging by its mode and its folder's."""
    return bool(file.stat().st_mode & 0o044 and file.parent.stat().st_mode & 0o011)


def _faulty(path: Path, fault: Fault, reason: str) -> Finding:
    match fault:
        case Fault.LOCKED:
            return problem(
                "database",
                f"{path} is locked by another program",
                f"end that program (`fuser {path}` names it)",
            )
        case Fault.DAMAGED:
            return problem(
                "database",
                f"{path} is damaged: {reason}",
                "stop the platform, restore it from a backup",
            )
        case Fault.UNREADABLE:
            return problem(
                "database", f"{path} cannot be read: {reason}", "check whose it is, and the disk"
            )


def _mount_of(place: Path) -> tuple[str, str]:
    """Returns the file system's kind and mount point, on Linux; empty elsewhere."""
    try:
        lines = MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return "", ""
    mounts = [(_unescaped(fields[1]), fields[2]) for fields in map(str.split, lines)]
    fitting = [(mount, kind) for mount, kind in mounts if place.is_relative_to(mount)]
    mount, kind = max(reversed(fitting), key=lambda each: len(each[0]), default=("", ""))
    return kind, mount


def _unescaped(text: str) -> str:
    r"""Decodes the escapes of fstab(5): a space in a path is written \040."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def _flushes(place: Path) -> list[float]:
    """Returns the seconds that a few flushes took."""
    synced = getattr(os, "fdatasync", os.fsync)
    took: list[float] = []
    with TemporaryFile(dir=place, buffering=0) as file:
        while len(took) < SYNCS and sum(took) < SYNCING_SECONDS:
            file.write(bytes(PAGE))
            begun = time.perf_counter()
            synced(file.fileno())
            took.append(time.perf_counter() - begun)
    return took


def size(count: float) -> str:
    """Returns a number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


CHECKS = (folder, privacy, file_system, disk, flush, note, engine, database, in_use)
