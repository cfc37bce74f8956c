"""Threads for plain functions, which may block.

The standard pool lacks three things that an agent needs: to give up and replace a thread whose
function does not return; to let a function that waits for another of the same pool make room for
it; and to pass on any exception, even a `StopIteration`, which asyncio's futures refuse.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, TypeVar

from soorma.runtime import process_forks
from soorma_common.reasons import reason_of

ABANDONED_FOR_EACH = 4
"""Abandoned threads per thread of the pool at which it is exhausted: they keep what they hold."""


T = TypeVar("T")


class TimeIsOver(Exception):
    """The error of a function that did not return in time."""


class Job:
    """A function to run in a thread, and the futures of those who wait for it on the event loop."""

    def __init__(self, call: Callable[[], Any], *, is_timed: bool) -> None:
        self.call = call
        self.loop = asyncio.get_running_loop()
        self.began: asyncio.Future[None] | None = self.loop.create_future() if is_timed else None
        self.over: asyncio.Future[tuple[Any, BaseException | None]] = self.loop.create_future()
        self.is_running = self.is_waiting = self.is_abandoned = False

    def tell_began(self) -> None:
        """Wakes whoever measures the function's time; called in its thread."""
        if self.began is not None:
            self._settle(self.began, None)

    def tell_over(self, outcome: Any, error: BaseException | None) -> None:
        """Passes on the outcome of the function; called in its thread."""
        self._settle(self.over, (outcome, error))

    def _settle(self, future: asyncio.Future[T], result: T) -> None:
        def settle() -> None:
            if not future.done():
                future.set_result(result)

        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(settle)


class _Here(threading.local):
    """The pool and the job of the current thread."""

    pool: Threads | None = None
    job: Job | None = None


_here = _Here()


class Threads:
    """A pool of `most` threads at most, except for those that wait for others or were abandoned.

    The end of the process waits for none of them. `exhausted` is called on the event loop, with a
    reason, when so many threads are abandoned that only a new process helps.
    """

    def __init__(self, most: int, name: str, exhausted: Callable[[str], None]) -> None:
        self._most = most
        self._name = name
        self._exhausted = exhausted
        # Guards all below; held for a few assignments, never while a function runs.
        self._lock = threading.Lock()
        self._work: deque[Job] = deque()
        self._wake = threading.Condition(self._lock)
        self._idle = self._busy = self._abandoned = self._made = 0
        self._is_closed = False

    async def run(
        self,
        call: Callable[[], Any],
        timeout: float | None = None,  # noqa: ASYNC109 - of the function
    ) -> Any:
        """Runs a function in a thread; returns what it returns, raises any BaseException it raises.

        `timeout` in seconds counts from the start of the function, not from the call: time spent
        waiting for a thread does not count. When it is over (TimeIsOver), or the caller is
        cancelled, the thread is abandoned: its function goes on, but its outcome is lost. A
        StopIteration becomes a RuntimeError.
        """
        job = Job(call, is_timed=timeout is not None)
        self._submit(job)
        try:
            outcome, error = await self._ended(job, timeout)
        except BaseException:
            self._abandon(job)
            raise
        if isinstance(error, StopIteration):  # which a coroutine cannot raise
            raise RuntimeError(  # noqa: TRY004
                f"the function ended with {reason_of(error)}"
            ) from error
        if error is not None:
            raise error
        return outcome

    async def _ended(
        self,
        job: Job,
        timeout: float | None,  # noqa: ASYNC109 - of the function
    ) -> tuple[Any, BaseException | None]:
        if job.began is not None:
            await job.began
            # Not `asyncio.timeout`, which expires when the loop was held up although the function
            # has long returned: what has ended by now is not given up.
            await asyncio.wait([job.over], timeout=timeout)
            if not job.over.done() and self._abandon(job):
                raise TimeIsOver
        return await job.over

    def close(self) -> None:
        """Ends the threads, each when it is idle; waits for none."""
        with self._lock:
            self._is_closed = True
            self._wake.notify_all()

    def _submit(self, job: Job) -> None:
        with self._lock:
            self._work.append(job)
            self._staff()

    def _staff(self) -> None:
        """Wakes or starts threads for the work that can be done now; called under the lock."""
        room = min(len(self._work), self._most - self._busy)
        if room <= 0:
            return
        self._wake.notify(min(room, self._idle))
        for _ in range(room - self._idle):
            self._made += 1
            threading.Thread(
                target=self._serve, name=f"{self._name}-{self._made}", daemon=True
            ).start()
            self._idle += 1  # it is about to look for work, like those that wait

    def _serve(self) -> None:
        _here.pool = self
        while (job := self._next()) is not None:
            _here.job = job
            outcome, error = _outcome(job)
            process_forks.end_child()
            stays = self._done(job)
            job.tell_over(outcome, error)
            _here.job = job = outcome = error = None  # else what they hold is kept until the next
            if not stays:
                return

    def _next(self) -> Job | None:
        """Waits for work and takes it; None when the pool is closed."""
        with self._lock:
            while not (self._work and self._busy < self._most):
                if self._is_closed:
                    self._idle -= 1
                    return None
                self._wake.wait()
            self._idle -= 1
            self._busy += 1
            job = self._work.popleft()
            job.is_running = True
        job.tell_began()
        return job

    def _done(self, job: Job) -> bool:
        """Notes that a function has ended; returns True if its thread goes on working."""
        with self._lock:
            job.is_running = False
            if job.is_abandoned:
                self._abandoned -= 1  # another has taken its place
                return False
            self._busy -= 1
            self._idle += 1
            self._staff()
            return True

    def _abandon(self, job: Job) -> bool:
        """Gives up a function that runs, and its thread; returns False if it does not run."""
        with self._lock:
            if not job.is_running or job.is_abandoned:
                if job in self._work:
                    self._work.remove(job)
                return False
            job.is_abandoned = True
            self._busy -= not job.is_waiting
            self._abandoned += 1
            self._staff()
            count = self._abandoned
        if count == ABANDONED_FOR_EACH * self._most:
            self._exhausted(
                f"{count} threads are stuck in functions whose time was over; give what they call "
                "time-outs of its own"
            )
        return True

    @contextmanager
    def aside(self, job: Job) -> Iterator[None]:
        """Frees the place of a job whose function waits for something that may need a thread."""
        with self._lock:
            job.is_waiting = True
            self._busy -= not job.is_abandoned
            self._staff()
        try:
            yield
        finally:
            with self._lock:
                job.is_waiting = False
                # At once, even without room: others may wait for this function.
                self._busy += not job.is_abandoned


@contextmanager
def waiting() -> Iterator[None]:
    """Marks this thread as waiting for another function; if it is of a pool, it makes room."""
    pool, job = _here.pool, _here.job
    with nullcontext() if pool is None or job is None else pool.aside(job):
        yield


def _outcome(job: Job) -> tuple[Any, BaseException | None]:
    try:
        return job.call(), None
    except BaseException as error:  # noqa: BLE001 - `run` raises it again
        return None, error
