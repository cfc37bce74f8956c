"""What the settings of searches are worth on a domain that they were not tuned on.

The engine's functions rank the passages of a record that the platform has left, for each setting
of a grid. The best one for the cases of one domain is read on the other, both ways.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measuring import Plot, Table, say
from numpy.typing import NDArray
from retrieval_sets import DOMAINS, READER, Case, RetrievalSet

from soorma_common.names import Scope
from soorma_common.semantic import Mode
from soorma_common.times import milliseconds
from soorma_platform.assembly import Platform
from soorma_platform.engine.retrieval import ranking, terms
from soorma_platform.engine.retrieval.index import CollectionIndex
from soorma_platform.engine.retrieval.ranking import Calibration, Cut
from soorma_platform.engine.retrieval.vectors import unit
from soorma_platform.engine.rows.passages import ALWAYS, NEVER
from soorma_platform.settings import Settings
from soorma_platform.stores.ports.semantic import SemanticStore
from soorma_platform.work.embedding.offline import CALIBRATION, OfflineEmbedder

LIMIT = 10
MOST = 1 << 30
"""Rows of a collection that are read at once: all."""
LEAST_RECALL = 0.88
ZEROS = (0.1, 0.15, 0.2, 0.25)
TEXTS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
FLOORS = tuple(round(0.15 + 0.025 * step, 3) for step in range(15))
SHARES = tuple(round(0.6 + 0.05 * step, 2) for step in range(8))
EVERYTHING = Cut(0.0, 0.0)
FINE_FLOORS = tuple(step / 50 for step in range(50))
RECALLS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
PLOT = "precision-at-recall"
_TOLD: Mapping[Mode, str] = {"hybrid": "both", "text": "words", "vector": "meaning"}


class Quality(NamedTuple):
    """Mean precision and mean recall, as in `over_retrieval`."""

    precision: float
    recall: float

    def __str__(self) -> str:
        return f"{self.precision:.3f} / {self.recall:.3f}"

    @property
    def rank(self) -> tuple[float, float]:
        """The more the better: precision counts once recall is enough."""
        return min(self.recall, LEAST_RECALL), self.precision


@dataclass
class _Collections:
    """What the user who asks may find, as the indexes of the platform hold it."""

    indexes: list[CollectionIndex]
    names: Mapping[int, str]
    """the set's ids by the platform's numbers, without the distractors"""

    @classmethod
    async def of(
        cls, store: SemanticStore, model: int, scope: Scope, ids: Mapping[str, str], *, all_of: bool
    ) -> _Collections:
        standing = await store.collections(scope)
        indexes, names = [], dict[int, str]()
        for row in (standing.own, standing.public):
            if row is None:
                continue
            parts = await store.parts(row.id, 0, MOST) or []
            texts = await store.texts(sorted({part.passage for part in parts}))
            names |= {number: ids[one.id] for number, one in texts.items() if one.id in ids}
            index = CollectionIndex()
            index.take([part for part in parts if all_of or part.passage in names])
            index.take_vectors(await store.vectors(row.id, model, 0, MOST))
            indexes.append(index)
        return cls(indexes, names)


class _Evidence:
    """All that a setting is judged by: the scores of each case's words and vectors."""

    def __init__(self, within: _Collections, cases: Sequence[Case], vectors: Vectors) -> None:
        self._within = within
        self._wanted = np.array([len(case.wanted) for case in cases])
        self._asked = [_Asked(within, case, vectors[case.query]) for case in cases]

    def curve(self, calibration: Calibration, mode: Mode = "hybrid") -> _Curve:
        """Returns what any cut makes of the ranking by a setting."""
        scores = np.zeros((len(self._asked), LIMIT))
        right = np.zeros_like(scores, np.bool_)
        for number, asked in enumerate(self._asked):
            for rank, (score, is_right) in enumerate(asked.ranked(calibration, mode)):
                scores[number, rank], right[number, rank] = score, is_right
        return _Curve(scores, right, self._wanted)


Vectors = Mapping[str, NDArray[np.float32]]


class _Asked:
    """A case, ranked by any setting."""

    def __init__(self, within: _Collections, case: Case, vector: NDArray[np.float32]) -> None:
        self._within, self._case = within, case
        indexes, how = within.indexes, case.how
        labels = terms.labels(how.get("tags", ()), how.get("source"), None)
        visible = [index.visible(None, milliseconds(how["as_of"])) for index in indexes]
        self._eligible = [
            ranking.candidates(index, mask, labels, ALWAYS, NEVER)
            for index, mask in zip(indexes, visible, strict=True)
        ]
        self._texts = ranking.text_scores(ranking.Query.of(case.query), indexes, visible)
        self._vectors = [
            ranking.vector_scores(index, vector, text, mask)
            for index, mask, text in zip(indexes, self._eligible, self._texts, strict=True)
        ]

    def ranked(self, calibration: Calibration, mode: Mode) -> list[tuple[float, bool]]:
        """Returns the scores of the best passages, and which of these are wanted."""
        indexes = self._within.indexes
        scores = [
            ranking.final_scores(
                text,
                None if mode == "text" else vectors,
                calibration,
                by_vector_alone=mode == "vector",
            )
            for text, vectors in zip(self._texts, self._vectors, strict=True)
        ]
        best = ranking.best(indexes, scores, self._eligible, LIMIT, EVERYTHING)
        numbers = [int(indexes[one.collection].column("passage")[one.slot]) for one in best]
        return [
            (one.score, self._within.names.get(number) in self._case.wanted)
            for one, number in zip(best, numbers, strict=True)
        ]


class _Curve(NamedTuple):
    """The best passages of each case, by rank."""

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    wanted: NDArray[np.int64]

    def at(self, cut: Cut) -> Quality:
        """Returns how good the passages are that a cut leaves."""
        least = np.maximum(cut.floor, cut.share * self.scores[:, :1])
        kept = (self.scores >= least) & (self.scores > 0)
        count, right = kept.sum(axis=1), (kept & self.right).sum(axis=1)
        precision = np.where(count > 0, right / np.maximum(count, 1), self.wanted == 0)
        asking = self.wanted > 0
        recall = right[asking] / self.wanted[asking]
        return Quality(float(precision.mean()), float(recall.mean()))


def _highest(curve: _Curve) -> list[float]:
    """Returns the highest precision of any cut for each of RECALLS, as far as one reaches it."""
    cuts = itertools.starmap(Cut, itertools.product(FINE_FLOORS, SHARES))
    reached = [curve.at(cut) for cut in cuts]
    found = []
    for least in RECALLS:
        precisions = [one.precision for one in reached if one.recall >= least]
        if not precisions:
            break
        found.append(max(precisions))
    return found


def best_setting(evidence: _Evidence) -> Calibration:
    """Returns the setting of the grid with the highest precision whose recall is enough.

    If none reaches that recall, the one that comes nearest.
    """
    found: list[tuple[tuple[float, float], Calibration]] = []
    for zero, text in itertools.product(ZEROS, TEXTS):
        setting = Calibration(zero, CALIBRATION.one, text, EVERYTHING, EVERYTHING)
        curve = evidence.curve(setting)
        for cut in itertools.starmap(Cut, itertools.product(FLOORS, SHARES)):
            setting = Calibration(zero, CALIBRATION.one, text, cut, cut)
            found.append((curve.at(cut).rank, setting))
    return max(found, key=lambda one: one[0])[1]


async def tuned(
    database: Path, names: Mapping[str, Mapping[str, str]], step: int
) -> tuple[Table, Plot]:
    """Tunes on each domain and reads on both; `names` are the sets' ids by the platform's.

    The plot shows what any cut could reach.
    """
    say("settings tuned on one domain, read on the other")
    alone: dict[str, _Evidence] = {}
    among: dict[str, _Evidence] = {}
    embedder = OfflineEmbedder()
    try:
        async with Platform(
            Settings(database=database, embeddings="none", access="open")
        ) as platform:
            memories = platform.store.memories
            model = await memories.embeddings.model(embedder.name)
            for domain in DOMAINS:
                cases = RetrievalSet.load(domain, step).cases
                made = await embedder.embed([case.query for case in cases])
                vectors = {case.query: unit(one) for case, one in zip(cases, made, strict=True)}
                for found, all_of in ((alone, False), (among, True)):
                    within = await _Collections.of(
                        memories.semantic, model, Scope(domain, READER), names[domain],
                        all_of=all_of,
                    )  # fmt: skip
                    found[domain] = _Evidence(within, cases, vectors)
    finally:
        await embedder.close()
    settings = {"both, by hand (the product's)": CALIBRATION}
    settings |= {domain: best_setting(alone[domain]) for domain in DOMAINS}
    lines = {
        f"{domain}, {_TOLD[mode]}": _highest(alone[domain].curve(CALIBRATION, mode))
        for domain in DOMAINS
        for mode in _TOLD
    }
    lines |= {
        f"{domain}, distractors": _highest(among[domain].curve(CALIBRATION)) for domain in DOMAINS
    }
    plot = Plot(
        PLOT,
        "Precision that a cut can reach",
        "mean recall, at least",
        "mean precision",
        tuple(f"{recall:g}" for recall in RECALLS),
        lines,
        is_share=True,
    )
    table = Table(
        "Settings of one domain on the other",
        "Mean precision / mean recall of words and meaning together, by the engine's functions on "
        "the same record. A setting says from which cosine on meaning counts, which share the "
        "words have, and what is cut: a floor, and a share of the best score. Of a grid, the one "
        f"with the highest precision at a recall of {LEAST_RECALL} or more on the cases of one "
        "domain, without distractors; what counts are its figures on the other. So far, the "
        "product's own are calibrated on both together. The picture shows the highest precision "
        "that any floor and share reaches at a recall, with the product's weights of words and "
        "meaning: a line ends where no cut returns more of what is wanted.",
        ("tuned on", "cosine from", "words", "floor", "share",
         *(f"{domain}{what}" for domain in DOMAINS for what in ("", ", distractors"))),
        [
            (of, f"{one.zero:g}", f"{one.text:g}", f"{one.cut.floor:g}", f"{one.cut.share:g}",
             *(str(found[domain].curve(one).at(one.cut))
               for domain in DOMAINS for found in (alone, among)))
            for of, one in settings.items()
        ],
        PLOT,
    )  # fmt: skip
    return table, plot
