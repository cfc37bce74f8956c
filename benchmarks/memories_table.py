"""Figures, tables and the plot of memories elsewhere."""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from measuring import (
    FULL_COMMIT,
    READ,
    Figure,
    Plot,
    Table,
    ms,
    percentile,
    ratio_of,
    times,
)
from over_retrieval import Answers, f1, found_within, precision, recall, reciprocal_rank
from stage import Stage

HERE, MEM0, LANGGRAPH, BARE = "Soorma", "mem0", "LangGraph", "bare"
OTHERS = (MEM0, LANGGRAPH, BARE)
AHEAD_OF = (MEM0, LANGGRAPH)
"""Whose quality is a bound; the bare tables are there to show what a library adds."""
LIMITS = range(1, 11)
SHARE_OF_LANGGRAPH = 0.5
"""Its store is a library in the client's process, and answers no other one."""
PLOT = "memories-elsewhere"


@dataclass(frozen=True)
class Found:
    """All answers of a system to the queries of a set, among so many distractors."""

    system: str
    domain: str
    distractors: int
    cases: Answers
    hard: Answers
    pairs: Answers

    def within(self, limit: int) -> Answers:
        """The answers to cases with another limit."""
        return [(case, found[:limit]) for case, found in self.cases]

    @property
    def best_limit(self) -> int:
        """The limit with the best F1, as one finds it who knows the answers."""
        return max(LIMITS, key=lambda limit: f1(self.within(limit)))

    @property
    def ranking(self) -> tuple[float, float, float]:
        """Recall@1, recall@5 and the mean reciprocal rank of the pairs."""
        ten = [(case, found[:10]) for case, found in self.pairs]
        return found_within(ten, 1), found_within(ten, 5), reciprocal_rank(ten)


@dataclass
class Series:
    """Passages a second, a value for each round: until stored, and until found by vectors, too."""

    answered: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)


@dataclass
class Costs:
    """The measurements of a system; `stores` by the passages of a call."""

    version: str
    commits: str
    latencies: list[list[float]] = field(default_factory=list)
    stores: dict[int, Series] = field(default_factory=dict)

    @property
    def p50(self) -> list[float]:
        """The median of each round."""
        return [median(one) for one in self.latencies]


Floors = Mapping[int, Sequence[float]]
"""Passages a second by a bare request and a bare commit, by the passages of a call."""


def report(
    stage: Stage, found: Sequence[Found], costs: Mapping[str, Costs], floors: Floors
) -> None:
    """Adds all of it to the report."""
    sets = list(dict.fromkeys((one.domain, one.distractors) for one in found))
    of = {
        key: {one.system: one for one in found if (one.domain, one.distractors) == key}
        for key in sets
    }
    report = stage.report
    report.figures += [_cases_figure(by_name) for by_name in of.values()]
    report.figures += [_pairs_figure(by_name) for by_name in of.values()]
    report.figures += [
        _search_figure(costs, stage.sizes.compared_passages),
        *(_stores_figure(costs, size, floors[size]) for size in costs[HERE].stores),
    ]
    report.tables += [_found_table(found), _costs_table(stage, costs, floors)]
    among = [one for one in found if one.distractors]
    report.plots.append(_plot(among))


def _cases_figure(of: Mapping[str, Found]) -> Figure:
    score = {name: f1(one.cases) for name, one in of.items()}
    best = {name: f1(one.within(one.best_limit)) for name, one in of.items()}
    one = of[HERE]
    others = ", ".join(
        f"{name} {score[name]:.3f} (limit {of[name].best_limit}: {best[name]:.3f})"
        for name in OTHERS
    )
    is_ahead = all(score[HERE] > max(score[name], best[name]) for name in AHEAD_OF)
    return Figure(
        f"memories elsewhere, {_where(one)}: F1 of the defaults", f"{score[HERE]:.3f}", others, "",
        "> mem0 and LangGraph at any limit", is_ahead,
    )  # fmt: skip


def _pairs_figure(of: Mapping[str, Found]) -> Figure:
    ranking = {name: one.ranking for name, one in of.items()}
    is_ahead = all(
        here > there
        for name in AHEAD_OF
        for here, there in zip(ranking[HERE], ranking[name], strict=True)
    )
    others = ", ".join(f"{name} {_numbers(ranking[name])}" for name in OTHERS)
    return Figure(
        f"memories elsewhere, {_where(of[HERE])}: recall@1 / @5 / MRR of pairs",
        _numbers(ranking[HERE]), others, "", "> mem0 and LangGraph", is_ahead,
    )  # fmt: skip


def _search_figure(costs: Mapping[str, Costs], count: int) -> Figure:
    ratio = {name: _ratio(costs, name, lambda one: one.p50) for name in OTHERS}
    return Figure(
        f"memories elsewhere, search among {count:,} passages, p50", ms(median(costs[HERE].p50)),
        ", ".join(f"{name} {ms(median(costs[name].p50))}" for name in OTHERS),
        _ratios(ratio), "< mem0", ratio[MEM0] < 1, READ,
    )  # fmt: skip


def _stores_figure(costs: Mapping[str, Costs], size: int, floor: Sequence[float]) -> Figure:
    """Of the rates until vectors are found, too: that is when the others return."""
    ratio = {name: _ratio(costs, name, lambda one: one.stores[size].found) for name in OTHERS}
    rate = {name: median(one.stores[size].found) for name, one in costs.items()}
    how = "one at a time" if size == 1 else f"in batches of {size}"
    return Figure(
        f"memories elsewhere, passages stored {how}, until found by words and vectors",
        f"{rate[HERE]:,.0f}/s",
        ", ".join(f"{name} {rate[name]:,.0f}/s" for name in OTHERS)
        + f"; bare PUT + bare FULL commit {median(floor):,.0f}/s",
        _ratios(ratio), f"> mem0, ≥ {SHARE_OF_LANGGRAPH} × LangGraph",
        ratio[MEM0] > 1 and ratio[LANGGRAPH] >= SHARE_OF_LANGGRAPH, FULL_COMMIT,
    )  # fmt: skip


def _ratio(
    costs: Mapping[str, Costs], name: str, series: Callable[[Costs], Iterable[float]]
) -> float:
    return ratio_of(zip(series(costs[HERE]), series(costs[name]), strict=True))


def _ratios(ratio: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {times(one)}" for name, one in ratio.items())


def _where(one: Found) -> str:
    return f"{one.domain} among {one.distractors:,} distractors" if one.distractors else one.domain


def _numbers(values: Iterable[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


def _scores(answers: Answers) -> str:
    return _numbers((precision(answers), recall(answers), f1(answers)))


def _found_table(found: Sequence[Found]) -> Table:
    return Table(
        "Memories elsewhere: what searches return",
        "The same sets, with vectors of the same model, which is called once for all. Each system "
        "is asked with its defaults, and with the fixed limit, from 1 to 10, that is best for "
        "these very cases. By default, mem0 returns 20 passages, LangGraph's Store and the bare "
        "tables 10, and Soorma at most 10. mem0 compares vectors and keywords (BM25), LangGraph's "
        "Store on SQLite vectors alone, and so does mem0 where fastembed is not installed: its "
        "ranking is then the same; the bare tables fuse the rankings of sqlite-vec and FTS5. "
        "What the others have no notion of is done for them by hand: a passage ends when another "
        "supersedes it, its other names are in its text, what is public is stored for the user "
        "who asks, and what is found is filtered by times, tags and source. Pairs are ranked "
        "without any threshold. All numbers: precision / recall / F1 on the cases, as above.",
        ("domain", "distractors", "system", "default", "best limit", "hard, default",
         "pairs: recall@1 / @5 / MRR"),
        [
            (one.domain, f"{one.distractors:,}", one.system, _scores(one.cases),
             f"{one.best_limit}: {_scores(one.within(one.best_limit))}", _scores(one.hard),
             _numbers(one.ranking))
            for one in sorted(found, key=lambda one: (one.domain, one.distractors))
        ],
        PLOT,
    )  # fmt: skip


def _costs_table(stage: Stage, costs: Mapping[str, Costs], floors: Floors) -> Table:
    singles, batches = costs[HERE].stores
    return Table(
        "Memories elsewhere: what they cost",
        f"Texts of 40 words that were made up by chance, {stage.sizes.compared_passages:,} of one "
        "user when searches are timed, with vectors that take no time. The systems take turns; "
        "ratios are medians of the rounds' ratios. Soorma is asked through its client over HTTP, "
        "its platform in a process of its own; the others are libraries in one process, which "
        "spares them the way between processes. Each of them returns from a store when vectors "
        "are found, too; Soorma when the passage is durable and found by its words, and its "
        "vector follows: the rates count until then, those in parentheses until it returns. "
        "mem0 stores a list of messages one by one. The floor is what a client in another process "
        "pays at least: a bare PUT over HTTP, and a bare commit of as much text.",
        ("system", "search, p50 (p95)", "one at a time", f"batches of {batches}", "durability",
         "processes"),
        [
            (one.version, f"{ms(median(one.p50))} ({ms(_p95(one))})",
             _rate(one.stores[singles], name), _rate(one.stores[batches], name),
             _durability(one.commits), "platform, client" if name == HERE else "1")
            for name, one in costs.items()
        ]
        + [("floor", "–", *(f"{median(floors[size]):,.0f}/s" for size in (singles, batches)),
            "WAL, FULL", "server, client")],
    )  # fmt: skip


def _p95(one: Costs) -> float:
    return percentile([took for of in one.latencies for took in of], 0.95)


def _rate(series: Series, name: str) -> str:
    returned = f" ({median(series.answered):,.0f}/s)" if name == HERE else ""
    return f"{median(series.found):,.0f}/s{returned}"


def _durability(commits: str) -> str:
    """`wal/2`: journal_mode and synchronous."""
    journal, synchronous = commits.split("/")
    if synchronous != "2":
        raise RuntimeError(f"not with synchronous=FULL: {commits}")
    return "WAL, FULL" if journal == "wal" else f"rollback journal ({journal}), FULL"


def _plot(found: Sequence[Found]) -> Plot:
    lines: dict[str, list[float]] = {}
    for system in (HERE, *OTHERS):
        of = [one for one in found if one.system == system]
        lines[system] = [mean(f1(one.within(limit)) for one in of) for limit in LIMITS]
    return Plot(
        PLOT, "Searches with a limit, among distractors", "most passages returned", "F1",
        tuple(str(limit) for limit in LIMITS), lines,
    )  # fmt: skip
