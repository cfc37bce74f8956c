"""Shared by all measurements: sizes of a run, processes seen through /proc, figures and tables."""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

TICK = os.sysconf("SC_CLK_TCK")
FULL_COMMIT = "durable: SQLite WAL, synchronous=FULL, answered after fdatasync"
READ = "read of committed data"


@dataclass(frozen=True)
class Sizes:
    """The amount of work of a run. Times are in seconds."""

    rounds: int = 5
    cpu_requests: int = 8_000
    sdk_calls: int = 400
    paced_events: int = 200
    events: int = 3_000
    goals: int = 30
    goals_in_flight: int = 300
    starts: int = 9
    plans: int = 100_000
    ladder_rounds: int = 3
    open_rounds: int = 2
    ladder_calls: int = 300
    open_seconds: float = 4.0
    rates: tuple[int, ...] = (250, 1_000, 2_000)
    payloads: tuple[int, ...] = (100, 1_024, 4_096, 16_384, 65_536, 262_144)
    plan_keys: tuple[int, ...] = (10, 100, 1_000, 10_000)
    revisions: tuple[int, ...] = (10, 100, 1_000, 10_000)
    writers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    contended_writes: int = 3_000
    earlier_steps: int = 10_000
    long_rounds: int = 11
    retrieval_step: int = 1
    distractors: int = 1_000
    passages: int = 100_000
    scopes: int = 10_000
    searches: int = 200
    stores: int = 2_000
    compared_passages: int = 3_000
    compared_stores: int = 300


FULL = Sizes()
QUICK = Sizes(
    rounds=3,
    cpu_requests=1_500,
    sdk_calls=80,
    paced_events=60,
    events=600,
    goals=8,
    goals_in_flight=60,
    starts=3,
    plans=2_000,
    ladder_rounds=1,
    open_rounds=1,
    ladder_calls=60,
    open_seconds=1.0,
    rates=(250, 1_000),
    contended_writes=500,
    earlier_steps=500,
    long_rounds=3,
    retrieval_step=4,
    distractors=200,
    passages=10_000,
    scopes=200,
    searches=60,
    stores=400,
    compared_passages=1_000,
    compared_stores=100,
)
TINY = Sizes(
    rounds=1,
    cpu_requests=200,
    sdk_calls=10,
    paced_events=5,
    events=50,
    goals=2,
    goals_in_flight=4,
    starts=1,
    plans=100,
    ladder_rounds=1,
    open_rounds=1,
    ladder_calls=10,
    open_seconds=0.2,
    rates=(100,),
    payloads=(100, 4_096),
    plan_keys=(10, 100),
    revisions=(10, 100),
    writers=(1, 4),
    contended_writes=40,
    earlier_steps=20,
    long_rounds=1,
    retrieval_step=10,
    distractors=50,
    passages=2_500,
    scopes=20,
    searches=5,
    stores=20,
    compared_passages=200,
    compared_stores=10,
)
PAIRED = Sizes(
    rounds=1,
    cpu_requests=1_500,
    sdk_calls=100,
    paced_events=60,
    events=800,
    goals=10,
    goals_in_flight=80,
    starts=2,
    plans=2_000,
    ladder_rounds=1,
    open_rounds=1,
    ladder_calls=80,
    open_seconds=1.0,
    rates=(250, 1_000),
    payloads=(100, 4_096, 65_536),
    plan_keys=(10, 1_000),
    revisions=(10, 1_000),
    writers=(1, 8, 64),
    contended_writes=600,
    earlier_steps=200,
    long_rounds=3,
    retrieval_step=10,
    distractors=100,
    passages=5_000,
    scopes=100,
    searches=60,
    stores=200,
    compared_passages=1_000,
    compared_stores=100,
)
"""The sizes of one of many rounds of a comparison, in which a side takes about half a minute."""
SIZES = {"full": FULL, "quick": QUICK, "paired": PAIRED, "tiny": TINY}


@dataclass(frozen=True)
class Figure:
    """One measured figure beside its floor.

    `verdict` is None where the floor is all there is to compare it with.
    """

    what: str
    measured: str
    floor: str
    ratio: str = ""
    target: str = ""
    verdict: bool | None = None
    durability: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading."""

    title: str
    about: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    plot: str = ""


@dataclass(frozen=True)
class Plot:
    """Lines over common steps of x, which stand evenly; a line may end before the last.

    y is logarithmic, or with `is_share` linear from 0 to 1.
    """

    name: str
    title: str
    x: str
    y: str
    steps: tuple[str, ...]
    lines: dict[str, list[float]]
    is_share: bool = False


@dataclass
class Report:
    """The results of a run.

    `numbers` are the product's own, without floors, for a comparison of two checkouts.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def say(text: str) -> None:
    """Tells the person at the terminal how far the run is."""
    sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")
    sys.stderr.flush()


def rounds(count: int, seconds: float, *, least: int = 1) -> Iterator[int]:
    """Counts `count` rounds, but begins none beyond `least` that would end after `seconds`."""
    started = time.monotonic()
    for number in range(count):
        if number >= least and (time.monotonic() - started) * (number + 1) / number > seconds:
            say(f"  out of time after {number} of {count} rounds")
            return
        yield number


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ratio_of(pairs: Iterable[tuple[float, float]]) -> float:
    """The median of the rounds' ratios."""
    return median(product / floor for product, floor in pairs)


def ms(seconds: float) -> str:
    """A time for people."""
    return f"{seconds * 1e3:.2f} ms"


def times(ratio: float) -> str:
    """A ratio for people."""
    return f"{ratio:.2f} ×"


def cpu_seconds(pid: int) -> float:
    """The processor time of a process, in user and kernel mode, in seconds; 0 for pid 0."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_mib(pid: int) -> float:
    """The resident memory of a process, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
