"""Group commit: many changes share one transaction, and so one flush to the disk.

A job is written by the thread or on the event loop. The way to the thread and back costs more than
a small commit, and pays only where several share one. Jobs of one turn of the loop are handed over
together, and the first state that holds decides who writes them:

| state     | holds while                                                         | who writes   |
|-----------|---------------------------------------------------------------------|--------------|
| long      | the write-ahead log has LONGEST_LOG pages, until it is checkpointed | the thread   |
| under way | jobs that were handed over before are not reported yet              | the thread   |
| slow      | a mean commit takes QUICK_SECONDS, or the last attempt has failed   | the thread   |
| crowded   | a mean turn has CROWD jobs or more, or this one has several         | the thread   |
| calm      | none of these, and the job is brief                                 | the loop (1) |

(1) Unless another process holds the database at that moment: the loop must not wait for it, the
thread may.

Only one of the two uses the connection at a time, so it needs no lock. The loop writes when nothing
is under way, which only the loop itself counts: the thread reports by a callback on the loop. The
thread checkpoints after its report, and the state is `long` until it has.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import apsw

from soorma_common.errors import SoormaError, Unavailable
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.logs import Log
from soorma_platform.metrics import HOLDS, SECONDS, SIZES, Distribution
from soorma_platform.stores.sqlite import database
from soorma_platform.stores.sqlite.database import FailuresNamed

LARGEST_BATCH = 256
LONGEST_LOG = 1_000
"""Pages of the write-ahead log after which it is checkpointed."""
QUICK_SECONDS = 0.002
"""Mean time of a commit from which the loop makes none, as that would block all clients."""
CROWD = 1.25
"""Mean number of jobs in a turn of the loop from which they share commits of the thread."""
LONG = 0.15
"""Processor seconds of a transaction from which it is logged."""
WEIGHT = 0.1
"""The weight of the latest value in a moving mean: about ten values count."""

log = Log("soorma.store")
F = TypeVar("F")
T = TypeVar("T")
Job: TypeAlias = Callable[[apsw.Connection], tuple[Any, Notice | None]]


class Claims(Protocol[F]):
    """The part that claims, inside a transaction, what it makes ready."""

    def forget(self) -> None:
        """Begins a transaction: claims of one that was rolled back did not happen."""
        ...

    def claim(self, connection: apsw.Connection, notices: Iterable[Notice]) -> F:
        """Returns what the transaction claims, after its jobs are done."""
        ...

    def fill(self, filled: F) -> None:
        """Hands out what was claimed, after the commit."""
        ...


class _Ticket:
    """A job, and its outcome for the caller that waits for it."""

    __slots__ = ("brief", "durable", "error", "future", "job", "notice", "value")

    def __init__(
        self, job: Job, future: asyncio.Future[Any], *, durable: bool, brief: bool = False
    ) -> None:
        self.job = job
        self.future = future
        self.durable = durable
        self.brief = brief
        self.value: Any = None
        self.notice: Notice | None = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():
            return  # the caller was cancelled; its job is done all the same
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


class GroupCommitter:
    """The writer: runs jobs in order, many to a transaction, and reports each once committed."""

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        on_commit: Callable[[Notice], None],
        prefetches: Claims[Any],
    ) -> None:
        self._prefetches = prefetches
        self.connection = connection
        self._failures = FailuresNamed(path)
        self._flushing = True
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[list[_Ticket] | None] = queue.SimpleQueue()
        self._fresh: list[_Ticket] = []
        self._under_way = 0
        self._seconds, self._crowd = QUICK_SECONDS, 1.0
        self._is_long = False
        self._between: deque[tuple[Callable[[apsw.Connection], Any], asyncio.Future[Any]]] = deque()
        self.before_checkpoint: Callable[[], None] | None = None
        """called by the thread before the log goes into the database"""
        connection.set_wal_hook(self._on_log)
        self._closed = False
        self.failure: Unavailable | None = None
        """the reason why the last attempt to write failed, until one succeeds"""
        self.failing_since = 0.0
        self.written_at = time.monotonic()
        self.batches = Distribution(SIZES)
        self.seconds = Distribution(SECONDS)
        self.held = Distribution(HOLDS)
        """processor seconds of each transaction"""
        self._thread = threading.Thread(target=self._run, name="soorma-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Job, *, durable: bool = True, brief: bool = False) -> Any:
        """Returns the job's value, after its commit. A job that raises must have written nothing.

        One that is not `durable` does not wait for the disk: it survives the end of the process,
        but that of the machine only if a durable one came after it. One that is `brief` may be run
        on the event loop.
        """
        if self._closed:
            raise Unavailable("the store is closed")
        ticket = _Ticket(job, self._loop.create_future(), durable=durable, brief=brief)
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append(ticket)
        return await ticket.future

    async def between(self, task: Callable[[apsw.Connection], T]) -> T:
        """Runs a task between two transactions, for which all others wait; returns its value."""
        if self._closed:
            raise Unavailable("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._under_way += 1  # so that the loop does not write meanwhile
        self._between.append((task, future))
        self._queue.put([])
        return await future

    @property
    def is_busy(self) -> bool:
        """True while a job is accepted and not reported yet."""
        return bool(self._fresh) or self._under_way > 0

    def _hand_over(self) -> None:
        """Hands over all jobs of a turn at once: waking the thread costs more than a job."""
        jobs, self._fresh = self._fresh, []
        if not jobs:
            return
        self._crowd += WEIGHT * (len(jobs) - self._crowd)
        is_free = self._under_way == 0 and not self._is_long
        self._under_way += len(jobs)
        is_for_here = is_free and self._is_calm and len(jobs) == 1 and jobs[0].brief
        if is_for_here and self._write(jobs, at_once=True):
            self._report(jobs)
            if self._is_long:
                self._queue.put([])  # no job: the thread checkpoints, which may take long
        else:
            self._queue.put(jobs)

    @property
    def _is_calm(self) -> bool:
        """True while a commit blocks the loop only for a moment and no other job could share it."""
        return self._seconds < QUICK_SECONDS and self._crowd < CROWD and self.failure is None

    def hopeless(self, seconds: float) -> str | None:
        """Returns why no change will ever be made again; None while one may be.

        The thread has ended, or a lasting fault has gone on for `seconds`.
        """
        if not self._thread.is_alive() and not self._closed:
            return "the thread that writes has ended; the log says why"
        failure = self.failure
        if failure is None or isinstance(failure.__cause__, database.PASSING):
            return None
        return failure.message if time.monotonic() - self.failing_since > seconds else None

    async def close(self) -> None:
        """Finishes the jobs already accepted."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        last = False
        while not last and (first := self._queue.get()) is not None:
            jobs, last = self._gather(first)
            for start in range(0, len(jobs), LARGEST_BATCH):
                batch = jobs[start : start + LARGEST_BATCH]
                self._write(batch)
                self._loop.call_soon_threadsafe(self._report, batch)
            if self._is_long:
                self._shorten_log()
            while self._between:
                self._run_between(*self._between.popleft())

    def _run_between(
        self, task: Callable[[apsw.Connection], Any], future: asyncio.Future[Any]
    ) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            with self._failures:
                value = task(self.connection)
        except Exception as failed:  # noqa: BLE001 - it is told to whoever waits
            error = failed

        def report() -> None:
            self._under_way -= 1
            if future.done():
                return  # the caller was cancelled
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        self._loop.call_soon_threadsafe(report)

    def _write(self, batch: list[_Ticket], *, at_once: bool = False) -> bool:
        """Commits a batch, or stores the error in its tickets.

        False, with nothing done, if it was to be done `at_once` and another process is writing.
        """
        began, worked = time.perf_counter(), time.thread_time()
        if not self._commit_all(batch, at_once=at_once):
            return False
        took = time.perf_counter() - began
        # A batch uses the processor for no longer than it takes, so a quick one is not measured:
        # reading the thread's own clock is a system call, as costly as a statement.
        held = took if took <= HOLDS[0] else time.thread_time() - worked
        self.held.note(held)
        if held > LONG:
            log.warning(
                "the writer was held: all changes had to wait",
                seconds=round(held, 3),
                changes=len(batch),
            )
        self._seconds += WEIGHT * (took - self._seconds)
        self.seconds.note(took)
        self.batches.note(len(batch))
        return True

    def _on_log(self, _: apsw.Connection, __: str, pages: int) -> int:
        """Notes whether the log is long: SQLite calls this in place of its automatic checkpoint."""
        self._is_long = pages >= LONGEST_LOG
        return apsw.SQLITE_OK

    def _shorten_log(self) -> None:
        """Checkpoints after the reports, not within the commit that fills the log."""
        # A disk that is full, for one: the next commit tries again, and reports it.
        with suppress(apsw.Error, OSError):
            if self.before_checkpoint is not None:
                self.before_checkpoint()
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self._is_long = False

    def _commit_all(self, batch: list[_Ticket], *, at_once: bool = False) -> bool:
        try:
            with self._failures:
                self._roll_back()  # what could not be rolled back before, for lack of memory
                # One durable job makes the whole batch durable; this cannot be set inside a
                # transaction.
                self._flush(any(ticket.durable for ticket in batch))
                self.connection.set_busy_timeout(0 if at_once else database.BUSY_MS)
                self.connection.execute("BEGIN IMMEDIATE")
        except Exception as error:  # noqa: BLE001 - it is told to everybody it concerns
            if at_once and isinstance(error.__cause__, apsw.BusyError):
                return False
            self._fail(batch, error)
            return True
        if not self._commit(batch) and len(batch) > 1:
            # Each alone, so that one that cannot be written does not fail the others.
            for ticket in batch:
                self._commit_all([ticket])
        return True

    def _gather(self, first: list[_Ticket]) -> tuple[list[_Ticket], bool]:
        """Adds what is queued by now; also returns whether the writer is to end then."""
        jobs = first
        while len(jobs) < LARGEST_BATCH:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return jobs, True
            jobs += more
        return jobs, False

    def _flush(self, is_durable: bool) -> None:
        """Sets whether the next commit waits until it, and all before it, is on the disk."""
        if is_durable is not self._flushing:
            self.connection.pragma("synchronous", "full" if is_durable else "normal")
            self._flushing = is_durable

    def _commit(self, batch: list[_Ticket]) -> bool:
        """Commits a batch; False if that failed.

        Its tickets hold the error then, and nothing was written.
        """
        before = self.connection.total_changes()
        self._prefetches.forget()
        try:
            with self._failures:
                for ticket in batch:
                    self._decide(ticket)
                # After all jobs, so that it sees all that they made ready, and in their
                # transaction.
                claimed = self._prefetches.claim(
                    self.connection, [one.notice for one in batch if one.notice]
                )
                self.connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - it is told to everybody it concerns
            with suppress(apsw.Error):  # it is tried again before the next
                self._roll_back()
            self._fail(batch, error)
            return False
        self._prefetches.fill(claimed)  # before the bells ring: whoever wakes finds its deliveries
        if self.connection.total_changes() != before:
            self.failure = None
            self.written_at = time.monotonic()
        return True

    def _fail(self, batch: list[_Ticket], error: Exception) -> None:
        if isinstance(error, Unavailable):
            if self.failure is None:
                self.failing_since = time.monotonic()
            self.failure = error
        for ticket in batch:
            ticket.error, ticket.notice = error, None

    def _decide(self, ticket: _Ticket) -> None:
        before = self.connection.total_changes()
        ticket.error = ticket.notice = None
        try:
            ticket.value, ticket.notice = ticket.job(self.connection)
        except SoormaError as refused:
            ticket.error = refused
            if self.connection.total_changes() != before:
                raise  # refused half-way: roll all of it back

    def _roll_back(self) -> None:
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except apsw.Error:  # SQLite has rolled back by itself
            if self.connection.in_transaction:
                raise

    def _report(self, batch: list[_Ticket]) -> None:
        self._under_way -= len(batch)
        for ticket in batch:
            if ticket.error is None and ticket.notice is not None:
                self._on_commit(ticket.notice)
        # After all notices, so that a caller that goes on finds bells and readers up to date.
        for ticket in batch:
            ticket.settle()
