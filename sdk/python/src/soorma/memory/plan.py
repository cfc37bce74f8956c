"""A user's plan, bound to connections: all reads and changes of one plan.

Clients, states, claims and views of the past hold one, so that none of them repeats whose plan it
means.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from soorma.config import ClientConfig
from soorma.memory.models import PlanState, plan_state_of
from soorma.memory.plans import PAGE, Applied, Plans, PlatformPlans, Stored
from soorma.transport.calls import Caller, segment
from soorma_common.errors import InvalidRequest, KeyMissing
from soorma_common.json_text import decode
from soorma_common.memory import Action, Change, ChangePage, CommitSeen, PlanInfo
from soorma_common.names import Scope, check_name
from soorma_common.operations import LONGEST_TTL, AnyOperation, Set

_change_page = msgspec.json.Decoder(ChangePage)
_commit_seen = msgspec.json.Decoder(CommitSeen)


@dataclass(slots=True, eq=False)  # one is made for each call of a state: frozen takes twice as long
class BoundPlan:
    """A plan of one user, read and changed through `plans`: the platform or a transaction."""

    config: ClientConfig
    caller: Caller
    plans: Plans
    scope: Scope
    id: str

    @property
    def collects(self) -> bool:
        """True if changes are collected and committed together later."""
        return self.plans.collects

    def checked(self) -> Scope:
        """Returns the scope if the plan may (still) be used; else raises what `plans` raises."""
        self.plans.check(self.scope)
        return self.scope

    # what it holds

    async def value(self, key: str) -> Any:
        """Returns the value of a key; KeyMissing if there is none."""
        return decode((await self._read(key)).text)

    async def entry(self, key: str) -> PlanState:
        """Returns a key with its value, revision and times; KeyMissing if there is none."""
        return plan_state_of(self.scope, self.id, key, await self._read(key))

    async def entries(self, keys: Iterable[str]) -> dict[str, PlanState]:
        """Returns those of the keys that exist, read together."""
        scope, wanted = self.checked(), [check_name("key", key) for key in keys]
        found = await self.plans.read(scope, self.id, wanted) if wanted else {}
        return {key: plan_state_of(self.scope, self.id, key, entry) for key, entry in found.items()}

    async def committed(self, key: str) -> PlanState | None:
        """Returns the key as all others see it, None if it is missing."""
        found = await self._platform().read(self.checked(), self.id, [check_name("key", key)])
        return plan_state_of(self.scope, self.id, key, found[key]) if key in found else None

    async def keys(self, prefix: str) -> list[str]:
        """Returns all keys that begin with `prefix`, in order."""
        return await self.plans.keys(self.checked(), self.id, prefix)

    async def info(self) -> PlanInfo:
        """Returns status, revision, sizes and times; NotFound if nothing is stored."""
        return await self.plans.plan(self.checked(), self.id)

    async def actions(self) -> list[Action]:
        """Returns the action history, in order."""
        return await self.plans.actions(self.checked(), self.id)

    # what it held

    async def revision(self) -> int:
        """Returns the committed revision, 0 if the plan was never written."""
        return await self._platform().revision(self.checked(), self.id)

    async def value_at(self, key: str, revision: int) -> Any:
        """Returns the value of a key as of a revision.

        Raises KeyMissing if there was none, HistoryGone if the revision is too old.
        """
        path = f"/v1/memory/working/{segment(self.id)}/{segment(check_name('key', key))}"
        answer = await self.caller.read("memory", path, self.checked(), revision=revision)
        return answer["value"]

    async def values_at(self, revision: int, prefix: str) -> dict[str, Any]:
        """Returns all keys that begin with `prefix`, with their values, as of a revision."""
        found = await self._platform().values_at(self.checked(), self.id, revision, prefix)
        return {key: decode(text) for key, text in found.items()}

    async def keys_at(self, revision: int, prefix: str) -> list[str]:
        """Returns all keys that begin with `prefix` as of a revision, in order."""
        return await self._platform().keys(self.checked(), self.id, prefix, revision)

    async def history(self, key: str | None, after: int | None) -> list[Change]:
        """Returns the committed changes since a revision (None: all kept), of one key or all."""
        path, scope = f"/v1/memory/history/{segment(self.id)}", self.checked()
        pages = self.caller.pages(
            "memory", path, scope, _change_page, key=key, after=after, limit=PAGE
        )
        return [change async for page in pages for change in page.changes]

    async def watch(self, after: int | None) -> AsyncGenerator[list[Change], None]:
        """Yields the changes of each commit after a revision (None: now), as they happen.

        Each time the stream is established, yields an empty list first.
        """
        path, scope = f"/v1/memory/watch/{segment(self.id)}", self.checked()
        if after is None:
            after = await self.revision()
        async for kind, _, data in self.caller.follow("memory", path, scope, {"after": after}):
            if kind == "open":
                yield []
            elif kind == "commit":
                yield _commit_seen.decode(data).changes

    # what changes it

    async def apply(
        self, operations: list[AnyOperation], expected_revision: int | None = None
    ) -> list[Any]:
        """Applies operations together; returns their results."""
        done = await self.plans.apply(self.checked(), self.id, operations, expected_revision)
        return [None if text is None else decode(text) for text in done.results]

    async def do(self, operation: AnyOperation) -> Any:
        """Applies one operation; returns its result."""
        return (await self.apply([operation]))[0]

    async def applied(self, operation: AnyOperation) -> tuple[Any, int]:
        """Applies one operation; returns its result and the plan's revision after it."""
        done = await self.plans.apply(self.checked(), self.id, [operation])
        text = done.results[0]
        return None if text is None else decode(text), done.revision

    async def put(self, operation: Set) -> PlanState:
        """Sets a key; returns it as stored."""
        done: Applied = await self.plans.apply(self.checked(), self.id, [operation])
        text = bytes(operation.value).decode()
        return plan_state_of(
            self.scope, self.id, operation.key, Stored(text, done.revision, done.at)
        )

    # inside

    def _platform(self) -> PlatformPlans:
        return PlatformPlans(self.caller)

    async def _read(self, key: str) -> Stored:
        found = await self.plans.read(self.checked(), self.id, [check_name("key", key)])
        if key not in found:
            raise KeyMissing(f"plan {self.id!r} has no key {key!r}", plan_id=self.id, key=key)
        return found[key]


def check_ttl(seconds: float | None) -> float | None:
    """Returns a time to live if it is None or a valid number of seconds; else InvalidRequest."""
    if seconds is not None and (
        type(seconds) not in (int, float) or not 0 < seconds <= LONGEST_TTL
    ):
        raise InvalidRequest(
            f"ttl is a number of seconds more than 0, at most {LONGEST_TTL:.0f}, not {seconds!r}"
        )
    return seconds


def raw(text: str) -> msgspec.Raw:
    """Returns JSON text as an operation's argument."""
    return msgspec.Raw(text.encode())
