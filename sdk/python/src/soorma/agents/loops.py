"""The event loop of `Agent.run`: which one it is, and how it lives through exits that handlers make."""

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
"""Exit status of a process whose tasks did not let themselves be cancelled."""
LAST_SECONDS = 5.0
"""How long tasks that are cancelled at the end may take."""

importing = False
"""whether `soorma run` imports the modules of its agents, which it runs itself"""
_left: list[asyncio.Task[Any]] = []

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(
    main: Coroutine[Any, Any, None],
    on_exit: Callable[[BaseException], None],
    loop_factory: LoopFactory | None,
) -> None:
    """Runs `main` to its end on a new event loop.

    asyncio ends the loop when a task raises SystemExit or KeyboardInterrupt. Here it goes on:
    whoever awaits that task gets the exception, and `on_exit` decides what else follows. What
    `main` itself raises is raised.
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
    """Returns what makes the loop: uvloop, which takes a fifth less of the processor for an event, where it can be.

    A program that has chosen a policy, or that patches asyncio's loop, gets the loop that it counts
    on.
    """
    if (
        "nest_asyncio" in sys.modules
        or getattr(asyncio.events, "_event_loop_policy", None) is not None
    ):
        return asyncio.new_event_loop
    try:
        import uvloop  # noqa: PLC0415 - only who runs an agent pays for it
    except ImportError:  # there is none for this machine
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Ends what is left on the loop, without waiting for ever for a task that does not let itself be cancelled."""
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
        _left.extend(
            left
        )  # a coroutine that catches whatever comes would go round for ever when it is collected
        atexit.register(_end, STUBBORN_STATUS)


def _end(status: int) -> None:
    """Ends the process before the tasks that are left are collected."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
