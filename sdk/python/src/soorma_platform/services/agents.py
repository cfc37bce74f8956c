"""An agent's connection: deliveries go out as far as it has room for them, answers come in.

What an agent may be sent is bounded by its `max_concurrency`, what it may send by reading no further
while as much is being worked on. So neither end fills its memory, and a slow agent slows nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected, WebSocketState

from soorma_common.delivery import (
    AgentFrame,
    Answer,
    CancelFrame,
    CommitFrame,
    Deliver,
    DrainFrame,
    FailFrame,
    Goodbye,
    Hello,
    PlanSnapshot,
    ReleaseFrame,
    SnapshotEntry,
    StepFrame,
    Welcome,
)
from soorma_common.errors import Fenced, InvalidRequest, PlanCancelled, SoormaError, to_problem
from soorma_common.memory import Cause
from soorma_common.names import Scope, check_name
from soorma_common.topics import check_topic
from soorma_platform.buses.protocol import Bus, group_bell
from soorma_platform.engine.life import is_dropped
from soorma_platform.engine.publishing import covers
from soorma_platform.engine.rows import PlanState
from soorma_platform.engine.steps import Step
from soorma_platform.logs import Log
from soorma_platform.services.committer import Committer, fingerprint
from soorma_platform.stores.protocol import Claimed, Membership, Store

POLL_SECONDS = 1.0
SEEN_EVERY = 60.0
LARGEST_CLAIM = 16
MOST_SUBSCRIPTIONS = 1_000
SNAPSHOT_BYTES = 16 * 1024
SNAPSHOT_KEYS = 100
"""A plan up to this size goes along with its event, so that reads in the handler cost no round trip."""

log = Log("soorma.agents")
_frames = msgspec.json.Decoder(AgentFrame)
_encoder = msgspec.json.Encoder()
_GONE = (WebSocketDisconnect, WebSocketDisconnected)
"""The agent has gone: heard of when reading, or known since a frame could not be sent."""


class AgentConnection:
    """Serves one agent process from its hello to its end."""

    def __init__(
        self,
        socket: WebSocket,
        store: Store,
        bus: Bus,
        committer: Committer,
        *,
        lease: float,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._socket = socket
        self._store = store
        self._bus = bus
        self._committer = committer
        self._lease = lease
        self._is_stopping = is_stopping
        self._replica = str(uuid4())
        self._in_hand: dict[str, Claimed] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._draining = False
        self._turn = 0

    async def serve(self) -> None:
        """Runs until the agent goes; what it had in hand is free at once then."""
        await self._socket.accept()
        try:
            self._hello = await self._receive_hello()
            await self._join()
        except _GONE:
            return  # gone before it said who it is
        except SoormaError as error:
            await self._send(Goodbye(to_problem(error)))
            await self._socket.close(1008)
            return
        with self._bus.bell(group_bell(self._membership.group_id)) as self._bell:
            pump = asyncio.create_task(self._pump())
            try:
                await self._read(pump)
            finally:
                pump.cancel()
                await asyncio.gather(pump, *self._answering, return_exceptions=True)
                await self._leave()

    async def _receive_hello(self) -> Hello:
        try:
            frame = _frames.decode(await self._socket.receive_bytes())
        except (ValueError, KeyError) as error:
            raise InvalidRequest(f"an agent begins with a hello frame: {error}") from error
        if not isinstance(frame, Hello):
            raise InvalidRequest("an agent begins with a hello frame")
        check_name("agent", frame.agent)
        check_name("instance", frame.instance)
        if frame.tenant_id is not None:
            check_name("tenant_id", frame.tenant_id)
        if not 1 <= len(frame.subscriptions) <= MOST_SUBSCRIPTIONS:
            raise InvalidRequest(f"an agent handles 1 to {MOST_SUBSCRIPTIONS} events, not {len(frame.subscriptions)}")
        for wanted in frame.subscriptions:
            check_name("type", wanted.type)
            if wanted.topic != "*":
                check_topic(wanted.topic)
        return frame

    async def _join(self) -> None:
        hello = self._hello
        self._membership: Membership = await self._store.subscribe(
            hello.tenant_id or "", hello.agent, hello.subscriptions
        )
        await self._store.join(self._membership.group_id, self._replica, hello.instance, hello.max_concurrency)
        kept = await self._store.resume(hello.running, self._lease, self._replica) if hello.running else []
        self._in_hand = {claimed.fence: claimed for claimed in kept}
        self._refresh(self._membership.all)
        await self._send(Welcome(self._replica, list(self._in_hand), self._lease, self._committer.limits))
        if forsaken := [one.fence for one in kept if await self._is_dropped(one)]:
            await self._send(CancelFrame(forsaken))  # it was away when that was told
        log.info("agent connected", agent=hello.agent, instance=hello.instance, kept=len(kept))

    def _refresh(self, patterns: dict[int, tuple[str, str]]) -> None:
        """Which of the group's subscriptions this replica has a handler for, and which handler."""
        own = sorted(self._membership.own.values(), key=lambda mine: (mine.type == "*", mine.topic == "*"))
        self._handlers = {
            id_: mine
            for id_, pattern in patterns.items()
            for mine in reversed(own)
            if covers((mine.type, mine.topic), pattern)
        }

    async def _leave(self) -> None:
        if self._is_stopping():
            return  # the agents live on, and come back to the next process with what they have in hand
        with suppress(SoormaError):  # the leases run out by themselves
            await self._store.leave(self._replica)
        log.info("agent gone", agent=self._hello.agent, instance=self._hello.instance, in_hand=len(self._in_hand))

    # out

    async def _pump(self) -> None:
        """Claims and sends deliveries while the agent has room."""
        loop = asyncio.get_running_loop()
        refresh_at, seen_at = 0.0, loop.time() + SEEN_EVERY
        while True:
            try:
                if loop.time() >= refresh_at:
                    self._refresh(await self._store.subscription_patterns(self._membership.group_id))
                    refresh_at = loop.time() + POLL_SECONDS
                if loop.time() >= seen_at:
                    await self._store.seen(list(self._membership.own))
                    seen_at = loop.time() + SEEN_EVERY
                if not await self._deliver_some():
                    await self._bell.wait(await self._patience())
            except SoormaError as error:
                log.error("deliveries wait, the store fails", agent=self._hello.agent, error=error.message)  # noqa: TRY400
                await asyncio.sleep(POLL_SECONDS)
            except Exception:
                log.exception("deliveries wait, the platform has a fault", agent=self._hello.agent)
                await asyncio.sleep(POLL_SECONDS)

    async def _deliver_some(self) -> bool:
        room = self._hello.max_concurrency - len(self._in_hand)
        if self._draining or room <= 0 or not self._handlers:
            return False
        ids = list(self._handlers)
        if not await self._store.is_ready(ids) or await self._is_silent():
            return False
        self._turn = (self._turn + 1) % len(ids)
        ids = ids[self._turn :] + ids[: self._turn]  # so that a busy event type does not starve another
        claimed = await self._store.claim(ids, min(room, LARGEST_CLAIM), self._lease, self._replica)
        for one in claimed:
            self._in_hand[one.fence] = one
        for one in claimed:
            await self._deliver(one)
        return bool(claimed)

    async def _is_silent(self) -> bool:
        """Whether the agent has stopped renewing: a frozen one must not collect what others could do."""
        silence = await self._store.silence(self._replica)
        return silence is None or silence > self._lease * 2 / 3

    async def _deliver(self, claimed: Claimed) -> None:
        handler = self._handlers[claimed.subscription_id]
        if claimed.attempt > handler.retry.max_attempts:
            await self._give_up(claimed, handler.retry.max_attempts)
            return
        self._committer.metrics.deliveries.add(self._hello.agent)
        event = msgspec.Raw(claimed.envelope.encode())
        state = await self._plan_of(claimed)
        if state and is_dropped(claimed.type, claimed.position, state.row):
            await self._forsake(claimed)
            return
        snapshot = await self._snapshot(claimed, state)
        await self._send(Deliver(claimed.fence, claimed.attempt, handler, event, snapshot, claimed.steps))

    async def _give_up(self, claimed: Claimed, attempts: int) -> None:
        reason = f"its handler did not end in {attempts} attempts: each time the agent died or lost its lease"
        scope = Scope(claimed.tenant_id, claimed.user_id)
        await self._committer.fail(scope, claimed.plan_id, claimed.fence, reason, reject=True)
        self._in_hand.pop(claimed.fence, None)

    async def _is_dropped(self, claimed: Claimed) -> bool:
        state = await self._plan_of(claimed)
        return state is not None and is_dropped(claimed.type, claimed.position, state.row)

    async def _plan_of(self, claimed: Claimed) -> PlanState | None:
        if claimed.plan_id is None:
            return None
        return await self._store.plan(Scope(claimed.tenant_id, claimed.user_id), claimed.plan_id, set())

    async def _forsake(self, claimed: Claimed) -> None:
        """The plan was cancelled: what waits for its handlers is settled, not handled."""
        await self._committer.drop(Scope(claimed.tenant_id, claimed.user_id), claimed.fence)
        self._drop(claimed.fence)

    async def cancel(self, scope: Scope, plan_id: str) -> None:
        """A plan was cancelled: the agent is told which of its handlers need not go on."""
        place = (scope.tenant_id, scope.user_id, plan_id)
        fences = [one.fence for one in self._in_hand.values() if (one.tenant_id, one.user_id, one.plan_id) == place]
        if fences:
            await self._send(CancelFrame(fences))

    async def _snapshot(self, claimed: Claimed, state: PlanState | None) -> PlanSnapshot | None:
        if claimed.plan_id is None or state is None:
            return None
        scope = Scope(claimed.tenant_id, claimed.user_id)
        if state.row.size > SNAPSHOT_BYTES or state.row.keys > SNAPSHOT_KEYS:
            return None
        plan, rows = await self._store.entries(scope, claimed.plan_id, "", "", SNAPSHOT_KEYS)
        entries = {
            row.key: SnapshotEntry(row.revision, row.updated_at, row.expires_at, msgspec.Raw(row.value.encode()))
            for row in rows
        }
        return PlanSnapshot(claimed.plan_id, plan.revision, entries)

    async def _patience(self) -> float:
        """Seconds to wait for the bell: until something becomes ready by time, or the next look around."""
        if self._draining or len(self._in_hand) >= self._hello.max_concurrency:
            return POLL_SECONDS
        next_ready = await self._store.next_ready(list(self._handlers))
        return POLL_SECONDS if next_ready is None else min(POLL_SECONDS, max(next_ready, 0.001))

    async def _send(self, frame: Welcome | Deliver | Answer | CancelFrame | Goodbye) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            with suppress(WebSocketDisconnect, RuntimeError):  # the reader notices, and ends the connection
                await self._socket.send_bytes(_encoder.encode(frame))

    # in

    async def _read(self, pump: asyncio.Task[None]) -> None:
        most = 2 * self._hello.max_concurrency + 16
        while not pump.done():
            try:
                frame = _frames.decode(await self._socket.receive_bytes())
            except _GONE:
                return
            except (ValueError, KeyError) as error:
                await self._send(Goodbye(to_problem(InvalidRequest(f"this is no frame of an agent: {error}"))))
                await self._socket.close(1008)
                return
            if isinstance(frame, DrainFrame):
                self._draining = True
                continue
            while len(self._answering) >= most:
                await asyncio.wait(self._answering, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._answer(frame))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, frame: AgentFrame) -> None:
        number = getattr(frame, "number", 0)
        try:
            body = await self._do(frame)
        except SoormaError as error:
            await self._send(Answer(number, problem=to_problem(error)))
        except Exception as error:
            log.exception("frame failed", agent=self._hello.agent)
            fault = SoormaError(f"the platform has a fault here ({type(error).__name__}); its log tells more")
            await self._send(Answer(number, problem=to_problem(fault)))
        else:
            await self._send(Answer(number, body=body))

    async def _do(self, frame: AgentFrame) -> msgspec.Raw:
        match frame:
            case CommitFrame():
                return await self._commit(frame)
            case FailFrame():
                await self._fail(frame)
            case StepFrame():
                await self._record_step(frame)
            case ReleaseFrame(fences=fences):
                mine = [fence for fence in fences if self._in_hand.pop(fence, None)]
                await self._store.give_back(mine)
                self._bell.ring()
            case _:
                raise InvalidRequest("only one hello opens a connection")
        return msgspec.Raw(b"{}")

    async def _commit(self, frame: CommitFrame) -> msgspec.Raw:
        commit = frame.commit
        if not commit.fence:
            raise InvalidRequest("a commit of a handler names the fence of its delivery")
        claimed = self._in_hand.get(commit.fence)
        scope = Scope(frame.tenant_id, frame.user_id)
        if claimed and (claimed.tenant_id, claimed.user_id) != (scope.tenant_id, scope.user_id):
            raise InvalidRequest("the commit names another tenant or user than its delivery")
        body = fingerprint(_encoder.encode(commit)).encode()
        commit.cause = Cause(
            actor=self._hello.agent,
            instance=self._hello.instance,
            event_id=commit.cause.event_id if commit.cause else None,
            correlation_id=commit.cause.correlation_id if commit.cause else None,
            trace_id=commit.cause.trace_id if commit.cause else None,
        )
        try:
            done = await self._committer.commit(scope, commit, body=body)
        except PlanCancelled:
            await self._committer.drop(scope, commit.fence)
            self._drop(commit.fence)
            raise
        except Fenced:
            self._drop(commit.fence)
            raise
        self._drop(commit.fence)
        return msgspec.Raw(_encoder.encode(done))

    async def _fail(self, frame: FailFrame) -> None:
        claimed = self._in_hand.get(frame.fence)
        if claimed is None:
            self._committer.metrics.fenced.add()
            log.warning(
                "failure fenced, its delivery was given to another agent",
                group=self._hello.agent,
                instance=self._hello.instance,
            )
            raise Fenced("this delivery was given to another agent before its failure was reported")
        scope = Scope(claimed.tenant_id, claimed.user_id)
        try:
            await self._committer.fail(
                scope, claimed.plan_id, frame.fence, frame.reason, after=frame.after, reject=frame.reject
            )
        finally:
            self._drop(frame.fence)

    async def _record_step(self, frame: StepFrame) -> None:
        claimed = self._in_hand.get(frame.fence)
        if claimed is None:
            raise Fenced("this delivery was given to another agent before its step was recorded")
        step = Step(frame.fence, frame.name, frame.occurrence, bytes(frame.result).decode())
        try:
            await self._committer.record_step(Scope(claimed.tenant_id, claimed.user_id), step)
        except Fenced:
            self._drop(frame.fence)
            raise

    def _drop(self, fence: str) -> None:
        self._in_hand.pop(fence, None)
        self._bell.ring()  # there is room again
