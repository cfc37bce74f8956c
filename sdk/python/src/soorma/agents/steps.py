"""Steps: outward and expensive effects of a handler, whose results are recorded the moment they are there."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, get_type_hints

import msgspec

from soorma_common.delivery import RecordedStep, RetryPolicy
from soorma_common.errors import SoormaError
from soorma_common.limits import Limits
from soorma_common.names import check_name
from soorma_common.values import convert, decode, encode

log = logging.getLogger("soorma.agent")
ONCE = RetryPolicy(max_attempts=1)


class Record(Protocol):
    """Keeps the result (JSON text) of a step for later attempts; Fenced if the delivery is another agent's."""

    def __call__(self, name: str, occurrence: int, result: str) -> Awaitable[None]: ...


class StepResults:
    """The recorded steps of one delivery: those of earlier attempts, and those of this one."""

    def __init__(self, recorded: list[RecordedStep], record: Record, limits: Limits) -> None:
        self._texts = {(step.name, step.occurrence): bytes(step.result).decode() for step in recorded}
        self._record = record
        self._limits = limits

    def find(self, name: str, occurrence: int) -> str | None:
        """The recorded result, as JSON text."""
        return self._texts.get((name, occurrence))

    async def keep(self, name: str, occurrence: int, result: str) -> None:
        """Records a result; it is durable when this returns."""
        self._limits.check("step_bytes", len(result.encode()), f"the result of step {name!r}, in bytes,")
        await self._record(name, occurrence, result)
        self._texts[name, occurrence] = result


class Steps:
    """The steps of one run of a handler: the n-th of a name is the n-th of that name in every run."""

    def __init__(self, results: StepResults, check: Callable[[], None]) -> None:
        self._results = results
        self._check = check
        self._occurrences: Counter[str] = Counter()

    async def run(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        *,
        retry: RetryPolicy | None,
        timeout: float | None,  # noqa: ASYNC109 - of each try
        kind: Any,
    ) -> Any:
        """The recorded result, or that of the function, which is recorded then."""
        self._check()
        self._occurrences[check_name("step", name)] += 1
        occurrence = self._occurrences[name]
        text = self._results.find(name, occurrence)
        if text is None:
            text = encode(await _tried(name, function, arguments, retry or ONCE, timeout))
            self._check()
            await self._results.keep(name, occurrence, text)
        value, kind = decode(text), kind or _declared(function)
        return value if kind is None else convert(value, kind)


async def _tried(
    name: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    retry: RetryPolicy,
    timeout: float | None,  # noqa: ASYNC109 - of each try
) -> Any:
    for attempt in range(1, retry.max_attempts + 1):
        try:
            async with asyncio.timeout(timeout):
                return await _called(function, arguments)
        except SoormaError:
            raise  # of the platform, or of the author: Retry and Reject are for the handler
        except Exception as error:
            if attempt == retry.max_attempts:
                raise
            wait = retry.delay(attempt, random.uniform(-1, 1))  # noqa: S311 - spreads retries, guards nothing
            log.warning("step %s: try %d failed (%s), again in %.1f s", name, attempt, type(error).__name__, wait)
            await asyncio.sleep(wait)
    raise AssertionError("a step is tried at least once")


async def _called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The function's result; a plain one runs in a thread, so that it may block."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    outcome = await asyncio.to_thread(function, *arguments)
    return await outcome if inspect.isawaitable(outcome) else outcome


def _declared(function: Callable[..., Any]) -> Any:
    """The model that a function declares to return; None where it declares nothing that JSON does not say itself."""
    try:
        kind = get_type_hints(function).get("return")
    except (NameError, TypeError):  # a name of another scope, or no function: it declares nothing we can read
        return None
    is_model = hasattr(kind, "model_validate") or hasattr(kind, "__dataclass_fields__")
    is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    return kind if is_model or is_struct else None
