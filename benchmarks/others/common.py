"""Shared by the three systems: the state between steps, and the protocol of over_others.py.

Standard library only, since it runs in the environment of each. Each process reads commands from
its input and prints its results, one JSON object a line. It ends when its input does.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from statistics import median
from typing import Any, TypedDict

STEPS = 3
WARM_UP = 100


class State(TypedDict):
    """The state of a workflow: how many steps it has done, and the result of the last."""

    step: int
    last: dict[str, Any] | None


def start() -> State:
    """The state of a workflow before its first step."""
    return {"step": 0, "last": None}


def next_state(state: State) -> State:
    """Carries out a step: reads the last result and returns one of about 100 bytes of JSON."""
    before = state["last"]["number"] if state["last"] else 0
    if before != state["step"]:
        raise ValueError(f"after {state['step']} steps there is the result of step {before}")
    number = before + 1
    return {"step": number, "last": {"number": number, "text": "x" * 72}}


def check(state: State) -> None:
    """Fails unless a workflow has done its steps."""
    if state["step"] != STEPS:
        raise ValueError(f"a workflow has ended after {state['step']} steps")


class Clock:
    """Times the steps of one long workflow.

    A step is done when the next begins: then it is durable in all three.
    """

    def __init__(self) -> None:
        self._begun: list[float] = []
        self._early: list[float] = []
        self._first = self._more = 0
        self._resumed: float | None = None
        self._seen = self._warm = 0

    def measure(self, earlier: int, more: int) -> None:
        """Times each `more` steps after `earlier`, and as many after the first few.

        It reports, and the steps go on.
        """
        self._first, self._more = earlier, more
        self._warm = min(WARM_UP, earlier // 2)

    def resume(self) -> None:
        """Reports the time from now, after the imports, until the next step is done."""
        self._resumed = time.perf_counter()

    def begins(self, done: int) -> None:
        """Notes that a step begins, after `done` others."""
        now = time.perf_counter()
        if self._resumed is not None:
            self._seen += 1
            if self._seen == 2:
                tell(seconds=now - self._resumed, done=done)
        elif done >= self._first:
            self._begun.append(now)
            if len(self._begun) > self._more:
                tell(p50=_middle(self._begun), first=_middle(self._early), done=done)
                self._begun = [now]
        elif self._warm <= done <= self._warm + self._more:
            self._early.append(now)


def _middle(begun: list[float]) -> float:
    return median(after - before for before, after in pairwise(begun))


def tell(**what: object) -> None:
    """Prints a line to whoever started this process."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
