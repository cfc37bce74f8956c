"""A user's memories as a transaction sees them: what it changes is committed with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from soorma.memory import uncommitted
from soorma.memory.memories import PassageName, PlatformMemories
from soorma.memory.recalled import Recalled
from soorma_common.episodic import (
    History,
    Interaction,
    LogInteraction,
    NameSession,
    Said,
    SaidHits,
    SaidSearch,
    SessionInfo,
    within,
)
from soorma_common.errors import NotFound
from soorma_common.likeness import AlikeBody, AlikePassage
from soorma_common.limits import Limits
from soorma_common.memories import AnyMemoryOperation, check_memories
from soorma_common.names import Scope
from soorma_common.procedural import (
    ActivateProcedure,
    CountOutcome,
    ProcedureHits,
    ProcedureVersion,
    RelevantBody,
    RetireProcedure,
    RollBackProcedure,
    StoreProcedure,
    UseProcedure,
    VersionInfo,
)
from soorma_common.semantic import (
    AnyKnowledgeOperation,
    ForgetKnowledge,
    Hits,
    MemoryDone,
    Passage,
    PublishKnowledge,
    SearchBody,
    StoreKnowledge,
    UpdateKnowledge,
    tokens_in,
)


class CollectedMemories:
    """The memories as a transaction sees them; what it changes is committed with it.

    A passage that was read is checked at the commit, a search is not. `check` raises an error once
    the transaction has ended and for another scope, `check_change` where nothing may be changed.
    `agent_id` is the handler's agent, to whom its interactions belong.
    """

    def __init__(
        self,
        platform: PlatformMemories,
        limits: Limits,
        check: Callable[[Scope], None],
        check_change: Callable[[], None],
        agent_id: str | None = None,
    ) -> None:
        self._platform = platform
        self._limits = limits
        self._check = check
        self._check_change = check_change
        self._agent_id = agent_id
        self.fence = None
        self.operations: list[AnyMemoryOperation] = []
        self.reads: dict[str, int] = {}
        """passages that were read, with their revisions (0: missing)"""
        self._recalled = Recalled()

    async def change(self, scope: Scope, operations: list[AnyMemoryOperation]) -> list[MemoryDone]:
        self._check(scope)
        self._check_change()
        self._platform.fill_in(operations)
        for operation in operations:
            operation.id = operation.id or str(uuid4())
            if isinstance(operation, StoreKnowledge):
                self._recalled.recognise(operation)
            elif isinstance(operation, ForgetKnowledge):
                self._recalled.let_go(operation.id, [*self.operations, *operations])
        together = [*self.operations, *operations]
        self._check_size(together)
        self.operations = together
        return [
            MemoryDone("" if isinstance(one, NameSession) else one.id or "", _outcome(one))
            for one in operations
        ]

    @property
    def changes(self) -> bool:
        """True if anything is changed; that a plan has used a procedure changes nothing."""
        return any(not isinstance(one, UseProcedure) for one in self.operations)

    def _check_size(self, operations: list[AnyMemoryOperation]) -> None:
        count = len(operations) + len(self.reads)
        self._limits.check(
            "memory_operations", count, "the number of passages stored, changed or relied on"
        )
        for _ in check_memories(operations, self._limits):
            pass

    async def passage(self, scope: Scope, passage_id: str) -> Passage:
        self._check(scope)
        passage, since = None, 0
        for number, operation in enumerate(self.operations, 1):
            if isinstance(operation, StoreKnowledge) and operation.id == passage_id:
                passage, since = uncommitted.passage(operation, self._agent_id), number
        if passage is None:
            passage = await self._read(scope, passage_id)
            self._check(scope)
        for operation in self.operations[since:]:
            if operation.id == passage_id and isinstance(operation, ForgetKnowledge):
                raise NotFound(f"passage {passage_id!r} was forgotten in this transaction")
            passage = uncommitted.after(passage, operation, self._agent_id)
        self._recalled.note_passage(passage)
        return passage

    async def named(self, scope: Scope, name: PassageName) -> Passage:
        self._check(scope)
        try:
            found: Passage | None = await self._platform.named(scope, name)
        except NotFound:
            found = None
        self._check(scope)
        if found is not None:
            self.reads.setdefault(found.id, found.revision)
        now = datetime.now(UTC)
        for operation in self.operations:
            if found is not None and not uncommitted.is_left(found, operation, self._agent_id, now):
                found = None
            elif found is not None:
                found = uncommitted.after(found, operation, self._agent_id)
            if isinstance(operation, StoreKnowledge) and name.is_of(operation):
                stored = uncommitted.passage(operation, self._agent_id)
                found = uncommitted.later_of(found, stored, now)
        if found is None:
            raise NotFound(f"there is no passage {name} that is true now")
        self._recalled.note_passage(found)
        return found

    async def _read(self, scope: Scope, passage_id: str) -> Passage:
        try:
            passage = await self._platform.passage(scope, passage_id)
        except NotFound:
            self.reads.setdefault(passage_id, 0)
            raise
        self.reads.setdefault(passage_id, passage.revision)  # the first read counts
        return passage

    async def search(self, scope: Scope, body: SearchBody) -> Hits:
        self._check(scope)
        own = [one for one in self.operations if isinstance(one, AnyKnowledgeOperation)]
        found = await self._platform.search(scope, replace(body, own=own))
        self._check(scope)
        for hit in reversed(found.hits):  # the best ones are kept longest
            self._recalled.note_passage(hit)
        return found

    async def alike(self, scope: Scope, body: AlikeBody) -> list[AlikePassage]:
        self._check(scope)
        found = await self._platform.alike(scope, body)
        self._check(scope)
        return found

    async def interaction(self, scope: Scope, interaction_id: str) -> Said:
        self._check(scope)
        for one in self._logged():
            if one.id == interaction_id:
                return uncommitted.said(one, self._agent_id)
        found = await self._platform.interaction(scope, interaction_id)
        self._check(scope)
        self._recalled.note(found.id, found.content)
        return found

    async def session(self, scope: Scope, session_id: str) -> SessionInfo:
        self._check(scope)
        before, missing = None, None
        try:
            before = await self._platform.session(scope, session_id)
        except NotFound as error:
            missing = error
        self._check(scope)
        found = uncommitted.session(before, session_id, self.operations)
        if found is None:
            raise missing or NotFound(f"there is no session {session_id!r}")
        return found

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
        own = [
            uncommitted.said(one, self._agent_id)
            for one in reversed(self._logged())
            if session_id in (None, one.session_id)
            and agent_id in (None, self._agent_id or one.agent_id)
        ]
        if before is not None:  # what is not committed yet is the newest
            own = []
        kept = within(own[:limit], max_tokens)
        if len(kept) < len(own) or len(kept) == limit:
            return History(kept[::-1])
        left = (
            None if max_tokens is None else max_tokens - sum(tokens_in(one.content) for one in kept)
        )
        if left is not None and left < 1:
            return History(kept[::-1])
        older = await self._platform.history(
            scope,
            session_id=session_id,
            agent_id=agent_id,
            before=before,
            limit=limit - len(kept),
            max_tokens=left,
        )
        self._check(scope)
        for said in older.interactions:
            self._recalled.note(said.id, said.content)
        return History([*older.interactions, *kept[::-1]], older.next)

    async def search_said(self, scope: Scope, body: SaidSearch) -> SaidHits:
        self._check(scope)
        own = [
            Interaction(
                **msgspec.structs.asdict(replace(one, agent_id=self._agent_id or one.agent_id))
            )
            for one in self._logged()
        ]
        found = await self._platform.search_said(scope, replace(body, own=own))
        self._check(scope)
        for hit in reversed(found.hits):
            self._recalled.note(hit.id, hit.content)
        return found

    async def procedure(
        self, scope: Scope, kind: str, name: str, whose: str, version: int | None
    ) -> ProcedureVersion:
        self._check(scope)
        found = await self._platform.procedure(scope, kind, name, whose, version)
        self._check(scope)
        self._use([found])
        return found

    async def procedures(self, scope: Scope, body: RelevantBody) -> ProcedureHits:
        self._check(scope)
        found = await self._platform.procedures(scope, body)
        self._check(scope)
        self._use(found)
        return found

    def _use(self, versions: Iterable[VersionInfo]) -> None:
        """Notes that the plan has used versions, each once: how it ends is counted for them."""
        if (plan_id := self._platform.plan_id) is None:
            return
        known = {one.id for one in self.operations if isinstance(one, UseProcedure)}
        used: list[AnyMemoryOperation] = [
            UseProcedure(id=one.id, plan_id=plan_id) for one in versions if one.id not in known
        ]
        self._check_size([*self.operations, *used])
        self.operations = [*self.operations, *used]

    def _logged(self) -> list[LogInteraction]:
        return [one for one in self.operations if isinstance(one, LogInteraction)]


def _outcome(operation: AnyMemoryOperation) -> str:
    if isinstance(operation, StoreKnowledge) and operation.is_recalled:
        return "recalled"
    return _OUTCOMES[type(operation)]


_OUTCOMES = {
    StoreKnowledge: "stored",
    UpdateKnowledge: "updated",
    ForgetKnowledge: "forgotten",
    LogInteraction: "logged",
    NameSession: "named",
    PublishKnowledge: "published",
    StoreProcedure: "stored",
    ActivateProcedure: "activated",
    RollBackProcedure: "activated",
    RetireProcedure: "retired",
    CountOutcome: "counted",
    UseProcedure: "used",
}
