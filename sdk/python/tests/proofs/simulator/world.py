"""Virtual time: processes as event loops, whose callbacks run one at a time, as a seed decides."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

MOST_STEPS = 400_000
TRACED = 60


class Stuck(Exception):
    """The error of a world that goes round in circles."""


class World:
    """All processes of a run, and the one queue of their callbacks.

    `now` in seconds, from 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.steps = 0
        self.dice = Random(f"{seed} schedule")
        self.trace: deque[tuple[float, str, str, Any]] = deque(maxlen=TRACED)
        self.before_step: Callable[[], None] | None = None
        self.on_end: list[Callable[[], None]] = []
        """called before all tasks are cancelled, for code that must know that this is the end"""
        self.faults_of_code: list[str] = []
        """exceptions that nobody has caught: there should be none"""
        self._serials = count()
        self._queue: list[tuple[float, int, asyncio.Handle, Process]] = []
        self._processes: list[Process] = []

    def process(self, name: str) -> Process:
        """A new process."""
        made = Process(self, name)
        self._processes.append(made)
        return made

    def note(self, who: str, what: str, about: Any = None) -> None:
        """A line of the trace."""
        self.trace.append((self.now, who, what, about))

    def put(self, at: float, handle: asyncio.Handle, process: Process) -> None:
        """Schedules a callback of a process."""
        heappush(self._queue, (at, next(self._serials), handle, process))

    def run(self, until: Callable[[], bool], seconds: float) -> bool:
        """Runs until a condition, checked after each step, holds, or for some seconds.

        Returns whether it held.
        """
        deadline = self.now + seconds
        while self._queue and self._queue[0][0] <= deadline:
            self._step()
            if until():
                return True
        self.now = max(self.now, deadline)
        return until()

    def _step(self) -> None:
        at, _, handle, process = heappop(self._queue)
        if handle.cancelled():
            return
        if process.is_dead or process.is_frozen:
            process.held.append(handle)
            return
        self.now = max(self.now, at)
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Stuck(f"{MOST_STEPS} steps, and no end")
        process.run_handle(handle)
        if self.before_step is not None:
            self.before_step()

    def end(self) -> None:
        """Ends all that runs or is dead: each coroutine is closed by being cancelled."""
        self.before_step = None
        for process in self._processes:
            process.is_dead, process.is_ending = False, True
            process.thaw()
        for _ in range(20):
            for call in self.on_end:  # each time: what was on its way may begin something else
                call()
            tasks = [task for process in self._processes for task in process.tasks]
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self.run(lambda: False, 0.0)
        raise Stuck(f"tasks that cannot be ended: {tasks}")


class _Task(asyncio.Task):  # type: ignore[type-arg]
    """A task that sets keep in creation order: their order decides what runs first."""

    def __init__(
        self, coro: Any, *, loop: Process, name: str | None, context: Context | None
    ) -> None:
        self.serial = loop.serial()
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.serial

    def __eq__(self, other: object) -> bool:
        return self is other


class Process(asyncio.AbstractEventLoop):
    """A process: an event loop on the world's time that may freeze, or die between callbacks."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_dead = False
        self.is_frozen = False
        self.is_ending = False
        self.held: list[asyncio.Handle] = []
        self.tasks: dict[_Task, None] = {}
        self._numbers = count()

    def serial(self) -> int:
        """A number for a new task."""
        return next(self._numbers)

    def kill(self) -> None:
        """Kills the process: not a line of it runs any more."""
        self.is_dead = True

    def thaw(self) -> None:
        """Wakes up the process, which does what has piled up."""
        self.is_frozen = False
        held, self.held = self.held, []
        for handle in held:
            self.world.put(self.world.now, handle, self)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begins a task, from outside."""
        return self.create_task(work)

    def run_handle(self, handle: asyncio.Handle) -> None:
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(None)

    # as an event loop

    def time(self) -> float:
        return self.world.now

    def call_soon(
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.world.put(self.world.now, handle, self)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.world.put(max(when, self.world.now), handle, self)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        task = _Task(coro, loop=self, name=name, context=context)
        self.tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: Any) -> None:
        self.tasks.pop(task, None)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not self.is_ending:
            self.world.faults_of_code.append(f"{self.name}: {context.get('message')}: {error!r}")
