"""Steps: external and expensive effects of a handler, whose results are recorded at once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import partial
from typing import Any, NamedTuple, NoReturn, Protocol

from soorma.callables import check_callable, finish, is_async, is_generator, name_of
from soorma.flow import Flow, Reject
from soorma.runtime.handlers import check_retry
from soorma.runtime.results import Encoded, decode_result, encoded, kind_of
from soorma.runtime.threads import Threads, TimeIsOver, waiting
from soorma.runtime.transaction import in_step
from soorma_common.delivery import RecordedStep
from soorma_common.errors import Fenced, HandlerEnded, InvalidRequest, Unavailable
from soorma_common.limits import Limits
from soorma_common.names import check_name
from soorma_common.retry import RetryPolicy

log = logging.getLogger("soorma.agent")
ONCE = RetryPolicy(max_attempts=1)
STUBBORN_SECONDS = 5.0
"""Seconds that the function of a step may go on after it was cancelled."""

_Outcome = tuple[str, BaseException | None]


class _Effect(NamedTuple):
    """A step's call, retry policy, timeout of a try (seconds), type of result and check."""

    name: str
    call: Callable[[], Any]
    retry: RetryPolicy
    timeout: float | None
    kind: Any
    check: Callable[[Any], Any] | None


class Record(Protocol):
    """The function that records a step's result (JSON text); Fenced if the delivery is lost."""

    def __call__(self, name: str, occurrence: int, result: str) -> Awaitable[None]: ...


class StepResults:
    """The recorded steps of one delivery, from earlier attempts and from this one."""

    def __init__(self, recorded: list[RecordedStep], record: Record, limits: Limits) -> None:
        self._texts = {
            (step.name, step.occurrence): bytes(step.result).decode() for step in recorded
        }
        self._record = record
        self._limits = limits
        self.lost: str | None = None
        """The reason why no attempt may follow: a step's effect was done, but not recorded."""

    def find(self, name: str, occurrence: int) -> str | None:
        """The recorded result, as JSON text; None if there is none.

        Rejects the event if a result is lost: its effect would be repeated.
        """
        if self.lost is not None:
            raise Reject(self.lost)
        return self._texts.get((name, occurrence))

    async def keep(self, name: str, occurrence: int, text: str) -> str:
        """Records a result durably and returns it.

        Rejects the event if that fails.
        """
        try:
            self._limits.check(
                "step_bytes", len(text.encode()), f"the result of step {name!r}, in bytes,"
            )
            await self._record(name, occurrence, text)
        except (Fenced, Unavailable):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the effect is done
            self.lose(name, error)
        self._texts[name, occurrence] = text
        return text

    def lose(self, name: str, error: Exception) -> NoReturn:
        """Rejects the event, as a result cannot be recorded: a retry would repeat the effect."""
        self.lost = (
            f"the effect of step {name!r} was done, but its result could not be recorded: {error}. "
            "No attempt "
            "follows, as it would do the effect again. Let the function return what JSON can say "
            "and the limits "
            "allow, as the id of what is stored elsewhere"
        )
        raise Reject(self.lost) from error


class How(NamedTuple):
    """The means to call the functions of an agent's steps."""

    threads: Threads
    """for plain functions"""
    confirm: Callable[[], Awaitable[None]]
    """checks, before an effect, that the delivery is still this agent's; Fenced if it is not"""


class Steps:
    """The steps of one run of a handler: the n-th of a name is the n-th of that name in every run.

    An effect that has begun runs to its end and is recorded, whatever happens to the code that
    awaits it: each has its own task.
    """

    def __init__(self, results: StepResults, check: Callable[[], None], how: How) -> None:
        self._results = results
        self._check = check
        self._how = how
        self._occurrences: Counter[str] = Counter()
        self._running: set[asyncio.Task[_Outcome]] = set()

    async def run(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        *,
        retry: RetryPolicy | None,
        timeout: float | None,  # noqa: ASYNC109 - of each try
        kind: Any,
        check: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Returns the recorded result, else calls the function and records its result."""
        self._check()
        check_retry(retry)
        if check is not None:
            check_callable(check, f"the check of step {name!r}", "result")
        if timeout is not None and (type(timeout) not in (int, float) or not timeout > 0):
            raise InvalidRequest(
                f"timeout of step {name!r} is a number of seconds above 0, not {timeout!r}"
            )
        if is_generator(function):
            raise InvalidRequest(
                f"step {name!r}: {name_of(function)} is a generator, of which nothing would run"
            )
        kind = kind_of(name, function, kind)
        self._occurrences[check_name("step", name)] += 1
        occurrence = self._occurrences[name]
        text = self._results.find(name, occurrence)
        if text is None:
            effect = _Effect(
                name, partial(function, *arguments), retry or ONCE, timeout, kind, check
            )
            text = await self._done(effect, occurrence)
        return decode_result(name, text, kind)

    def waiting(self) -> AbstractContextManager[None]:
        """Marks this thread as waiting for another function, and makes room for that one."""
        return waiting()

    async def finish(self, patience: float) -> None:
        """Waits until running steps have ended and are recorded, for `patience` seconds at most.

        Those that have not ended by then are cancelled: async functions end, threads are abandoned.
        """
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=max(patience, 0))
        self.cancel()
        if late:
            await asyncio.wait(late, timeout=STUBBORN_SECONDS)

    def cancel(self) -> None:
        """Cancels the steps that still run; they are not recorded."""
        for task in self._running:
            task.cancel()

    async def _done(self, effect: _Effect, occurrence: int) -> str:
        """Performs the effect and records its result, even if this is cancelled."""
        task = asyncio.create_task(self._to_the_end(effect, occurrence))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        text, error = await asyncio.shield(task)
        if error is not None:
            raise error
        return text

    async def _to_the_end(self, effect: _Effect, occurrence: int) -> _Outcome:
        """Returns the result's text, or what was raised.

        The exception is not raised, because asyncio would end the process for some.
        """
        in_step.set(effect.name)
        try:
            result = await self._tried(effect)
            self._check()
            if result.failure is not None:
                self._results.lose(effect.name, result.failure)
            return await self._results.keep(effect.name, occurrence, result.text), None
        except BaseException as error:  # noqa: BLE001 - it is raised where the step is awaited
            return "", error

    async def _tried(self, effect: _Effect) -> Encoded:
        attempt, retry = 1, effect.retry
        while True:
            try:
                await self._how.confirm()
                return await self._checked(effect)
            except (Flow, Fenced, HandlerEnded):
                raise  # these are about the attempt, not about the effect
            except Exception as error:
                if attempt >= retry.max_attempts:
                    raise
                wait = retry.delay(attempt, random.uniform(-1, 1))  # noqa: S311 - spreads retries
                cause = type(error).__name__
                log.warning(
                    "step %s: try %d failed (%s), again in %.1f s",
                    effect.name,
                    attempt,
                    cause,
                    wait,
                )
                await asyncio.sleep(wait)
                attempt += 1

    async def _checked(self, effect: _Effect) -> Encoded:
        """The function's result, if the check neither raises nor returns False."""
        result = await self._called(effect)
        as_recorded = encoded(effect.name, result, effect.kind)
        if effect.check is None:
            return as_recorded
        if await self._called(effect._replace(call=partial(effect.check, result))) is False:
            raise ValueError(
                f"the check of step {effect.name!r} refused its result; nothing was recorded"
            )
        return as_recorded

    async def _called(self, effect: _Effect) -> Any:
        """The function's result; a plain one runs in a thread, so that it may block."""
        call, limit = effect.call, asyncio.timeout(effect.timeout)
        try:
            if is_async(call):
                async with limit:
                    return await finish(call(), f"step {effect.name!r}")
            outcome = await self._how.threads.run(partial(copy_context().run, call), effect.timeout)
            async with limit:
                return await finish(outcome, f"step {effect.name!r}")
        except (TimeoutError, TimeIsOver) as error:
            if isinstance(error, TimeIsOver) or limit.expired():
                raise TimeoutError(
                    f"step {effect.name!r} took longer than {effect.timeout:g} s"
                ) from None
            raise
