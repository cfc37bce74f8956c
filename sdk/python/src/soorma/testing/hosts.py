"""An agent at work on a test's platform: its connections, its attempts, its end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from soorma.agents import Agent
from soorma.context import HandlerContext
from soorma.runtime.handlers import Handler
from soorma.runtime.threads import Threads
from soorma.testing.attempts import Attempt, Trace, current
from soorma.testing.network import LocalTransport, Network
from soorma.testing.watching import watch
from soorma.transport.calls import Caller
from soorma_common.events import Event

Arm = Callable[[Agent, Event], Trace]


class Host:
    """Where one agent runs, as written, until it is stopped or dies."""

    def __init__(
        self, agent: Agent, network: Network, retry_seconds: float, arm: Arm, died: Callable[[Host, bool], None]
    ) -> None:
        self.agent = agent
        self.transport = LocalTransport(network)
        self.attempts: set[Attempt] = set()
        self.graveyard: set[Coroutine[Any, Any, Any]] = set()
        self._caller = Caller(self.transport, retry_seconds)
        self._network = network
        self._arm = arm
        self._died = died

    @property
    def is_dead(self) -> bool:
        """Whether it was killed."""
        return self.transport.is_dead

    async def start(self) -> None:
        self.agent._lend(self._caller, self._run)  # noqa: SLF001 - the seam that is there for this package
        try:
            await self.agent.start()
        except BaseException:
            self.agent._lend(None)  # noqa: SLF001
            raise

    async def stop(self, patience: float | None) -> None:
        """Stops the agent; `patience` is in seconds, None means the agent's own."""
        try:
            await self.agent.stop(drain_timeout=patience)
        finally:
            self.agent._lend(None)  # noqa: SLF001

    def announce(self, seconds: float) -> None:
        """Tells the registry of the agent, as when it has just subscribed, for that long."""
        self.agent._presence.begin(seconds)  # noqa: SLF001

    def die(self, restart: bool = False) -> None:
        """From here on no line of it runs, and nothing of it arrives. `abandon` clears away what is left."""
        for attempt in self.attempts:
            attempt.is_dead = True
        self.transport.die()
        self._died(self, restart)

    async def abandon(self) -> None:
        """Lets the agent forget what it was doing, so that it can be started anew."""
        await self.agent._abandon()  # noqa: SLF001
        self.agent._lend(None)  # noqa: SLF001

    async def _run(self, handler: Handler, event: Event, context: HandlerContext, threads: Threads) -> None:
        attempt = current()
        if attempt not in self.attempts:  # or it runs again, on a conflict
            attempt = Attempt(handler, event, self._arm(self.agent, event), self.die, self._network.never)
            self._keep(attempt)
        assert attempt is not None  # noqa: S101 - it is one of ours now
        watch(context)
        await attempt.run(handler(event, context, threads), self.graveyard)

    def _keep(self, attempt: Attempt) -> None:
        self.attempts.add(attempt)
        assert attempt.task is not None  # noqa: S101 - handlers run in tasks
        attempt.task.add_done_callback(lambda _: self._forget(attempt))

    def _forget(self, attempt: Attempt) -> None:
        self.attempts.discard(attempt)
        self._network.touch()
