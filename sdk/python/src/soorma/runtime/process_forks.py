"""Processes that a handler forks: children of the agent that must not act as a second agent.

A forked child has copies of the agent's signal handlers, event loop and open sockets. It may do
what it was forked for, but if it returns from there, its frames mix with those of its parent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from weakref import WeakKeyDictionary

STATUS = 70
"""Exit status of a child that returned to the agent: EX_SOFTWARE of sysexits.h."""

_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
"""agents on each event loop of this process; weak, so as not to keep discarded loops"""
_is_child = False
"""true if this process was forked from one with agents; comparing pids takes a system call"""


def enter(loop: asyncio.AbstractEventLoop) -> None:
    """Notes that an agent runs on this loop, so that forked children do not act as agents."""
    global _is_child  # noqa: PLW0603 - of the process, as forks are
    if _is_child:
        _loops.clear()
        _is_child = False
    _loops[loop] = _loops.get(loop, 0) + 1


def leave(loop: asyncio.AbstractEventLoop) -> None:
    """Notes that an agent on this loop has ended."""
    left = _loops.get(loop, 0) - 1
    if left > 0:
        _loops[loop] = left
    else:
        _loops.pop(loop, None)


def end_child() -> None:
    """Ends the process if it is a child that has returned from a handler, hook or step."""
    if _is_child:
        sys.stderr.write(
            f"soorma: process {os.getpid()}, a forked child of an agent, came back from the "
            "function that had forked "
            "it, and was ended; end it there with os._exit(0)\n"
        )
        sys.stderr.flush()
        os._exit(STATUS)


def _in_child() -> None:
    """Prepares a child, right after the fork."""
    global _is_child  # noqa: PLW0603
    if not _loops:
        return
    _is_child = True
    # The agent's signal handlers write to a pipe that its event loop reads and the child shares:
    # without this, a signal that is to end the child ends the agent instead.
    with suppress(ValueError):  # not in the main thread of the child
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # In case the child awaits: its copy of the loop shares the poll and sockets of its parent.
    for loop in list(_loops):
        with suppress(RuntimeError):
            loop.call_soon(end_child)


os.register_at_fork(after_in_child=_in_child)
