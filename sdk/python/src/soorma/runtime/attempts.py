"""The running attempts of an agent: each runs a handler to a commit, a failure or nothing."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from soorma import logs
from soorma.awaits import unawaited, watch_calls
from soorma.bus import BusClient, PlatformOutbox
from soorma.config import ClientConfig
from soorma.context import HandlerContext, PlatformContext
from soorma.flow import LONGEST_WAIT, Defer, Flow, Reject, Retry, is_hopeless, steering
from soorma.memory.client import MemoryClient
from soorma.memory.memories import PlatformMemories
from soorma.memory.plans import PlatformPlans
from soorma.memory.transactions import check_confined
from soorma.registry import RegistryClient
from soorma.runtime.connection import FIRST_DELAY, LONGEST_DELAY, Connection
from soorma.runtime.handlers import Handler
from soorma.runtime.harness import Harness
from soorma.runtime.leases import LeaseKeeper
from soorma.runtime.runs import Run, TookTooLong
from soorma.runtime.steps import How, Record, StepResults, Steps
from soorma.runtime.threads import Threads
from soorma.runtime.transaction import HandlerTransaction
from soorma.transport.calls import Caller
from soorma.transport.pauses import Backoff, room_after
from soorma_common.delivery import (
    LEASE_SECONDS,
    CommitFrame,
    Deliver,
    FailFrame,
    StepFrame,
    Welcome,
)
from soorma_common.errors import Conflict, Fenced, InvalidRequest, SoormaError, TooManyRequests
from soorma_common.events import Event
from soorma_common.limits import Limits
from soorma_common.reasons import reason_of

MOST_DISTURBED = 10
"""Conflicts under a reservation after which an attempt fails.

What it reads is changed by those who never wait for a reservation.
"""
MOST_CONFLICTS = 100
"""Conflicts of any kind after which an attempt fails.

Each run has read other keys, or its reservations were lost.
"""
STEP_SECONDS = 30.0
"""Seconds for running steps after a handler without a timeout has ended: as long as a drain."""
STEP_THREADS = 32
"""Threads for plain functions of steps, at least.

Even an agent that handles one event at a time may run steps in parallel.
"""

log = logging.getLogger("soorma.agent")

in_hand: ContextVar[asyncio.Task[None] | None] = ContextVar("soorma_attempt", default=None)
"""The attempt that this code belongs to, in any of its tasks."""


class Attempts:
    """The attempts of an agent: runs handlers, one task each, and reports their outcomes.

    Only `drain`, `abandon` and a lost fence end an attempt from outside. Any other end of its
    handler, even a cancellation, is the handler's own: it fails the attempt and is reported to the
    platform.
    """

    def __init__(
        self,
        agent: str,
        instance: str,
        config: ClientConfig,
        caller: Caller,
        connection: Connection,
        max_concurrency: int,
        exhausted: Callable[[str], None],
        harness: Harness,
    ) -> None:
        self._agent = agent
        self._instance = instance
        self._scoped = config
        """the configuration of the last event: the next often has the same scope"""
        self._caller = caller
        self._connection = connection
        self._harness = harness
        self._limits, self._lease_seconds = Limits(), LEASE_SECONDS
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._committing: set[str] = set()
        self._ended: set[str] = set()
        """fences of attempts that the agent itself has ended"""
        self.exits: deque[BaseException] = deque(maxlen=100)
        """the last exceptions that failed attempts and are no `Exception`, such as SystemExit"""
        self._lost: set[str] = set()
        """fences of the ended attempts whose events were given to another agent"""
        self._cancelled: dict[str, asyncio.Event] = {}
        self._loop = asyncio.get_running_loop()
        self._threads = Threads(max_concurrency, "soorma-handler", exhausted)
        self._step_threads = Threads(max(max_concurrency, STEP_THREADS), "soorma-step", exhausted)
        self._leases = LeaseKeeper(caller.transport, self._on_lost)

    @property
    def running(self) -> list[str]:
        """The fences of the running attempts."""
        return list(self._tasks)

    def resume(self, welcome: Welcome) -> None:
        """Applies a welcome; ends attempts whose events were given to another agent meanwhile."""
        self._limits, self._lease_seconds = welcome.limits, welcome.lease_seconds
        self._leases.start(welcome.replica, welcome.lease_seconds)
        self._cancel_lost([fence for fence in self._tasks if fence not in welcome.kept])

    def begin(self, delivery: Deliver, handler: Handler) -> None:
        """Starts an attempt."""
        self._leases.hold(delivery.fence, delivery.lease_seconds)
        self._cancelled[delivery.fence] = asyncio.Event()
        task = asyncio.create_task(
            self._attempt(delivery, handler), name=f"soorma-handler-{delivery.fence}"
        )
        self._tasks[delivery.fence] = task
        task.add_done_callback(lambda _: self._forget(delivery.fence))

    def cancel(self, fences: list[str]) -> None:
        """Notifies the handlers of these deliveries that their plan was cancelled."""
        for fence in fences:
            if fence in self._cancelled:
                self._cancelled[fence].set()

    async def drain(self, timeout: float) -> list[str]:  # noqa: ASYNC109 - then they are cancelled
        """Waits for attempts to end; cancels those that do not, and returns their fences."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout)
        unfinished = dict(self._tasks)
        for fence in unfinished:
            self._end(fence)
        await asyncio.gather(*unfinished.values(), return_exceptions=True)
        return list(unfinished)

    async def abandon(self) -> None:
        """Ends all attempts at once, without notifying the platform."""
        tasks = list(self._tasks.values())
        for fence in list(self._tasks):
            self._end(fence)
        self.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Stops renewing leases; running plain functions end by themselves or with the process."""
        self._leases.stop()
        self._threads.close()
        self._step_threads.close()

    def _end(self, fence: str) -> None:
        """Ends an attempt from outside, so that it reports no outcome of its own."""
        self._ended.add(fence)
        self._tasks[fence].cancel()

    def _forget(self, fence: str) -> None:
        self._tasks.pop(fence, None)
        self._cancelled.pop(fence, None)
        self._committing.discard(fence)
        self._ended.discard(fence)
        self._lost.discard(fence)
        self._leases.drop(fence)

    def _on_lost(self, fences: list[str]) -> None:
        self._loop.call_soon_threadsafe(self._cancel_lost, fences)

    def _cancel_lost(self, fences: list[str]) -> None:
        for fence in fences:
            # A commit in progress gets its response.
            if fence in self._tasks and fence not in self._committing:
                self._lost.add(fence)
                self._end(fence)

    async def _attempt(self, delivery: Deliver, handler: Handler) -> None:
        in_hand.set(self._tasks[delivery.fence])
        event = Event.from_json(bytes(delivery.event))
        plan = "" if event.plan_id is None else f"plan {event.plan_id}, "
        about = f"event {event.type} {event.id} ({plan}attempt {delivery.attempt})"
        logs.bind(self._told(event, delivery.attempt))
        log.debug("%s: begins", about)
        try:
            await self._run_until_committed(delivery, handler, event, about)
        except Fenced as error:
            log.warning("%s: fenced, nothing of this attempt is visible: %s", about, error)
        except asyncio.CancelledError:
            if delivery.fence in self._lost:
                log.warning(
                    "%s: fenced, it was given to another agent: nothing of this attempt is visible",
                    about,
                )
            raise
        except Exception:
            self._leases.abandon(delivery.fence)
            log.exception(
                "%s: could not be reported; the event is delivered again when its lease runs out",
                about,
            )
        else:
            log.debug("%s: ended", about)

    def _told(self, event: Event, attempt: int) -> dict[str, object]:
        """The fields of all that is logged in the attempt."""
        return {
            "agent": self._agent,
            "instance": self._instance,
            "tenant_id": event.get("tenant_id"),
            "user_id": event.get("user_id"),
            "plan_id": event.get("plan_id"),
            "event_id": event.get("id"),
            "event_type": event.get("type"),
            "attempt": attempt,
            "correlation_id": event.get("correlation_id"),
            "trace_id": event.get("trace_id"),
        }

    async def _run_until_committed(
        self, delivery: Deliver, handler: Handler, event: Event, about: str
    ) -> None:
        conflicts = disturbed = 0
        fresh: list[Any] = []
        results = StepResults(delivery.steps, self._recorder(delivery.fence), self._limits)
        while True:
            transaction = self._transaction(
                delivery, handler, event, results, is_first=conflicts == 0
            )
            given = Event.from_json(bytes(delivery.event)) if conflicts else Event(event)
            transaction.know(fresh)
            failed = await self._run(delivery, handler, event, given, transaction, results)
            if failed is not None:
                await self._fail(delivery, failed, about, results.lost)
                return
            try:
                await self._commit(delivery, transaction)
            except Conflict as conflict:
                conflicts, disturbed = (
                    conflicts + 1,
                    disturbed + bool(conflict.details.get("was_reserved")),
                )
                if conflicts > MOST_CONFLICTS or disturbed >= MOST_DISTURBED:
                    await self._fail(delivery, conflict, about, results.lost)
                    return
                log.info(
                    "%s: run again, what it had read was changed meanwhile: %s", about, conflict
                )
                fresh = conflict.details.get("fresh", [])
                if reserved := conflict.details.get("reserved_seconds"):
                    self._leases.reserve(delivery.fence, reserved)
            except Fenced:
                raise
            # A limit, or an event id used before: it cannot be committed as it is.
            except SoormaError as error:
                await self._fail(delivery, error, about, results.lost)
                return
            else:
                return

    async def _run(
        self,
        delivery: Deliver,
        handler: Handler,
        event: Event,
        given: Event,
        transaction: HandlerTransaction,
        results: StepResults,
    ) -> BaseException | None:
        """Runs the handler once, then waits for its running steps, so that they are recorded.

        Returns what it raised. The handler may change the event that it is `given`; `event` has the
        ids as published.
        """
        steps = Steps(
            results, lambda: transaction.check(transaction.scope), self._how(delivery.fence)
        )
        begun = self._loop.time()
        calls = watch_calls()
        context = self._context(transaction, delivery, event, given, steps)
        try:
            failed = await self._ended_by_itself(handler, given, context, delivery.fence)
            if failed is not None and not issubclass(type(failed), Exception):
                self.exits.append(failed)
            missed = unawaited(calls)
            if failed is None and missed:
                failed = InvalidRequest(
                    f"{', '.join(missed)}: called without `await`, so that it was never done"
                )
            transaction.returned()
            # Not isinstance, which reads the exception's own __class__.
            if issubclass(type(failed), TookTooLong):
                # The platform is to learn of the end within a lease.
                await steps.finish(self._lease_seconds * 0.8)
            elif not issubclass(type(failed), Fenced):
                await steps.finish(begun + (handler.timeout or STEP_SECONDS) - self._loop.time())
        finally:
            steps.cancel()
            transaction.end()
        return failed

    async def _ended_by_itself(
        self, handler: Handler, event: Event, context: HandlerContext, fence: str
    ) -> BaseException | None:
        """Runs the handler to its end; returns what it raised.

        A cancellation that is not the agent's fails the attempt like an exception.
        """
        run = Run(self._harness.run(handler, event, context, self._threads), handler.timeout)
        try:
            return await run.ended()
        except asyncio.CancelledError as error:
            if fence in self._ended:
                raise
            _uncancel()
            return error

    def _transaction(
        self,
        delivery: Deliver,
        handler: Handler,
        event: Event,
        results: StepResults,
        *,
        is_first: bool,
    ) -> HandlerTransaction:
        # All that the handler asks for goes under its fence: an agent's key by itself grants none.
        caller = self._caller.under(delivery.fence)
        return HandlerTransaction(
            event,
            delivery.fence,
            self._agent,
            results,
            snapshot=delivery.plan if is_first else None,  # it dates from the delivery
            limits=self._limits,
            isolation=handler.isolation,
            plans=PlatformPlans(caller),
            memories=PlatformMemories(caller, plan_id=event.plan_id, session_id=event.session_id),
            outbox=PlatformOutbox(caller),
        )

    def _recorder(self, fence: str) -> Record:
        async def record(name: str, occurrence: int, result: str) -> None:
            number = self._connection.number()
            await self._connection.call(
                StepFrame(number, fence, name, occurrence, msgspec.Raw(result.encode()))
            )

        return record

    def _how(self, fence: str) -> How:
        return How(self._step_threads, lambda: self._leases.confirm(fence))

    def _context(
        self,
        transaction: HandlerTransaction,
        delivery: Deliver,
        event: Event,
        given: Event,
        steps: Steps,
    ) -> HandlerContext:
        scope = transaction.scope
        caller = self._caller.under(delivery.fence)
        config = self._scoped
        if (config.tenant_id, config.user_id) != (scope.tenant_id, scope.user_id):
            config = self._scoped = replace(
                config, tenant_id=scope.tenant_id, user_id=scope.user_id
            )

        def immediate() -> PlatformContext:
            confined = partial(
                check_confined, f"the handler of event {event.type!r}, in context.immediate,", scope
            )
            outbox = PlatformOutbox(caller, confined, delivery.fence)
            return PlatformContext(
                MemoryClient.on(
                    config,
                    caller,
                    PlatformPlans(caller, confined, delivery.fence),
                    PlatformMemories(
                        caller,
                        confined,
                        delivery.fence,
                        event.plan_id,
                        event.session_id,
                    ),
                ),
                BusClient(config, caller, self._agent, outbox, event),
                RegistryClient.on(config, caller),
            )

        return HandlerContext(
            MemoryClient.on(config, caller, self._harness.plans(transaction), transaction.memories),
            BusClient(config, caller, self._agent, self._harness.outbox(transaction), event),
            RegistryClient.on(config, caller, transaction.check),
            event=given,
            attempt=delivery.attempt,
            immediate=immediate,
            steps=self._harness.steps(steps),
            cancelled=self._cancelled[delivery.fence],
        )

    async def _commit(self, delivery: Deliver, transaction: HandlerTransaction) -> None:
        scope = transaction.scope
        self._committing.add(delivery.fence)
        try:
            frame = CommitFrame(
                self._connection.number(), scope.tenant_id, scope.user_id, transaction.commit()
            )
            await self._answer(delivery.fence, frame)
        finally:
            self._committing.discard(delivery.fence)

    async def _fail(
        self, delivery: Deliver, error: BaseException, about: str, hopeless: str | None
    ) -> None:
        """Reports that the attempt has failed, and why; no other follows if it is `hopeless`."""
        try:
            frame = self._failure(delivery, error, about, hopeless)
        except Exception:  # noqa: BLE001 - raised by the exception's own code
            # The exception cannot even be inspected: its attributes raise, or it is nested too
            # deeply to be logged.
            log.error(  # noqa: TRY400 - it may not be shown
                "%s: the handler failed with %s", about, reason_of(error)
            )
            reason, reject = hopeless or reason_of(error), hopeless is not None
            frame = FailFrame(self._connection.number(), delivery.fence, reason, None, reject)
        self._committing.add(delivery.fence)
        try:
            await self._report(frame)
        except Fenced:
            if not issubclass(type(error), Fenced):  # it was logged before
                raise

    def _failure(
        self, delivery: Deliver, error: BaseException, about: str, hopeless: str | None
    ) -> FailFrame:
        """Logs a failure and returns the frame that reports it."""
        error = steering(error)
        after = error.after if isinstance(error, Retry | Defer) else None
        fail_plan = isinstance(error, Reject) and error.fail_plan
        if hopeless is None and is_hopeless(error):
            hopeless = reason_of(error)
        reject = hopeless is not None or isinstance(error, Reject)
        if hopeless is not None:
            reason = hopeless
            shown = None if isinstance(error, Reject) else error
            log.error(
                "%s: given up, nothing of this attempt is visible: %s",
                about,
                reason,
                exc_info=shown,
            )
        elif isinstance(error, Flow):
            reason = error.reason
            log.info("%s: %s: %s", about, type(error).__name__.lower(), reason)
        elif isinstance(error, TookTooLong):
            reason = str(error)
            log.error("%s: %s", about, reason)
        else:
            reason = reason_of(error)
            if isinstance(error, Fenced):
                log.warning("%s: fenced, nothing of this attempt is visible: %s", about, error)
            else:
                log.error(
                    "%s: the handler failed, nothing of this attempt is visible",
                    about,
                    exc_info=error,
                )
        number, defer = self._connection.number(), isinstance(error, Defer) and not reject
        return FailFrame(
            number, delivery.fence, reason, after, reject, defer=defer, fail_plan=fail_plan
        )

    async def _report(self, frame: FailFrame) -> None:
        """Sends a failure; if its text is refused, one without it.

        No attempt remains unreported.
        """
        fence = frame.fence
        try:
            await self._answer(fence, frame)
        except Fenced:
            raise
        except Exception as error:
            log.exception(
                "a failure could not be reported as it is; it is reported without its reason"
            )
            reason = f"its failure could not be reported: {reason_of(error)}"
            number, after = self._connection.number(), _sound(frame.after)
            defer = frame.defer and after is not None
            await self._answer(
                fence, FailFrame(number, fence, reason, after, frame.reject, defer, frame.fail_plan)
            )

    async def _answer(self, fence: str, frame: CommitFrame | FailFrame) -> None:
        """Sends the outcome of an attempt and waits until the platform has it.

        Only the agent itself can cancel this. Sending it again is safe: the platform returns the
        same response to a fence the second time. A commit for which its tenant has no room now is
        sent again when it has, under the same lease: its handler is not run again.
        """
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        while True:
            try:
                await self._connection.call(frame)
            except asyncio.CancelledError:
                if fence in self._ended:
                    raise
                _uncancel()
            except TooManyRequests as error:
                pause = room_after(error, backoff)
                log.info("the outcome of a handler waits %.2f s: %s", pause, error)
                await self._sleep(fence, pause)
            else:
                return

    async def _sleep(self, fence: str, seconds: float) -> None:
        """Sleeps; returns sooner if anybody but the agent itself cancels the attempt."""
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if fence in self._ended:
                raise
            _uncancel()


def _sound(after: object) -> float | None:
    """The seconds, unless the handler's code has made something else of them."""
    return after if isinstance(after, float) and 0 <= after <= LONGEST_WAIT else None


def _uncancel() -> None:
    """Clears the cancellation of this task by somebody else.

    The handler's own code may cancel all tasks that it finds.
    """
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
