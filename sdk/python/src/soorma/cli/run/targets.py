"""Targets of `soorma run`: `module:agent` or `path/to/file.py:agent`, perhaps several times."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from soorma.cli.exits import CommandError, Exit

MOST_PROCESSES = 256
_COUNT = re.compile(r"(?P<rest>.*)\*(?P<count>[0-9]+)")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Target:
    """A module, by name or file, and the attribute that is its agent; empty: its only agent."""

    place: str
    attribute: str

    @property
    def is_file(self) -> bool:
        """True if the place is the path of a file."""
        return _is_file(self.place)

    @property
    def short(self) -> str:
        """A name for a person: the attribute, else the module's last part."""
        return self.attribute or (
            Path(self.place).stem if self.is_file else self.place.rpartition(".")[2]
        )

    def __str__(self) -> str:
        return f"{self.place}:{self.attribute}" if self.attribute else self.place


@dataclass(frozen=True)
class Wanted:
    """A process to run: its target, and its label in the log."""

    target: Target
    label: str


def parse(texts: Sequence[str], replicas: int = 1) -> list[Wanted]:
    """Returns the requested processes; CommandError for a text that cannot be parsed, or too many.

    `replicas` is the number of processes of a target without its own, as in `worker:worker*3`.
    """
    counted = [_counted(text, replicas) for text in texts]
    if sum(count for _, count in counted) > MOST_PROCESSES:
        raise CommandError(
            Exit.USAGE, f"that is more than {MOST_PROCESSES} processes; run fewer at once"
        )
    shorts = Counter(target.short for target in dict(counted))
    asked = Counter[Target]()
    for target, count in counted:
        asked[target] += count
    found = []
    for target, count in asked.items():
        name = target.short if shorts[target.short] == 1 else str(target)
        found += [
            Wanted(target, name if count == 1 else f"{name}.{number}")
            for number in range(1, count + 1)
        ]
    return found


def _counted(text: str, replicas: int) -> tuple[Target, int]:
    count, rest = replicas, text
    if match := _COUNT.fullmatch(text):
        rest, count = match["rest"], int(match["count"])
    if count < 1:
        raise _unfit(text, "it is to run at least once")
    place, colon, attribute = rest.rpartition(":") if ":" in rest else (rest, "", "")
    if colon and not attribute:
        raise _unfit(text, "the agent's name is missing behind the colon")
    if attribute and not _DOTTED.fullmatch(attribute):
        raise _unfit(text, f"{attribute!r} is no name of an agent in a module")
    if not _is_file(place) and not _DOTTED.fullmatch(place):
        raise _unfit(text, "it is neither a module, as app.worker, nor a file, as app/worker.py")
    return Target(place, attribute), count


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place


def _unfit(text: str, why: str) -> CommandError:
    return CommandError(
        Exit.USAGE,
        f"{text!r} cannot be run: {why}; write module:agent, path/to/file.py:agent or module",
    )
