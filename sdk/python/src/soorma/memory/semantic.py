"""Semantic memory of a client: passages of knowledge, found by what they say."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

import msgspec

from soorma.awaits import awaited
from soorma.memory.calls import MemoryCalls, When, checked_metadata, checked_time
from soorma.memory.memories import PassageName, page_decoder
from soorma.memory.plans import PAGE
from soorma_common.errors import AlreadyKnown, InvalidRequest, InvalidValue
from soorma_common.likeness import WAIT_SECONDS, AlikeBody, AlikePassage, check_alike
from soorma_common.limits import Limits
from soorma_common.names import Scope, check_name
from soorma_common.semantic import (
    ForgetKnowledge,
    Hits,
    MemoryDone,
    Mode,
    Passage,
    PublishKnowledge,
    SearchBody,
    StoreKnowledge,
    UpdateKnowledge,
    check_search,
    check_store,
)

Unset: TypeAlias = msgspec.UnsetType
UNSET = msgspec.UNSET

_LIMITS = Limits()
_PARAMETERS = frozenset(StoreKnowledge.__struct_fields__) - {"id", "is_recalled"}


@awaited
class SemanticCalls(MemoryCalls):
    """The calls of semantic memory, a part of `MemoryClient`.

    In a handler they belong to its transaction: what it stores is stored when it returns, and its
    own searches find it before. A passage that it has read is checked at the commit; what a search
    has found is not.
    """

    async def store_knowledge(
        self,
        content: str,
        *,
        external_id: str | None = None,
        aliases: Iterable[str] = (),
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        source: str | None = None,
        is_public: bool = False,
        valid_from: When | None = None,
        valid_until: When | None = None,
        supersedes: str | None = None,
        subject: str | None = None,
        attribute: str | None = None,
        derived_from: Iterable[str] = (),
        plan_id: str | None = None,
        outlives_plan: bool = False,
        unless_alike: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> str:
        """Stores a passage of up to 1 MiB and returns its id.

        A passage with the same `external_id`, the one that it `supersedes`, and the current one
        with the same `subject` and `attribute` are closed: searches find them no more, unless they
        name a time at which they were known. With `valid_from`, those that begin before it count
        until then, and it holds itself until a later one begins. If the one that it `supersedes`
        was superseded already, the one in its place is meant. An equal passage is not stored twice:
        it counts one more. `aliases` are names by which it is found, `tags`, `metadata` and
        `source` are what a search can be limited to. It is found from `valid_from` until
        `valid_until`. `is_public` shows it to all users of the tenant; from a handler, this is a
        proposal. With `outlives_plan` it stays when the plan that it comes from is purged.

        Raises NotFound if there is nothing of the id that it supersedes, LimitExceeded if it is
        too large; with `unless_alike` AlreadyKnown if passages seem to state the same, see
        `find_alike`.
        """
        operation = _operation(
            {
                "content": content,
                "external_id": external_id,
                "aliases": aliases,
                "tags": tags,
                "metadata": metadata,
                "source": source,
                "is_public": is_public,
                "valid_from": valid_from,
                "valid_until": valid_until,
                "supersedes": supersedes,
                "subject": subject,
                "attribute": attribute,
                "derived_from": derived_from,
                "plan_id": plan_id,
                "outlives_plan": outlives_plan,
            }
        )
        scope = self.scope(tenant_id, user_id)
        if unless_alike:
            await self._check_unknown(scope, operation)
        (done,) = await self._memories.change(scope, [operation])
        return done.id

    async def _check_unknown(self, scope: Scope, operation: StoreKnowledge) -> None:
        known = [
            one.id
            for one in await self._memories.alike(scope, AlikeBody(operation.content))
            if one.id != operation.supersedes
        ]
        if known:
            raise AlreadyKnown(
                f"passage {known[0]!r} seems to state the same: store this one without "
                "unless_alike, or let it supersede that one",
                passages=known,
            )

    async def find_alike(
        self,
        content: str,
        *,
        wait: float = WAIT_SECONDS,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> list[AlikePassage]:
        """The passages that seem to state the same as a text, the nearest first.

        Their vectors are near to that of the text, and numbers, negations and names are the same
        in both. It needs the offline model, waits up to `wait` seconds until all that is stored is
        embedded, and does not see what the same transaction has stored.
        """
        body = AlikeBody(content, wait)
        check_alike(body, _LIMITS)
        return await self._memories.alike(self.scope(tenant_id, user_id), body)

    async def store_knowledge_batch(
        self,
        passages: Iterable[str | Mapping[str, Any]],
        *,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> list[MemoryDone]:
        """Stores up to 1,000 passages of 10 MiB together, all or none; returns what became of each.

        That is its `id`, the `outcome` (stored, or restated if an equal one was there) and the ids
        that it has `closed` or ended. In a handler, only the commit knows: the outcome is stored,
        and the id leads to the passage in any case. A passage is its content, or a dict with the
        arguments of `store_knowledge`.
        """
        if isinstance(passages, str | Mapping):
            raise InvalidRequest(
                "passages is a list: of texts, or of dicts; for one, store_knowledge"
            )
        operations = [
            _operation(one if isinstance(one, Mapping) else {"content": one}) for one in passages
        ]
        if not operations:
            return []
        return await self._memories.change(self.scope(tenant_id, user_id), [*operations])

    async def get_knowledge(
        self,
        passage_id: str | None = None,
        *,
        external_id: str | None = None,
        subject: str | None = None,
        attribute: str | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> Passage:
        """A passage with all that is stored of it; NotFound if there is none.

        By its id, or by its external id or its subject and attribute: then it is the one that is
        true now, the user's own before a public one. One that counts no more has `closed_at` and
        `closed_by`. With `closed_by` alone, it counts for what is true until its `valid_until`.
        """
        scope = self.scope(tenant_id, user_id)
        name = PassageName(external_id, subject, attribute)
        if passage_id is None:
            return await self._memories.named(scope, name.checked())
        if any(one is not None for one in name):
            raise InvalidRequest("a passage is named by its id, or by something else, not by both")
        return await self._memories.passage(scope, check_name("id", passage_id))

    async def update_knowledge(
        self,
        passage_id: str,
        *,
        aliases: Iterable[str] | Unset = UNSET,
        tags: Iterable[str] | Unset = UNSET,
        metadata: Mapping[str, Any] | Unset | None = UNSET,
        source: str | Unset | None = UNSET,
        valid_from: When | Unset | None = UNSET,
        valid_until: When | Unset | None = UNSET,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> None:
        """Changes what is given of a passage; NotFound if there is none.

        To change what it says, store another one that supersedes it.
        """
        operation = UpdateKnowledge(id=check_name("id", passage_id))
        for name, names in (("aliases", aliases), ("tags", tags)):
            if not isinstance(names, Unset):
                setattr(operation, name, names_in(name, names))
        if not isinstance(metadata, Unset):
            operation.metadata = checked_metadata(metadata)
        if not isinstance(source, Unset):
            operation.source = source
        for name, when in (("valid_from", valid_from), ("valid_until", valid_until)):
            if not isinstance(when, Unset):
                setattr(operation, name, checked_time(name, when))
        await self._memories.change(self.scope(tenant_id, user_id), [operation])

    async def publish_knowledge(
        self, passage_id: str, *, tenant_id: str | None = None, user_id: str | None = None
    ) -> str:
        """Shows a passage that a handler has proposed to all users; returns its id among them.

        Like one stored with `is_public`, it closes what it replaces there. NotFound if there is
        none, Forbidden in a handler.
        """
        operation = PublishKnowledge(id=check_name("id", passage_id))
        (done,) = await self._memories.change(self.scope(tenant_id, user_id), [operation])
        return done.id

    async def delete_knowledge(
        self, passage_id: str, *, tenant_id: str | None = None, user_id: str | None = None
    ) -> bool:
        """Forgets a passage, those that it has replaced, and all that was derived from them.

        Returns False if there was none. In a handler, only the commit knows: it returns True.
        """
        operation = ForgetKnowledge(id=check_name("id", passage_id))
        (done,) = await self._memories.change(self.scope(tenant_id, user_id), [operation])
        return done.outcome == "forgotten"

    async def search_knowledge(
        self,
        query: str,
        *,
        limit: int = 10,
        max_tokens: int | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        source: str | None = None,
        since: When | None = None,
        until: When | None = None,
        min_score: float | None = None,
        as_of: When | None = None,
        known_at: When | None = None,
        include_public: bool = True,
        mode: Mode = "hybrid",
        wait: float | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> Hits:
        """Finds the passages that answer a query, the best first: few and right ones, or none.

        Without `min_score`, it returns only what is nearly as good as the best one, and good
        enough; with it, everything with at least that score. At most `limit` passages of together
        about `max_tokens` tokens are returned.

        It goes by words and, with an embedding model, by meaning; `mode` may ask for one of both.
        `mode` and `unembedded` of the result say how it was made. With `wait` it waits so many
        seconds for what is stored to be embedded, which takes less than one for single passages.

        `tags`, `metadata` and `source` limit it to passages that have all of these, `since` and
        `until` to those stored in that time. `as_of` asks for what was true at a time, `known_at`
        for what was known then. `is_known` of the result is False if nothing was ever stored.
        """
        body = SearchBody(
            query=query,
            limit=limit,
            max_tokens=max_tokens,
            tags=names_in("tags", tags),
            metadata=checked_metadata(metadata),
            source=source,
            since=checked_time("since", since),
            until=checked_time("until", until),
            min_score=min_score,
            as_of=checked_time("as_of", as_of),
            known_at=checked_time("known_at", known_at),
            include_public=include_public,
            mode=mode,
            wait=wait,
        )
        check_search(body, _LIMITS)
        return await self._memories.search(self.scope(tenant_id, user_id), body)

    async def query_knowledge(self, query: str, **how: Any) -> Hits:
        """Deprecated: an earlier name of `search_knowledge`."""
        warnings.warn(
            "query_knowledge is an earlier name: call search_knowledge",
            DeprecationWarning,
            stacklevel=2,
        )
        return await self.search_knowledge(query, **how)

    async def list_knowledge(
        self,
        *,
        proposed: bool = False,
        is_public: bool = False,
        quarantined: bool = False,
        external_id: str | None = None,
        subject: str | None = None,
        attribute: str | None = None,
        source: str | None = None,
        tag: str | None = None,
        as_of: When | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> AsyncGenerator[Passage, None]:
        """Yields passages that count, in the order they were stored, those that fit all given.

        They are the user's own, or with `is_public` those of the tenant; a transaction's own are
        not among them. With `proposed`, only those that a handler has proposed to make public, with
        `as_of` only what is true at that time. With `quarantined`, those in quarantine instead.
        They are fetched page by page.
        """
        scope = self.scope(tenant_id, user_id)
        names = {
            "external_id": external_id,
            "subject": subject,
            "attribute": attribute,
            "source": source,
            "tag": tag,
        }
        for what, name in names.items():
            if name is not None:
                check_name(what, name)
        async with aclosing(
            self._caller.pages(
                "memory",
                "/v1/memory/semantic",
                scope,
                page_decoder,
                limit=PAGE,
                proposed="true" if proposed else None,
                public="true" if is_public else None,
                quarantined="true" if quarantined else None,
                as_of=checked_time("as_of", as_of),
                **names,
            )
        ) as pages:
            async for page in pages:
                for passage in page.passages:
                    yield passage


def _operation(given: Mapping[str, Any]) -> StoreKnowledge:
    """Returns the operation that stores a passage; raises what is wrong with it."""
    if unknown := given.keys() - _PARAMETERS:
        raise InvalidRequest(
            f"a passage has no {min(unknown)!r}; it has {', '.join(sorted(_PARAMETERS))}"
        )
    if not isinstance(given.get("content"), str):
        raise InvalidValue(
            f"the content of a passage is text, not {type(given.get('content')).__name__}",
            path="content",
        )
    made = dict(given)
    for name in ("aliases", "tags", "derived_from"):
        made[name] = names_in(name, made.get(name, ()))
    for name in ("valid_from", "valid_until"):
        made[name] = checked_time(name, made.get(name))
    made["metadata"] = checked_metadata(made.get("metadata"))
    operation = StoreKnowledge(**made)
    check_store(operation, _LIMITS)
    return operation


def names_in(what: str, names: Iterable[str]) -> list[str]:
    """Returns names as a list; raises InvalidRequest for a single one, and what is none."""
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise InvalidRequest(f"{what} is a list of names, not {names!r:.40}")
    return list(names)
