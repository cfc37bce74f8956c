"""What `soorma backup` and `soorma restore` share: which database, the copy beside its place, and how it goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soorma.cli import output
from soorma.cli.dev.folder import Folder
from soorma.cli.exits import CommandError, Exit, exit_of
from soorma.local import Running
from soorma_common.errors import SoormaError
from soorma_platform.stores.sqlite import backup
from soorma_platform.stores.sqlite.backup import Contents, flush
from soorma_platform.stores.sqlite.locking import lock_file

__all__ = ["are_one", "as_document", "as_row", "beside", "copy", "database_of", "failures_told", "flush", "held",
           "put_in_place", "size"]  # fmt: skip

MIB = 1 << 20


def database_of(given: Path | None) -> Path:
    """The one named, else that of SOORMA_DATABASE, else that of the platform which runs in this folder, or would."""
    folder = Folder.nearest()
    named = given or os.environ.get("SOORMA_DATABASE") or _running_on(folder) or folder.database
    return Path(os.path.abspath(named))  # noqa: PTH100 - no symlink followed


def are_one(file: Path, database: Path) -> bool:
    """Whether a file is part of the database, however it is called."""
    ends = ("", "-wal", "-shm", ".lock")
    parts = [place.with_name(place.name + end) for place in (database, database.resolve()) for end in ends]
    is_same = file.exists() and database.exists() and file.samefile(database)
    return is_same or file.resolve() in [part.resolve() for part in parts]


@contextmanager
def beside(place: Path) -> Iterator[Path]:
    """A name beside that of a file, for what is to take its place once it is whole. Nothing is left of a failure."""
    partial = place.with_name(f"{place.name}.{os.getpid()}.partial")
    try:
        yield partial
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            partial.with_name(partial.name + end).unlink(missing_ok=True)


@contextmanager
def failures_told() -> Iterator[None]:
    """What the platform's errors and those of files are to the command."""
    try:
        yield
    except SoormaError as error:
        raise CommandError(exit_of(error), error.message) from error
    except OSError as error:
        raise CommandError(Exit.UNWRITABLE, f"{error.filename or 'a file'}: {error.strerror}") from error
    except KeyboardInterrupt:
        raise CommandError(Exit.INTERRUPTED, "interrupted; nothing was changed") from None


def copy(source: Path, target: Path) -> Contents:
    """A copy that was looked through; what it holds. On a terminal it tells how far it is."""
    with _progress() as tell:
        backup.copy(source, target, lambda share: tell(f"copying {share:.0%}"))
        tell("checking the copy")
        return backup.examine(target, source)


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Keeps platforms away from a database; CommandError if one is there."""
    lock = lock_file(database)
    try:
        yield
    finally:
        lock.close(leave=False)


def put_in_place(partial: Path, database: Path, aside: Path, source: Path) -> bool:
    """Makes a copy of `source` the database, fit to go on from; whether there was one before, now called `aside`."""
    backup.check_schema(partial, source)
    backup.begin_again(partial)
    return backup.put_in_place(database, partial, aside)


def as_row(contents: Contents) -> str:
    """What a record holds, in a line for people."""
    counted = [_counted(contents.plans, "plan"), _counted(contents.revisions, "revision")]
    return f"{' at '.join(counted)}, and {_counted(contents.events, 'event')} of the log"


def as_document(contents: Contents, **more: Any) -> None:
    """The same for programs, with what else there is to tell."""
    told = contents._asdict()
    told["logEnd"], told["deadLetters"] = told.pop("log_end"), told.pop("dead_letters")
    output.say_json({**more, **told})


def size(path: Path) -> str:
    """How large a file is, for people."""
    return f"{path.stat().st_size / MIB:,.1f} MiB"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _running_on(folder: Folder) -> str | None:
    try:
        found = Running.read(folder.state)
    except (OSError, ValueError):
        return None
    return found.database if found is not None and found.process.is_alive() else None


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on the terminal that is written anew; nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return

    def tell(what: str) -> None:
        sys.stderr.write(f"\r\x1b[K{what}")
        sys.stderr.flush()

    try:
        yield tell
    finally:
        tell("")
