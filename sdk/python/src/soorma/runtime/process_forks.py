"""Processes that a handler forks: they must be children of the agent, and not a second agent.

A forked child has copies of the agent's signal handlers, of its event loop and of its open sockets.
It may do what the handler forked it for, but if it comes back from there, its frames would mix with
those of its parent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from weakref import WeakKeyDictionary

STATUS = 70
"""Exit status of a child that came back to the agent: EX_SOFTWARE of sysexits.h."""

_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
"""on which loops agents run in this process, and how many; a loop that is thrown away with its
agents is not kept"""
_is_child = False
"""whether this process was forked by one on whose loops agents run; asking for a process id takes
a system call"""


def enter(loop: asyncio.AbstractEventLoop) -> None:
    """Notes that an agent runs on this loop from now on: children of its process are not to be agents."""
    global _is_child  # noqa: PLW0603 - of the process, as forks are
    if _is_child:
        _loops.clear()
        _is_child = False
    _loops[loop] = _loops.get(loop, 0) + 1


def leave(loop: asyncio.AbstractEventLoop) -> None:
    """Notes that an agent has ended."""
    left = _loops.get(loop, 0) - 1
    if left > 0:
        _loops[loop] = left
    else:
        _loops.pop(loop, None)


def end_child() -> None:
    """Ends the process if it is a child that has come back from a handler, hook or step; else does nothing."""
    if _is_child:
        sys.stderr.write(
            f"soorma: process {os.getpid()}, a forked child of an agent, came back from the "
            "function that had forked "
            "it, and was ended; end it there with os._exit(0)\n"
        )
        sys.stderr.flush()
        os._exit(STATUS)


def _in_child() -> None:
    """Right after a fork, in the child."""
    global _is_child  # noqa: PLW0603
    if not _loops:
        return
    _is_child = True
    # The agent's handlers write into a pipe that its event loop reads, and the pipe is shared:
    # without this, whoever ends the child ends the agent, and not the child.
    with suppress(ValueError):  # not in the main thread of the child
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for loop in list(
        _loops
    ):  # should the child await: the loop is a copy, but shares its parent's poll and sockets
        with suppress(RuntimeError):
            loop.call_soon(end_child)


os.register_at_fork(after_in_child=_in_child)
