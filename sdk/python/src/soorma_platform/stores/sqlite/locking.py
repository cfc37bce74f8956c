"""The lock that allows a record one platform at a time.

It holds under whatever name the record is reached, and as long as its file is there.
"""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from soorma_common.starting import FolderUnwritable, RecordInUse

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


class RecordLock:
    """The lock that makes this process the only platform on a record.

    Close it after all connections to the record.

    It lies on a file beside the record, which names its holder, and on the record itself: other
    links to it, and other mounts of its folder, have other names. `path` is the record's own, with
    no symbolic link in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        self._beside = self.path.with_name(f"{self.path.name}.lock")
        self._was_there = self._beside.exists()
        self._handle = self._hold()
        self._record: int | None = None
        try:
            self.hold_record()
        except BaseException:
            self.close()
            raise

    def close(self, *, leave: bool = True) -> None:
        """Releases it; without `leave`, removes the file beside the record if it created that."""
        if not leave and not self._was_there:
            self._beside.unlink(missing_ok=True)
        record, self._record = self._record, None
        if record is not None:
            os.close(record)
        self._handle.close()

    def _hold(self) -> IO[str]:
        while True:
            handle = self._open()
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip() or "unknown"
                handle.close()
                raise _in_use(self.path, holder) from None
            if _is_at(handle, self._beside):
                break
            handle.close()  # its holder has removed it meanwhile
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        return handle

    def _open(self) -> IO[str]:
        try:
            self.path.parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
            return open(self._beside, "a+", encoding="utf-8", opener=_private)
        except OSError as error:
            raise FolderUnwritable(
                f"the folder of the database {self.path} cannot be written: {error.strerror}"
            ) from error

    def hold_record(self) -> None:
        """Locks the record itself, once it exists; Unavailable names the process that has it.

        Linux keeps these locks apart from those that SQLite takes; other systems do not.
        """
        if self._record is None and sys.platform == "linux":
            self._record = self._hold_file()

    def _hold_file(self) -> int | None:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it is not there yet, or SQLite says better what is wrong
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder_of(descriptor)
            os.close(descriptor)
            raise _in_use(self.path, holder, ", which has it under another name") from None
        except OSError:  # a file system without such locks
            os.close(descriptor)
            return None
        return descriptor


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)


def lock_file(path: Path) -> RecordLock:
    """Locks a record; Unavailable names the process that has it."""
    return RecordLock(path)


def _in_use(path: Path, holder: str, how: str = "") -> RecordInUse:
    return RecordInUse(
        f"the database {path} is in use by another platform (process {holder}{how}); stop that one "
        "first",
        holder=holder,
    )


def _is_at(handle: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder_of(descriptor: int) -> str:
    """Returns the process that holds the lock of a file, as the kernel lists it (proc_locks(5))."""
    there = os.fstat(descriptor)
    inode = f"{os.major(there.st_dev):02x}:{os.minor(there.st_dev):02x}:{there.st_ino}"
    with suppress(OSError):
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            parts = line.split()
            if "FLOCK" in parts and inode in parts and "->" not in parts:
                return parts[4]
    return "unknown"
