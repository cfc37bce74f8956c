"""`make bench`: measures the platform and the floors beside it, and writes RESULTS.md with plots.

    python benchmarks/run.py             all of it, into benchmarks/
    python benchmarks/run.py --quick     a look in about a minute, into a temporary folder
    python benchmarks/run.py --only sdk  a part of it, into a temporary folder

All of it takes about 5 minutes. The part `others` needs the environment .venv-others, which `sh tools/run bench` makes;
without it the results say that the part was not measured. Linux only: processor time and memory come from /proc.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import over_example
import over_http
import over_others
import over_process
import over_sdk
import over_transactions
import results
from measuring import SIZES, say
from stage import Stage

PARTS: dict[str, tuple[Callable[[Stage], None], ...]] = {
    "cpu": (over_http.cost_per_request,),
    "sdk": (over_sdk.single_calls,),
    "events": (over_sdk.events,),
    "example": (over_example.example,),
    "handler": (over_transactions.handler,),
    "others": (over_others.workflows,),
    "process": (over_process.start, over_process.memory),
    "open": (over_http.open_loop,),
    "payloads": (over_http.payloads,),
    "plans": (over_http.plan_sizes,),
    "history": (over_http.histories,),
    "contention": (over_http.contention,),
}


def main() -> int:
    """Runs what the command line asks for; 0 if everything could be measured, whatever the figures are."""
    parser = argparse.ArgumentParser(description="Measures the platform beside its floors.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", help="about a minute")
    size.add_argument("--size", choices=SIZES, help="how much to measure (default: full)")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; can be given more than once")
    parser.add_argument("--output", type=Path, help="folder for RESULTS.md and plots/")
    options = parser.parse_args()
    chosen = options.size or "full"
    logging.basicConfig(level=logging.WARNING)
    if not Path("/proc/self/stat").exists():
        return _refuse("make bench reads /proc and so runs on Linux only")

    whole = chosen == "full" and not options.only
    output = options.output or (Path(__file__).parent if whole else Path(tempfile.mkdtemp(prefix="soorma-results-")))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
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
