"""Access to a user's memories, and those on the platform; `collected` has a transaction's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from soorma.transport.calls import Caller, segment
from soorma_common.episodic import (
    History,
    LogInteraction,
    Said,
    SaidHits,
    SaidSearch,
    SessionInfo,
)
from soorma_common.errors import InvalidRequest, NotFound
from soorma_common.likeness import AlikeBody, AlikePassage, AlikePassages
from soorma_common.memories import AnyMemoryOperation
from soorma_common.memory import Commit, Committed
from soorma_common.names import Scope, check_name
from soorma_common.procedural import (
    ProcedureHits,
    ProcedureVersion,
    RelevantBody,
    StoreProcedure,
    UseProcedure,
)
from soorma_common.semantic import (
    Hits,
    MemoryDone,
    Passage,
    PassagePage,
    SearchBody,
    StoreKnowledge,
)

_committed = msgspec.json.Decoder(Committed)
_passage = msgspec.json.Decoder(Passage)
_hits = msgspec.json.Decoder(Hits)
_history = msgspec.json.Decoder(History)
_alike = msgspec.json.Decoder(AlikePassages)
_said = msgspec.json.Decoder(Said)
_session = msgspec.json.Decoder(SessionInfo)
_said_hits = msgspec.json.Decoder(SaidHits)
_procedure_hits = msgspec.json.Decoder(ProcedureHits)
_version = msgspec.json.Decoder(ProcedureVersion)
page_decoder = msgspec.json.Decoder(PassagePage)
_OF_PLANS = (StoreKnowledge, LogInteraction, StoreProcedure, UseProcedure)


class PassageName(NamedTuple):
    """What a passage is known by, if not by its id."""

    external_id: str | None = None
    subject: str | None = None
    attribute: str | None = None

    def checked(self) -> PassageName:
        """Returns it; raises InvalidRequest or InvalidName if it names no single passage."""
        pair = (self.subject, self.attribute)
        is_pair = None not in pair
        if is_pair is (self.external_id is not None) or (not is_pair and pair != (None, None)):
            raise InvalidRequest(
                "a passage is named by its id, by external_id, or by subject and attribute"
            )
        for what, name in self._asdict().items():
            if name is not None:
                check_name(what, name)
        return self

    def is_of(self, one: Passage | StoreKnowledge) -> bool:
        """Returns whether it is a name of this passage."""
        if self.external_id is not None:
            return one.external_id == self.external_id
        return (one.subject, one.attribute) == (self.subject, self.attribute)

    def __str__(self) -> str:
        if self.external_id is not None:
            return f"of the external id {self.external_id!r}"
        return f"about {self.attribute!r} of {self.subject!r}"


class Memories(Protocol):
    """A user's memories: those on the platform, or as a transaction sees them.

    `fence` is that of the delivery in whose handler calls are made that take effect at once.
    """

    @property
    def fence(self) -> str | None: ...

    async def change(self, scope: Scope, operations: list[AnyMemoryOperation]) -> list[MemoryDone]:
        """Applies operations, all or none; returns a result for each."""
        ...

    async def passage(self, scope: Scope, passage_id: str) -> Passage:
        """Returns a passage; NotFound if there is none."""
        ...

    async def named(self, scope: Scope, name: PassageName) -> Passage:
        """Returns the passage of a name that is true now; NotFound if there is none."""
        ...

    async def search(self, scope: Scope, body: SearchBody) -> Hits:
        """Returns the best passages for a query."""
        ...

    async def alike(self, scope: Scope, body: AlikeBody) -> list[AlikePassage]:
        """Returns passages that seem to state the same as a text."""
        ...

    async def interaction(self, scope: Scope, interaction_id: str) -> Said:
        """Returns an interaction; NotFound if there is none."""
        ...

    async def session(self, scope: Scope, session_id: str) -> SessionInfo:
        """Returns a session; NotFound if there is none."""
        ...

    async def history(
        self,
        scope: Scope,
        *,
        session_id: str | None,
        agent_id: str | None,
        before: int | None,
        limit: int,
        max_tokens: int | None,
    ) -> History:
        """Returns the newest interactions, in the order in which they happened."""
        ...

    async def search_said(self, scope: Scope, body: SaidSearch) -> SaidHits:
        """Returns the best interactions for a query."""
        ...

    async def procedure(
        self, scope: Scope, kind: str, name: str, whose: str, version: int | None
    ) -> ProcedureVersion:
        """Returns a version of a procedure, the active one without a number."""
        ...

    async def procedures(self, scope: Scope, body: RelevantBody) -> ProcedureHits:
        """Returns the active procedures that apply and are about a context."""
        ...


class PlatformMemories:
    """The memories on the platform; what is stored comes from this plan and session.

    `check` raises an error for a scope that may not be used. `fence` is that of the delivery in
    whose handler the calls are made.
    """

    def __init__(
        self,
        caller: Caller,
        check: Callable[[Scope], None] = lambda _: None,
        fence: str | None = None,
        plan_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        self._caller = caller
        self._check = check
        self.fence = fence
        self.plan_id = plan_id
        self._session_id = session_id

    def fill_in(self, operations: list[AnyMemoryOperation]) -> None:
        """Names the plan and session that operations come from, unless they name others."""
        for operation in operations:
            if isinstance(operation, _OF_PLANS):
                operation.plan_id = operation.plan_id or self.plan_id
            if isinstance(operation, LogInteraction):
                operation.session_id = operation.session_id or self._session_id

    async def change(self, scope: Scope, operations: list[AnyMemoryOperation]) -> list[MemoryDone]:
        self._check(scope)
        self.fill_in(operations)
        body = msgspec.json.encode(Commit(memories=operations))
        done = await self._caller.call(
            "memory", "POST", "/v1/memory/commit", scope=scope, body=body, fence=self.fence
        )
        return _committed.decode(done).memories or []

    async def passage(self, scope: Scope, passage_id: str) -> Passage:
        self._check(scope)
        path = f"/v1/memory/semantic/{segment(passage_id)}"
        return await self._caller.get("memory", path, scope, _passage)

    async def named(self, scope: Scope, name: PassageName) -> Passage:
        self._check(scope)
        for public in (None, "true"):
            page = await self._caller.get(
                "memory", "/v1/memory/semantic", scope, page_decoder, public=public, as_of="now",
                **name._asdict(),
            )  # fmt: skip
            if page.passages:
                return page.passages[-1]
        raise NotFound(f"there is no passage {name} that is true now")

    async def search(self, scope: Scope, body: SearchBody) -> Hits:
        return _hits.decode(await self._found(scope, "/v1/memory/semantic/search", body))

    async def alike(self, scope: Scope, body: AlikeBody) -> list[AlikePassage]:
        found = await self._found(scope, "/v1/memory/semantic/alike", body)
        return _alike.decode(found).alike

    async def _found(
        self, scope: Scope, path: str, body: SearchBody | SaidSearch | RelevantBody | AlikeBody
    ) -> bytes:
        self._check(scope)
        return await self._caller.call(
            "memory",
            "POST",
            path,
            scope=scope,
            body=msgspec.json.encode(body),
            patience=body.wait or 0.0,
        )

    async def interaction(self, scope: Scope, interaction_id: str) -> Said:
        self._check(scope)
        path = f"/v1/memory/episodic/{segment(interaction_id)}"
        return await self._caller.get("memory", path, scope, _said)

    async def session(self, scope: Scope, session_id: str) -> SessionInfo:
        self._check(scope)
        path = f"/v1/memory/sessions/{segment(session_id)}"
        return await self._caller.get("memory", path, scope, _session)

    async def history(
        self,
        scope: Scope,
        *,
        session_id: str | None,
        agent_id: str | None,
        before: int | None,
        limit: int,
        max_tokens: int | None,
    ) -> History:
        self._check(scope)
        return await self._caller.get(
            "memory",
            "/v1/memory/episodic",
            scope,
            _history,
            session_id=session_id,
            agent_id=agent_id,
            before=before,
            limit=limit,
            max_tokens=max_tokens,
        )

    async def search_said(self, scope: Scope, body: SaidSearch) -> SaidHits:
        return _said_hits.decode(await self._found(scope, "/v1/memory/episodic/search", body))

    async def procedure(
        self, scope: Scope, kind: str, name: str, whose: str, version: int | None
    ) -> ProcedureVersion:
        self._check(scope)
        path = f"/v1/memory/procedural/{segment(kind)}/{segment(name)}"
        return await self._caller.get("memory", path, scope, _version, whose=whose, version=version)

    async def procedures(self, scope: Scope, body: RelevantBody) -> ProcedureHits:
        found = await self._found(scope, "/v1/memory/procedural/relevant", body)
        return _procedure_hits.decode(found)
