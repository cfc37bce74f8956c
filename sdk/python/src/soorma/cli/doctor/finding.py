"""Findings: the state of what a check has looked at, and advice."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """The states of what was looked at."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """A check, the state it found, the facts, and advice; none where nothing is to be done."""

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
