"""One side of a comparison: `python side.py SIZE` reads commands and prints numbers.

Commands are words, one a line; each gets one line of numbers. `begin` sets the stage anew, `end`
clears it; any other word is a part to measure on it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from measuring import SIZES
from parts import ALONE
from stage import Stage


def main() -> None:
    """Goes on until its input ends."""
    logging.basicConfig(level=logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    sizes = SIZES[sys.argv[1]]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # what else is printed goes to stderr
    os.dup2(2, 1)
    with ExitStack() as held:
        for line in iter(sys.stdin.readline, ""):
            what = line.strip()
            numbers: dict[str, float] = {}
            if what == "begin":
                folder = held.enter_context(tempfile.TemporaryDirectory(prefix="soorma-bench-"))
                stage = held.enter_context(Stage(Path(folder), sizes))
            elif what == "end":
                held.close()
            else:
                # A round begins with `begin`, which sets the stage.
                numbers = _measured(stage, what)  # type: ignore[possibly-undefined]
            answers.write(json.dumps(numbers) + "\n")
            answers.flush()


def _measured(stage: Stage, part: str) -> dict[str, float]:
    stage.report.numbers.clear()
    for measure in ALONE[part]:
        measure(stage)
    return stage.report.numbers


if __name__ == "__main__":
    main()
