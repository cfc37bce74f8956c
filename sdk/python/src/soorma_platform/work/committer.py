"""The path of a commit: checked here, decided in the engine, written by the store."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import msgspec

from soorma_common.causes import NOBODY, Cause
from soorma_common.episodic import LogInteraction
from soorma_common.errors import Conflict, Fenced, InvalidPayload
from soorma_common.events import Envelope, decode_envelope
from soorma_common.limits import Limits
from soorma_common.memory import Commit, Committed
from soorma_common.names import Scope
from soorma_common.operations import Cleanup, Join, KeyOperation
from soorma_common.procedural import StoreProcedure
from soorma_common.semantic import StoreKnowledge
from soorma_platform.engine.checks import check_commit
from soorma_platform.engine.commits import KEPT, ApplyCommit, CommitOutcome, check_reads
from soorma_platform.engine.deliveries import (
    Became,
    DiscardDelivery,
    FailDelivery,
    FailureOutcome,
)
from soorma_platform.engine.quotas import CountUsage, StoredQuota
from soorma_platform.engine.rows.audit_log import Author
from soorma_platform.engine.rows.deliveries import DeliveryRow
from soorma_platform.engine.steps import RecordStep
from soorma_platform.identity import Principal
from soorma_platform.identity.credentials import Credential
from soorma_platform.identity.traffic import Traffic
from soorma_platform.logs import Log
from soorma_platform.metrics import Metrics
from soorma_platform.stores.ports import Store
from soorma_platform.work.holders import Holders
from soorma_platform.work.payloads import PayloadCheck
from soorma_platform.work.reservations import RESERVED_SECONDS, Reservations, ReservedKey
from soorma_platform.work.secrets import SecretDoor

FreshEntry: TypeAlias = tuple[str, str, int, int, int | None, str | None]
"""A key after a conflict: plan, name, revision, two times in ms, and value as JSON text.

The times are those of its last write and of its expiry. If the key is missing, its revision and
first time are 0, the rest is None.
"""

DAY = 24 * 3600 * 1000
TURN_SECONDS = 0.01
"""Time for which a commit is checked before others get a turn."""
LARGE_BODY = 128 * 1024
"""Bytes of a body that are checked in turns, and hashed in a thread: a millisecond of each."""
LARGE_TEXT = 32 * 1024
"""Characters of passages that are tokenized in about a millisecond."""
SDK_KEY = "sdk:"
"""The prefix of the SDK's idempotency keys.

Their responses are stored for minutes, those of a caller's own keys for a day.
"""

FRESH_CHARACTERS, MOST_FRESH = 16_384, 32
"""Bounds of the values returned with a conflict: the length of each, and their number."""

_IN_SPITE = (
    "; it was reserved for this handler, so it was changed by a call from outside of handlers, by "
    "a blind operation or "
    "by the answer to a request, which wait for nobody: let them change another key, or use "
    "isolation='writes'"
)

_ID_BYTES = 16

log = Log("soorma.commits")


def _new_id() -> str:
    return str(uuid4())


class _NewIds:
    """Makes ids for a command of many parts.

    Their random bits are asked for together: each time, another thread can take the interpreter,
    and keeps it for milliseconds.
    """

    def __init__(self, count: int) -> None:
        self._bits, self._used = os.urandom(_ID_BYTES * count), 0

    def __call__(self) -> str:
        bits = self._bits[self._used : self._used + _ID_BYTES]
        self._used += _ID_BYTES
        return str(UUID(bytes=bits, version=4))


def _fingerprint(body: bytes) -> str:
    """Returns a short text that only equal bodies share."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


async def _known_by(body: bytes) -> str:
    """Returns the fingerprint of a body; of a large one in a thread, as hashing shares the lock."""
    if len(body) > LARGE_BODY:
        return await asyncio.to_thread(_fingerprint, body)
    return _fingerprint(body)


class Committer:
    """The part that applies commits and failures to a store, and counts and logs the results."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        payloads: PayloadCheck,
        metrics: Metrics,
        secrets: SecretDoor | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self._store = store
        self._payloads = payloads
        self.secrets = secrets or SecretDoor("keep", (), metrics)
        self.limits = limits
        self.metrics = metrics
        self.holders = Holders(store.deliveries)
        self.reservations = Reservations(self.metrics)
        self._traffic = traffic or Traffic()
        quotas = self._traffic.quotas
        self._quota = (
            StoredQuota(quotas.plans, quotas.stored_bytes)
            if quotas.plans or quotas.stored_bytes
            else None
        )

    async def open(self) -> None:
        """Lets the store count what tenants have stored, if there are quotas of that."""
        if self._quota is not None:
            await self._store.transact(CountUsage())

    async def commit_request(
        self,
        principal: Principal,
        scope: Scope,
        commit: Commit,
        body: bytes,
        key: str | None,
        *,
        awaited: bool = False,
    ) -> Committed:
        """Applies the commit of a request. In a handler, the fence identifies the sender."""
        under, credential = principal.fence, principal.credential
        fence = commit.fence or under
        if credential is not None and fence != under:
            # The door has checked the one in the header; another one may be anybody's.
            raise Fenced("a fence is sent in its header, not in the body")
        cause = NOBODY if fence is None else await self.holders.cause_of(fence)
        return await self.commit(
            scope,
            commit,
            body=body,
            key=key,
            cause=cause,
            under=under,
            awaited=awaited,
            credential=credential,
            author=principal.author if fence is None else None,
        )

    async def commit(
        self,
        scope: Scope,
        commit: Commit,
        *,
        body: bytes,
        key: str | None = None,
        cause: Cause = NOBODY,
        under: str | None = None,
        awaited: bool = False,
        replica: str | None = None,
        credential: Credential | None = None,
        author: Author | None = None,
    ) -> Committed:
        """Decides and writes a commit.

        `body` distinguishes it from others under the same idempotency key; a large one is checked
        in slices between which others get a turn. `cause` is its author and event, as the platform
        knows them.

        A commit made `under` the fence of a delivery does not settle it, and is refused with Fenced
        once the delivery is in other hands. With `awaited` it publishes a request whose sender
        waits for the response. A handler's commit names the `replica` it runs in, and takes turns
        with others at contended keys. By the `credential` of an agent, a handler publishes no other
        events than that permits. The audit says what an `author` outside of handlers has removed.

        Raises TooManyRequests, with nothing done, if its tenant has published too many events.
        """
        is_repeatable = commit.fence is not None or key is not None
        if len(body) > LARGE_BODY:
            await asyncio.sleep(0)  # decoding it took a turn
            await self._check_in_turns(commit)
        else:
            for _ in check_commit(commit, self.limits):
                pass
        if redacted := await self.secrets.check(scope, commit.memories, len(body), self.limits):
            # Not even a hash of a secret is stored: a card's number could be guessed from it.
            body = msgspec.json.encode(commit)
        known_by = await _known_by(body) if is_repeatable else ""
        is_callers = key is not None and not key.startswith(SDK_KEY)
        command = ApplyCommit(
            scope,
            commit,
            known_by,
            key,
            DAY if is_callers else KEPT,
            limits=self.limits,
            awaited=awaited,
            cause=cause,
            under=under,
            shown=None if credential is None else credential.need,
            author=author,
            quota=self._quota,
        )
        command.prepare(_new_id)
        if commit.memories:
            await self._prepare_memories(command)
        if events := command.events():
            if credential is not None and command.is_by_handler:
                for event in events:
                    credential.check_publish(event.type, event.topic)
            await self._check_payloads(scope, events)
            self._traffic.publish(scope.tenant_id, len(events))
        committed = await (
            self._apply(command) if replica is None else self._apply_in_turn(command, replica)
        )
        if redacted:
            kinds = ", ".join(dict.fromkeys(redacted))
            log.info("secrets redacted in memories", kinds=kinds, **_of_commit(command))
        return committed

    async def _prepare_memories(self, command: ApplyCommit) -> None:
        """Tokenizes passages; many at once in a thread, as a mebibyte takes tens of ms."""
        new_id = _NewIds(1 + len(command.commit.memories))
        size = sum(
            len(one.content)
            for one in command.commit.memories
            if isinstance(one, StoreKnowledge | LogInteraction | StoreProcedure)
        )
        if size > LARGE_TEXT:
            await asyncio.to_thread(command.prepare_memories, new_id)
        else:
            command.prepare_memories(new_id)

    async def _check_payloads(self, scope: Scope, events: list[Envelope]) -> None:
        try:
            await self._payloads.check(scope.tenant_id, events)
        except InvalidPayload:
            self.metrics.commits.payloads_refused.add()
            raise

    async def _check_in_turns(self, commit: Commit) -> None:
        """Checks a large commit, and gives others a turn in between."""
        since = time.monotonic()
        for _ in check_commit(commit, self.limits):
            if time.monotonic() - since > TURN_SECONDS:
                await asyncio.sleep(0)
                since = time.monotonic()

    async def _apply_in_turn(self, command: ApplyCommit, replica: str) -> Committed:
        """Applies a handler's commit when nobody else has reserved what it changes.

        After a conflict, the error is raised once the handler holds the keys in conflict, so that
        it runs again undisturbed.
        """
        reservations, fence, cause = self.reservations, command.commit.fence or "", command.cause
        has_turn: bool | None = None
        try:
            if reservations and (changed := _changed(command)):
                is_asked = reservations.would_wait_for_itself(fence, cause, changed)
                if not is_asked:
                    has_turn = await reservations.await_turn(
                        fence, replica, changed, cause.trace_id
                    )
                if has_turn:
                    await self._check_reads(command)
            committed = await self._apply(command)
        except Conflict as conflict:
            stale = [ReservedKey(command.scope, *key) for key in conflict.details.pop("stale", ())]
            if (
                not stale
                or has_turn is False
                or reservations.would_wait_for_itself(fence, cause, stale)
            ):
                raise
            was_reserved = reservations.holds(fence, stale)
            if await reservations.reserve(fence, replica, stale, cause.trace_id):
                conflict.details["reserved_seconds"] = RESERVED_SECONDS
                conflict.details["fresh"] = await self._fresh(command.scope, stale)
            if was_reserved:
                raise Conflict(
                    f"{conflict.message}{_IN_SPITE}", **conflict.details, was_reserved=True
                ) from conflict
            raise
        except BaseException:
            reservations.release(fence)
            raise
        reservations.release(fence)
        return committed

    async def _check_reads(self, command: ApplyCommit) -> None:
        """Raises Conflict if an earlier turn has changed what a commit relies on.

        Such a commit need not be decided.
        """
        plans = {
            part.plan_id: await self._store.plans.get(command.scope, part.plan_id, set(part.reads))
            for part in command.commit.plans
        }
        try:
            check_reads(command.commit, plans, self.limits)
        except Conflict:
            self.metrics.commits.conflicts.add("handler")
            raise

    async def _fresh(self, scope: Scope, keys: list[ReservedKey]) -> list[FreshEntry]:
        """Returns the current small values of these keys, which spares the next run requests."""
        found: list[FreshEntry] = []
        for plan_id in {key.plan_id for key in keys}:
            names = {key.key for key in keys if key.plan_id == plan_id}
            entries = (await self._store.plans.get(scope, plan_id, names)).entries
            for key in names:
                row = entries.get(key)
                if row is None:
                    found.append((plan_id, key, 0, 0, None, None))
                elif len(row.value) <= FRESH_CHARACTERS:
                    found.append(
                        (plan_id, key, row.revision, row.updated_at, row.expires_at, row.value)
                    )
        return found[:MOST_FRESH]

    async def _apply(self, command: ApplyCommit) -> Committed:
        source = "http" if command.commit.fence is None else "handler"
        try:
            outcome = await self._transact(command)
        except Conflict:
            self.metrics.commits.conflicts.add(source)
            raise
        except Fenced:
            self.metrics.commits.fenced.add()
            log.warning("commit fenced, nothing of it was written", **_of_commit(command))
            raise
        if not outcome.is_replay:
            self.metrics.commits.made.add(source)
            self._count_published(outcome.topics)
            for done in outcome.committed.memories or ():
                self.metrics.memories.stored.add(done.outcome)
        return outcome.committed

    async def _transact(self, command: ApplyCommit) -> CommitOutcome:
        # Only here: whoever waits for a reservation must not keep out those who hold it.
        share = self._traffic.commits.of(command.scope.tenant_id)
        if share is None:
            return await self._store.transact(command)
        async with share:
            # A disk that stalls for a moment must not stop the requests of other tenants.
            return await self._store.transact(command, aside=True)

    def _count_published(self, topics: list[str]) -> None:
        for topic in topics:
            self.metrics.commits.published.add(topic)

    async def fail(
        self,
        scope: Scope,
        plan_id: str | None,
        fence: str,
        reason: str,
        *,
        after: float | None = None,
        reject: bool = False,
        defer: bool = False,
        unbegun: bool = False,
        fail_plan: bool = False,
    ) -> None:
        """Reports a failed attempt: its event is retried or becomes a dead letter."""
        command = FailDelivery(
            scope,
            plan_id,
            fence,
            reason,
            draw=random.uniform(-1, 1),  # noqa: S311 - spreads retries, guards nothing
            dead_letter_id=_new_id(),
            ending_id=_new_id(),
            after=after,
            reject=reject,
            defer=defer,
            unbegun=unbegun,
            fail_plan=fail_plan,
            limits=self.limits,
        )
        self.reservations.release(fence)
        try:
            outcome = await self._store.transact(command)
        except Fenced:
            self.metrics.commits.fenced.add()
            log.warning(
                "failure fenced, its delivery was given to another agent", **_of(scope, plan_id)
            )
            raise
        self._count_published(outcome.topics)
        self._note_failure(outcome)

    async def record_step(
        self, scope: Scope, fence: str, name: str, occurrence: int, result: str
    ) -> None:
        """Records the result of a step, as JSON text, for later attempts of its event."""
        command = RecordStep(scope, fence, name, occurrence, result, limits=self.limits)
        try:
            await self._store.transact(command)
        except Fenced:
            self.metrics.commits.fenced.add()
            self.reservations.release(fence)
            raise

    async def discard(self, scope: Scope, fence: str) -> None:
        """Settles a delivery unhandled, as its plan has ended."""
        self.reservations.release(fence)
        row = await self._store.transact(DiscardDelivery(scope, fence))
        if row is not None:
            self.metrics.groups.discarded.add(row.group)
            log.info("event dropped, its plan has ended", **_of_delivery(row))

    def _note_failure(self, outcome: FailureOutcome) -> None:
        """Counts and logs a failure, without its reason, which may hold data of the event."""
        row = outcome.delivery
        match outcome.became:
            case Became.DEFERRED:
                log.info("event deferred, it is delivered again", **_of_delivery(row))
            case Became.RETRIED:
                self.metrics.groups.retries.add(row.group)
                log.info("attempt failed, the event is delivered again", **_of_delivery(row))
            case Became.DEAD_LETTER:
                self.metrics.groups.dead_letters.add(row.group)
                log.warning("event given up, it is a dead letter now", **_of_delivery(row))
            case Became.DISCARDED:
                pass


def _changed(command: ApplyCommit) -> list[ReservedKey]:
    """Returns the keys whose change by this commit would make others run again in vain."""
    found = []
    for part in command.commit.plans:
        keys = {
            one.key
            for one in part.operations
            if isinstance(one, KeyOperation) and not _is_blind(one, part.reads)
        }
        if any(isinstance(one, Cleanup) for one in part.operations):
            keys.update(part.reads)
        found += [ReservedKey(command.scope, part.plan_id, key) for key in keys]
    return found


def _is_blind(operation: KeyOperation, reads: dict[str, int]) -> bool:
    """Returns True if the handler knows nothing of the key, or only whether a join is complete."""
    return operation.key not in reads and (operation.blind or isinstance(operation, Join))


def _of(scope: Scope, plan_id: str | None) -> dict[str, Any]:
    return {"tenant_id": scope.tenant_id, "user_id": scope.user_id, "plan_id": plan_id}


def _of_commit(command: ApplyCommit) -> dict[str, Any]:
    plans, cause = command.commit.plans, command.cause
    return {
        **_of(command.scope, plans[0].plan_id if plans else None),
        "group": cause.actor,
        "instance": cause.instance,
        "event_id": cause.event_id,
        "correlation_id": cause.correlation_id,
        "trace_id": cause.trace_id,
    }


def _of_delivery(row: DeliveryRow) -> dict[str, Any]:
    event = decode_envelope(row.envelope)
    return {
        **_of(Scope(row.tenant_id, row.user_id), row.plan_id),
        "group": row.group,
        "event_id": row.event_id,
        "event_type": event.type,
        "attempt": row.attempt,
        "failures": row.failures,
        "deaths": row.deaths,
        "correlation_id": event.correlation_id,
        "trace_id": event.trace_id,
    }
