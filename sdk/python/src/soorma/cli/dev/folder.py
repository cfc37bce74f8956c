"""The folder `.soorma`, in which `soorma dev` keeps the state of a platform: note, logs, store."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from soorma.cli import output
from soorma.cli.exits import CommandError, Exit, exit_of
from soorma.local import FOLDER, KEYS, NOTE, Running, root_of
from soorma_common.errors import SoormaError
from soorma_common.starting import RecordInUse

LOCK_SECONDS = 90.0
LARGEST_LOG = 10 * 1024 * 1024


class Folder:
    """The folder `.soorma` in `root`, and its files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / FOLDER
        self.state = self.path / NOTE
        self.log = self.path / "platform.log"
        self.old_log = self.path / "platform.log.1"
        self.database = self.path / "soorma.db"
        self.keys = self.path / KEYS
        self._lock = self.path / "dev.lock"
        self._ignore = self.path / ".gitignore"

    @classmethod
    def nearest(cls) -> Folder:
        """Returns that of the current folder or the nearest above with one; else a new one here."""
        try:
            here = Path.cwd()
        except OSError as error:
            raise CommandError(
                Exit.FAILED, "the current folder is gone; change to another"
            ) from error
        return cls(root_of(here) or here)

    def database_for(self, environment: Mapping[str, str], running: Running | None = None) -> Path:
        """Returns the database of SOORMA_DATABASE, else of `running`, else the folder's own."""
        named = (
            environment.get("SOORMA_DATABASE") or (running and running.database) or self.database
        )
        return Path(os.path.abspath(named))  # noqa: PTH100 - no symlink followed

    def exists(self) -> bool:
        """True if anything was ever started here."""
        return os.path.lexists(self.path)

    def make(self) -> None:
        """Creates the folder, hidden from version control and from other users."""
        with self._writing():
            self.path.mkdir(0o700, parents=True, exist_ok=True)
            if not self._ignore.exists():
                self._ignore.write_text("*\n", "ascii")

    @contextmanager
    def lock(self, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Makes other commands that start or stop a platform here wait.

        CommandError if another has the lock for longer than `seconds`.
        """
        with self._writing():
            descriptor = self._locked(seconds)
        try:
            yield
        finally:
            os.close(descriptor)

    def running(self) -> Running | None:
        """Returns the platform that runs here, and removes the note of one that is gone.

        Needs the lock.
        """
        try:
            found = Running.read(self.state)
        except ValueError as error:
            self._remove_note()
            output.note(
                f"{error}; it was removed. If its platform still runs, end the process whose "
                f"number is in {self.database}.lock"
            )
            return None
        if found and not found.process.is_alive():
            self._remove_note()
            output.note(
                f"the platform of process {found.pid} had ended without a word; its note was "
                "removed, its data is kept"
            )
            return None
        return found

    def write(self, running: Running) -> None:
        """Writes the note of a platform."""
        with self._writing():
            running.write(self.state)

    def forget(self, pid: int) -> None:
        """Removes the note, if it is still that of the process `pid`."""
        with suppress(OSError, ValueError):
            found = Running.read(self.state)
            if found and found.pid == pid:
                self.state.unlink()

    def open_log(self) -> int:
        """Returns a descriptor that appends to the log; a large log is moved away first."""
        with self._writing():
            if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
                self.log.replace(self.old_log)
            return os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def clean(self) -> list[Path]:
        """Removes store and logs, and the folder if nothing else is in it. Needs the lock."""
        removed = self._remove_store()
        for file in (self.log, self.old_log, self.state, self._ignore, self._lock):
            with self._writing(), suppress(FileNotFoundError):
                file.unlink()
                removed.append(file)
        with suppress(OSError):  # something of the user's is in it
            self.path.rmdir()
            removed.append(self.path)
        return removed

    def _remove_store(self) -> list[Path]:
        """Removes the store; CommandError if a platform still uses it.

        One that `soorma serve` started may do so: it leaves no note.
        """
        from soorma_platform.stores.engines import tools_for  # noqa: PLC0415 - only --clean needs the platform

        with self._writing():
            try:
                return tools_for(self.database).remove()
            except RecordInUse as error:
                raise CommandError(
                    exit_of(error),
                    f"{self.database} is in use by another platform (process {error.holder}), "
                    "which was not started with soorma dev; nothing was removed. End that process "
                    "first",
                ) from error
            except SoormaError as error:
                raise CommandError(exit_of(error), error.message) from error

    def _remove_note(self) -> None:
        with self._writing():
            self.state.unlink(missing_ok=True)

    def _locked(self, seconds: float) -> int:
        until = time.monotonic() + seconds
        told = False
        while True:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                if _is_same(descriptor, self._lock):
                    return descriptor
                os.close(descriptor)  # removed by --clean between our two steps
                continue
            if time.monotonic() > until:
                raise CommandError(
                    Exit.BUSY,
                    f"another soorma command has been at work in {self.path} for {seconds:.0f} s; "
                    f"look at it (`fuser {self._lock}` names it), end it, and try again",
                )
            if not told:
                output.note("another soorma command is at work in this folder; waiting for it")
                told = True
            time.sleep(0.05)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = "it is not a folder" if self._is_no_folder() else error.strerror
            raise CommandError(
                Exit.UNWRITABLE,
                f"{self.path} cannot be written: {why}; make it writable, or start from a folder "
                "of your own",
            ) from error

    def _is_no_folder(self) -> bool:
        return self.exists() and not self.path.is_dir()


def _is_same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
