"""Procedural memory of a client: skills, prompts and rules, in versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from soorma.awaits import awaited
from soorma.memory.calls import checked_metadata
from soorma.memory.episodic import FORGETTING_SECONDS, EpisodicCalls
from soorma.memory.plans import PAGE
from soorma.memory.semantic import names_in
from soorma.transport.calls import segment
from soorma_common.errors import InvalidRequest, InvalidValue
from soorma_common.forgetting import Receipt
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.procedural import (
    ActivateProcedure,
    AnyProcedureOperation,
    CountOutcome,
    Kind,
    ProcedureFile,
    ProcedureHits,
    ProcedureInfo,
    ProcedurePage,
    ProcedureVersion,
    RelevantBody,
    RetireProcedure,
    RollBackProcedure,
    StoreProcedure,
    VersionInfo,
    VersionPage,
    check_named,
    check_path,
    check_procedure,
    check_relevant,
    check_store_procedure,
)
from soorma_common.semantic import MOST_HITS, MemoryDone, Mode

Whose: TypeAlias = Literal["any", "own", "public"]
"""Whose procedure is meant: the user's, the tenant's, or the first of these that there is."""

_LIMITS = Limits()
_WHOSE = ("any", "own", "public")
_page = msgspec.json.Decoder(ProcedurePage)
_version_page = msgspec.json.Decoder(VersionPage)
_file = msgspec.json.Decoder(ProcedureFile)
_receipt = msgspec.json.Decoder(Receipt)


@awaited
class ProceduralCalls(EpisodicCalls):
    """The calls of procedural memory, a part of `MemoryClient`.

    A procedure is a skill, a prompt or a rule, and has versions, of which at most one is active.
    In a handler, a stored version is a proposal until an application activates it, and the plan
    counts as a user of each version that is read: how it ends is counted for these.
    """

    async def store_procedure(
        self,
        name: str,
        content: str,
        *,
        kind: Kind = "skill",
        description: str | None = None,
        agents: Iterable[str] = (),
        conditions: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        source: str | None = None,
        files: Mapping[str, bytes] | None = None,
        is_public: bool = False,
        activate: bool = True,
        derived_from: Iterable[str] = (),
        plan_id: str | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> MemoryDone:
        """Stores a skill, prompt or rule, or a new version of it, and activates that.

        The result has the version's `id` and number; one that is equal to an earlier version is
        neither stored nor activated again (`outcome` is then restated). `description` says what it
        is for and when: that is what `get_relevant_skills` goes by. It is for these `agents`, for
        all without any, and where each of the `conditions` is a fact: a name with a value, or a
        list of values. `files` are contents by path; together with `content` they may have 1 MiB.
        `is_public` stores it for all users of the tenant.

        From a handler it is a proposal, which is not active before an application activates it,
        and its number is known at the commit only: 0.
        """
        operation = _operation(
            {
                "name": name,
                "content": content,
                "kind": kind,
                "description": description,
                "agents": agents,
                "conditions": conditions,
                "tags": tags,
                "metadata": metadata,
                "source": source,
                "files": files,
                "is_public": is_public,
                "activate": activate,
                "derived_from": derived_from,
                "plan_id": plan_id,
            }
        )
        return await self._do(operation, tenant_id, user_id)

    async def import_skill(
        self,
        folder: str | Path,
        *,
        is_public: bool = False,
        activate: bool = True,
        source: str | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> MemoryDone:
        """Stores the skill of a folder with a SKILL.md, and its other files, as a new version.

        The folder is in the format of the Agent Skills specification; fields that are not of
        Soorma are kept as metadata. Nothing is executed. Raises InvalidRequest for a folder that
        is none, and for a link in it, LimitExceeded for one of more than 1 MiB.
        """
        from soorma.memory.skill_folders import read_skill  # noqa: PLC0415 - YAML, which few need

        skill = await asyncio.to_thread(read_skill, Path(folder))
        return await self.store_procedure(
            skill.name,
            skill.content,
            description=skill.description,
            agents=skill.agents,
            conditions=skill.conditions,
            tags=skill.tags,
            metadata=skill.metadata or None,
            source=source,
            files=skill.files,
            is_public=is_public,
            activate=activate,
            tenant_id=tenant_id,
            user_id=user_id,
        )

    async def export_skill(
        self,
        name: str,
        parent: str | Path,
        version: int | None = None,
        *,
        whose: Whose = "any",
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> Path:
        """Writes a version of a skill, the active one without a number, as a folder into `parent`.

        Returns the path of the folder, which has the skill's name. Raises InvalidRequest if it is
        there already, NotFound if there is no such version.
        """
        from soorma.memory.skill_folders import write_skill  # noqa: PLC0415 - YAML, which few need

        skill = await self.get_procedure(
            name, version, whose=whose, tenant_id=tenant_id, user_id=user_id
        )
        files = {
            path: await self.get_procedure_file(
                name,
                path,
                skill.version,
                whose="public" if skill.is_public else "own",
                tenant_id=tenant_id,
                user_id=user_id,
            )
            for path in skill.files
        }
        return await asyncio.to_thread(write_skill, skill, files, Path(parent))

    async def activate_procedure(
        self,
        name: str,
        version: int | None = None,
        *,
        kind: Kind = "skill",
        is_public: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> MemoryDone:
        """Makes a version the active one, the newest without a number.

        Also a proposal. Raises NotFound if there is none, Forbidden in a handler.
        """
        operation = ActivateProcedure(name=name, kind=kind, is_public=is_public, version=version)
        return await self._do(operation, tenant_id, user_id)

    async def roll_back_procedure(
        self,
        name: str,
        *,
        kind: Kind = "skill",
        is_public: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> MemoryDone:
        """Makes active what was active before the last activation, perhaps no version.

        Raises InvalidRequest if nothing is left to roll back, Forbidden in a handler.
        """
        operation = RollBackProcedure(name=name, kind=kind, is_public=is_public)
        return await self._do(operation, tenant_id, user_id)

    async def retire_procedure(
        self,
        name: str,
        *,
        kind: Kind = "skill",
        is_public: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> MemoryDone:
        """Makes no version of a procedure active; all of them stay. Forbidden in a handler."""
        operation = RetireProcedure(name=name, kind=kind, is_public=is_public)
        return await self._do(operation, tenant_id, user_id)

    async def count_outcome(
        self,
        name: str,
        version: int,
        *,
        succeeded: bool,
        kind: Kind = "skill",
        is_public: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> MemoryDone:
        """Counts a success or a failure of a version, beyond those of plans that have used it.

        Raises NotFound if there is no such version, Forbidden in a handler.
        """
        operation = CountOutcome(
            name=name, kind=kind, is_public=is_public, version=version, succeeded=succeeded
        )
        return await self._do(operation, tenant_id, user_id)

    async def get_procedure(
        self,
        name: str,
        version: int | None = None,
        *,
        kind: Kind = "skill",
        whose: Whose = "any",
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> ProcedureVersion:
        """A version of a procedure with its content, the active one without a number.

        The user's own comes before the tenant's. Raises NotFound if there is none.
        """
        check_named(kind, name)
        return await self._memories.procedure(
            self.scope(tenant_id, user_id), kind, name, _checked(whose), version
        )

    async def get_procedure_file(
        self,
        name: str,
        path: str,
        version: int | None = None,
        *,
        whose: Whose = "any",
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> bytes:
        """A file of a version of a skill, the active one without a number; NotFound without any."""
        check_named("skill", name)
        check_path(path)
        found = await self._caller.get(
            "memory",
            f"{_path('skill', name)}/files/{segment(path)}",
            self.scope(tenant_id, user_id),
            _file,
            whose=_checked(whose),
            version=version,
        )
        return found.content

    async def get_relevant_skills(
        self,
        agent_id: str | None,
        context: str,
        limit: int = 5,
        *,
        kind: Kind = "skill",
        facts: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        min_score: float | None = None,
        mode: Mode = "hybrid",
        wait: float | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> ProcedureHits:
        """The active skills for an agent that are about a context, the most successful first.

        They are found as passages are, by their descriptions, few and right ones or none, and
        ranked by the lower bound of their success rate: one that was tried once comes behind one
        that was tried often. Those apply that are for the agent, or for all, and whose conditions
        are all `facts`; a skill of the user takes the place of the tenant's with the same name.
        """
        if not isinstance(context, str):
            raise InvalidRequest(f"context is text, not {type(context).__name__}")
        body = RelevantBody(
            agent_id=agent_id,
            context=context,
            limit=limit,
            kind=kind,
            facts=checked_metadata(facts, "facts"),
            max_tokens=max_tokens,
            min_score=min_score,
            mode=mode,
            wait=wait,
        )
        check_relevant(body)
        return await self._memories.procedures(self.scope(tenant_id, user_id), body)

    async def get_rules(
        self,
        agent_id: str | None,
        *,
        facts: Mapping[str, Any] | None = None,
        limit: int = MOST_HITS,
        max_tokens: int | None = None,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> ProcedureHits:
        """The active rules that apply to an agent, whatever it is about.

        `applying` of the result says how many there are: more than were returned, if the limit
        was too low.
        """
        body = RelevantBody(
            agent_id=agent_id,
            limit=limit,
            kind="rule",
            facts=checked_metadata(facts, "facts"),
            max_tokens=max_tokens,
        )
        check_relevant(body)
        return await self._memories.procedures(self.scope(tenant_id, user_id), body)

    async def list_procedures(
        self,
        *,
        kind: Kind | None = None,
        proposed: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> AsyncGenerator[ProcedureInfo, None]:
        """Yields the user's procedures and the tenant's, fetched page by page.

        With `proposed`, those of which a handler has proposed a version.
        """
        scope = self.scope(tenant_id, user_id)
        async with aclosing(
            self._caller.pages(
                "memory",
                "/v1/memory/procedural",
                scope,
                _page,
                limit=PAGE,
                kind=kind,
                proposed="true" if proposed else None,
            )
        ) as pages:
            async for page in pages:
                for procedure in page.procedures:
                    yield procedure

    async def list_versions(
        self,
        name: str,
        *,
        kind: Kind = "skill",
        whose: Whose = "any",
        quarantined: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> AsyncGenerator[VersionInfo, None]:
        """Yields the versions of a procedure without their content, the newest first.

        With `quarantined`, those in quarantine instead of those that count.
        """
        check_named(kind, name)
        path = f"{_path(kind, name)}/versions"
        scope, before = self.scope(tenant_id, user_id), None
        while True:
            page = await self._caller.get(
                "memory", path, scope, _version_page, whose=_checked(whose), before=before,
                quarantined="true" if quarantined else None,
            )  # fmt: skip
            for version in page.versions:
                yield version
            before = page.next
            if before is None:
                return

    async def delete_procedure(
        self,
        name: str,
        *,
        kind: Kind = "skill",
        is_public: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> Receipt:
        """Forgets a procedure with all its versions, and what was derived from them, at once.

        It is the user's own, or with `is_public` the tenant's: never that one in its place. Raises
        NotFound if there is none. Not in a handler.
        """
        check_named(kind, name)
        if self.collects:
            raise InvalidRequest(
                "this forgets at once, and a transaction may still fail or be repeated: do it "
                "outside"
            )
        scope = self.scope(tenant_id, user_id)
        return _receipt.decode(
            await self._caller.call(
                "memory",
                "DELETE",
                _path(kind, name),
                scope=scope,
                query={"whose": "public" if is_public else "own"},
                fence=self._memories.fence,
                patience=FORGETTING_SECONDS,
            )
        )

    async def _do(
        self, operation: AnyProcedureOperation, tenant_id: str | None, user_id: str | None
    ) -> MemoryDone:
        check_procedure(operation, _LIMITS)
        scope: Scope = self.scope(tenant_id, user_id)
        (done,) = await self._memories.change(scope, [operation])
        return done


def _path(kind: str, name: str) -> str:
    return f"/v1/memory/procedural/{segment(kind)}/{segment(name)}"


def _checked(whose: str) -> str:
    if whose not in _WHOSE:
        raise InvalidRequest(f"whose is one of {', '.join(_WHOSE)}, not {whose!r:.40}")
    return whose


def _operation(given: Mapping[str, Any]) -> StoreProcedure:
    """Returns the operation that stores a version; raises what is wrong with it."""
    for name in ("name", "content"):
        if not isinstance(given[name], str):
            raise InvalidValue(
                f"the {name} of a procedure is text, not {type(given[name]).__name__}", path=name
            )
    made = dict(given)
    for name in ("agents", "tags", "derived_from"):
        made[name] = names_in(name, made[name])
    for name in ("metadata", "conditions"):
        made[name] = checked_metadata(made[name], name)
    made["files"] = _files(made["files"])
    operation = StoreProcedure(**made)
    check_store_procedure(operation, _LIMITS)
    return operation


def _files(files: Mapping[str, Any] | None) -> dict[str, bytes]:
    if files is None:
        return {}
    if not isinstance(files, Mapping):
        raise InvalidRequest(f"files is a dict of contents by path, not {type(files).__name__}")
    given: Mapping[Any, Any] = files  # what callers without types may pass
    for path, content in given.items():
        if not isinstance(path, str) or not isinstance(content, bytes):
            raise InvalidRequest(f"the content of file {path!r:.60} is bytes, and its path text")
    return dict(files)
