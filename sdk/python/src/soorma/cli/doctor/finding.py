"""What a check has found, and what to do about it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """What was looked at, how it is, what was found, and what to do next; no advice where nothing is to be done."""

    check: str
    state: State
    found: str
    advice: str = ""


def ok(check: str, found: str, advice: str = "") -> Finding:
    """It is as it should be."""
    return Finding(check, State.OK, found, advice)


def warning(check: str, found: str, advice: str) -> Finding:
    """It works, but not as well as it could, or not for long."""
    return Finding(check, State.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check, State.PROBLEM, found, advice)
