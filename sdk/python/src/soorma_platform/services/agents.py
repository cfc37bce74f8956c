"""An agent's connection: deliveries go out while it has room, commits and failures come in.

What an agent is sent is bounded by its `max_concurrency`. What it sends is bounded because no more
is read while as much is being worked on. So neither end fills its memory, and a slow agent slows
nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import msgspec

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
from soorma_common.json_text import compact
from soorma_common.names import Scope, check_name
from soorma_common.protocol import PROTOCOL, mismatch
from soorma_common.topics import check_topic
from soorma_platform.buses.protocol import Bus, group_bell
from soorma_platform.engine.deliveries import cause_of, verdict
from soorma_platform.engine.life import is_discarded, is_unwanted
from soorma_platform.engine.rows.plans import PlanRow
from soorma_platform.http.asgi import Disconnected, WebSocket
from soorma_platform.identity import Principal
from soorma_platform.identity.keyring import is_revocation, revoked_error
from soorma_platform.logs import Log
from soorma_platform.services.groups import subscribe
from soorma_platform.stores.ports import Store
from soorma_platform.stores.ports.deliveries import Claimed, Prefetch
from soorma_platform.stores.ports.groups import Replica, Unserved
from soorma_platform.work.committer import Committer
from soorma_platform.work.holders import Held

POLL_SECONDS = 1.0
"""Time after which the store is polled without a bell: a bus may lose one."""
VAIN_SECONDS = 0.1
"""Pause after a claim in vain: another replica was quicker, or the agent was silent."""
SEEN_EVERY = 60.0
"""Time after which subscriptions are marked as used again; unused ones go after days."""
HELLO_SECONDS = 10.0
MOST_SUBSCRIPTIONS = 1_000

log = Log("soorma.agents")
_frames = msgspec.json.Decoder(AgentFrame)
_encoder = msgspec.json.Encoder()


class AgentConnection:
    """The connection of one agent process, from its hello to its end."""

    def __init__(
        self,
        socket: WebSocket,
        principal: Principal,
        store: Store,
        bus: Bus,
        committer: Committer,
        *,
        lease: float,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._socket = socket
        self._principal = principal
        credential = principal.credential
        self._family = None if credential is None else credential.family
        self._store = store
        self._deliveries, self._groups = store.deliveries, store.groups
        self._bus = bus
        self._committer = committer
        self._lease = lease
        self._is_stopping = is_stopping
        self._replica = str(uuid4())
        self._prefetch = Prefetch(self._replica, lease)
        self._in_hand: dict[str, Claimed] = {}
        self._unsent: deque[Claimed] = deque()
        self._survey_due = False
        self._warned: set[tuple[str, str]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._draining = False
        self._is_welcome = False

    async def serve(self) -> None:
        """Serves the agent until it goes, and then frees at once what it had in hand."""
        await self._socket.accept()
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                self._hello = await self._receive_hello()
            await self._join()  # without a limit: joining a large group takes many steps
        except TimeoutError:
            await self._socket.close(
                1008, f"an agent says hello within {HELLO_SECONDS:.0f} seconds"
            )
            return
        except Disconnected:
            return  # gone before its hello
        except SoormaError as error:
            await self._send(Goodbye(to_problem(error), PROTOCOL))
            await self._socket.close(1008)
            return
        group = self._membership.group_id
        with (
            self._bus.bell(group_bell(group)) as self._bell,
            self._deliveries.prefetching(self._prefetch),
            self._holding(),
        ):
            await self._welcome()  # before the pump: an agent's first frame is its welcome
            pump = asyncio.create_task(self._pump())
            self._committer.reservations.join(self._replica)  # from here on it may take turns
            revoked = False
            try:
                await self._read(pump)
            except asyncio.CancelledError as error:
                if not is_revocation(error):
                    raise
                revoked = True
            finally:
                pump.cancel()
                # First, so that commits waiting for their turn are decided and the next line ends.
                self._committer.reservations.leave(self._replica)
                await asyncio.gather(pump, *self._answering, return_exceptions=True)
                await self._leave(revoked=revoked)
        if not self._is_stopping():
            with suppress(SoormaError):  # the remaining replicas survey, too
                await self._groups.survey(group)
        if revoked:
            await self._send(Goodbye(to_problem(revoked_error()), PROTOCOL))
            await self._socket.close(1008)

    async def _receive_hello(self) -> Hello:
        try:
            frame = _frames.decode(compact(await self._socket.receive()))
        except (ValueError, KeyError, RecursionError) as error:
            raise InvalidRequest(f"an agent begins with a hello frame: {error}") from error
        if not isinstance(frame, Hello):
            raise InvalidRequest("an agent begins with a hello frame")
        if frame.protocol != PROTOCOL:
            raise mismatch(sdk=frame.protocol, platform=PROTOCOL)
        check_name("agent", frame.agent)
        check_name("instance", frame.instance)
        if frame.tenant_id is not None:
            check_name("tenant_id", frame.tenant_id)
        if not 1 <= len(frame.subscriptions) <= MOST_SUBSCRIPTIONS:
            raise InvalidRequest(
                f"an agent handles 1 to {MOST_SUBSCRIPTIONS} events, not {len(frame.subscriptions)}"
            )
        for subscription in frame.subscriptions:
            check_name("type", subscription.type)
            if subscription.topic != "*":
                check_topic(subscription.topic)
        if (credential := self._principal.credential) is not None:
            credential.check_agent(frame.agent)
            for subscription in frame.subscriptions:
                credential.check_subscription(subscription.type, subscription.topic)
        return frame

    async def _join(self) -> None:
        hello = self._hello
        owner = self._principal.owner_among("tenant_id of the hello", hello.tenant_id)
        self._membership = await subscribe(self._store, owner, hello.agent, hello.subscriptions)
        replica = Replica(
            self._replica, hello.instance, hello.max_concurrency, hello.process, hello.connection
        )
        if not await self._groups.join(self._membership.group_id, replica, hello.running):
            raise Fenced(
                "this agent has connected again since: what its earlier connection says does not "
                "count"
            )
        kept = (
            await self._deliveries.resume(
                hello.running,
                self._lease,
                self._replica,
                self._family,
                self._membership.group_id,
            )
            if hello.running
            else []
        )
        self._in_hand = {claimed.fence: claimed for claimed in kept}
        prefetch = self._prefetch = Prefetch(
            self._replica, self._lease, hello.max_concurrency, hello.process, self._family
        )
        prefetch.group_id = self._membership.group_id
        prefetch.freed = hello.max_concurrency - len(kept)
        prefetch.has_suspect = any(claimed.is_suspect for claimed in kept)
        self._refresh(self._membership.all)

    async def _welcome(self) -> None:
        hello, kept = self._hello, list(self._in_hand.values())
        unserved = await self._survey()
        lines = [_unserved_line(one) for one in unserved]
        fences, limits = list(self._in_hand), self._committer.limits
        await self._send(Welcome(self._replica, fences, self._lease, limits, lines, PROTOCOL))
        self._is_welcome = True
        if cancelled := [one.fence for one in kept if await self._is_discarded(one)]:
            await self._send(CancelFrame(cancelled))  # it was away when their plans were cancelled
        log.info("agent connected", agent=hello.agent, instance=hello.instance, kept=len(kept))

    async def _survey(self) -> list[Unserved]:
        """Surveys the group after a change of subscriptions; returns those nobody serves."""
        try:
            found = await self._groups.survey(self._membership.group_id)
        except SoormaError:
            self._survey_due = True
            return []
        self._survey_due = found.more
        new = [one for one in found.unserved if (one.type, one.topic) not in self._warned]
        self._warned.update((one.type, one.topic) for one in new)
        for one in new:
            log.warning("events set aside, no connected agent handles "
                        "them", agent=self._hello.agent,
                        type=one.type, topic=one.topic, waiting=one.waiting)  # fmt: skip
        return found.unserved

    def _refresh(self, patterns: dict[int, tuple[str, str]]) -> None:
        """Finds this replica's closest handler for each subscription of the group."""
        own = {(mine.type, mine.topic): mine for mine in self._membership.own.values()}
        self._handlers = {
            id_: handler
            for id_, (kind, topic) in patterns.items()
            if (
                handler := own.get((kind, topic))
                or own.get((kind, "*"))
                or own.get(("*", topic))
                or own.get(("*", "*"))
            )
        }
        ids = [] if self._draining else list(self._handlers)
        self._survey_due |= set(ids) != set(self._prefetch.subscription_ids)
        self._prefetch.subscription_ids = ids

    async def _leave(self, *, revoked: bool) -> None:
        if self._is_stopping() and not revoked:
            # The agents live on, and return to the next process with what they have in hand.
            return
        self._prefetch.subscription_ids = []  # or it would be given what it gives back
        with suppress(SoormaError):  # the leases expire by themselves
            unsent = [claimed.fence for claimed in (*self._unsent, *self._prefetch.take())]
            if revoked:  # its events go to others, and no attempt counts: nothing has failed
                unsent = list({*unsent, *self._in_hand})
            if unsent:
                await self._deliveries.release(unsent)  # these cannot have killed it
            await self._groups.leave(self._replica)
        log.info(
            "agent gone",
            agent=self._hello.agent,
            instance=self._hello.instance,
            in_hand=len(self._in_hand),
        )

    # out

    async def _pump(self) -> None:
        """Sends what was claimed for the agent, and claims what no commit has claimed for it."""
        loop = asyncio.get_running_loop()
        refresh_at, seen_at = 0.0, loop.time() + SEEN_EVERY
        while True:
            try:
                if loop.time() >= refresh_at:
                    patterns = await self._groups.patterns(self._membership.group_id)
                    self._refresh({one.id: (one.type, one.topic) for one in patterns})
                    refresh_at = loop.time() + POLL_SECONDS
                    if self._survey_due:
                        await self._survey()
                if loop.time() >= seen_at:
                    await self._groups.seen(list(self._membership.own))
                    seen_at = loop.time() + SEEN_EVERY
                if (wait := await self._deliver_some()) > 0:
                    await self._bell.wait(wait)
            except SoormaError as error:
                log.error(  # noqa: TRY400 - the message says it all
                    "deliveries wait, the store fails", agent=self._hello.agent, error=error.message
                )
                await asyncio.sleep(POLL_SECONDS)
            except Exception:
                log.exception("deliveries wait, the platform has a fault", agent=self._hello.agent)
                await asyncio.sleep(POLL_SECONDS)

    async def _deliver_some(self) -> float:
        """Sends what is there; returns the seconds to wait for the bell before the next look."""
        self._take_filled()
        if not self._unsent:
            if (wait := await self._patience()) > 0:
                return wait
            await self._deliveries.claim(self._prefetch)
            self._take_filled()
            if not self._unsent:
                return VAIN_SECONDS
        while self._unsent:
            # Otherwise it was given to another agent while an earlier one was sent.
            if self._unsent[0].fence in self._in_hand:
                await self._deliver_or_fail(self._unsent[0])
            # Not before: if the store fails, it is the first to be sent afterwards.
            self._unsent.popleft()
            self._forget_lost()
        ids = self._prefetch.subscription_ids
        # Rotated, so that a busy event type does not starve another.
        self._prefetch.subscription_ids = ids[1:] + ids[:1]
        return 0.0

    def _take_filled(self) -> None:
        """Accepts what the store has claimed for the agent since, and forgets what it has lost."""
        for one in self._prefetch.take():
            self._in_hand[one.fence] = one
            self._committer.holders.add(one.fence, self.held)
            self._unsent.append(one)
        self._forget_lost()

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Makes this connection the holder of what is in hand, and forgets it at the end."""
        for fence in self._in_hand:
            self._committer.holders.add(fence, self.held)
        try:
            yield
        finally:
            for fence in self._in_hand:
                self._committer.holders.remove(fence, self.held)

    def held(self, fence: str) -> Held | None:
        """Returns a delivery that this agent has in hand; None if it does not hold the fence."""
        claimed = self._in_hand.get(fence)
        if claimed is None:
            return None
        cause = cause_of(self._hello.agent, self._hello.instance, claimed.envelope)
        return Held(cause, Scope(claimed.tenant_id, claimed.user_id), self._family)

    def _forget_lost(self) -> None:
        for fence in self._prefetch.lost(self._in_hand):
            self._forget(fence)

    async def _patience(self) -> float:
        """Returns the seconds until time may make something ready; 0 or less if something is ready.

        Without room, only expiring leases count, such as that of a lost attempt of the agent's own,
        which frees its room.
        """
        ids = self._prefetch.subscription_ids if self._prefetch.room > 0 else []
        next_ready = await self._deliveries.next_ready(ids)
        return POLL_SECONDS if next_ready is None else min(POLL_SECONDS, next_ready)

    async def _deliver_or_fail(self, claimed: Claimed) -> None:
        """Delivers an event, or fails it if the platform cannot, so that others behind it go on."""
        try:
            await self._deliver(claimed)
        except SoormaError:
            raise
        except Exception as error:
            log.exception("event not delivered, the platform has a fault", agent=self._hello.agent)
            scope = Scope(claimed.tenant_id, claimed.user_id)
            reason = f"the platform could not deliver it ({type(error).__name__}); see its log"
            await self._committer.fail(scope, claimed.plan_id, claimed.fence, reason)
            self._forget(claimed.fence)

    async def _deliver(self, claimed: Claimed) -> None:
        handler = self._handlers.get(claimed.subscription_id)
        # Its subscription has ended, or the agent drains: its handler has not begun.
        if handler is None or self._draining:
            await self._deliveries.release([claimed.fence])
            self._forget(claimed.fence)
            return
        if claimed.suspect is not None and (reason := verdict(claimed.suspect)) is not None:
            await self._give_up(claimed, reason)
            return
        self._committer.metrics.groups.deliveries.add(self._hello.agent)
        event = msgspec.Raw(claimed.envelope.encode())
        plan = await self._plan_of(claimed)
        is_late = not handler.ended_plans and is_unwanted(
            claimed, plan, claimed.group_id, claimed.at
        )
        if is_late or is_discarded(claimed.type, claimed.position, plan):
            await self._discard(claimed)
            return
        lease = claimed.lease if claimed.lease < self._lease else None
        frame = Deliver(
            claimed.fence, claimed.attempt, handler, event, _snapshot(claimed), claimed.steps, lease
        )
        await self._send(frame)

    async def _give_up(self, claimed: Claimed, reason: str) -> None:
        """Makes a dead letter of an event that kills processes, without another attempt."""
        scope = Scope(claimed.tenant_id, claimed.user_id)
        with suppress(Fenced):  # the lease expired meanwhile: its new holder will do so
            await self._committer.fail(
                scope, claimed.plan_id, claimed.fence, reason, reject=True, unbegun=True
            )
        self._forget(claimed.fence)

    async def _plan_of(self, claimed: Claimed) -> PlanRow | None:
        """Returns the plan as of the claim, or as of now if it was cancelled since.

        Returns None without a plan.
        """
        if claimed.plan_id is None or claimed.plan is not None:
            return claimed.plan
        scope = Scope(claimed.tenant_id, claimed.user_id)
        return (await self._store.plans.get(scope, claimed.plan_id, set())).row

    async def _is_discarded(self, claimed: Claimed) -> bool:
        return is_discarded(claimed.type, claimed.position, await self._plan_of(claimed))

    async def _discard(self, claimed: Claimed) -> None:
        """Settles a delivery unhandled, as its plan has ended."""
        await self._committer.discard(Scope(claimed.tenant_id, claimed.user_id), claimed.fence)
        self._forget(claimed.fence)

    async def cancel(self, scope: Scope, plan_id: str) -> None:
        """Tells the agent which of its handlers need not go on, as their plan was cancelled."""
        key = (scope.tenant_id, scope.user_id, plan_id)
        fences = [one.fence for one in self._in_hand.values() if _plan_key(one) == key]
        for one in (*self._in_hand.values(), *self._prefetch.filled):
            if _plan_key(one) == key:
                # Of the time of the claim: if the event is still to be sent, its plan is read anew.
                one.plan = None
        if fences and self._is_welcome:  # else it is told after its welcome
            await self._send(CancelFrame(fences))

    async def _send(self, frame: Welcome | Deliver | Answer | CancelFrame | Goodbye) -> None:
        if self._socket.is_open:
            await self._socket.send(_encoder.encode(frame))

    # in

    async def _read(self, pump: asyncio.Task[None]) -> None:
        # Room for two frames of each handler and some more. Beyond that nothing is read from the
        # socket, so the agent waits.
        most = 2 * self._hello.max_concurrency + 16
        while not pump.done() and self._socket.is_open:
            try:
                frame = _frames.decode(compact(await self._socket.receive()))
            except Disconnected:
                return
            except (ValueError, KeyError, RecursionError) as error:
                refused = InvalidRequest(f"this is no frame of an agent: {error}")
                await self._send(Goodbye(to_problem(refused), PROTOCOL))
                await self._socket.close(1008)
                return
            if isinstance(frame, DrainFrame):
                await self._drain()
                continue
            while len(self._answering) >= most:
                await asyncio.wait(self._answering, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._answer(frame))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _drain(self) -> None:
        self._draining = True
        self._prefetch.subscription_ids = []
        # After a failure, its end may cost attempts; but it must not be kept from ending.
        with suppress(SoormaError):
            await self._groups.drain(self._replica)
            await self._groups.survey(self._membership.group_id)

    async def _answer(self, frame: AgentFrame) -> None:
        number = getattr(frame, "number", 0)
        try:
            body = await self._do(frame)
        except SoormaError as error:
            await self._send(Answer(number, problem=to_problem(error)))
        except (RecursionError, OverflowError) as error:
            refused = InvalidRequest(
                f"what the frame says is nested too deeply, or a number too large: {error}"
            )
            await self._send(Answer(number, problem=to_problem(refused)))
        except Exception as error:
            log.exception("frame failed", agent=self._hello.agent)
            fault = SoormaError(
                f"the platform has a fault here ({type(error).__name__}); see its log"
            )
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
                mine = [fence for fence in fences if fence in self._in_hand]
                await self._deliveries.release(mine)
                for fence in mine:
                    self._committer.reservations.release(fence)
                    self._forget(fence)
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
        body = _encoder.encode(commit)
        try:
            cause = await self._committer.holders.cause_of(commit.fence)
            # A delivery settled before needs no turn for its response.
            replica = self._replica if claimed else None
            done = await self._committer.commit(
                scope,
                commit,
                body=body,
                cause=cause,
                replica=replica,
                credential=self._principal.credential,
            )
        except PlanCancelled:
            await self._committer.discard(scope, commit.fence)
            self._forget(commit.fence)
            raise
        except Fenced:
            self._forget(commit.fence)
            raise
        self._forget(commit.fence)
        return msgspec.Raw(_encoder.encode(done))

    async def _fail(self, frame: FailFrame) -> None:
        claimed = self._in_hand.get(frame.fence)
        if claimed is None:
            self._committer.metrics.commits.fenced.add()
            log.warning(
                "failure fenced, its delivery was given to another agent",
                group=self._hello.agent,
                instance=self._hello.instance,
            )
            raise Fenced("this delivery was given to another agent before its failure was reported")
        scope = Scope(claimed.tenant_id, claimed.user_id)
        try:
            await self._committer.fail(
                scope,
                claimed.plan_id,
                frame.fence,
                frame.reason,
                after=frame.after,
                reject=frame.reject,
                defer=frame.defer,
                fail_plan=frame.fail_plan,
            )
        except Fenced:
            self._forget(frame.fence)
            raise
        # If the store failed, it is still held: the agent reports it again, or its lease expires.
        self._forget(frame.fence)

    async def _record_step(self, frame: StepFrame) -> None:
        claimed = self._in_hand.get(frame.fence)
        if claimed is None:
            raise Fenced("this delivery was given to another agent before its step was recorded")
        scope, result = Scope(claimed.tenant_id, claimed.user_id), bytes(frame.result).decode()
        try:
            await self._committer.record_step(
                scope, frame.fence, frame.name, frame.occurrence, result
            )
        except Fenced:
            self._forget(frame.fence)
            raise

    def _forget(self, fence: str) -> None:
        """Removes a delivery from those in hand, which frees its room."""
        if self._in_hand.pop(fence, None) is not None:
            self._committer.holders.remove(fence, self.held)
            self._prefetch.freed += 1
            # With room before, the pump waits for what becomes ready; without, it waits for this.
            if self._prefetch.room <= 1 or self._prefetch.has_suspect:
                self._bell.ring()


def _unserved_line(one: Unserved) -> str:
    events = "1 event waits" if one.waiting == 1 else f"{one.waiting} events wait"
    topic = "any topic" if one.topic == "*" else one.topic
    return (
        f"{events} for {one.type!r} on {topic}, which no connected agent of this group handles; "
        "start one that does, "
        f"or end the subscription with soorma events unsubscribe"
    )


def _plan_key(claimed: Claimed) -> tuple[str, str, str | None]:
    return claimed.tenant_id, claimed.user_id, claimed.plan_id


def _snapshot(claimed: Claimed) -> PlanSnapshot | None:
    if claimed.plan is None or claimed.entries is None:
        return None
    entries = {
        row.key: SnapshotEntry(
            row.revision, row.updated_at, row.expires_at, msgspec.Raw(row.value.encode())
        )
        for row in claimed.entries
    }
    return PlanSnapshot(
        claimed.plan.plan_id, claimed.plan.revision, entries, claimed.plan.life(claimed.at)
    )
