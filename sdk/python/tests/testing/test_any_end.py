"""Attempts end, however their handlers do: the platform learns it, and the agent goes on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from soorma import Defer, Reject, RetryPolicy, Worker, WorkflowState
from soorma.errors import LimitExceeded
from soorma.testing import LocalPlatform

TWICE = RetryPolicy(max_attempts=2, first_delay=0.1)


@dataclass
class Answer:
    """The output that a model should produce."""

    text: str
    score: float


class Odd(BaseException):
    """An error that is no Exception and that no library knows."""


class NoMorePages(StopIteration):
    """The error that a cursor raises at its end."""


async def cancelled_task() -> None:
    task = asyncio.create_task(asyncio.sleep(9))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


async def cancels_all() -> None:
    for task in asyncio.all_tasks():
        if task.get_name().startswith("soorma-handler"):
            task.cancel()
    await asyncio.sleep(1)


async def raises_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_raise(Odd("in a group")))


async def cancelled_by_a_time_out_of_its_own() -> None:
    async with asyncio.timeout(0.01):
        await asyncio.sleep(9)


async def generator_is_closed() -> None:
    async def pages() -> AsyncIterator[int]:
        yield 1
        raise GeneratorExit

    async for _ in pages():
        pass


async def _raise(error: BaseException) -> NoReturn:
    raise error


def _raising(error: BaseException) -> Callable[[], Any]:
    async def raises() -> NoReturn:
        raise error

    return raises


def _plain(error: BaseException) -> Callable[[], Any]:
    def raises() -> NoReturn:
        raise error

    return raises


ENDS: dict[str, tuple[Callable[[], Any], str]] = {
    "a cancelled task": (cancelled_task, "CancelledError"),
    "itself cancelled": (cancels_itself, "CancelledError"),
    "all tasks cancelled": (cancels_all, "CancelledError"),
    "a group": (
        raises_in_a_group,
        "BaseExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)",
    ),
    "a timeout of its own": (cancelled_by_a_time_out_of_its_own, "TimeoutError"),
    "a closed generator": (generator_is_closed, "GeneratorExit"),
    "Odd": (_raising(Odd("here")), "Odd: here"),
    "KeyboardInterrupt": (_raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "SystemExit": (_raising(SystemExit(2)), "SystemExit: 2"),
    "sys.exit with a text": (lambda: sys.exit("bad usage"), "SystemExit: bad usage"),
    "GeneratorExit": (_raising(GeneratorExit()), "GeneratorExit"),
    "StopIteration": (_raising(StopIteration()), "RuntimeError: coroutine raised StopIteration"),
    "StopAsyncIteration": (_raising(StopAsyncIteration("end")), "StopAsyncIteration: end"),
    "CancelledError": (_raising(asyncio.CancelledError("mine")), "CancelledError: mine"),
    "BaseExceptionGroup": (
        _raising(BaseExceptionGroup("several", [Odd("a")])),
        "BaseExceptionGroup: several (1 sub-exception)",
    ),
    "MemoryError": (_raising(MemoryError()), "MemoryError"),
    "RecursionError": (_raising(RecursionError("deep")), "RecursionError: deep"),
    "half an emoji": (_raising(ValueError("\ud83d")), "ValueError: \\ud83d"),
    "a long text": (_raising(ValueError("x" * 100_000)), "ValueError: xxx"),
}
PLAIN_ENDS: dict[str, tuple[BaseException, str]] = {
    "Odd": (Odd("here"), "Odd: here"),
    "SystemExit": (SystemExit(3), "SystemExit: 3"),
    "KeyboardInterrupt": (KeyboardInterrupt(), "KeyboardInterrupt"),
    "StopIteration": (StopIteration(), "RuntimeError: the function ended with StopIteration"),
    "a kind of StopIteration": (
        NoMorePages("end"),
        "RuntimeError: the function ended with NoMorePages: end",
    ),
    "CancelledError": (asyncio.CancelledError(), "CancelledError"),
    "that of futures": (concurrent.futures.CancelledError(), "CancelledError"),
    "InvalidStateError": (concurrent.futures.InvalidStateError("x"), "InvalidStateError: x"),
    "GeneratorExit": (GeneratorExit(), "GeneratorExit"),
    "TimeoutError": (TimeoutError(), "TimeoutError"),
}


def _ending(where: str, end: Callable[[], Any]) -> Worker:
    """Makes a worker whose handler ends by `end` on the first of two events, and sets keys."""
    worker = Worker("worker", max_concurrency=1, retry=TWICE)
    if where == "plain handler":

        @worker.on_event("go", "action-requests")
        def plain(event: Any, context: Any) -> None:
            if event.data == "first":
                context.run(WorkflowState(context.memory, "plan").set("first", True))
                end()
            context.run(WorkflowState(context.memory, "plan").set("second", True))
    else:

        @worker.on_event("go", "action-requests")
        async def handle(event: Any, context: Any) -> None:
            if event.data == "first":
                await WorkflowState(context.memory, "plan").set("first", True)
                outcome = context.step("step", end) if where == "step" else end()
                await outcome
            await WorkflowState(context.memory, "plan").set("second", True)

    return worker


async def _check(platform: LocalPlatform, worker: Worker, reason: str) -> None:
    await platform.run(worker)
    await platform.publish("go", "action-requests", "first", plan_id="plan")
    await platform.publish("go", "action-requests", "second", plan_id="plan")
    await platform.settle()
    await platform.advance(60)
    (letter,) = await platform.dead_letters()
    assert letter.attempts == 2
    assert letter.reason.startswith(reason)
    assert await platform.state("plan").get_many(["first", "second"]) == {"second": True}
    assert not platform.waiting()


@pytest.mark.parametrize(
    ("where", "end"),
    [("handler", end) for end in ENDS]
    + [("step", end) for end in ENDS if end != "all tasks cancelled"],
)  # a step goes on to its end, whoever is cancelled
@pytest.mark.behaviour("handlers.any-end")
async def test_any_end_of_an_async_function_fails_its_attempt(
    soorma_platform: LocalPlatform, caplog: pytest.LogCaptureFixture, end: str, where: str
) -> None:
    caplog.set_level(
        logging.CRITICAL, "soorma.agent"
    )  # what no UTF-8 can say would get into the report
    function, reason = ENDS[end]
    await _check(soorma_platform, _ending(where, function), reason)


@pytest.mark.parametrize("end", PLAIN_ENDS)
@pytest.mark.parametrize("where", ["plain handler", "step"])
@pytest.mark.behaviour("handlers.any-end", "steps.plain-functions")
async def test_any_end_of_a_plain_function_fails_its_attempt(
    soorma_platform: LocalPlatform, end: str, where: str
) -> None:
    error, reason = PLAIN_ENDS[end]
    await _check(soorma_platform, _ending(where, _plain(error)), reason)


class Broken(Exception):
    """An error of which no attribute can be read."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class Untold(Exception):
    """An error whose text ends the program."""

    def __str__(self) -> str:
        raise SystemExit("in its text")


class Nameless(type):
    """A type whose classes have no name."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Unnamed(Exception, metaclass=Nameless):
    """An error whose class has no name."""


def _nested(depth: int) -> Exception:
    error: Exception = ValueError("the innermost")
    for _ in range(depth):
        error = ExceptionGroup("again", [error])
    return error


HOSTILE: dict[str, tuple[Callable[[], BaseException], str]] = {
    "attributes that raise": (Broken, "Broken"),
    "a text that exits": (Untold, "Untold: a Untold without text (its __str__ raised SystemExit)"),
    "a class without a name": (Unnamed, "Unnamed"),
    "groups in groups": (
        lambda: _nested(1200),
        "ExceptionGroup: again (1 sub-exception); ValueError: the innermost",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.behaviour("handlers.any-end")
async def test_an_exception_that_cannot_be_looked_at_fails_its_attempt(
    soorma_platform: LocalPlatform, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    caplog.set_level(
        logging.CRITICAL + 1, "soorma.agent"
    )  # the test's own formatter would stumble over it
    make, reason = HOSTILE[what]
    await _check(soorma_platform, _ending("handler", _raising(make())), reason)


@pytest.mark.behaviour("limits.commit-bytes")
async def test_an_answer_to_a_handler_holds_no_results(soorma_platform: LocalPlatform) -> None:
    worker = Worker("worker", retry=RetryPolicy(max_attempts=1))
    await soorma_platform.state("plan").set("log", ["x" * 10] * 50_000)

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        for number in range(100):
            await WorkflowState(context.memory, "plan").append("log", number)

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert len(await soorma_platform.state("plan").get("log")) == 50_100
    assert not await soorma_platform.dead_letters()


@pytest.mark.behaviour("limits.commit-bytes")
async def test_a_commit_that_works_on_too_much_is_refused(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("plan")
    await state.set("large", {f"field {number}": "x" * 100 for number in range(8_000)})

    async def update(times: int, *, blind: bool) -> None:
        async with state.transaction() as tx:
            for number in range(times):
                await tx.update_dict("large", {"n": number}, blind=blind)

    with pytest.raises(LimitExceeded, match="commit_work_bytes"):
        await update(40, blind=True)
    with pytest.raises(LimitExceeded, match="result_bytes"):
        await update(20, blind=False)
    assert "n" not in await state.get("large")


@pytest.mark.behaviour("agents.hooks-checked")
async def test_all_shutdown_hooks_are_called_whatever_one_raises(
    soorma_platform: LocalPlatform,
) -> None:
    worker, called = Worker("worker"), []
    worker.on_event("go")(_nothing)

    @worker.on_shutdown
    def fails() -> None:
        called.append("first")
        raise ValueError("cannot flush")

    worker.on_shutdown(lambda: called.append("second"))
    await soorma_platform.run(worker)
    with pytest.raises(ValueError, match="cannot flush"):
        await soorma_platform.stop(worker)
    assert called == ["first", "second"]


async def _nothing(event: Any, context: Any) -> None:
    """Handles nothing."""


@pytest.mark.behaviour("steps.types-first", "steps.to-the-end")
async def test_a_result_that_is_not_as_declared_is_not_recorded(
    soorma_platform: LocalPlatform,
) -> None:
    worker, answers = (
        Worker("worker", retry=RetryPolicy(first_delay=0)),
        [{"text": "hi"}, {"text": "hi", "score": 1.5}],
    )

    async def ask() -> Answer:
        return answers.pop(0)  # type: ignore[return-value]

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        answer = await context.step("ask", ask, retry=RetryPolicy(max_attempts=2, first_delay=0))
        await WorkflowState(context.memory, "plan").set("score", answer.score)

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert await soorma_platform.state("plan").get("score") == 1.5


@pytest.mark.behaviour("claims.first-come")
async def test_a_claim_that_nobody_waits_for_any_more_is_free_again(
    soorma_platform: LocalPlatform,
) -> None:
    state = soorma_platform.state("plan")
    for number in range(8):
        taking = asyncio.create_task(state.claim("claim", ttl=600))
        for _ in range(number):
            await asyncio.sleep(0)
        taking.cancel()
        with suppress(asyncio.CancelledError):
            claim = await taking
            assert claim is not None
            await claim.release()
        again = await state.claim("claim", ttl=600, wait=5)
        assert again is not None
        await again.release()


@pytest.mark.behaviour("handlers.any-end")
async def test_a_handler_that_swallows_its_own_cancellation_is_committed(
    soorma_platform: LocalPlatform,
) -> None:
    worker = Worker("worker")

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        await WorkflowState(context.memory, "plan").set("done", True)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if event.data == "swallows":
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1)

    await soorma_platform.run(worker)
    for data in ("swallows", "ends with it"):
        await soorma_platform.publish("go", "action-requests", data, plan_id="plan")
        await soorma_platform.settle()
        assert await soorma_platform.state("plan").get("done") is True
        await soorma_platform.state("plan").delete("done")


@pytest.mark.behaviour("handlers.any-end")
async def test_after_more_ends_than_it_has_places_an_agent_goes_on(
    soorma_platform: LocalPlatform,
) -> None:
    worker = Worker("worker", max_concurrency=2, retry=RetryPolicy(max_attempts=1))
    seen: list[int] = []

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        if event.data < 10:
            await cancelled_task()
        seen.append(event.data)

    await soorma_platform.run(worker)
    for number in range(12):
        await soorma_platform.publish("go", "action-requests", number)
    await soorma_platform.settle()
    assert seen == [10, 11]
    assert len(await soorma_platform.dead_letters()) == 10


@pytest.mark.behaviour("retries.timeout", "handlers.any-end")
async def test_a_handler_that_ignores_its_timeout_is_left_behind(
    soorma_platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soorma.runtime.runs.STUBBORN_SECONDS", 0.1)
    worker, over = Worker("worker", retry=RetryPolicy(max_attempts=1)), asyncio.Event()

    @worker.on_event("go", "action-requests", timeout=0.1)
    async def handle(event: Any, context: Any) -> None:
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await over.wait()

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests")
    await soorma_platform.settle()
    (letter,) = await soorma_platform.dead_letters()
    assert "goes on although it was cancelled" in letter.reason
    over.set()


@pytest.mark.behaviour("handlers.own-event")
async def test_each_run_gets_the_event_as_it_was_published(soorma_platform: LocalPlatform) -> None:
    worker, runs = Worker("worker"), 0

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        nonlocal runs
        runs += 1
        state = WorkflowState(context.memory, "plan")
        task = event.data["tasks"].pop(0)
        event["type"], event["tenant_id"], event["plan_id"] = "other", "other", "other"
        await state.get("n")
        if runs == 1:
            await WorkflowState(context.immediate.memory, "plan").set("n", 2)
        await state.set("task", [task, context.plan_id])
        await context.bus.publish("after", "business-facts")

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", {"tasks": ["a", "b"]}, plan_id="plan")
    await soorma_platform.settle()
    assert runs == 2
    assert await soorma_platform.state("plan").get("task") == ["a", "plan"]
    (after,) = soorma_platform.published("after")
    assert after.plan_id == "plan"


@pytest.mark.behaviour("readers.own-event")
async def test_each_listener_gets_an_event_of_its_own(soorma_platform: LocalPlatform) -> None:
    client, heard = soorma_platform.client(), []
    for _ in range(3):
        client.on_event("news")(lambda event: heard.append(event.data["items"].pop(0)))
    await client.connect(["business-facts"])
    await soorma_platform.publish("news", "business-facts", {"items": [1, 2]})
    await soorma_platform.settle()
    assert heard == [1, 1, 1]


@pytest.mark.behaviour("retries.threads")
async def test_threads_that_outlive_their_timeout_are_replaced(
    soorma_platform: LocalPlatform,
) -> None:
    worker, over, seen = Worker("worker", max_concurrency=2), threading.Event(), []

    @worker.on_event("slow", "action-requests", timeout=0.1, retry=RetryPolicy(max_attempts=1))
    def slow(event: Any, context: Any) -> None:
        over.wait()

    @worker.on_event("quick", "action-requests", timeout=10, retry=RetryPolicy(max_attempts=1))
    def quick(event: Any, context: Any) -> None:
        seen.append(event.data)

    await soorma_platform.run(worker)
    for number in range(4):
        await soorma_platform.publish("slow", "action-requests", number)
    for number in range(10):
        await soorma_platform.publish("quick", "action-requests", number)
    await soorma_platform.settle()
    over.set()
    assert sorted(seen) == list(range(10))
    assert [letter.type for letter in await soorma_platform.dead_letters()] == ["slow"] * 4


@pytest.mark.parametrize("how", ["TaskGroup", "wait_for", "timeout", "cancel"])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.behaviour("steps.to-the-end")
async def test_an_effect_that_has_begun_is_recorded_whoever_stops_waiting(
    soorma_platform: LocalPlatform, how: str, plain: bool
) -> None:
    worker, charges = Worker("worker", retry=RetryPolicy(first_delay=0)), []
    begun, go_on = threading.Event(), threading.Event()

    def charge() -> str:
        begun.set()
        go_on.wait(10)
        charges.append(1)
        return "receipt"

    async def charge_async() -> str:
        return await asyncio.to_thread(charge)

    async def interrupt(step: asyncio.Task[str]) -> None:
        await asyncio.to_thread(begun.wait, 10)
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        match how:
            case "TaskGroup":
                raise ConnectionError
            case "wait_for":
                await asyncio.wait_for(step, 0)
            case "timeout":
                async with asyncio.timeout(0):
                    await step
            case "cancel":
                step.cancel()
                await step

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        async with asyncio.TaskGroup() as group:
            step = group.create_task(context.step("charge", charge if plain else charge_async))
            if context.attempt == 1:
                group.create_task(interrupt(step))
        if context.attempt == 1:
            raise ConnectionError
        await WorkflowState(context.memory, "plan").set("receipt", step.result())

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    await soorma_platform.advance(60)
    assert await soorma_platform.state("plan").get("receipt") == "receipt"
    assert charges == [1]


@pytest.mark.behaviour("steps.to-the-end", "retries.timeout")
async def test_a_handler_that_took_too_long_waits_for_its_effects(
    soorma_platform: LocalPlatform,
) -> None:
    worker, charges, go_on = Worker("worker", retry=RetryPolicy(first_delay=0)), [], asyncio.Event()

    async def charge() -> str:
        asyncio.get_running_loop().call_later(0.2, go_on.set)
        await go_on.wait()
        charges.append(1)
        return "receipt"

    @worker.on_event("go", "action-requests", timeout=0.1)
    async def handle(event: Any, context: Any) -> None:
        await WorkflowState(context.memory, "plan").set(
            "receipt", await context.step("charge", charge)
        )

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert await soorma_platform.state("plan").get("receipt") == "receipt"
    assert charges == [1]


@pytest.mark.behaviour("steps.to-the-end", "steps.plain-functions")
async def test_plain_steps_in_plain_steps_do_not_wait_for_each_other(
    soorma_platform: LocalPlatform,
) -> None:
    worker, done = Worker("worker", handler_timeout=20), []

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        def outer(number: int) -> int:
            return int(context.run(context.step(f"inner {number}", lambda: number)))

        await asyncio.gather(
            *(context.step(f"outer {number}", outer, number) for number in range(50))
        )
        done.append(1)

    await soorma_platform.run(worker)
    for _ in range(3):
        await soorma_platform.publish("go", "action-requests")
    await soorma_platform.settle(30)
    assert done == [1, 1, 1]


@pytest.mark.behaviour("limits.commit-bytes", "handlers.superseded")
async def test_a_growing_draft_sends_its_last_version_only(soorma_platform: LocalPlatform) -> None:
    worker = Worker("worker")

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        state = WorkflowState(context.memory, "plan")
        for number in range(200):
            await state.set("draft", "x" * 400_000 + str(number))
            await state.append("log", number)

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    state = soorma_platform.state("plan")
    assert (await state.get("draft")).endswith("x199")
    assert await state.get("log") == list(range(200))
    assert [change.op for change in await state.history("draft")] == ["set"]


@pytest.mark.behaviour("limits.commit-bytes")
async def test_what_is_too_much_for_one_commit_is_refused_where_it_becomes_so(
    soorma_platform: LocalPlatform,
) -> None:
    worker, at = Worker("worker", retry=RetryPolicy(max_attempts=1)), []

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        for number in range(70):
            at.append(number)
            await WorkflowState(context.memory, f"plan {number % 5}").set(
                f"key {number}", "y" * 1_000_000
            )

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests")
    await soorma_platform.settle()
    (letter,) = await soorma_platform.dead_letters()
    assert "the limit commit_bytes is 31,457,280" in letter.reason
    assert at[-1] == 31


_leftover: ContextVar[str] = ContextVar("leftover", default="nothing")


@pytest.mark.behaviour("handlers.own-event")
async def test_no_run_sees_the_context_variables_of_another(soorma_platform: LocalPlatform) -> None:
    worker, seen = Worker("worker"), []

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        seen.append(_leftover.get())
        _leftover.set(f"of run {len(seen)}")
        state = WorkflowState(context.memory, "plan")
        await state.get("n")
        if len(seen) < 3:
            await WorkflowState(context.immediate.memory, "plan").set("n", len(seen))
        await state.set("n", 100)

    await soorma_platform.run(worker)
    for _ in range(2):
        await soorma_platform.publish("go", "action-requests", plan_id="plan")
        await soorma_platform.settle()
    assert seen == ["nothing"] * 4


class Opaque(Exception):
    """An exception that cannot even be asked what it is."""

    @property
    def __class__(self) -> Any:
        raise ZeroDivisionError


@pytest.mark.behaviour("handlers.any-end", "steps.unrecordable")
async def test_an_opaque_end_repeats_no_effect_whose_result_was_lost(
    soorma_platform: LocalPlatform,
) -> None:
    worker = Worker("worker", retry=TWICE)
    effects = []

    @worker.on_event("go", "action-requests")
    async def handle(_: Any, context: Any) -> None:
        with suppress(Exception):
            await context.step("step", lambda: effects.append(1) or {1: object()})
        raise Opaque

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests")
    await soorma_platform.settle()
    await soorma_platform.advance(60)
    (letter,) = await soorma_platform.dead_letters()
    assert (letter.attempts, effects) == (1, [1])


@pytest.mark.behaviour("handlers.any-end")
@pytest.mark.parametrize("reason", [b"\xff", "\ud83d", object(), "x" * 20_000_000])
async def test_a_signal_that_was_tampered_with_still_means_what_it_says(
    soorma_platform: LocalPlatform, reason: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Its text may be lost, but not whether the plan ends, and when the event comes again."""
    caplog.set_level(logging.CRITICAL + 1, "soorma.agent")
    worker = Worker("worker", retry=TWICE)
    attempts = []

    @worker.on_event("wait", "action-requests")
    async def wait(_: Any, context: Any) -> None:
        attempts.append(context.attempt)
        signal = Defer(after=5)
        signal.reason = reason  # type: ignore[assignment]
        if len(attempts) < 4:
            raise signal

    @worker.on_event("go", "action-requests")
    async def go(_: Any, context: Any) -> None:
        signal = Reject("no", fail_plan=True)
        signal.reason = reason  # type: ignore[assignment]
        raise signal

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.publish("wait", "action-requests")
    await soorma_platform.settle()
    (letter,) = await soorma_platform.dead_letters()
    assert letter.attempts == 1
    assert (await soorma_platform.state("plan").info()).status == "failed"
    assert attempts == [1]
    await soorma_platform.advance(4)
    assert attempts == [1]
    await soorma_platform.advance(12)
    assert attempts == [1, 1, 1, 1]
