"""`--dataset PATH`: what searches return of a set that is not ours, through the client.

Each haystack is a tenant of its own. The order is asked for with `min_score=0`; what the product
returns by default is scored where a set says what should not come back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, get_args

import uvloop
from dataset_rows import Dataset, Haystack, Passage, Question
from measuring import say
from over_retrieval import Answers, f1, found_within, precision, recall, reciprocal_rank
from over_sdk import in_flight
from retrieval_sets import OTHER, READER, Case, embedded
from stage import Stage

from soorma import ClientConfig, MemoryClient
from soorma_common.semantic import MOST_HITS, Mode

MODES: tuple[Mode, ...] = get_args(Mode)
RANKS = (1, 5, 10)
IN_FLIGHT = 4
MOST_PASSAGES, MOST_BYTES = 100, 1 << 20
"""Of a batch."""
SAY_EACH = 20
EMBEDDING_SECONDS = 3_600.0
"""Of one haystack, which may have some thousand long turns."""


@dataclass
class Scored:
    """The answers in one mode; a group is a session that a passage is part of."""

    ranked: Answers = field(default_factory=list)
    groups: Answers = field(default_factory=list)
    default: Answers = field(default_factory=list)
    unwanted: list[bool] = field(default_factory=list)
    """Of each question that names what must not come back: whether some of it did, by default."""


@dataclass(frozen=True)
class _Stored:
    """What the platform has stored of a haystack: its ids, which equal texts share."""

    ids: Mapping[str, str]
    groups: Mapping[str, Sequence[str]]
    """By the platform's ids."""
    group_of: Mapping[str, str]
    """By those of the set."""

    def of(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset(self.ids[name] for name in names)

    def ranked_groups(self, ids: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(group for one in ids for group in self.groups.get(one, ())))


def measure(stage: Stage, dataset: Dataset) -> dict[Mode, Scored]:
    """Stores and asks all of a set."""
    with stage.new_platform("dataset") as platform:
        config = ClientConfig(platform.memory_url, platform.events_url, "dataset", READER)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measure(config, dataset))


async def _measure(config: ClientConfig, dataset: Dataset) -> dict[Mode, Scored]:
    found = {mode: Scored() for mode in MODES}
    async with MemoryClient(config=config) as memory:
        for number, haystack in enumerate(dataset.haystacks):
            if number % SAY_EACH == 0:
                say(f"{dataset.form}: haystack {number + 1:,} of {len(dataset.haystacks):,}")
            tenant = f"haystack-{number}"
            stored = await _store(memory, tenant, haystack)
            await embedded(memory, tenant, seconds=EMBEDDING_SECONDS)
            for mode, scored in found.items():
                await _ask(_Asking(memory, tenant, mode, stored), haystack, scored)
    return found


async def _store(memory: MemoryClient, tenant: str, haystack: Haystack) -> _Stored:
    ids: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for batch in _batches(haystack.passages):
        user = OTHER if batch[0].user else READER
        stored = await memory.store_knowledge_batch(
            [_arguments(one, ids) for one in batch], tenant_id=tenant, user_id=user
        )
        for passage, done in zip(batch, stored, strict=True):
            ids[passage.id] = name = done.id
            if passage.group:
                groups.setdefault(name, []).append(passage.group)
    return _Stored(ids, groups, {one.id: one.group for one in haystack.passages})


def _batches(passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    """Batches of one user; none supersedes a passage of its own batch, whose id is not known."""
    batch: list[Passage] = []
    size = 0
    for one in passages:
        more = len(one.content.encode())
        is_full = len(batch) == MOST_PASSAGES or size + more > MOST_BYTES
        if batch and (is_full or one.user != batch[0].user or "supersedes" in one.fields):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += more
    if batch:
        yield batch


def _arguments(one: Passage, ids: Mapping[str, str]) -> dict[str, Any]:
    more = {"supersedes": ids[one.fields["supersedes"]]} if "supersedes" in one.fields else {}
    return {"content": one.content, "is_public": one.is_public, **one.fields, **more}


@dataclass(frozen=True)
class _Asking:
    memory: MemoryClient
    tenant: str
    mode: Mode
    stored: _Stored

    async def ids(self, question: Question, limit: int, min_score: float | None) -> list[str]:
        hits = await self.memory.search_knowledge(
            question.query, mode=self.mode, limit=limit, min_score=min_score,
            tenant_id=self.tenant, **question.how,
        )  # fmt: skip
        return [hit.id for hit in hits]


async def _ask(asking: _Asking, haystack: Haystack, scored: Scored) -> None:
    stored, depth = asking.stored, MOST_HITS if asking.stored.groups else max(RANKS)

    async def ask(number: int) -> None:
        question = haystack.questions[number]
        case = Case(question.query, stored.of(question.wanted), question.kind)
        if question.wanted:
            ids = await asking.ids(question, depth, 0.0)
            scored.ranked.append((case, ids[: max(RANKS)]))
            if stored.groups:
                wanted = frozenset(stored.group_of[name] for name in question.wanted)
                groups = Case(question.query, wanted, question.kind)
                scored.groups.append((groups, stored.ranked_groups(ids)[: max(RANKS)]))
        found = await asking.ids(question, max(RANKS), None)
        scored.default.append((case, found))
        if question.unwanted:
            scored.unwanted.append(not stored.of(question.unwanted).isdisjoint(found))

    await in_flight(len(haystack.questions), IN_FLIGHT, ask)


# --- What is printed -----------------------------------------------------------------------


def has_negatives(dataset: Dataset) -> bool:
    """True if it says of a question what should not come back: all, or some passages."""
    return any(one.unwanted or not one.wanted for one in dataset.questions)


def numbers(dataset: Dataset, found: Mapping[Mode, Scored]) -> dict[str, dict[str, float]]:
    """Returns the figures of each mode by their names."""
    negatives = has_negatives(dataset)
    return {
        mode: _ranking("", of.ranked)
        | (_ranking("session ", of.groups) if of.groups else {})
        | (_default(of) if negatives else {})
        for mode, of in found.items()
    }


def _ranking(what: str, answers: Answers) -> dict[str, float]:
    if not answers:
        return {}
    found = {
        f"{what}recall@{rank}": recall([(case, ids[:rank]) for case, ids in answers])
        for rank in RANKS
    }
    found[f"{what}any@{max(RANKS)}"] = found_within(answers, max(RANKS))
    return found | {f"{what}MRR": reciprocal_rank(answers)}


def _default(of: Scored) -> dict[str, float]:
    found = {"precision": precision(of.default)}
    if any(case.wanted for case, _ in of.default):
        found |= {"recall": recall(of.default), "F1": f1(of.default)}
    if nothing := [ids for case, ids in of.default if not case.wanted]:
        found["nothing to find: none returned"] = mean(not ids for ids in nothing)
    if of.unwanted:
        found["unwanted returned"] = mean(of.unwanted)
    return found


def report(path: Path, dataset: Dataset, found: Mapping[Mode, Scored]) -> str:
    """Returns the figures for a terminal."""
    figures = numbers(dataset, found)
    passages = sum(len(one.passages) for one in dataset.haystacks)
    size = f"{len(dataset.haystacks):,} haystacks, {passages:,} passages"
    lines = [
        f"{path.name}: {dataset.form}; {size}, {len(dataset.questions):,} questions",
        *(f"  {note}" for note in dataset.notes),
        "",
    ]
    names = list(next(iter(figures.values())))
    width = max(len(name) for name in names)
    lines.append(f"{'':{width}}  {'  '.join(f'{mode:>7}' for mode in figures)}")
    lines += [
        f"{name:{width}}  {'  '.join(f'{of[name]:7.3f}' for of in figures.values())}"
        for name in names
    ]
    return "\n".join(lines)


def as_json(path: Path, dataset: Dataset, found: Mapping[Mode, Scored]) -> str:
    """Returns the figures for a program."""
    return json.dumps(
        {"file": path.name, "form": dataset.form, "notes": dataset.notes,
         "haystacks": len(dataset.haystacks), "questions": len(dataset.questions),
         "figures": numbers(dataset, found)},
        indent=1,
    )  # fmt: skip
