"""The contexts of an agent: `PlatformContext` anywhere, `HandlerContext` in a handler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Protocol,
    Self,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from soorma.awaits import awaited
from soorma.bus import BusClient
from soorma.config import ClientConfig
from soorma.memory.client import MemoryClient
from soorma.registry import RegistryClient
from soorma.transport.calls import Caller, caller_for
from soorma_common.errors import InvalidRequest
from soorma_common.events import Event
from soorma_common.retry import RetryPolicy

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class PlatformContext:
    """The platform: `memory`, `bus` and `registry` on shared connections.

    Close it, or use it with `async with`.
    """

    def __init__(
        self,
        memory: MemoryClient,
        bus: BusClient,
        registry: RegistryClient,
        caller: Caller | None = None,
    ) -> None:
        self.memory = memory
        self.bus = bus
        self.registry = registry
        self._caller = caller

    @classmethod
    def from_env(
        cls, source: str = "soorma-client", *, api_key: str | Callable[[], str] | None = None
    ) -> PlatformContext:
        """Creates a context from the SOORMA_… variables; `source` is recorded in its events."""
        config = ClientConfig.from_env()
        return cls.on(config if api_key is None else replace(config, api_key=api_key), source)

    @classmethod
    def on(cls, config: ClientConfig, source: str, caller: Caller | None = None) -> PlatformContext:
        """Creates a context for a configuration, on the given caller or on one of its own."""
        own = caller or caller_for(config)
        registry = RegistryClient.on(config, own)
        return cls(
            MemoryClient.on(config, own),
            BusClient(config, own, source),
            registry,
            None if caller else own,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.memory!r}, {self.bus!r}, {self.registry!r})"

    async def close(self) -> None:
        """Closes the connections that it has opened itself."""
        if self._caller is not None:
            await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class StepOptions(TypedDict, total=False):
    """Options of a step."""

    retry: RetryPolicy | None
    timeout: float | None


class StepRunner(Protocol):
    """The runner of a handler's steps."""

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
        ...

    def waiting(self) -> AbstractContextManager[None]:
        """Marks this thread as waiting for another function, and makes room for that one."""
        ...


@awaited
class HandlerContext(PlatformContext):
    """The platform in a handler: what `memory` and `bus` do is committed when the handler returns.

    `registry` is for reading, for the event's tenant, and responds at once; to define events, use
    `immediate.registry`.

    `event` is the event being handled; `attempt` counts from 1. `immediate` is the same context,
    written through: its effects happen at once and, if the handler runs again, once more. Once the
    delivery belongs to another agent or is settled, what `immediate` changes or publishes is
    refused with Fenced.
    """

    def __init__(
        self,
        memory: MemoryClient,
        bus: BusClient,
        registry: RegistryClient,
        *,
        event: Event,
        attempt: int,
        immediate: Callable[[], PlatformContext],
        steps: StepRunner,
        cancelled: asyncio.Event,
    ) -> None:
        super().__init__(memory, bus, registry)
        self.event = event
        # Kept, as the handler may change its event.
        self._ids = (event["tenant_id"], event["user_id"], event.plan_id)
        self.attempt = attempt
        self._immediate = immediate
        self._steps = steps
        self._cancelled = cancelled
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        event = self.event
        about = (
            f"event {event['type']!r} {event['id']}, plan {self.plan_id!r}, attempt {self.attempt}"
        )
        return f"HandlerContext({about}, tenant_id={self.tenant_id!r}, user_id={self.user_id!r})"

    @cached_property
    def immediate(self) -> PlatformContext:
        """The same context, written through at once."""
        return self._immediate()

    @property
    def tenant_id(self) -> str:
        """The event's tenant."""
        return str(self._ids[0])

    @property
    def user_id(self) -> str:
        """The event's user."""
        return str(self._ids[1])

    @property
    def plan_id(self) -> str | None:
        """The plan the event belongs to."""
        plan_id: str | None = self._ids[2]
        return plan_id

    @property
    def cancelled(self) -> bool:
        """True if the event's plan was cancelled meanwhile, so that the commit will be refused."""
        return self._cancelled.is_set()

    async def until_cancelled(self) -> None:
        """Waits until the event's plan is cancelled."""
        await self._cancelled.wait()

    @overload
    async def step(
        self,
        name: str,
        function: Callable[[*Arguments], Awaitable[T]],
        *arguments: *Arguments,
        type: None = None,
        **how: Unpack[StepOptions],
    ) -> T: ...
    @overload
    async def step(
        self,
        name: str,
        function: Callable[[*Arguments], T],
        *arguments: *Arguments,
        type: None = None,
        **how: Unpack[StepOptions],
    ) -> T: ...
    @overload
    async def step(
        self,
        name: str,
        function: Callable[[*Arguments], Any],
        *arguments: *Arguments,
        type: TypeForm[T],
        **how: Unpack[StepOptions],
    ) -> T: ...
    async def step(
        self,
        name: str,
        function: Callable[[*Arguments], Any],
        *arguments: *Arguments,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of each try
        type: Any = None,  # noqa: A002 - reads best so
        check: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Calls a function with an external or expensive effect, and records its result at once.

        A later attempt of the event gets the recorded result without calling the function: the n-th
        step of a name gets the n-th result of that name. A function that was interrupted has no
        result and is called again.

        `function` is async, or plain and then run in a thread. Its result is a JSON value, or
        contains pydantic models, dataclasses or msgspec structs. It is returned as `type`, else as
        the type that the function declares to return; else, an object is returned as its own class,
        and the rest as plain JSON. `retry` is the policy for further tries within this attempt
        (default: none), `timeout` limits a try, in seconds. Raises Fenced if the event was given to
        another agent meanwhile.

        `check` is called with the function's result before it is recorded, such as `json.loads` for
        the output of a model. If it raises or returns False, the try has failed and nothing is
        recorded.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise InvalidRequest(
                f"step {name!r} was called in another event loop than the agent's: await it in the "
                "handler, "
                "or in a plain def handler say context.run(context.step(…))"
            )
        return await self._steps.run(
            name, function, arguments, retry=retry, timeout=timeout, kind=type, check=check
        )

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Runs a call of this context from a plain `def` handler and returns its result.

        For example, `context.run(state.get("goal"))`. Raises InvalidRequest where an event loop
        runs: await the call there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with self._steps.waiting():
                return asyncio.run_coroutine_threadsafe(call, self._loop).result()
        call.close()
        raise InvalidRequest("context.run is for plain def handlers; here, await the call")


__all__ = ["HandlerContext", "PlatformContext", "StepRunner", "caller_for"]
