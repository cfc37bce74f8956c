"""Figures of what searches of knowledge return: two sets, with and without distractors."""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import get_args

import retrieval_tuning
import uvloop
from measuring import Figure, Table, say
from over_sdk import in_flight
from retrieval_sets import DOMAINS, READER, Case, RetrievalSet, embedded
from stage import Stage

from soorma import ClientConfig, MemoryClient
from soorma_common.semantic import Mode
from soorma_platform.work.embedding import offline

IN_FLIGHT = 4
RANKS = 10
MODES: tuple[Mode, ...] = get_args(Mode)
ALONE: tuple[Mode, ...] = ("text", "vector")
LEAST_PRECISION, LEAST_RECALL, AMONG_DISTRACTORS, F1_BELOW = 0.75, 0.88, 0.70, 0.02
KINDS = ("no-shared-word", "nothing", "alias", "supersession", "contradiction", "scope", "time",
         "near-duplicate", "minimal-pair")  # fmt: skip

Answers = list[tuple[Case, list[str]]]
"""Cases with the passages that were returned, by the ids of the set; a distractor is ''."""


def precision(answers: Answers) -> float:
    """The mean share of what was returned that was wanted.

    Nothing returned is right, 1, if nothing is wanted, else 0.
    """
    return mean(
        len(case.wanted.intersection(found)) / len(found) if found else float(not case.wanted)
        for case, found in answers
    )


def recall(answers: Answers) -> float:
    """The mean share of what is wanted that was returned, over the cases that want something."""
    return mean(
        len(case.wanted.intersection(found)) / len(case.wanted)
        for case, found in answers
        if case.wanted
    )


def f1(answers: Answers) -> float:
    """The harmonic mean of precision and recall."""
    both = precision(answers), recall(answers)
    return 2 * both[0] * both[1] / sum(both) if sum(both) else 0.0


def found_within(answers: Answers, ranks: int) -> float:
    """The share of cases whose one passage is among the first so many."""
    return mean(bool(case.wanted.intersection(found[:ranks])) for case, found in answers)


def reciprocal_rank(answers: Answers) -> float:
    """The mean of 1 ÷ the rank of each case's one passage, 0 where it was not returned."""
    return mean(
        next((1 / rank for rank, one in enumerate(found, 1) if one in case.wanted), 0.0)
        for case, found in answers
    )


@dataclass(frozen=True)
class Searched:
    """All answers of a domain in one mode, among so many distractors."""

    domain: str
    distractors: int
    mode: Mode
    cases: Answers
    hard: Answers
    pairs: Answers

    @property
    def all(self) -> Answers:
        """The answers to all queries."""
        return [*self.cases, *self.hard, *self.pairs]


def retrieval(stage: Stage) -> None:
    """Precision and recall of searches, and what of them a setting of another domain keeps."""
    if offline.model_file() is None:
        stage.report.notes.append(
            "Retrieval was not measured: it needs the offline model, the extra `embeddings`."
        )
        return
    platform = stage.new_platform("retrieval")
    with platform:
        config = ClientConfig(platform.memory_url, platform.events_url, "retrieval", READER)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found, names, leaks = runner.run(_searched(stage, config))
    by_name = {(one.domain, one.distractors, one.mode): one for one in found}
    for domain in DOMAINS:
        for distractors in (0, stage.sizes.distractors):
            modes = {mode: by_name[domain, distractors, mode] for mode in MODES}
            stage.report.figures.append(_precision_figure(modes))
    for domain in DOMAINS:
        stage.report.figures.append(_f1_figure({mode: by_name[domain, 0, mode] for mode in MODES}))
    searches = sum(len(one.all) for one in found)
    stage.report.figures.append(
        Figure("private passages of another user that were returned", f"{leaks}",
               f"{searches:,} searches", "", "0", leaks == 0)
    )  # fmt: skip
    stage.report.tables += [_modes_table(found), _kinds_table(found)]
    table, plot = asyncio.run(
        retrieval_tuning.tuned(platform.database, names, stage.sizes.retrieval_step)
    )
    stage.report.tables.append(table)
    stage.report.plots.append(plot)


async def _searched(
    stage: Stage, config: ClientConfig
) -> tuple[list[Searched], dict[str, dict[str, str]], int]:
    """Asks all queries.

    Returns the answers, the sets' ids by the platform's, and how many answers held a private
    passage.
    """
    found: list[Searched] = []
    stored: dict[str, dict[str, str]] = {}
    leaks = 0
    async with MemoryClient(config=config) as memory:
        for domain in DOMAINS:
            of = RetrievalSet.load(domain, stage.sizes.retrieval_step)
            names = stored[domain] = await of.store(memory, domain)
            for distractors in (0, stage.sizes.distractors):
                say(f"searches of the domain {domain} among {distractors:,} distractors")
                await of.store_distractors(memory, domain, distractors)
                await embedded(memory, domain)
                asking = Asking(memory, domain, names)
                for mode in MODES:
                    found.append(
                        Searched(
                            domain, distractors, mode,
                            await asking.all(of.cases, mode), await asking.all(of.hard, mode),
                            await asking.all(of.pairs, mode, min_score=0.0),
                        )
                    )  # fmt: skip
                    leaks += sum(bool(of.private.intersection(ids)) for _, ids in found[-1].all)
    return found, stored, leaks


class Asking:
    """A client that asks as a user would: without a setting beyond the filters of a case."""

    def __init__(self, memory: MemoryClient, tenant_id: str, names: dict[str, str]) -> None:
        self._memory = memory
        self._tenant_id = tenant_id
        self._names = names

    async def all(
        self, cases: Sequence[Case], mode: Mode, min_score: float | None = None
    ) -> Answers:
        """Asks some at a time; a `min_score` of 0 makes a plain ranking of it."""
        found: list[list[str]] = [[]] * len(cases)

        async def ask(number: int) -> None:
            case = cases[number]
            hits = await self._memory.search_knowledge(
                case.query, limit=RANKS, mode=mode, min_score=min_score,
                tenant_id=self._tenant_id, **case.how,
            )  # fmt: skip
            found[number] = [self._names.get(hit.id, "") for hit in hits]

        await in_flight(len(cases), IN_FLIGHT, ask)
        return list(zip(cases, found, strict=True))


def _precision_figure(modes: dict[Mode, Searched]) -> Figure:
    one = modes["hybrid"]
    right, all_of = precision(one.cases), recall(one.cases)
    alone = ", ".join(
        f"{mode} alone {precision(modes[mode].cases):.3f} at {recall(modes[mode].cases):.3f}"
        for mode in ALONE
    )
    is_met, target = right >= AMONG_DISTRACTORS, f"≥ {AMONG_DISTRACTORS:.2f}"
    if not one.distractors:
        is_met = right >= LEAST_PRECISION and all_of >= LEAST_RECALL
        target = f"≥ {LEAST_PRECISION} at recall ≥ {LEAST_RECALL}"
    return Figure(f"search of {one.domain}{_among(one)}: mean precision",
                  f"{right:.3f} at recall {all_of:.3f}", alone, "", target, is_met)  # fmt: skip


def _f1_figure(modes: dict[Mode, Searched]) -> Figure:
    score = {mode: f1(one.cases) for mode, one in modes.items()}
    better = max(score[mode] for mode in ALONE)
    return Figure(
        f"search of {modes['hybrid'].domain}: F1 of words and meaning together",
        f"{score['hybrid']:.3f}", ", ".join(f"{mode} alone {score[mode]:.3f}" for mode in ALONE),
        "", f"≥ the better one − {F1_BELOW}", score["hybrid"] >= better - F1_BELOW,
    )  # fmt: skip


def _among(one: Searched) -> str:
    return f" among {one.distractors:,} distractors" if one.distractors else ""


def _modes_table(found: list[Searched]) -> Table:
    return Table(
        "What searches return",
        "Two sets of passages and queries ([what they hold](retrieval/README.md)), stored and "
        "asked through the client with its defaults, by words, by meaning, and by both. Precision "
        "is the mean share of what was returned that was wanted; nothing returned counts 1 if "
        "nothing is wanted, else 0. Recall is the mean share of what is wanted that was returned, "
        "F1 their harmonic mean. `hard`: queries as hard as they could be made. The last columns: "
        f"a plain ranking (`min_score=0`, {RANKS} hits) for paraphrases of single passages. The "
        "product's settings are so far calibrated on both domains together: the next table but one "
        "says what a setting of one domain is worth on the other.",
        ("domain", "distractors", "mode", "precision", "recall", "F1", "hard: precision",
         "hard: recall", "recall@1", "recall@5", "MRR"),
        [
            (one.domain, f"{one.distractors:,}", one.mode,
             *(f"{number:.3f}" for number in (
                 precision(one.cases), recall(one.cases), f1(one.cases),
                 precision(one.hard), recall(one.hard),
                 found_within(one.pairs, 1), found_within(one.pairs, 5),
                 reciprocal_rank(one.pairs))))
            for one in found
        ],
    )  # fmt: skip


def _kinds_table(found: list[Searched]) -> Table:
    searched = [one for one in found if one.mode == "hybrid"]
    return Table(
        "What searches return, by the kind of a case",
        "Precision / recall of words and meaning together, and the number of cases.",
        ("kind", *(f"{one.domain}{_among(one)}" for one in searched)),
        [(kind, *(_of_kind(one.cases, kind) for one in searched)) for kind in KINDS],
    )


def _of_kind(answers: Answers, kind: str) -> str:
    of = [(case, found) for case, found in answers if case.kind == kind]
    if not of:
        return "–"
    wanting = any(case.wanted for case, _ in of)
    return f"{precision(of):.2f} / {f'{recall(of):.2f}' if wanting else '–'} ({len(of)})"
