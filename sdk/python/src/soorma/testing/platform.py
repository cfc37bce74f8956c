"""LocalPlatform: the whole platform in the process of a test."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Self, Unpack

from soorma.agents import Agent
from soorma.bus import PublishOptions, type_name
from soorma.config import ClientConfig
from soorma.context import PlatformContext
from soorma.event_client import EventClient
from soorma.testing.attempts import Crash, Trace
from soorma.testing.clock import Clock
from soorma.testing.embedder import WordEmbedder
from soorma.testing.faults import Failure
from soorma.testing.hosts import Host
from soorma.testing.network import LocalTransport, Network
from soorma.testing.quiescence import Quiescence, Waiting
from soorma.testing.time_passing import TimePassing
from soorma.transport.authorization import KeyedTransport
from soorma.transport.calls import Caller
from soorma.transport.http import Transport
from soorma.workflow import WorkflowState
from soorma_common.errors import InvalidRequest
from soorma_common.events import Event
from soorma_common.groups import DeadLetterInfo
from soorma_common.identity import NewKey, Role, check_new_key
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER, All
from soorma_common.topics import TopicLike, check_topic
from soorma_platform.assembly import Platform
from soorma_platform.engine.dead_letters import ReplayDeadLetter
from soorma_platform.engine.rows.events import LogEntry
from soorma_platform.identity.credentials import split
from soorma_platform.identity.keys import created_in, revoked_in
from soorma_platform.services.groups import dead_letter_info
from soorma_platform.settings import Settings
from soorma_platform.stores.sqlite.inspection import Inspection

SETTLE_SECONDS = 10.0
MOST_LETTERS = 10_000


class LocalPlatform:
    """A platform in this process: real services on a real record, without a socket.

    Use it with `async with`.

    `tenant_id` and `user_id` are the defaults of its calls. Time on the platform begins at `now`
    and stands still; `advance` moves it. Calls are retried through an outage for `retry_seconds` of
    real time. Searches go by words alone unless it gets an `embedder`. With `closed` it needs keys,
    as a server does: what is used here without one gets that of an agent, or of an application of
    `tenant_id`; `key` makes others. `settings` are those of `soorma_platform.settings.Settings`,
    such as `limits=Limits(value_bytes=1000)`.
    """

    context: PlatformContext
    """the platform from outside a handler: `memory`, `bus` and `registry`"""

    def __init__(
        self,
        *,
        tenant_id: str | None = None,
        user_id: str | None = None,
        now: datetime | None = None,
        retry_seconds: float = 10.0,
        embedder: WordEmbedder | None = None,
        closed: bool = False,
        **settings: Any,
    ) -> None:
        self._config = ClientConfig(
            tenant_id=tenant_id, user_id=user_id, retry_seconds=retry_seconds
        )
        self._clock = Clock(now)
        self._embedder = embedder
        access = "closed" if closed else "open"
        self._settings = {"embeddings": "none", "access": access, **settings}
        self._keys: dict[str, str] = {}
        self._hosts: dict[Agent, Host] = {}
        self._burials: dict[Agent, asyncio.Task[None]] = {}
        self._clients: dict[EventClient, tuple[Caller, LocalTransport]] = {}
        self._traces: list[tuple[Agent, Trace]] = []
        self._graveyard: set[Coroutine[Any, Any, Any]] = set()
        self._events: list[Event] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="soorma-testing-"))
            database = Path(folder) / "soorma.db"
            self._platform = Platform(
                Settings(database=database, **self._settings), self._clock, self._embedder
            )
            await stack.enter_async_context(self._platform)
            self._record = stack.enter_context(Inspection(database))
            stack.callback(self._platform.bus.subscribe(self._note))
            self._network = Network(self._platform.services)
            self._quiescence = Quiescence(
                self._network, self._hosts, self._platform, self._record, self._clock
            )
            self._passage = TimePassing(
                self._platform, self._network, self._hosts, self._record, self._clock
            )
            stack.push_async_callback(self._end)
            if self._platform.settings.access == "closed":
                tenant = self._config.tenant_id or DEFAULT_TENANT
                self._keys["app"] = await self.key("app", tenant_id=tenant)
                self._keys["agent"] = await self.key(
                    "agent", agents=["*"], subscribe=["*"], publish=["*"]
                )
            self.context = self.context_of(None)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._stack.aclose()

    # keys, if it is closed

    async def key(self, role: Role | None = None, *, name: str = "test", **fields: Any) -> str:
        """Creates a key and returns its credential.

        `fields` are those of `soorma_common.identity.NewKey`, such as `tenant_id`, `user_id`,
        `scopes`, `expires_in`, and for agents `agents`, `subscribe` and `publish`.
        """
        body = NewKey(name=name, role=role, **fields)
        check_new_key(body)
        created = await created_in(self._platform.store, body)
        await self._platform.identity.keyring.follow()
        return created.credential

    async def revoke(self, credential: str) -> None:
        """Revokes the key of a credential."""
        parts = split(credential)
        if parts is None:
            raise InvalidRequest("this is no credential of a key; see `platform.key`")
        await revoked_in(self._platform.store, parts[0])
        await self._platform.identity.keyring.follow()

    def context_of(
        self,
        api_key: str | Callable[[], str] | None,
        *,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> PlatformContext:
        """Returns the platform as somebody with a key sees it, from outside a handler."""
        tenant_id, user_id = tenant_id or self._config.tenant_id, user_id or self._config.user_id
        if api_key is None:  # its own key is for these
            tenant_id, user_id = tenant_id or DEFAULT_TENANT, user_id or DEFAULT_USER
        config = replace(
            self._config,
            api_key=api_key or self._keys.get("app"),
            tenant_id=tenant_id,
            user_id=user_id,
        )
        caller = self._caller(self._transport(), config.api_key)
        return PlatformContext.on(config, "soorma-testing", caller)

    # agents and clients

    async def run(self, *agents: Agent) -> None:
        """Starts agents, unchanged; returns once they are subscribed.

        They end with the platform.
        """
        for agent in agents:
            if agent in self._burials:
                await self._burials[agent]
            await self._start(agent)

    async def stop(self, *agents: Agent) -> None:
        """Stops agents as SIGTERM does: their handlers finish, or their events are returned."""
        for agent in agents:
            host = self._host(agent)
            del self._hosts[agent]
            await host.stop(None)

    def client(self, agent_id: str = "test", **given: Any) -> EventClient:
        """Returns an `EventClient` of this platform; `given` goes to its constructor."""
        return self.use(EventClient(agent_id, **{"config": self._config, **given}))

    def use(self, client: EventClient) -> EventClient:
        """Makes a client that was created elsewhere use this platform until the platform ends."""
        if client not in self._clients:
            transport = self._transport()
            caller = self._caller(transport, client.api_key or self._keys.get("app"))
            before = client.work_over(caller)
            self._clients[client] = (before, transport)
        return client

    # events and state

    async def publish(
        self,
        event_type: str | Enum,
        topic: TopicLike,
        data: Any = None,
        **envelope: Unpack[PublishOptions],
    ) -> str:
        """Publishes an event and returns its id; see `BusClient.publish`."""
        return await self.context.bus.publish(event_type, topic, data, **envelope)

    def state(
        self, plan_id: str, *, tenant_id: str | None = None, user_id: str | None = None
    ) -> WorkflowState:
        """The state of a plan, as committed."""
        return WorkflowState(self.context.memory, plan_id, tenant_id, user_id)

    def published(
        self, event_type: str | Enum | None = None, topic: TopicLike | None = None
    ) -> list[Event]:
        """All events published so far, the test's too, in order; of a type and topic, if given."""
        kind = None if event_type is None else type_name(event_type)
        where = None if topic is None else check_topic(topic)
        return [
            event
            for event in self._events
            if kind in (None, event.type) and where in (None, event.topic)
        ]

    async def settle(self, timeout: float = SETTLE_SECONDS) -> None:  # noqa: ASYNC109 - full error
        """Returns when nothing moves any more: the rest waits for time, an agent, or a replay.

        `waiting()` lists that. Raises TimedOut, with what still moves, after `timeout` seconds.
        """
        await self._quiescence.settle(timeout)
        for burial in self._burials.values():
            burial.result()  # raises what kept an agent from starting again

    def waiting(self) -> list[Waiting]:
        """The events that wait for the next attempt, an agent, …, the oldest first."""
        return self._quiescence.waiting()

    async def dead_letters(self) -> list[DeadLetterInfo]:
        """The dead letters, with `id`, `group`, `event_id`, `type`, `attempts` and `reason`."""
        letters = await self._platform.store.groups.dead_letters(All.TENANTS, None, 0, MOST_LETTERS)
        return [dead_letter_info(one) for one in letters]

    async def replay(self, letter: DeadLetterInfo) -> None:
        """Delivers a dead letter again, from attempt 1."""
        if not await self._platform.store.transact(ReplayDeadLetter(All.TENANTS, letter.id)):
            raise InvalidRequest(f"there is no dead letter {letter.id} any more")

    # time

    @property
    def now(self) -> datetime:
        """The time on the platform's wall clock, in UTC."""
        return self._clock.now

    async def jump(self, seconds: float | timedelta) -> None:
        """Sets the platform's wall clock ahead, or back if less than 0, while no time passes.

        This happens when a virtual machine is moved, or a wrong clock is set. Expiry, as readers
        see it, and `at=` timers follow the new time; leases, delays and retries do not. Expired
        data is not removed until ten minutes after the jump.
        """
        self._clock.jump(seconds)
        await self._passage.leap(self._clock.milliseconds)
        await self.settle()

    async def advance(self, seconds: float | timedelta, *, settle: bool = True) -> None:
        """Moves time on the platform; whatever becomes due happens in order, and settles each time.

        With `settle=False` it is one leap, for a handler that cannot go on until the test lets it.
        Running agents keep their leases, as they do in real time; frozen ones lose them.
        """
        target = self._clock.milliseconds_in(seconds)
        if settle:
            await self.settle()
        while settle and (due := self._quiescence.next_due(target)) is not None:
            await self._passage.leap(due)
            await self.settle()
        await self._passage.leap(target)
        if settle:
            await self.settle()

    # faults

    def fail_next(
        self,
        count: int = 1,
        *,
        service: str | None = None,
        method: str | None = None,
        path: str | None = None,
        lost: bool = False,
    ) -> Failure:
        """Fails the next `count` calls that fit, from any client; see `Failure`.

        Clients retry, as they do in an outage.
        """
        if type(count) is not int or count < 1:
            raise InvalidRequest(
                f"count is how many calls fail, a whole number from 1 on, not {count!r}"
            )
        if service is not None and service not in self._network.services:
            raise InvalidRequest(
                f"there is no service {service!r}; there are {', '.join(self._network.services)}"
            )
        failure = Failure(count, service, method, path, lost)
        self._network.failures.append(failure)
        return failure

    def disconnect(self, whose: Agent | EventClient) -> None:
        """Cuts the connections of an agent or client, which makes new ones; handlers go on."""
        self._transport_of(whose).cut()

    @contextmanager
    def frozen(self, agent: Agent) -> Iterator[None]:
        """Makes an agent hang: no traffic from or to it passes, so that its leases expire."""
        transport = self._host(agent).transport
        transport.freeze()
        try:
            yield
        finally:
            transport.thaw()

    async def kill(self, agent: Agent) -> None:
        """Ends an agent as `kill -9` does: no line of it runs any more, nothing is sent.

        `run` starts it again.
        """
        self._host(agent).die()
        await self._burials[agent]

    def crash(
        self,
        agent: Agent,
        at_await: int,
        event_type: str | Enum | None = None,
        *,
        restart: bool = False,
    ) -> Crash:
        """Kills the agent at an await of its next attempt, of that event type if given.

        With `restart`, starts it again at once, as a supervisor would. See `Crash`.
        """
        if at_await < 1:
            raise InvalidRequest(f"the first await is number 1, not {at_await}")
        crash = Crash(
            at_await, None if event_type is None else type_name(event_type), restart=restart
        )
        self._traces.append((agent, crash))
        return crash

    def trace(self, agent: Agent, event_type: str | Enum | None = None) -> Trace:
        """Traces the awaits of the agent's next attempt, of that event type if given."""
        trace = Trace(None if event_type is None else type_name(event_type))
        self._traces.append((agent, trace))
        return trace

    # inside

    def _transport(self) -> LocalTransport:
        return LocalTransport(self._network)

    def _caller(
        self,
        transport: LocalTransport,
        api_key: str | Callable[[], str] | None = None,
    ) -> Caller:
        over: Transport = transport if api_key is None else KeyedTransport(transport, api_key)
        return Caller(over, self._config.retry_seconds)

    def _host(self, agent: Agent) -> Host:
        if agent not in self._hosts:
            raise InvalidRequest(
                f"agent {agent.name!r} does not run here; start it with `await platform.run(agent)`"
            )
        return self._hosts[agent]

    def _transport_of(self, whose: Agent | EventClient) -> LocalTransport:
        if isinstance(whose, Agent):
            return self._host(whose).transport
        if whose not in self._clients:
            raise InvalidRequest(
                f"client {whose.agent_id!r} is not of this platform; see `platform.use`"
            )
        return self._clients[whose][1]

    async def _start(self, agent: Agent) -> None:
        if agent in self._hosts:
            raise InvalidRequest(f"agent {agent.name!r} is running already")
        api_key = agent.api_key or self._keys.get("agent")
        host = Host(
            agent,
            self._network,
            lambda transport: self._caller(transport, api_key),
            self._trace_of,
            self._on_death,
        )
        await host.start()
        self._hosts[agent] = host

    def _trace_of(self, agent: Agent, event: Event) -> Trace:
        fitting = (trace for whose, trace in self._traces if whose is agent and trace.takes(event))
        return next(fitting, Trace())

    def _on_death(self, host: Host, restart: bool) -> None:
        self._hosts.pop(host.agent, None)
        burial = self._bury(host, restart)
        self._burials[host.agent] = self._network.begin(
            f"the death of {host.agent.name!r}", burial, is_change=True
        )

    async def _bury(self, host: Host, restart: bool) -> None:
        await host.abandon()
        self._graveyard |= host.graveyard
        if restart:
            await self._start(host.agent)

    def _note(self, entries: list[LogEntry]) -> None:
        self._events += [Event.from_json(entry.envelope) for entry in entries]

    async def _end(self) -> None:
        async with AsyncExitStack() as stack:
            stack.callback(self._close_graves)
            stack.push_async_callback(self._network.close)
            for client, (before, _) in self._clients.items():
                stack.callback(client.work_over, before)
                stack.push_async_callback(client.disconnect)
            for host in self._hosts.values():
                host.transport.thaw()
                stack.push_async_callback(host.stop, 0.0)

    def _close_graves(self) -> None:
        for coroutine in self._graveyard:
            with suppress(BaseException):  # its `finally` blocks run now, without effect
                coroutine.close()
