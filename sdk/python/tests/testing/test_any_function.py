"""Functions in every form: each runs to its end, or is refused where it is registered."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import Any

import pytest

from soorma import EventClient, Worker, WorkflowState
from soorma.errors import InvalidRequest
from soorma.testing import LocalPlatform


async def _work(event: Any, context: Any) -> None:
    await WorkflowState(context.memory, "plan").set("ran", True)


def _traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return wrapper


def _injected(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function so that it gets one more argument."""

    @functools.wraps(function)
    def wrapper(event: Any, context: Any) -> Any:
        return function(event, context, "database")

    return wrapper


class _Object:
    async def __call__(self, event: Any, context: Any) -> None:
        await _work(event, context)

    async def method(self, event: Any, context: Any) -> None:
        await _work(event, context)

    @classmethod
    async def of_class(cls, event: Any, context: Any) -> None:
        await _work(event, context)

    @staticmethod
    async def static(event: Any, context: Any) -> None:
        await _work(event, context)

    @_traced
    async def traced(self, event: Any, context: Any) -> None:
        await _work(event, context)


class _PlainObject:
    def __call__(self, event: Any, context: Any) -> None:
        context.run(_work(event, context))


def _plain(event: Any, context: Any) -> None:
    context.run(_work(event, context))


def _returns_awaitable(event: Any, context: Any) -> Any:
    return _work(event, context)


async def _returns_coroutine(event: Any, context: Any) -> Any:
    return _work(event, context)


async def _with_defaults(event: Any, context: Any, more: int = 0, *, other: int = 1) -> None:
    await _work(event, context)


async def _with_three(event: Any, context: Any, database: str) -> None:
    await _work(event, context)


RUN: dict[str, Any] = {
    "async def": _work,
    "plain def": _plain,
    "object": _Object(),
    "plain object": _PlainObject(),
    "bound method": _Object().method,
    "class method": _Object.of_class,
    "static method": _Object.static,
    "decorated method": _Object().traced,
    "sync decorator": _traced(_work),
    "sync decorator twice": _traced(_traced(_work)),
    "injecting decorator": _injected(_with_three),
    "partial": functools.partial(_work),
    "partial of partial": functools.partial(functools.partial(_with_three, database="x")),
    "partial of decorated": functools.partial(_traced(_work)),
    "partial of object": functools.partial(_Object()),
    "lambda": lambda event, context: _work(event, context),  # noqa: PLW0108
    "singledispatch": functools.singledispatch(_work),
    "returns an awaitable": _returns_awaitable,
    "returns a coroutine": _returns_coroutine,
    "with defaults": _with_defaults,
}


@pytest.mark.parametrize("form", RUN)
@pytest.mark.behaviour("handlers.any-function")
async def test_a_handler_is_run_to_its_end(soorma_platform: LocalPlatform, form: str) -> None:
    worker = Worker("worker")
    worker.on_event("go", "action-requests")(RUN[form])
    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert await soorma_platform.state("plan").get("ran") is True


async def _generates(*_: Any) -> Any:
    yield 1


def _plain_generates(*_: Any) -> Any:
    yield 1


class _GeneratingObject:
    async def __call__(self, *_: Any) -> Any:
        yield 1


GENERATORS: dict[str, Any] = {
    "async generator": _generates,
    "generator": _plain_generates,
    "object": _GeneratingObject(),
    "partial": functools.partial(_generates),
}


@pytest.mark.parametrize("form", GENERATORS)
@pytest.mark.behaviour("handlers.any-function", "agents.hooks-checked")
def test_a_generator_is_refused_where_it_is_registered(form: str) -> None:
    worker, client, function = Worker("worker"), EventClient("client"), GENERATORS[form]
    for register in (
        worker.on_event("go"), worker.on_startup, worker.on_shutdown,
        client.on_event("go"), client.on_all_events,
    ):  # fmt: skip
        with pytest.raises(InvalidRequest, match="is a generator"):
            register(function)


def _none() -> None:
    """Takes nothing."""


def _one(event: Any) -> None:
    """Takes too little."""


def _three(event: Any, context: Any, database: Any) -> None:
    """Takes too much."""


def _keyword(*, event: Any, context: Any) -> None:
    """Takes them by name only."""


class _OneObject:
    def __call__(self, event: Any) -> None:
        """Takes too little."""


@pytest.mark.parametrize(
    "function",
    [
        _none,
        _one,
        _three,
        _keyword,
        _OneObject(),
        functools.partial(_work, 1),
        _Object.method,
        "text",
        None,
    ],
)
@pytest.mark.behaviour("handlers.signature")
def test_a_signature_that_cannot_be_called_is_refused(function: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"a handler.*\(event, context\)"):
        Worker("worker").on_event("go")(function)


@pytest.mark.behaviour("handlers.signature")
def test_the_sentence_names_the_function_and_what_it_is_called_with() -> None:
    with pytest.raises(InvalidRequest) as refused:
        Worker("worker").on_event("go")(_one)
    told = str(refused.value)
    assert told.startswith("_one(event: ")
    assert "cannot be called as a handler, which is called with (event, context): too many" in told


@pytest.mark.behaviour("handlers.signature", "agents.hooks-checked")
def test_hooks_and_listeners_are_looked_at_too() -> None:
    worker, client = Worker("worker"), EventClient("client")
    with pytest.raises(InvalidRequest, match="a start-up hook, which is called without arguments"):
        worker.on_startup(_one)
    with pytest.raises(InvalidRequest, match="a shutdown hook"):
        worker.on_shutdown(_one)
    with pytest.raises(InvalidRequest, match=r"a listener, which is called with \(event\)"):
        client.on_event("go")(_none)


@contextlib.contextmanager
def _managed(event: Any, context: Any) -> Any:
    yield


RETURNS: dict[str, tuple[Any, str]] = {
    "a dict": (lambda event, context: {"a": 1}, "returned a dict"),
    "false": (lambda event, context: False, "returned a bool"),
    "of an async function": (
        _traced(lambda event, context: asyncio.sleep(0, "text")),
        "returned a str",
    ),
    "a generator": (lambda event, context: _plain_generates(), "returned a generator"),
    "an async generator": (lambda event, context: _generates(), "returned a generator"),
    "a context manager": (_managed, "returned a context manager"),
}


@pytest.mark.parametrize("what", RETURNS)
@pytest.mark.behaviour("handlers.return-value")
async def test_what_a_handler_returns_is_an_error(
    soorma_platform: LocalPlatform, what: str
) -> None:
    function, reason = RETURNS[what]
    worker = Worker("worker")
    worker.on_event("go", "action-requests")(function)
    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests")
    await soorma_platform.settle()
    await soorma_platform.advance(600)
    (letter,) = await soorma_platform.dead_letters()
    assert reason in letter.reason


FORGOTTEN: dict[str, Callable[[Any, WorkflowState], Any]] = {
    "WorkflowState.set": lambda context, state: state.set("key", 1),
    "WorkflowState.get": lambda context, state: state.get("key"),
    "BusClient.publish": lambda context, state: context.bus.publish("news", "business-facts"),
    "HandlerContext.step": lambda context, state: context.step("pay", lambda: 1),
    "MemoryClient.set_plan_state": lambda context, state: context.memory.set_plan_state(
        "plan", "key", 1
    ),
}


@pytest.mark.parametrize("name", FORGOTTEN)
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.behaviour("handlers.forgotten-await")
async def test_a_forgotten_await_fails_the_attempt(
    soorma_platform: LocalPlatform, name: str, kept: bool
) -> None:
    worker = Worker("worker")
    held: list[Any] = []

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        state = WorkflowState(context.memory, "plan")
        await state.set("other", 1)
        call = FORGOTTEN[name](context, state)
        if kept:
            held.append(call)

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    await soorma_platform.advance(600)
    (letter,) = await soorma_platform.dead_letters()
    assert f"{name}: called without `await`" in letter.reason
    assert await soorma_platform.state("plan").get("other") is None


@pytest.mark.behaviour("handlers.forgotten-await")
async def test_a_plain_handler_that_forgets_context_run_is_told(
    soorma_platform: LocalPlatform,
) -> None:
    worker = Worker("worker")

    @worker.on_event("go", "action-requests")
    def handle(event: Any, context: Any) -> None:
        WorkflowState(context.memory, "plan").set("key", 1)  # type: ignore[unused-coroutine]

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    await soorma_platform.advance(600)
    (letter,) = await soorma_platform.dead_letters()
    assert "WorkflowState.set: called without `await`" in letter.reason


@pytest.mark.behaviour("handlers.forgotten-await")
async def test_many_calls_that_were_awaited_are_not_taken_for_forgotten(
    soorma_platform: LocalPlatform,
) -> None:
    worker = Worker("worker")

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        state = WorkflowState(context.memory, "plan")
        for number in range(200):
            await state.set("key", number)
        await asyncio.gather(*(state.append("list", n) for n in range(100)))

    await soorma_platform.run(worker)
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.settle()
    assert await soorma_platform.state("plan").get("key") == 199
    assert sorted(await soorma_platform.state("plan").get("list")) == list(range(100))


class _Doer:
    """An object whose call is async, which no inspection of it as a function shows."""

    def __init__(self, done: list[str]) -> None:
        self.done = done

    async def __call__(self, *_: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.done.append("done")
        return {"is": "done"}


@pytest.mark.behaviour("agents.hooks-checked", "handlers.any-function")
async def test_hooks_listeners_steps_predicates_and_work_are_run_to_their_end(
    soorma_platform: LocalPlatform,
) -> None:
    worker = Worker("worker")
    started: list[str] = []
    stopped: list[str] = []
    heard: list[str] = []
    stepped: list[str] = []
    worker.on_startup(_Doer(started))
    worker.on_shutdown(lambda: _Doer(stopped)())  # noqa: PLW0108

    @worker.on_event("go", "action-requests")
    async def handle(event: Any, context: Any) -> None:
        state = WorkflowState(context.memory, "plan")
        await state.set("object", await context.step("object", _Doer(stepped)))
        await state.set("lambda", await context.step("lambda", lambda: _Doer(stepped)()))  # noqa: PLW0108
        await state.set("partial", await context.step("partial", functools.partial(_Doer(stepped))))

    await soorma_platform.run(worker)
    client = soorma_platform.client()
    client.on_event("news")(_Doer(heard))
    client.on_all_events(lambda event: _Doer(heard)())
    await client.connect(["business-facts"])
    await soorma_platform.publish("go", "action-requests", plan_id="plan")
    await soorma_platform.publish("news", "business-facts")
    await soorma_platform.settle()
    await soorma_platform.stop(worker)
    assert (len(started), len(stopped), len(stepped), len(heard)) == (1, 1, 3, 2)
    assert await soorma_platform.state("plan").get("lambda") == {"is": "done"}


@pytest.mark.behaviour("watch.wait-for", "transactions.conflict")
async def test_predicates_and_work_may_be_async(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("plan")

    async def enough(value: int) -> bool:
        await asyncio.sleep(0)
        return value >= 5

    waiting = asyncio.create_task(state.wait_for("n", enough, timeout=10))
    for number in range(8):
        await state.set("n", number)
    assert await waiting >= 5
    await state.transact(lambda tx: tx.set("t", 1))
    assert await state.get("t") == 1
    with pytest.raises(InvalidRequest, match="is a generator"):
        await state.transact(_generates)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="cannot be called as what wait_for expects"):
        await state.wait_for("n", _none)
