"""Findings: the state that a check has found, and advice."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """The states that a check can find."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """A check, the state it found, the facts, and advice, empty if nothing is to be done."""

    check: str
    state: State
    found: str
    advice: str = ""


def ok(check: str, found: str, advice: str = "") -> Finding:
    """Returns a finding that all is well."""
    return Finding(check, State.OK, found, advice)


def warning(check: str, found: str, advice: str) -> Finding:
    """Returns a finding of something that works, but not as well as it could, or not for long."""
    return Finding(check, State.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """Returns a finding of something that does not work."""
    return Finding(check, State.PROBLEM, found, advice)
