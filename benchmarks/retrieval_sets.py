"""The sets that measure retrieval: what is stored, what is asked, and what answers it."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soorma import MemoryClient

FOLDER = Path(__file__).with_name("retrieval")
DOMAINS = ("household", "railway")
READER, OTHER = "reader", "other"
"""The user who asks, and the one whose passages are marked with `user`."""
TODAY = "2026-11-30T12:00:00Z"
"""The time at which the cases ask that name none: what is true then is not true for ever."""
SEED = 2026
BATCH = 1_000
EMBEDDING_SECONDS = 300.0

_slot = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Case:
    """A query with all passages that answer it; `how` are its filters."""

    query: str
    wanted: frozenset[str]
    kind: str = ""
    how: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RetrievalSet:
    """The set of a domain; ids are those of its files."""

    domain: str
    passages: list[dict[str, Any]]
    cases: list[Case]
    hard: list[Case]
    pairs: list[Case]

    @classmethod
    def load(cls, domain: str, step: int = 1) -> RetrievalSet:
        """Reads a set; with `step`, every so many queries and the passages that they name."""
        folder = FOLDER / domain
        rows = {name: _rows(folder, name)[::step] for name in ("cases", "hard", "pairs")}
        passages = _rows(folder, "passages")
        if step > 1:
            passages = _named(passages, [row for of in rows.values() for row in of])
        return cls(
            domain,
            passages,
            [_case(row) for row in rows["cases"]],
            [_case(row) for row in rows["hard"]],
            [_case({**row, "wanted": [row["passage"]], "kind": "pair"}) for row in rows["pairs"]],
        )

    @property
    def private(self) -> set[str]:
        """The passages that the user who asks may not see."""
        return {one["id"] for one in self.passages if "user" in one and not one.get("public")}

    def distractors(self, count: int) -> list[str]:
        """Makes so many passages, all different, that answer none of the queries."""
        given = json.loads((FOLDER / self.domain / "distractors.json").read_text("utf-8"))
        chance = random.Random(SEED)  # noqa: S311 - the same ones each time
        made: dict[str, None] = {}
        while len(made) < count:
            template = given["templates"][len(made) % len(given["templates"])]
            made[_slot.sub(lambda slot: chance.choice(given["slots"][slot[1]]), template)] = None
        return list(made)

    async def store(self, memory: MemoryClient, tenant_id: str) -> dict[str, str]:
        """Stores the passages in their order; returns the set's id for each id of the platform."""
        ids: dict[str, str] = {}
        for one in self.passages:
            given = dict(one)
            name, user = given.pop("id"), given.pop("user", READER)
            if "supersedes" in given:
                given["supersedes"] = ids[given["supersedes"]]
            ids[name] = await memory.store_knowledge(
                is_public=given.pop("public", False), tenant_id=tenant_id, user_id=user, **given
            )
        return {stored: name for name, stored in ids.items()}

    async def store_distractors(self, memory: MemoryClient, tenant_id: str, count: int) -> None:
        """Stores distractors among the passages of the user who asks."""
        made = self.distractors(count)
        for first in range(0, count, BATCH):
            await memory.store_knowledge_batch(
                made[first : first + BATCH], tenant_id=tenant_id, user_id=READER
            )


async def embedded(
    memory: MemoryClient,
    tenant_id: str,
    user_id: str = READER,
    *,
    seconds: float = EMBEDDING_SECONDS,
) -> None:
    """Waits until all that a user finds has a vector."""
    until = time.monotonic() + seconds
    while (await memory.search_knowledge("all", tenant_id=tenant_id, user_id=user_id)).unembedded:
        if time.monotonic() > until:
            raise RuntimeError(f"not all is embedded after {seconds:.0f} s")
        await asyncio.sleep(0.05)


def _rows(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = (folder / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _case(row: dict[str, Any]) -> Case:
    filters = [name for name in ("tags", "source", "as_of") if name in row]
    how = {"as_of": TODAY} | {name: row[name] for name in filters}
    return Case(row["query"], frozenset(row["wanted"]), row["kind"], how)


def _named(passages: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the passages that rows name, with all that these supersede."""
    named: set[str] = set()
    for row in rows:
        named.update(row.get("wanted", ()), row.get("unwanted", ()))
        named.update([row["passage"]] if "passage" in row else ())
    for one in reversed(passages):
        if one["id"] in named and "supersedes" in one:
            named.add(one["supersedes"])
    return [one for one in passages if one["id"] in named]
