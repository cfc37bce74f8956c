"""Access to plans for memory clients: directly on the platform, or through a transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import msgspec

from soorma.transport.calls import Caller, segment
from soorma_common.errors import KeyMissing
from soorma_common.memory import (
    Action,
    ActionPage,
    Commit,
    Committed,
    Entries,
    Entry,
    KeyEntry,
    KeyPage,
    PastPage,
    PlanCommit,
    PlanInfo,
)
from soorma_common.names import Scope
from soorma_common.operations import AnyOperation

PAGE = 1_000
"""Rows of a page, the most that it may have."""

_committed = msgspec.json.Decoder(Committed)
_key_entry = msgspec.json.Decoder(KeyEntry)
_entries = msgspec.json.Decoder(Entries)
_key_page = msgspec.json.Decoder(KeyPage)
_past_page = msgspec.json.Decoder(PastPage)
_plan = msgspec.json.Decoder(PlanInfo)
_action_page = msgspec.json.Decoder(ActionPage)


@dataclass(frozen=True)
class Stored:
    """A key's value as JSON text, with revision (0: not committed yet) and times."""

    text: str
    revision: int
    updated_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Applied:
    """The results of operations (JSON text), the plan's revision and the time of the commit."""

    results: list[str | None]
    revision: int
    at: datetime


class Plans(Protocol):
    """Access to plans, for one scope per call."""

    @property
    def collects(self) -> bool:
        """True if changes are collected and committed together later, instead of one by one."""
        ...

    def check(self, scope: Scope) -> None:
        """Raises an error if this access must not, or no longer, be used for that scope."""
        ...

    async def apply(
        self,
        scope: Scope,
        plan_id: str,
        operations: list[AnyOperation],
        expected_revision: int | None = None,
    ) -> Applied:
        """Applies operations together: all or nothing."""
        ...

    async def read(self, scope: Scope, plan_id: str, keys: list[str]) -> dict[str, Stored]:
        """Those of the keys that exist."""
        ...

    async def keys(self, scope: Scope, plan_id: str, prefix: str) -> list[str]:
        """All keys with that prefix, in order."""
        ...

    async def plan(self, scope: Scope, plan_id: str) -> PlanInfo:
        """The plan's status, revision, sizes and times; NotFound if nothing of it is stored."""
        ...

    async def actions(self, scope: Scope, plan_id: str) -> list[Action]:
        """All actions in order; an uncommitted one has neither time nor revision."""
        ...


class PlatformPlans:
    """Plans on the platform: each `apply` is a commit of its own, durable when it returns.

    `check_scope` raises an error if it must not be used for a tenant and user. `fence` is that of
    the delivery in whose handler it is used: from it the platform knows who made a change, and
    because of which event.
    """

    def __init__(
        self,
        caller: Caller,
        check_scope: Callable[[Scope], None] | None = None,
        fence: str | None = None,
    ) -> None:
        self._caller = caller
        self._fence = fence
        self._check_scope = check_scope

    @property
    def collects(self) -> bool:
        return False

    def check(self, scope: Scope) -> None:
        """Raises what `check_scope` raises; without one, only the platform decides."""
        if self._check_scope is not None:
            self._check_scope(scope)

    async def apply(
        self,
        scope: Scope,
        plan_id: str,
        operations: list[AnyOperation],
        expected_revision: int | None = None,
    ) -> Applied:
        part = PlanCommit(plan_id, operations, expected_revision=expected_revision)
        body = msgspec.json.encode(Commit([part]))
        answer = await self._caller.call(
            "memory", "POST", "/v1/memory/commit", scope=scope, body=body, fence=self._fence
        )
        done = _committed.decode(answer)
        results = [_text(result) for result in done.plans[0].results]
        return Applied(
            results, done.plans[0].revision, datetime.fromtimestamp(done.at / 1000).astimezone()
        )

    async def read(self, scope: Scope, plan_id: str, keys: list[str]) -> dict[str, Stored]:
        if len(keys) == 1:
            try:
                path = f"/v1/memory/working/{segment(plan_id)}/{segment(keys[0])}"
                entry = await self._caller.get("memory", path, scope, _key_entry)
            except KeyMissing:
                return {}
            return {keys[0]: stored(entry)}
        found: dict[str, Stored] = {}
        for start in range(0, len(keys), 1000):
            body = msgspec.json.encode({"keys": keys[start : start + 1000]})
            path = f"/v1/memory/many/{segment(plan_id)}"
            answer = await self._caller.call("memory", "POST", path, scope=scope, body=body)
            found.update(
                {key: stored(entry) for key, entry in _entries.decode(answer).entries.items()}
            )
        return found

    async def keys(
        self, scope: Scope, plan_id: str, prefix: str, revision: int | None = None
    ) -> list[str]:
        """Returns all keys with that prefix, in order; with a revision, those of then."""
        path = f"/v1/memory/working/{segment(plan_id)}"
        wanted: dict[str, Any] = {
            "prefix": prefix,
            "values": "false",
            "limit": PAGE,
            "revision": revision,
        }
        pages = self._caller.pages("memory", path, scope, _key_page, **wanted)
        return [key async for page in pages for key in page.keys]

    async def values_at(
        self, scope: Scope, plan_id: str, revision: int, prefix: str = ""
    ) -> dict[str, str]:
        """All keys as of a revision, in order, with their values as JSON text."""
        path = f"/v1/memory/working/{segment(plan_id)}"
        wanted: dict[str, Any] = {"prefix": prefix, "revision": revision, "limit": PAGE}
        pages = self._caller.pages("memory", path, scope, _past_page, **wanted)
        return {
            entry.key: bytes(entry.value).decode() async for page in pages for entry in page.entries
        }

    async def revision(self, scope: Scope, plan_id: str) -> int:
        """The plan's committed revision, 0 if it was never written."""
        path = f"/v1/memory/working/{segment(plan_id)}"
        return (
            await self._caller.get("memory", path, scope, _key_page, limit=1, values="false")
        ).revision

    async def plan(self, scope: Scope, plan_id: str) -> PlanInfo:
        return await self._caller.get(
            "memory", f"/v1/memory/plans/{segment(plan_id)}", scope, _plan
        )

    async def actions(self, scope: Scope, plan_id: str) -> list[Action]:
        pages = self._caller.pages(
            "memory", f"/v1/memory/actions/{segment(plan_id)}", scope, _action_page
        )
        return [action async for page in pages for action in page.actions]


def stored(entry: Entry | KeyEntry) -> Stored:
    """Returns an entry of the platform's response as `Stored`."""
    return Stored(bytes(entry.value).decode(), entry.revision, entry.updated_at, entry.expires_at)


def _text(result: msgspec.Raw) -> str | None:
    text = bytes(result).decode()
    return None if text == "null" else text
