"""An agent that runs on a test's platform: its connections, its attempts, its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from soorma.agents import Agent
from soorma.bus import Outbox
from soorma.context import HandlerContext, StepRunner
from soorma.memory.plans import Plans
from soorma.runtime.handlers import Handler
from soorma.runtime.harness import Harness
from soorma.runtime.presence import Presence
from soorma.runtime.threads import Threads
from soorma.testing.attempts import Attempt, Trace, current
from soorma.testing.counters import CountedOutbox, CountedPlans, CountedSteps
from soorma.testing.network import LocalTransport, Network
from soorma.transport.calls import Caller
from soorma_common.events import Event

Arm = Callable[[Agent, Event], Trace]


class Host(Harness):
    """The host of one agent, which runs unchanged until it is stopped or dies."""

    def __init__(
        self,
        agent: Agent,
        network: Network,
        caller: Callable[[LocalTransport], Caller],
        arm: Arm,
        died: Callable[[Host, bool], None],
    ) -> None:
        self.agent = agent
        self.transport = LocalTransport(network)
        self.attempts: set[Attempt] = set()
        self.graveyard: set[Coroutine[Any, Any, Any]] = set()
        self.caller = caller(self.transport)
        self._presence: Presence | None = None
        self._abandon: Callable[[], Awaitable[None]] | None = None
        self._network = network
        self._arm = arm
        self._died = died

    @property
    def is_dead(self) -> bool:
        """True if it was killed."""
        return self.transport.is_dead

    async def start(self) -> None:
        """Starts the agent, which runs on this host until it ends."""
        self.agent.harness = self
        try:
            await self.agent.start()
        except BaseException:
            self.agent.harness = Harness()
            raise

    async def stop(self, patience: float | None) -> None:
        """Stops the agent; `patience` is its drain timeout in seconds, None for its own."""
        try:
            await self.agent.stop(drain_timeout=patience)
        finally:
            self.agent.harness = Harness()

    def announce(self, seconds: float) -> None:
        """Announces the agent to the registry for `seconds`, as after it has subscribed."""
        if self._presence is not None:
            self._presence.begin(seconds)

    def die(self, restart: bool = False) -> None:
        """Kills the agent: no line of it runs any more, and nothing from it arrives.

        `abandon` clears up what is left.
        """
        for attempt in self.attempts:
            attempt.is_dead = True
        self.transport.die()
        self._died(self, restart)

    async def abandon(self) -> None:
        """Makes the agent forget its work, so that it can be started again."""
        if self._abandon is not None:
            await self._abandon()
        self.agent.harness = Harness()

    # as the agent's harness

    def began(self, presence: Presence, abandon: Callable[[], Awaitable[None]]) -> None:
        self._presence, self._abandon = presence, abandon

    def plans(self, plans: Plans) -> Plans:
        return CountedPlans(plans)

    def outbox(self, outbox: Outbox) -> Outbox:
        return CountedOutbox(outbox)

    def steps(self, steps: StepRunner) -> StepRunner:
        return CountedSteps(steps)

    async def run(
        self, handler: Handler, event: Event, context: HandlerContext, threads: Threads
    ) -> None:
        attempt = current()
        if attempt not in self.attempts:  # otherwise it runs again, after a conflict
            attempt = Attempt(
                handler, event, self._arm(self.agent, event), self.die, self._network.never
            )
            self._keep(attempt)
        assert attempt is not None  # noqa: S101 - it is in `attempts`
        await attempt.run(handler(event, context, threads), self.graveyard)

    def _keep(self, attempt: Attempt) -> None:
        self.attempts.add(attempt)
        assert attempt.task is not None  # noqa: S101 - handlers run in tasks
        attempt.task.add_done_callback(lambda _: self._forget(attempt))

    def _forget(self, attempt: Attempt) -> None:
        self.attempts.discard(attempt)
        self._network.touch()
