"""The ranking of passages for a query, from the collections of a scope alone.

A text score is BM25 as a share of what the query could reach at most: 1 means that all its words
are found, weighted by how much each says in this scope. So it can be compared between queries, and
what other tenants or users store changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from soorma_platform.engine.retrieval.index import CollectionIndex, Mask, Slots
from soorma_platform.engine.retrieval.terms import alias
from soorma_platform.engine.retrieval.tokens import STOP_WORDS, term_of, tokens
from soorma_platform.engine.retrieval.vectors import RESCORED, Vector

Scores = NDArray[np.float64]

K1, B = 1.2, 0.4
"""The usual constants of BM25: how soon a repeated word saturates, how much length counts."""
LONGEST_ALIAS = 8
"""Tokens of an alias that a query is searched for."""
MOST_TERMS = 64
"""Different words of a query that count: the rarest. A whole page as a query means its subject."""

FEW = 20
"""Parts from which on a collection says how telling a word is. Among three skills about refunds,
`refund` is in all of them, and yet what they are found by."""

_SOME, _BARELY = 1e-9, 1e-6
"""A score above nothing, and the share of a cosine in one that is nothing but ranked."""
_PARTS = 4
"""Parts that are looked at for each passage wanted; more if these are of too few passages."""


class Query(NamedTuple):
    """A query: its tokens in order, and those of them that say something."""

    words: list[str]
    telling: list[str]

    @classmethod
    def of(cls, text: str) -> Query:
        """Tokenizes a query. If it has stop words only, they count."""
        words = tokens(text)
        telling = [word for word in dict.fromkeys(words) if word not in STOP_WORDS]
        return cls(words, telling or list(dict.fromkeys(words)))

    def spans(self) -> list[list[str]]:
        """Returns what of it may be an alias: all runs of up to LONGEST_ALIAS tokens."""
        words = self.words
        return [
            words[start:end]
            for start in range(len(words))
            for end in range(start + 1, min(start + LONGEST_ALIAS, len(words)) + 1)
        ]


class Cut(msgspec.Struct, frozen=True):
    """Which of the ranked passages are returned: precision comes before number.

    Those with a score of at least `floor`, and of at least `share` of the best one's.
    """

    floor: float
    share: float


TEXT_CUT = Cut(floor=0.4, share=0.8)
"""For scores of text alone."""
NAMED = 0.9
"""The least score of a passage that the query calls by an alias."""


NEVER_ALIKE = 2.0
"""More than any cosine: of a model that is not calibrated, nothing is alike."""


class Calibration(msgspec.Struct, frozen=True):
    """How the cosines of a model become scores, and scores of text and vectors one.

    A cosine counts from `zero` on, fully at `one`; a text score counts squared, with `text` of the
    whole: a few common words say little. Tuned on one domain and tested on another
    (benchmarks/RESULTS.md).
    """

    zero: float
    one: float
    text: float
    cut: Cut
    vector_cut: Cut
    alike: float = NEVER_ALIKE
    """the cosine from which on two texts may state the same"""

    def of_vector(self, cosines: Scores) -> Scores:
        """Returns the scores of vectors alone."""
        return np.clip((cosines - self.zero) / (self.one - self.zero), 0.0, 1.0)

    def together(self, text: Scores, cosines: Scores) -> Scores:
        """Returns the scores of text and vectors together."""
        return self.text * text**2 + (1 - self.text) * self.of_vector(cosines)


UNKNOWN_MODEL = Calibration(0.0, 1.0, 0.25, Cut(0.0, 0.0), Cut(0.0, 0.0))
"""For a model that nobody has calibrated: its scores rank, and have no floor."""


class Ranked(NamedTuple):
    """A part that was found: the collection, its slot there, and its score from 0 to 1."""

    collection: int
    slot: int
    score: float


def candidates(
    index: CollectionIndex, visible: Mask, labels: Iterable[int], since: int, until: int
) -> Mask:
    """Returns which of the visible slots have all these labels, and were stored in this time."""
    stored = index.column("recorded_at")
    found = visible & (stored >= since) & (stored < until)
    for label in labels:
        with_label = np.zeros(len(visible), np.bool_)
        with_label[index.postings(label).slots] = True
        found &= with_label
    return found


class VectorScores(NamedTuple):
    """The cosine of each slot of a collection with the query, and which slots have a vector.

    The cosine is -1 where it was not computed, as others are nearer.
    """

    cosines: Scores
    has: Mask


class TextScores(NamedTuple):
    """The text score of each slot of a collection, and the slots that the query names."""

    scores: Scores
    named: list[int]


def text_scores(
    query: Query, indexes: Sequence[CollectionIndex], visible: Sequence[Mask]
) -> list[TextScores]:
    """Returns the text scores of each collection; 0 where nothing matches.

    `visible` are the slots that the statistics are of.
    """
    total = sum(int(mask.sum()) for mask in visible)
    scores = [np.zeros(index.count) for index in indexes]
    if not total or not query.telling:
        return [TextScores(one, []) for one in scores]
    lengths = sum(
        float(index.column("length")[mask].sum())
        for index, mask in zip(indexes, visible, strict=True)
    )
    average = max(lengths / total, 1.0)
    named = _aliases(query, indexes, visible)
    weights: dict[str, float] = {}
    found: dict[str, list[tuple[Slots, NDArray[np.uint8]]]] = {}
    for word in query.telling:
        postings = []
        for index, mask in zip(indexes, visible, strict=True):
            slots, counts = index.postings(term_of(word))
            seen = mask[slots]
            postings.append((slots[seen], counts[seen]))
        found[word] = postings
        frequency = sum(len(slots) for slots, _ in postings)
        weights[word] = math.log(1 + (max(total, FEW) - frequency + 0.5) / (frequency + 0.5))
    if len(weights) > MOST_TERMS:
        rarest = sorted(weights, key=lambda word: -weights[word])[:MOST_TERMS]
        weights = {word: weights[word] for word in rarest}
    reachable = sum(weights.values())
    for word, weight in weights.items():
        for number, (slots, counts) in enumerate(found[word]):
            length = indexes[number].column("length")[slots] / average
            tf = counts.astype(np.float64)
            share = tf * (K1 + 1) / (tf + K1 * (1 - B + B * length))
            scores[number][slots] += weight * np.minimum(share, 1.0)
            for slot, words in named[number].items():
                if word in words:  # as if its text held the word
                    scores[number][slot] += weight - weight * _held(slots, share, slot)
    return [
        TextScores(one / reachable, list(slots)) for one, slots in zip(scores, named, strict=True)
    ]


def final_scores(
    text: TextScores,
    vectors: VectorScores | None,
    calibration: Calibration,
    *,
    by_vector_alone: bool = False,
    all_ranked: bool = False,
) -> Scores:
    """Returns the scores by which passages are ranked and cut.

    Without vectors these are the text scores, and so they are for a slot that has none yet. With
    `all_ranked`, what is below the zero of the calibration is ranked by its cosine, too.
    """
    if by_vector_alone:
        if vectors is None:
            return np.zeros(len(text.scores))
        scores = np.where(vectors.has, calibration.of_vector(vectors.cosines), 0.0)
    else:
        scores = text.scores
        if vectors is not None:
            both = calibration.together(scores, vectors.cosines)
            scores = np.where(vectors.has, both, scores)
        scores[text.named] = np.maximum(scores[text.named], NAMED)
    if all_ranked and vectors is not None:
        compared = vectors.has & (vectors.cosines > -1.0)
        scores = scores + np.where(compared, _BARELY * (1.0 + vectors.cosines), 0.0)
    return scores


def vector_scores(
    index: CollectionIndex, query: Vector, text: TextScores, visible: Mask
) -> VectorScores:
    """Returns the cosines of the slots that may be near to a query, or have its words."""
    also = np.flatnonzero(text.scores)
    if len(also) > RESCORED:
        also = also[np.argpartition(text.scores[also], -RESCORED)[-RESCORED:]]
    cosines = index.vectors.near(query, visible, also)
    return VectorScores(cosines, index.vectors.has(index.count))


def _held(slots: Slots, share: Scores, slot: int) -> float:
    """Returns how far a word was counted for a slot."""
    at = int(np.searchsorted(slots, slot))
    return min(float(share[at]), 1.0) if at < len(slots) and slots[at] == slot else 0.0


def _aliases(
    query: Query, indexes: Sequence[CollectionIndex], visible: Sequence[Mask]
) -> list[dict[int, set[str]]]:
    """Returns, by collection, the slots that the query names, with the words that do so."""
    named: list[dict[int, set[str]]] = [{} for _ in indexes]
    for span in query.spans():
        label = alias(span)
        for number, (index, mask) in enumerate(zip(indexes, visible, strict=True)):
            for slot in index.postings(label).slots:
                if mask[slot]:
                    named[number].setdefault(int(slot), set()).update(span)
    return named


def best(
    indexes: Sequence[CollectionIndex],
    scores: Sequence[Scores],
    eligible: Sequence[Mask],
    limit: int,
    cut: Cut,
) -> list[Ranked]:
    """Returns the best part of each of the best passages, the best first.

    Of equal scores, what was stored last comes first.
    """
    top = max((float(of[mask].max(initial=0.0)) for of, mask in zip(scores, eligible, strict=True)),
              default=0.0)  # fmt: skip
    least = max(cut.floor, cut.share * top, _SOME)
    wanted = _PARTS * limit
    while True:
        found: list[Ranked] = []
        is_all = True
        for number, (of_slots, mask) in enumerate(zip(scores, eligible, strict=True)):
            slots = np.flatnonzero(mask & (of_slots >= least))
            values = of_slots[slots]
            if len(slots) > wanted:
                is_all = False
                last = np.partition(values, -wanted)[-wanted]
                better, equal = values > last, np.flatnonzero(values == last)
                better[equal[int(better.sum()) - wanted :]] = True  # the newest of these
                slots, values = slots[better], values[better]
            found += [
                Ranked(number, int(slot), float(value))
                for slot, value in zip(slots, values, strict=True)
            ]
        ranked = _one_of_each(indexes, found, limit)
        if is_all or len(ranked) == limit:
            return ranked
        wanted *= 8


def _one_of_each(
    indexes: Sequence[CollectionIndex], found: list[Ranked], limit: int
) -> list[Ranked]:
    """Returns the best part of each passage, the best first."""
    seen: set[tuple[int, int]] = set()
    ranked: list[Ranked] = []
    for one in sorted(found, key=lambda one: (-one.score, -one.slot)):
        passage = (one.collection, int(indexes[one.collection].column("passage")[one.slot]))
        if passage not in seen:
            seen.add(passage)
            ranked.append(one)
            if len(ranked) == limit:
                break
    return ranked


def nearest(
    index: CollectionIndex,
    vectors: Sequence[Vector],
    least: float,
    most: int,
    hidden: Sequence[int] = (),
) -> list[list[tuple[int, float]]]:
    """Returns, for each vector, the open passages with the greatest cosines, by number.

    At most `most`, with a cosine of at least `least`, and with none of the labels `hidden`.
    """
    if not vectors:
        return []
    passages, found = index.column("passage"), []
    for slots, cosines in index.vectors.alike(np.stack(vectors), index.open(hidden), least):
        best = np.argsort(-cosines, kind="stable")[:most]
        found.append([(int(passages[slots[one]]), float(cosines[one])) for one in best])
    return found
