"""Episodic memory of a client: what was said and done, by session and agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

import msgspec

from soorma.awaits import awaited
from soorma.memory.calls import When, checked_metadata, checked_time
from soorma.memory.semantic import SemanticCalls
from soorma.transport.calls import segment
from soorma_common.episodic import (
    MOST_MESSAGES,
    ROLES,
    History,
    LogInteraction,
    NameSession,
    Role,
    Said,
    SaidHits,
    SaidSearch,
    SessionInfo,
    SessionPage,
    check_interaction,
    check_page,
    check_said_search,
    check_session_name,
)
from soorma_common.errors import InvalidRequest, InvalidValue
from soorma_common.forgetting import ForgetBody, Kind, Receipt, check_forget
from soorma_common.limits import Limits
from soorma_common.names import Scope, check_name
from soorma_common.semantic import Mode

_LIMITS = Limits()
FORGETTING_SECONDS = 60.0
"""How much longer than a usual response a receipt may take: some 10,000 are forgotten in one."""
_PARAMETERS = frozenset(LogInteraction.__struct_fields__) - {"id"}
_receipt = msgspec.json.Decoder(Receipt)
_session_page = msgspec.json.Decoder(SessionPage)


@awaited
class EpisodicCalls(SemanticCalls):
    """The calls of episodic memory, a part of `MemoryClient`.

    In a handler they belong to its transaction: what it logs is logged when it returns, and is a
    part of the history that it reads before.
    """

    async def log_interaction(
        self,
        agent_id: str | None,
        role: Role,
        content: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        plan_id: str | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> str:
        """Logs what was said or done, and returns the id of this interaction.

        `role` is user, assistant or tool; outside handlers also system. In a handler, the
        interaction is that of the handler's agent, whatever `agent_id` says. It reads nothing, so
        that any number of handlers can log at the same time.
        """
        operation = _operation(
            {
                "agent_id": agent_id,
                "role": role,
                "content": content,
                "metadata": metadata,
                "session_id": session_id,
                "plan_id": plan_id,
            }
        )
        (done,) = await self._memories.change(self.scope(tenant_id, user_id), [operation])
        return done.id

    async def log_interactions(
        self,
        interactions: Iterable[Mapping[str, Any]],
        *,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> list[str]:
        """Logs up to 1,000 interactions in their order, all or none; returns their ids.

        Each is a dict with the arguments of `log_interaction`, such as a chat message.
        """
        if isinstance(interactions, str | Mapping):
            raise InvalidRequest("interactions is a list of dicts; for one, log_interaction")
        given: Iterable[Any] = interactions  # what callers without types may pass
        operations = [
            _operation(one if isinstance(one, Mapping) else {"content": one}) for one in given
        ]
        if not operations:
            return []
        done = await self._memories.change(self.scope(tenant_id, user_id), [*operations])
        return [one.id for one in done]

    async def get_interaction(
        self, interaction_id: str, *, tenant_id: str | None = None, user_id: str | None = None
    ) -> Said:
        """An interaction as it was logged; NotFound if there is none."""
        scope = self.scope(tenant_id, user_id)
        return await self._memories.interaction(scope, check_name("id", interaction_id))

    async def get_recent_history(
        self,
        agent_id: str | None = None,
        limit: int = 50,
        *,
        session_id: str | None = None,
        max_tokens: int | None = None,
        before: int | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> History:
        """The newest interactions, in the order in which they happened.

        Of an agent, of a session, of both, or of all. At most `limit` of together about
        `max_tokens` tokens are returned; `messages()` of the result are chat messages. `before` is
        the `next` of a history, for older ones.
        """
        check_page(limit, max_tokens)
        for name, given in (("agent_id", agent_id), ("session_id", session_id)):
            if given is not None:
                check_name(name, given)
        return await self._memories.history(
            self.scope(tenant_id, user_id),
            session_id=session_id,
            agent_id=agent_id,
            before=before,
            limit=limit,
            max_tokens=max_tokens,
        )

    async def search_interactions(
        self,
        query: str,
        *,
        limit: int = 10,
        max_tokens: int | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        role: Role | None = None,
        metadata: Mapping[str, Any] | None = None,
        since: When | None = None,
        until: When | None = None,
        min_score: float = 0.0,
        mode: Mode = "hybrid",
        wait: float | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> SaidHits:
        """Finds interactions by what was said, the best first.

        They are ranked like passages, without a cut: all that have anything to do with the query,
        up to `limit`, and from `min_score` on. The other arguments limit it to what an
        agent, a role or a session has said, with these fields of metadata, in a time.
        """
        body = SaidSearch(
            query=query,
            limit=limit,
            max_tokens=max_tokens,
            agent_id=agent_id,
            session_id=session_id,
            role=role,
            metadata=checked_metadata(metadata),
            since=checked_time("since", since),
            until=checked_time("until", until),
            min_score=min_score,
            mode=mode,
            wait=wait,
        )
        check_said_search(body, _LIMITS)
        return await self._memories.search_said(self.scope(tenant_id, user_id), body)

    async def list_sessions(
        self, *, tenant_id: str | None = None, user_id: str | None = None
    ) -> AsyncGenerator[SessionInfo, None]:
        """Yields the user's sessions, the newest first, fetched page by page."""
        scope = self.scope(tenant_id, user_id)
        before = None
        while True:
            page = await self._caller.get(
                "memory", "/v1/memory/sessions", scope, _session_page, before=before, limit=1_000
            )
            for session in page.sessions:
                yield session
            before = page.next
            if before is None:
                return

    async def get_session(
        self, session_id: str, *, tenant_id: str | None = None, user_id: str | None = None
    ) -> SessionInfo:
        """A session: its name, how many interactions it has, and when; NotFound without any."""
        scope = self.scope(tenant_id, user_id)
        return await self._memories.session(scope, check_name("session_id", session_id))

    async def name_session(
        self,
        session_id: str,
        name: str | None,
        *,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> None:
        """Names a session, or takes its name away with None; NotFound if there is none."""
        operation = NameSession(id=session_id, name=name)
        check_session_name(operation)
        await self._memories.change(self.scope(tenant_id, user_id), [operation])

    async def delete_session(
        self, session_id: str, *, tenant_id: str | None = None, user_id: str | None = None
    ) -> Receipt:
        """Forgets a session with all its interactions, at once; NotFound if there is none."""
        path = f"/v1/memory/sessions/{segment(check_name('session_id', session_id))}"
        return await self._forgotten(self.scope(tenant_id, user_id), "DELETE", path)

    async def forget(
        self,
        *,
        kind: Kind = "all",
        plan_id: str | None = None,
        session_id: str | None = None,
        source: str | None = None,
        agent_id: str | None = None,
        event_id: str | None = None,
        before: When | None = None,
        everything: bool = False,
        preview: bool = False,
        all_users: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> Receipt:
        """Forgets what the user has stored and fits all that is given; with `preview`, counts it.

        With `all_users`, what anybody of the tenant has stored. `kind` is all, knowledge,
        interactions or procedures. It happens at once and in several
        commits, so not in a handler. What was derived from a passage, and what it has replaced, is
        forgotten with it. The bytes are gone from the database and its log within a minute;
        `erased_by` of the receipt says when.
        """
        body = ForgetBody(
            kind=kind,
            plan_id=plan_id,
            session_id=session_id,
            source=source,
            agent_id=agent_id,
            event_id=event_id,
            before=checked_time("before", before),
            everything=everything,
            preview=preview,
        )
        check_forget(body)
        if all_users and user_id is not None:
            raise InvalidRequest(f"all users are more than user {user_id!r}; give one of the two")
        scope = self.scope(tenant_id, user_id)
        path = "/v1/memory/tenant/forget" if all_users else "/v1/memory/forget"
        return await self._forgotten(scope, "POST", path, msgspec.json.encode(body))

    async def _forgotten(
        self, scope: Scope, method: str, path: str, body: bytes | None = None
    ) -> Receipt:
        if self.collects:
            raise InvalidRequest(
                "this forgets at once, and a transaction may still fail or be repeated: do it "
                "outside, or forget single passages with delete_knowledge"
            )
        return _receipt.decode(
            await self._caller.call(
                "memory",
                method,
                path,
                scope=scope,
                body=body,
                fence=self._memories.fence,
                patience=FORGETTING_SECONDS,
            )
        )

    async def export_session(
        self, session_id: str, *, tenant_id: str | None = None, user_id: str | None = None
    ) -> AsyncGenerator[Said, None]:
        """Yields all interactions of a session, the newest first, fetched page by page."""
        before = None
        while True:
            page = await self.get_recent_history(
                None,
                MOST_MESSAGES,
                session_id=session_id,
                before=before,
                tenant_id=tenant_id,
                user_id=user_id,
            )
            for said in reversed(page.interactions):
                yield said
            before = page.next
            if before is None:
                return


def _operation(given: Mapping[str, Any]) -> LogInteraction:
    """Returns the operation that logs an interaction; raises what is wrong with it."""
    if unknown := given.keys() - _PARAMETERS:
        raise InvalidRequest(
            f"an interaction has no {min(unknown)!r}; it has {', '.join(sorted(_PARAMETERS))}"
        )
    if given.get("role") not in ROLES:
        raise InvalidRequest(f"role is one of {', '.join(ROLES)}, not {given.get('role')!r}")
    if not isinstance(given.get("content"), str):
        raise InvalidValue(
            f"the content of an interaction is text, not {type(given.get('content')).__name__}",
            path="content",
        )
    made = {**given, "metadata": checked_metadata(given.get("metadata"))}
    operation = LogInteraction(**made)
    check_interaction(operation, _LIMITS)
    return operation
