"""The event loop of `Agent.run`: which one it is, and how it lives through exits that handlers make."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

LAST_SECONDS = 5.0
"""How long tasks that are cancelled at the end may take."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(
    main: Coroutine[Any, Any, None], on_exit: Callable[[BaseException], None], loop_factory: LoopFactory | None
) -> None:
    """Runs `main` to its end on a new event loop.

    asyncio ends the loop when a task raises SystemExit or KeyboardInterrupt. Here it goes on: whoever awaits that task
    gets the exception, and `on_exit` decides what else follows. What `main` itself raises is raised.
    """
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

    A program that has chosen a policy, or that patches asyncio's loop, gets the loop that it counts on.
    """
    if "nest_asyncio" in sys.modules or getattr(asyncio.events, "_event_loop_policy", None) is not None:
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
    if tasks:
        await asyncio.wait(tasks, timeout=LAST_SECONDS)
