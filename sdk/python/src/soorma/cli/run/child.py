"""The process of one agent under `soorma run`: announces itself, loads the agent, runs it.

It reports on a pipe what becomes of it, in lines of JSON that `Word` describes.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TypedDict

from soorma.cli.run.targets import Target

BROKEN = 78
"""The exit status of a process whose agent cannot be loaded (EX_CONFIG of sysexits.h)."""


class Word(TypedDict, total=False):
    """The report of a process about itself.

    `drain`: the agent runs, and takes at most so many seconds to drain. `broken`: the author's
    mistake, because of which there is no agent. `why`: the reason for its end.
    """

    drain: float
    broken: str
    why: str


def main(guard: int, words: int, place: str, attribute: str) -> int:
    """Runs the agent until it is told to end, and returns the exit status."""
    with suppress(BrokenPipeError):  # somebody has killed the guard
        os.write(guard, b"+%d\n" % os.getpid())
    os.close(guard)
    os.set_inheritable(words, False)
    sys.argv = [place]
    from soorma.cli.run.loader import Broken, load  # noqa: PLC0415 - announce first: this takes a while
    from soorma_common.errors import InvalidRequest, SoormaError  # noqa: PLC0415

    try:
        agent = load(Target(place, attribute))
        _say(words, {"drain": agent._drain_timeout})  # noqa: SLF001 - of the same house
        agent.run()
    except (Broken, InvalidRequest) as error:
        _say(words, {"broken": str(error)})
        return BROKEN
    except SoormaError as error:
        _say(words, {"why": error.message})
        return 1
    return 0


def _say(words: int, word: Word) -> None:
    os.write(words, json.dumps(word).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5]))
