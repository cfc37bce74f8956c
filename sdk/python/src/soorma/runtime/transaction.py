"""A handler's transaction: one attempt at an event, whose commit settles its delivery."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol
from uuid import UUID, uuid5

from msgspec.structs import replace

from soorma.bus import scope_of, trace_of
from soorma.memory.transactions import Transaction
from soorma_common.errors import InvalidRequest
from soorma_common.events import Envelope, Event, encode_envelope
from soorma_common.memory import Commit
from soorma_common.names import Scope
from soorma_common.operations import AnyOperation, Join
from soorma_common.values import encode

in_step: ContextVar[str | None] = ContextVar("soorma_in_step", default=None)
"""The step whose function this code belongs to, also in a thread."""

_REQUESTS = UUID("0f2b7c1e-3a55-4f0e-8d39-6c8c2f1d7b40")


class Results(Protocol):
    """The recorded results of a delivery's steps, as JSON text."""

    def find(self, name: str, occurrence: int) -> str | None:
        """The recorded result, None if there is none."""
        ...

    async def keep(self, name: str, occurrence: int, text: str) -> str:
        """Records a result durably and returns it."""
        ...


class HandlerTransaction(Transaction):
    """One attempt of a handler, in the scope of its event: its commit settles the delivery."""

    def __init__(self, event: Event, fence: str, group: str, results: Results, **how: Any) -> None:
        super().__init__(Scope(event["tenant_id"], event["user_id"]), agent_id=group, **how)
        self._results = results
        self._event = event
        self._fence = fence
        self._group = group
        self._asked: Counter[str] = Counter()
        self._has_returned = False

    def commit(self) -> Commit:
        """The commit of the attempt, which also settles its delivery."""
        return replace(super().commit(), fence=self._fence)

    async def request(
        self, event: Envelope, response_of: Callable[[Envelope], Awaitable[Event]]
    ) -> Event:
        """Makes a request as a step, under an id derived from the delivery and the request.

        Thus parallel tasks that make requests each get their own response, in whatever order they
        run in a later attempt.
        """
        self.check(scope_of(event))
        event.trace_id = self._event.trace_id or trace_of(str(self._event.id))
        event.id = event.correlation_id = ""
        content = hashlib.blake2b(encode_envelope(event).encode(), digest_size=16).hexdigest()
        # The function of a step makes its request again in each try, but not in later attempts.
        content += in_step.get() or ""
        self._asked[content] += 1
        name = f"{self._group}\0{self._event.id}\0{self._asked[content]}\0{content}"
        event.id = event.correlation_id = str(uuid5(_REQUESTS, name))
        step = f"request {event.id}"
        text = self._results.find(step, 1)
        if text is None:
            response = await self._outbox.request(event, response_of)
            self.check(self.scope)
            text = await self._results.keep(step, 1, encode(dict(response)))
        return Event.from_json(text)

    def returned(self) -> None:
        """Notes that the handler returned or failed: until `end`, only functions of steps go on."""
        self._has_returned = True

    @property
    def _is_over(self) -> bool:
        return self._ended or (self._has_returned and in_step.get() is None)

    def _check_may_change(self) -> None:
        if (step := in_step.get()) is not None:
            raise InvalidRequest(
                f"step {step!r}: a step's function changes nothing through the handler's context, "
                "because "
                "a later attempt gets its result without running it; do it after the step, with "
                "what the step has "
                "returned, or at once, through context.immediate"
            )

    def _arrival(self, operation: AnyOperation) -> AnyOperation:
        if isinstance(operation, Join) and not operation.arrival:
            return replace(operation, arrival=str(self._event.id))
        return operation

    @property
    def _what(self) -> str:
        return f"the handler of event {self._event.get('type')!r}, with its context,"
