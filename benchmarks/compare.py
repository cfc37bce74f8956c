"""`make bench ARGS="--against REV"`: compares the figures of two checkouts in alternating rounds.

In each round every part is measured three times: on the old checkout, on this one, and on the old
one again; every other round takes them in reverse. So whatever else the machine does affects all of
them alike, and the two series of the old checkout show how far apart equal code is in this run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from types import TracebackType
from typing import Self

from measuring import say

HERE = Path(__file__).resolve().parent
ROUNDS = 9
MARGIN = 0.03
"""The excess of a ratio over those of equal checkouts that is still accepted."""
NEW, OLD, OLD_AGAIN = "new", "old", "old again"

Numbers = dict[str, float]


@dataclass(frozen=True)
class Compared:
    """A figure: the medians of both sides, and their ratios.

    A ratio above 1 is worse, whatever the figure counts. `lowest` and `highest` bound the middle
    half of the ratios of old against old.
    """

    what: str
    old: float
    new: float
    ratio: float
    lowest: float
    highest: float

    @property
    def is_worse(self) -> bool:
        """True if it is worse by more than the margin beyond what equal checkouts differ by."""
        return self.ratio > max(self.highest, 1.0) + MARGIN


class Side:
    """A checkout to measure, by its own Python in a process of its own.

    The benchmarks are those of this checkout.
    """

    def __init__(self, checkout: Path, size: str) -> None:
        python = checkout / ".venv" / "bin" / "python"
        env = {**os.environ, "BENCH_CHECKOUT": str(checkout)}
        command = [str(python), str(HERE / "side.py"), size]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def do(self, what: str) -> Numbers:
        """Begins or ends a round, or measures a part.

        Raises RuntimeError if the process has ended; it prints the cause itself.
        """
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a side has ended at: {what}")
        numbers: Numbers = json.loads(line)
        return numbers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._process.communicate()  # at the end of its input it ends
        else:
            self._process.terminate()
            self._process.communicate()


@contextmanager
def checkout_of(against: str, root: Path) -> Iterator[Path]:
    """The folder of a checkout with its environment: a folder given, or a revision checked out."""
    if Path(against).is_dir():
        yield Path(against).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="soorma-old-") as scratch:
        say(f"{against}: a checkout and an environment of its own in {scratch}")
        archive = subprocess.run(
            ["git", "-C", root, "archive", against], stdout=subprocess.PIPE, check=True
        )
        subprocess.run(["tar", "-x", "-C", scratch], input=archive.stdout, check=True)
        env = {**os.environ, "PYTHON": sys.executable}
        subprocess.run(
            ["sh", "tools/run", "venv"], cwd=scratch, check=True, stdout=subprocess.DEVNULL, env=env
        )
        yield Path(scratch)


def measured(
    old: Path, new: Path, parts: Sequence[str], *, rounds: int, size: str
) -> dict[str, list[Numbers]]:
    """The numbers of each series, a dictionary for each round."""
    found: dict[str, list[Numbers]] = {OLD: [], NEW: [], OLD_AGAIN: []}
    with ExitStack() as held:
        sides = {
            name: held.enter_context(Side(new if name == NEW else old, size)) for name in found
        }
        for turn in range(rounds):
            say(f"round {turn + 1} of {rounds}")
            order = [OLD, NEW, OLD_AGAIN] if turn % 2 == 0 else [OLD_AGAIN, NEW, OLD]
            for name in order:
                sides[name].do("begin")
                found[name].append({})
            for part in parts:
                for name in order:
                    numbers = sides[name].do(part)
                    if not numbers:
                        break  # the old checkout, which is measured first, lacks this part
                    found[name][-1] |= numbers
            for name in order:
                sides[name].do("end")
    return found


def compared(found: dict[str, list[Numbers]]) -> list[Compared]:
    """Every figure that both checkouts have."""
    names = [name for name in found[OLD][0] if name in found[NEW][0]]
    return [
        _compared(name, *([one[name] for one in found[series]] for series in (OLD, NEW, OLD_AGAIN)))
        for name in names
    ]


def _compared(what: str, old: list[float], new: list[float], again: list[float]) -> Compared:
    """Compares the new checkout with the mean of the two old ones around it."""
    ratios = [_worse_by(what, one, (a + b) / 2) for one, a, b in zip(new, old, again, strict=True)]
    equal = [_worse_by(what, b, a) for a, b in zip(old, again, strict=True)]
    lowest, _, highest = quantiles(equal, n=4, method="inclusive") if len(equal) > 1 else equal * 3
    return Compared(what, median([*old, *again]), median(new), median(ratios), lowest, highest)


def _worse_by(what: str, value: float, reference: float) -> float:
    """Returns how much worse a value is: of rates, more is better; of times and memory, less is."""
    return reference / value if what.endswith("/s") else value / reference


def table(found: Sequence[Compared]) -> str:
    """The table for a terminal, with what is worse last."""
    width = max((len(one.what) for one in found), default=0)
    lines = [f"{'':{width}}  {'old':>10}  {'new':>10}  new/old, >1 is worse (old/old)"]
    lines += [
        f"{one.what:{width}}  {one.old:10.4g}  {one.new:10.4g}  {one.ratio:5.3f} "
        f"({one.lowest:.3f} to {one.highest:.3f}){'  WORSE' if one.is_worse else ''}"
        for one in sorted(found, key=lambda one: one.is_worse)
    ]
    return "\n".join(lines)


def as_json(found: Sequence[Compared], series: dict[str, list[Numbers]]) -> str:
    """All figures, for a program."""
    figures = [{**asdict(one), "worse": one.is_worse} for one in found]
    return json.dumps(
        {"margin": MARGIN, "rounds": len(series[NEW]), "figures": figures, "series": series},
        indent=1,
    )
