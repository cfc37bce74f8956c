"""A search of memories: what is asked, of which indexes, and the parts that are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from soorma_common.semantic import Mode, Place, tokens_in
from soorma_common.times import milliseconds
from soorma_platform.engine.rows.passages import ALWAYS, NEVER, NewPart, PartRow

if TYPE_CHECKING:
    from soorma_platform.engine.retrieval.index import CollectionIndex
    from soorma_platform.engine.retrieval.ranking import Calibration, Ranked
    from soorma_platform.engine.retrieval.vectors import Vector


class _HasContent(Protocol):
    @property
    def content(self) -> str: ...


class _SearchBody(Protocol):
    @property
    def query(self) -> str: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def limit(self) -> int: ...
    @property
    def min_score(self) -> float | None: ...
    @property
    def since(self) -> str | None: ...
    @property
    def until(self) -> str | None: ...


H = TypeVar("H", bound=_HasContent)


class Ask(NamedTuple):
    """What is searched for, of whatever kind of memory; times are in ms."""

    query: str
    mode: Mode
    limit: int
    min_score: float | None
    """None for what the calibration says"""
    labels: list[int]
    since: int
    until: int
    as_of: int
    known_at: int | None = None
    hidden: Sequence[int] = ()
    """what has one of these labels counts for nothing"""

    @classmethod
    def of(
        cls,
        body: _SearchBody,
        labels: list[int],
        as_of: int,
        known_at: str | None = None,
        hidden: Sequence[int] = (),
    ) -> Ask:
        """Returns what the body of a search asks for, among what has these labels."""
        return cls(
            body.query,
            body.mode,
            body.limit,
            body.min_score,
            labels,
            ALWAYS if body.since is None else milliseconds(body.since),
            NEVER if body.until is None else milliseconds(body.until),
            as_of,
            None if known_at is None else milliseconds(known_at),
            hidden,
        )


class FoundAll(NamedTuple):
    """What was found, and how."""

    parts: list[FoundPart]
    mode: Mode
    floor: float
    model: str | None
    unembedded: int
    is_calibrated: bool

    @property
    def numbers(self) -> list[int]:
        """The numbers of what is committed."""
        return [one.passage for one in self.parts if one.passage >= 0]


class Mine:
    """What a transaction has not committed yet: its index, and what it has hidden.

    What it has stored has numbers below 0.
    """

    def __init__(self, hidden: Sequence[int] = ()) -> None:
        self.indexes: list[CollectionIndex] = []
        self.hidden = [*hidden]

    def put(self, rows: Sequence[PartRow]) -> None:
        """Makes an index of rows."""
        from soorma_platform.engine.retrieval.index import CollectionIndex  # noqa: PLC0415 - numpy

        if rows:
            index = CollectionIndex()
            index.take(rows)
            self.indexes.append(index)


class FoundPart(NamedTuple):
    ranked: Ranked
    passage: int
    place: Place


@dataclass(frozen=True)
class Meaning:
    """The vector of a query, of length 1, with the model that made it."""

    vector: Vector
    model: int
    name: str
    calibration: Calibration
    is_calibrated: bool


class Search:
    """A search over indexes that nobody changes meanwhile."""

    def __init__(
        self,
        ask: Ask,
        indexes: Sequence[CollectionIndex],
        hidden: Sequence[Sequence[int]],
        meaning: Meaning | None,
    ) -> None:
        from soorma_platform.engine.retrieval import ranking  # noqa: PLC0415 - numpy

        self._ask = ask
        self._indexes = indexes
        self._hidden = hidden
        self._meaning = meaning
        self._by_vector_alone = meaning is not None and ask.mode == "vector"
        if ask.min_score is not None:
            self.cut = ranking.Cut(ask.min_score, 0.0)
        elif meaning is None:
            self.cut = ranking.TEXT_CUT
        elif self._by_vector_alone:
            self.cut = meaning.calibration.vector_cut
        else:
            self.cut = meaning.calibration.cut

    def run(self) -> list[Ranked]:
        """Returns the best parts, one of each passage."""
        from soorma_platform.engine.retrieval import ranking  # noqa: PLC0415 - numpy

        ask, indexes, meaning = self._ask, self._indexes, self._meaning
        visible = [
            index.visible(ask.known_at, ask.as_of, hidden, ask.hidden)
            for index, hidden in zip(indexes, self._hidden, strict=True)
        ]
        eligible = [
            ranking.candidates(index, mask, ask.labels, ask.since, ask.until)
            for index, mask in zip(indexes, visible, strict=True)
        ]
        texts = ranking.text_scores(ranking.Query.of(ask.query), indexes, visible)
        scores = []
        for index, mask, text in zip(indexes, eligible, texts, strict=True):
            vectors = (
                None
                if meaning is None
                else ranking.vector_scores(index, meaning.vector, text, mask)
            )
            calibration = ranking.UNKNOWN_MODEL if meaning is None else meaning.calibration
            scores.append(
                ranking.final_scores(
                    text,
                    vectors,
                    calibration,
                    by_vector_alone=self._by_vector_alone,
                    all_ranked=ask.min_score == 0.0,
                )
            )
        return ranking.best(indexes, scores, eligible, ask.limit, self.cut)


def part_rows(
    number: int, parts: Sequence[NewPart], times: tuple[int, int, int, int]
) -> list[PartRow]:
    return [
        PartRow(1, number, one.part, one.starts, one.ends, one.length, *times, one.terms)
        for one in parts
    ]


def place_of(indexes: Sequence[CollectionIndex], one: Ranked) -> tuple[int, Place]:
    """Returns the passage of a part that was found, and where the part stands in it."""
    index = indexes[one.collection]
    passage, part, start, end = (
        int(index.column(name)[one.slot]) for name in ("passage", "part", "starts", "ends")
    )
    return passage, Place(part, start, end)


def within(hits: list[H], max_tokens: int | None) -> list[H]:
    """Returns the best hits that come to `max_tokens` at most."""
    if max_tokens is None:
        return hits
    left = max_tokens
    for count, hit in enumerate(hits):
        left -= tokens_in(hit.content)
        if left < 0:
            return hits[:count]
    return hits
