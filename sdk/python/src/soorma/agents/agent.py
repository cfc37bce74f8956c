"""Agents: processes that handle events in transactions.

All that a handler changes and publishes is committed when it returns, or none of it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import uuid4

from soorma import hints, logs
from soorma.agents import loops
from soorma.agents.loops import LoopFactory
from soorma.agents.signals import Signals
from soorma.bus import type_name
from soorma.callables import call, check_callable
from soorma.config import ClientConfig
from soorma.context import PlatformContext, caller_for
from soorma.memory.transactions import Isolation
from soorma.registry import plain_capabilities
from soorma.runtime.handlers import Handler, HandlerFunction, Handlers, check_retry, subscription
from soorma.runtime.harness import Harness
from soorma.runtime.presence import announcement, definitions_of, names_of
from soorma.runtime.session import Profile, Session
from soorma.transport.calls import Caller
from soorma_common.errors import InvalidRequest, SoormaError, Unavailable
from soorma_common.names import check_name
from soorma_common.registry import Capability, EventDefinition
from soorma_common.retry import RetryPolicy
from soorma_common.topics import TopicLike, check_topic

HANDLER_SECONDS = 3600.0
DRAIN_SECONDS = 30.0
LONGEST_BLOCK = 5.0
"""Seconds beyond the drain timeout that a handler may block a stopping agent's event loop."""
CLAIM_SECONDS = 1.0
"""Seconds within which a SystemExit of a task ends the handler that awaits it, if one does."""

_PROCESS = uuid4().hex[:8]
"""With the pid, a name that no other process has: agents of one process die together."""

log = logging.getLogger("soorma.agent")
F = TypeVar("F", bound=HandlerFunction)
Hook = Callable[[], Awaitable[None] | None]
H = TypeVar("H", bound=Hook)


class Agent:
    """A process that handles events under a name; replicas, agents of one name, share its events.

    `capabilities` (text or `Capability`), `events_consumed` and `events_produced` (types, or an
    `EventDefinition` that is registered when the agent starts) describe it to others in the
    registry. `tenant_id` (or SOORMA_TENANT_ID) confines it to a tenant; without one it serves all,
    each handler in the scope of its event. At most `max_concurrency` events are handled at once.
    """

    def __init__(
        self,
        name: str,
        description: str = "",
        capabilities: Sequence[str | Capability] = (),
        events_consumed: Sequence[str | EventDefinition] = (),
        events_produced: Sequence[str | EventDefinition] = (),
        tenant_id: str | None = None,
        *,
        max_concurrency: int = 32,
        retry: RetryPolicy | None = None,
        handler_timeout: float | None = HANDLER_SECONDS,
        drain_timeout: float = DRAIN_SECONDS,
        config: ClientConfig | None = None,
        api_key: str | Callable[[], str] | None = None,
        caller: Caller | None = None,
    ) -> None:
        if max_concurrency < 1:
            raise InvalidRequest(f"max_concurrency must be at least 1, not {max_concurrency}")
        check_retry(retry)
        self.name = check_name("name", name)
        self.description = description
        self.capabilities = plain_capabilities(capabilities)
        self.events_consumed = names_of(events_consumed)
        self.events_produced = names_of(events_produced)
        self._definitions = definitions_of((*events_consumed, *events_produced))
        self.max_concurrency = max_concurrency
        self.instance = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._connections = count(1)
        config = config or ClientConfig.from_env(role="agent")
        if api_key is not None:
            config = replace(config, api_key=api_key)
        self._config = (
            replace(config, tenant_id=check_name("tenant_id", tenant_id)) if tenant_id else config
        )
        self._caller = caller
        self._retry = retry
        self._handler_timeout = handler_timeout
        self._drain_timeout = drain_timeout
        self._handlers = Handlers()
        self._startup: list[Hook] = []
        self._shutdown: list[Hook] = []
        self._session: Session | None = None
        """the current run, None while it is not running"""
        self._own_caller: Caller | None = None
        self.harness = Harness()
        """the layer between the agent and the platform; `soorma.testing` replaces it"""
        self._exit: BaseException | None = None
        """the reason why the agent has ended itself"""
        self._halt: Callable[[], object] = self._stop_soon
        """stops the agent in order, from the event loop"""

    @property
    def tenant_id(self) -> str | None:
        """The tenant the agent is confined to."""
        return self._config.tenant_id

    @property
    def api_key(self) -> str | Callable[[], str] | None:
        """The key that it was given, or the function that returns it."""
        return self._config.api_key

    # registration

    def on_event(
        self,
        event_type: str | Enum,
        topic: TopicLike | None = None,
        *,
        ordered: bool = True,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        isolation: Isolation = "reads",
        ended_plans: bool = False,
    ) -> Callable[[F], F]:
        """Registers a handler of (event, context) for a type (`*`: all) and a topic (None: any).

        The handler is `async def` or plain `def`. Events of one plan are handled one at a time and
        in order, unless `ordered=False`. `retry` is the policy for failed ones, `timeout` limits
        one attempt (seconds; math.inf: no limit). `isolation="writes"` checks at the commit only
        reads of keys that are also written. `ended_plans=True` also takes events of plans that have
        ended.
        """
        where = None if topic is None else check_topic(topic)
        kind = check_name("event_type", type_name(event_type))
        check_retry(retry)

        def register(function: F) -> F:
            wanted = subscription(
                kind, where, ordered=ordered, retry=retry or self._retry, ended_plans=ended_plans
            )
            limit = timeout if timeout is not None else self._handler_timeout
            limit = None if limit is None or math.isinf(limit) else limit
            self._handlers.add(
                Handler(function, wanted, limit, isolation), replace=self._session is None
            )
            if kind != "*" and kind not in self.events_consumed:
                self.events_consumed.append(kind)
            return function

        return register

    def on_startup(self, hook: H) -> H:
        """Registers a hook, plain or async, that is called before the first event is taken."""
        check_callable(hook, "a start-up hook")
        self._startup.append(hook)
        return hook

    def on_shutdown(self, hook: H) -> H:
        """Registers a hook, plain or async, that is called after the last handler has ended."""
        check_callable(hook, "a shutdown hook")
        self._shutdown.append(hook)
        return hook

    # lifecycle

    def run(self, *, loop_factory: LoopFactory | None = None) -> None:
        """Runs the agent until SIGINT or SIGTERM; then lets running handlers finish, and returns.

        Waits for the platform as long as necessary, and reconnects by itself. If the program has
        not set up logging, `soorma.logs.configure` does; SOORMA_LOG_LEVEL=debug shows each attempt.
        A second signal ends the process at once.

        `loop_factory` makes the event loop, as `asyncio.new_event_loop` does. Without it, the loop
        is that of the policy that the program has set, else of uvloop, if available. `start` uses
        the loop in which it is called. Raises InvalidRequest outside the main thread and where a
        loop is running already: use `start` and `stop` there.
        """
        _refuse_run_here(self.name)
        if not logs.is_configured():
            logs.configure(agent=self.name, instance=self.instance)
        loops.run(self._run_until_signalled(), self._on_exit, loop_factory)
        if self._exit is not None:
            raise self._exit

    async def _run_until_signalled(self) -> None:
        stop = asyncio.Event()
        self._halt = stop.set
        with Signals(stop, self._drain_timeout + LONGEST_BLOCK) as signals:
            session = await self._begun_before(stop)
            if session is None:
                return
            signals.started()
            ends = {asyncio.create_task(event.wait()) for event in (stop, session.presence.refused)}
            await asyncio.wait({*ends, session.task}, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            signals.reacts()
            await self.stop()

    async def _begun_before(self, stop: asyncio.Event) -> Session | None:
        """Starts the agent; None if it was to stop before it had started."""
        beginning, stopping = asyncio.create_task(self._begin()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({beginning, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not beginning.done():
                beginning.cancel()
                await asyncio.wait({beginning})
                return None
            return await beginning
        finally:
            stopping.cancel()
            if self._session is None and self._own_caller is not None:
                await self._own_caller.close()

    def _on_exit(self, error: BaseException) -> None:
        """Handles a SystemExit or the like that a task has raised.

        If the task belongs to a handler, its attempt fails; any other ends the agent in order.
        """
        session = self._session

        def look() -> None:
            if session is None or not any(error is one for one in session.attempts.exits):
                self._exit = error
                self._halt()

        if session is None:
            look()
        else:
            session.loop.call_later(CLAIM_SECONDS, look)

    def _on_exhausted(self, reason: str) -> None:
        """Ends the agent, because only a new process helps."""
        log.critical("agent %s ends: %s", self.name, reason)
        self._exit = SoormaError(f"agent {self.name!r} ended itself: {reason}")
        self._halt()

    async def start(self) -> None:
        """Starts the agent in this event loop; returns once it is subscribed.

        Raises Unavailable if that takes too long, or the error with which the platform or the
        registry refuses the agent.
        """
        session = await self._begin()
        ready = asyncio.create_task(session.ready())
        patience = self._config.retry_seconds
        await asyncio.wait(
            {ready, session.task}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
        ready.cancel()
        if self._session is not session:
            raise Unavailable(
                f"agent {self.name!r} was stopped while it was starting; start it again"
            )
        failed = session.has_failed
        if not failed and (ready.done() or session.connection.subscribed.is_set()):
            return
        await self.stop()
        if not failed:
            raise Unavailable(
                f"agent {self.name!r} could not subscribe at {self._config.events_url} within "
                f"{patience:g} s; "
                "is `soorma dev` running?"
            )

    async def _begin(self) -> Session:
        if self._session is not None:
            raise InvalidRequest(f"agent {self.name!r} is running already")
        if not len(self._handlers):
            raise InvalidRequest(
                f"agent {self.name!r} has no handlers; register some with @agent.on_event(…)"
            )
        given = self.harness.caller or self._caller
        self._own_caller = caller_for(self._config) if given is None else None
        # In a test, each agent dies alone.
        process = f"{os.getpid()}-{_PROCESS}" if given is None else uuid4().hex
        caller = given or self._own_caller
        assert caller is not None  # noqa: S101 - one of the two is there
        for hook in self._startup:
            await call(hook)
        told = announcement(
            self.description, self.capabilities, self.events_consumed, self.events_produced
        )
        profile = Profile(
            self.name,
            self.instance,
            process,
            self._connections,
            self.max_concurrency,
            told,
            self._definitions,
        )
        session = Session(
            profile, self._config, caller, self._handlers, self.harness, self._on_exhausted
        )
        self._session = session
        self.harness.began(session.presence, self._abandon)
        return session

    async def stop(self, *, drain_timeout: float | None = None) -> None:
        """Takes no further events, lets handlers finish for `drain_timeout` seconds, and ends.

        Events of unfinished handlers are given back, which costs them no attempt. If the agent was
        refused, raises the error of the refusal.
        """
        session = self._session
        if session is None:
            return
        leaving = asyncio.create_task(session.presence.end())
        try:
            await session.drain(self._drain_timeout if drain_timeout is None else drain_timeout)
        finally:
            outcome = await session.close()
            self._session = None
            await leaving
            try:
                await self._shut_down()
            finally:
                if self._own_caller is not None:
                    await self._own_caller.close()
        if isinstance(outcome, Exception):
            raise outcome
        if session.presence.refusal is not None:
            raise session.presence.refusal

    @property
    def context(self) -> PlatformContext:
        """The platform for hooks and background work, outside handlers; calls act at once."""
        return PlatformContext.on(
            self._config, self.name, self.harness.caller or self._caller or self._own_caller
        )

    async def _shut_down(self) -> None:
        """Calls all shutdown hooks, even if some fail; then raises the first error."""
        failures: list[BaseException] = []
        for hook in self._shutdown:
            try:
                await call(hook)
            except BaseException as error:
                failures.append(error)
                if len(failures) > 1:
                    log.exception("agent %s: a shutdown hook failed as well", self.name)
        if failures:
            raise failures[0]

    def _stop_soon(self) -> None:
        """Stops an agent that was started with `start`."""
        self._stopping = asyncio.ensure_future(self.stop())

    async def _abandon(self) -> None:
        """Ends the agent like a killed process; no hook is called."""
        session, self._session = self._session, None
        if session is not None:
            await session.abandon()

    def __repr__(self) -> str:
        where = f", tenant_id={self.tenant_id!r}" if self.tenant_id is not None else ""
        kinds = (
            ", ".join(sorted(handler.type for handler in self._handlers.subscriptions))
            or "no events yet"
        )
        state = "running" if self._session is not None else "not running"
        return f"{type(self).__name__}({self.name!r}{where}, takes {kinds}, {state})"

    if not TYPE_CHECKING:  # type checkers must report missing attributes

        def __getattr__(self, name: str) -> Any:
            raise hints.missing_attribute(self, name)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()


class Worker(Agent):
    """An agent that carries out tasks: an `Agent` whose name says what it is for."""


def _refuse_run_here(name: str) -> None:
    """Raises InvalidRequest where `run` cannot work: in a running loop or off the main thread."""
    instead = "await agent.start() there, and await agent.stop() at the end"
    with suppress(RuntimeError):  # there is no loop
        asyncio.get_running_loop()
        raise InvalidRequest(
            f"agent {name!r} cannot run() in an event loop that runs already: {instead}"
        )
    if threading.current_thread() is not threading.main_thread():
        raise InvalidRequest(
            f"agent {name!r} cannot run() in a thread, where no signal arrives: start an event "
            f"loop in it, {instead}"
        )
