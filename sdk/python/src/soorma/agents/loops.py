"""The event loop of `Agent.run`: its choice, and how it survives exits that handlers raise."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from soorma_common.errors import InvalidRequest

log = logging.getLogger("soorma.agent")

STUBBORN_STATUS = 1
"""Exit status of a process whose tasks could not be cancelled."""
LAST_SECONDS = 5.0
"""Seconds that tasks cancelled at the end may take."""

importing = False
"""true while `soorma run` imports the modules of its agents, which it runs itself"""
_left: list[asyncio.Task[Any]] = []

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(
    main: Coroutine[Any, Any, None],
    on_exit: Callable[[BaseException], None],
    loop_factory: LoopFactory | None,
) -> None:
    """Runs `main` to its end on a new event loop, and raises what it raises.

    asyncio stops the loop when a task raises SystemExit or KeyboardInterrupt. Here it goes on:
    whoever awaits that task gets the exception, and `on_exit` decides what else happens.
    """
    if importing:
        main.close()
        raise InvalidRequest(
            "this module runs its agent when it is imported; keep that behind `if __name__ == "
            '"__main__":`'
        )
    loop = (loop_factory or _factory())()
    asyncio.set_event_loop(loop)
    task = loop.create_task(main)
    try:
        while True:
            try:
                loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done():
                    raise
                on_exit(error)
            else:
                return
    finally:
        _close(loop)


def _factory() -> LoopFactory:
    """Returns the factory of the loop: that of uvloop if available, else that of asyncio.

    uvloop takes a fifth less CPU time per event. A program that has set a policy, or that patches
    asyncio's loop, gets the loop it relies on.
    """
    if (
        "nest_asyncio" in sys.modules
        or getattr(asyncio.events, "_event_loop_policy", None) is not None
    ):
        return asyncio.new_event_loop
    try:
        import uvloop  # noqa: PLC0415 - only needed to run an agent
    except ImportError:  # not available for this machine
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Cancels the remaining tasks and closes the loop, after LAST_SECONDS even if some resist."""
    try:
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_until_complete(_cancel_tasks())
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if not tasks:
        return
    _, left = await asyncio.wait(tasks, timeout=LAST_SECONDS)
    if left:
        log.error(
            "%d tasks go on although they were cancelled; the process ends without them", len(left)
        )
        # Kept: a coroutine that catches everything would loop for ever when it is collected.
        _left.extend(left)
        atexit.register(_end, STUBBORN_STATUS)


def _end(status: int) -> None:
    """Ends the process before the remaining tasks are collected."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
