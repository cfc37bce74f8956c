"""The exit codes of the command, one for each outcome that a script may want to react to."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

from soorma_common.errors import (
    Conflict,
    EventIdConflict,
    HistoryGone,
    InvalidRequest,
    NotFound,
    PlanEnded,
    PlanExists,
    SoormaError,
    TimedOut,
    Unavailable,
)
from soorma_common.starting import (
    FolderUnwritable,
    MigrationNeeded,
    NoKeys,
    PortTaken,
    RecordInUse,
    RecordUnusable,
)


class Exit(IntEnum):
    """An exit code and its meaning; `soorma dev --help` lists them."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Creates an integer that carries its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "success"
    FAILED = 1, "something unforeseen; the message says what"
    USAGE = 2, "the command line asks for what is not possible"
    NOT_RUNNING = 3, "no platform runs in this folder (--status, --logs)"
    UNHEALTHY = 4, "it runs, but a service does not answer or is failing"
    PORT_TAKEN = 5, "another program listens on a port"
    RUNNING_ELSEWHERE = 6, "a platform runs already, with other ports or from another folder"
    UNWRITABLE = 7, "the folder cannot be written"
    DATABASE = 8, "the database is locked, damaged, of a newer Soorma, or its disk is full"
    NEEDS_BUILD = 9, "the database is of an earlier Soorma: use --build"
    START_FAILED = 10, "the platform ended while starting"
    START_TIMEOUT = 11, "the platform was not healthy in time, and was stopped"
    BUSY = 12, "another soorma command has been at work in this folder for too long"
    NOT_STOPPED = 13, "the platform could not be stopped"
    NOT_FOUND = (
        14,
        "there is no such key, plan, passage, session, procedure, timer, dead letter or agent",
    )
    REFUSED = 15, "the platform refuses it: a limit, another type of value, something not allowed"
    CONFLICT = (
        16,
        (
            "the key is at another revision, the plan has ended or is in use, or the event id "
            "stands for another event"
        ),
    )
    UNAVAILABLE = 17, "the platform cannot be reached, or cannot work now"
    GONE = 18, "it lies before the oldest revision or position that is kept"
    PROBLEMS = 19, "soorma doctor has found a problem"
    AGENT = 20, "an agent of soorma run cannot be loaded; the message says what is wrong, and where"
    NO_KEYS = 21, "the platform is closed, and there is no valid key yet: soorma keys create"
    INTERRUPTED = 130, "interrupted with Ctrl+C"
    OUTPUT_CLOSED = 141, "whoever read the output has closed it"


class CommandError(Exception):
    """A failure of the command; `message` says what failed, on what, and what to do."""

    def __init__(self, exit_code: Exit, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message


_EXITS: tuple[tuple[type[SoormaError], Exit], ...] = (
    (PortTaken, Exit.PORT_TAKEN),
    (RecordInUse, Exit.RUNNING_ELSEWHERE),
    (FolderUnwritable, Exit.UNWRITABLE),
    (RecordUnusable, Exit.DATABASE),
    (MigrationNeeded, Exit.NEEDS_BUILD),
    (NoKeys, Exit.NO_KEYS),
    (Unavailable, Exit.UNAVAILABLE),
    (TimedOut, Exit.UNAVAILABLE),
    (NotFound, Exit.NOT_FOUND),
    (Conflict, Exit.CONFLICT),
    (EventIdConflict, Exit.CONFLICT),
    (PlanEnded, Exit.CONFLICT),
    (PlanExists, Exit.CONFLICT),
    (HistoryGone, Exit.GONE),
    (InvalidRequest, Exit.USAGE),
)


def exit_of(error: SoormaError) -> Exit:
    """Returns the exit code for the kind of error."""
    return next((code for kind, code in _EXITS if isinstance(error, kind)), Exit.REFUSED)
