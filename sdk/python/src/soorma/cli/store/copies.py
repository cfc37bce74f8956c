"""Functions that backup and restore share: the database, errors, progress, a report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soorma.cli import output
from soorma.cli.dev.folder import Folder
from soorma.cli.exits import CommandError, Exit, exit_of
from soorma.local import Running
from soorma_common.errors import SoormaError

if TYPE_CHECKING:
    from soorma_platform.stores.tools import Contents, Tell

MIB = 1 << 20


def database_of(named: Path | None) -> Path:
    """Returns the named database, else that of SOORMA_DATABASE, else that of this folder."""
    if named is not None:
        return Path(os.path.abspath(named))  # noqa: PTH100 - no symlink followed
    folder = Folder.nearest()
    return folder.database_for(os.environ, _running_in(folder))


@contextmanager
def failures() -> Iterator[None]:
    """Turns errors of the store's tools, errors of files, and Ctrl+C into CommandError."""
    try:
        yield
    except SoormaError as error:
        raise CommandError(exit_of(error), error.message) from error
    except OSError as error:
        raise CommandError(
            Exit.UNWRITABLE, f"{error.filename or 'a file'}: {error.strerror}"
        ) from error
    except KeyboardInterrupt:
        raise CommandError(Exit.INTERRUPTED, "interrupted; nothing was changed") from None


@contextmanager
def progress() -> Iterator[Tell]:
    """Shows the progress of a copy in a line on the terminal; nothing without a terminal."""
    from soorma_platform.stores.tools import Stage  # noqa: PLC0415 - --help does without

    def tell(stage: Stage, share: float) -> None:
        output.rewrite(f"copying {share:.0%}" if stage is Stage.COPYING else "checking the copy")

    try:
        yield tell
    finally:
        output.rewrite("")


def as_row(contents: Contents) -> str:
    """Describes the contents of a record in a line for people."""
    counted = [_counted(contents.plans, "plan"), _counted(contents.revisions, "revision")]
    return f"{' at '.join(counted)}, and {_counted(contents.events, 'event')} of the log"


def say_json(contents: Contents, **more: Any) -> None:
    """Prints the contents for programs, with further fields."""
    output.say_json({**more, **contents._asdict()})


def size(count: int) -> str:
    """Formats a number of bytes for people."""
    return f"{count / MIB:,.1f} MiB"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _running_in(folder: Folder) -> Running | None:
    try:
        found = Running.read(folder.state)
    except (OSError, ValueError):
        return None
    return found if found is not None and found.process.is_alive() else None
