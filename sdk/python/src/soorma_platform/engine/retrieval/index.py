"""The index of a collection in memory: which parts hold a term, and when each of them counts.

A collection is what one user has stored for himself, or what is public in a tenant. Its index is
loaded from the record when it is first searched, and follows it from then on: each row that changed
kills the slots of its passage's part, and takes a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from soorma_platform.engine.retrieval.terms import TERM_BYTES
from soorma_platform.engine.retrieval.vectors import VectorIndex
from soorma_platform.engine.rows.passages import NEVER, PartRow, VectorRow

Ints = NDArray[np.int64]
Slots = NDArray[np.int32]
Mask = NDArray[np.bool_]

_FIRST = 64
"""Slots of a new index; it doubles when they are full."""
_MERGED = 2
"""A segment is merged with the one before that is less than so many times as large."""
_PER_PASSAGE = 150
"""Bytes that a passage takes in a dict, roughly."""
_packed = np.dtype([("term", "<u8"), ("count", "u1")])
_COLUMNS = ("passage", "part", "starts", "ends", "length", "recorded_at", "closed_at", "valid_from",
            "valid_until")  # fmt: skip


class Postings(NamedTuple):
    """The slots that hold a term, and how often each does."""

    slots: Slots
    counts: NDArray[np.uint8]


class _Segment(NamedTuple):
    """The postings of the slots that were taken together, sorted by term."""

    terms: NDArray[np.uint64]
    """each once, in order"""
    starts: Ints
    """where the postings of each begin, and where the last ones end"""
    slots: Slots
    counts: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self)


class CollectionIndex:
    """The index of a collection; `change` and `vector_change` are the last ones that it knows."""

    def __init__(self) -> None:
        self.change = self.vector_change = 0
        self.count = 0
        """slots taken, dead ones included"""
        self.vectors = VectorIndex()
        self._columns = {name: np.zeros(_FIRST, np.int64) for name in _COLUMNS}
        self._alive = np.zeros(_FIRST, np.bool_)
        self._ends = np.zeros((0, 3), np.int64)
        """slots with a time, and the end of their period as it was known before that time"""
        self._segments: list[_Segment] = []
        self._slots: dict[int, list[int]] = {}
        """by passage, the slots of its parts that are alive"""

    def column(self, name: str) -> Ints:
        """Returns a column of the rows, by slot."""
        return self._columns[name][: self.count]

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        columns = self._ends.nbytes + sum(column.nbytes for column in self._columns.values())
        segments = sum(one.nbytes for one in self._segments)
        return columns + segments + self.vectors.nbytes + _PER_PASSAGE * len(self._slots)

    def take(self, rows: Sequence[PartRow], *, more: bool = False) -> None:
        """Takes rows that have changed, in the order of their changes.

        While there are `more`, segments are not merged: a large collection is sorted once.
        """
        if not rows:
            if not more:
                self._merge()
            return
        newest = {(row.passage, row.part): row for row in rows}
        gone = {row.passage for row in rows if row.terms is None}
        for passage in gone:
            self._alive[self._slots.pop(passage, [])] = False
        kept = [row for row in newest.values() if row.passage not in gone]
        if kept:
            moved = self._move([self._taken(row) for row in kept])
            self._add(kept)
            self.vectors.move(moved)
        self.change = rows[-1].change
        if not more:
            self._merge()

    def _taken(self, row: PartRow) -> int | None:
        """Returns the slot that a row's part has so far, None if it has none."""
        parts = self._columns["part"]
        return next(
            (slot for slot in self._slots.get(row.passage, ()) if parts[slot] == row.part), None
        )

    def _move(self, before: Sequence[int | None]) -> dict[int, int]:
        """Takes slots out, and returns for each the one in whose place it comes anew."""
        moved = {
            slot: self.count + number for number, slot in enumerate(before) if slot is not None
        }
        for slot in moved:
            self._alive[slot] = False
            self._slots[int(self._columns["passage"][slot])].remove(slot)
        return moved

    def _add(self, rows: Sequence[PartRow]) -> None:
        first, self.count = self.count, self.count + len(rows)
        if self.count > len(self._alive):
            room = max(self.count, 2 * len(self._alive))
            self._columns = {
                name: np.concatenate([column, np.zeros(room - len(column), np.int64)])
                for name, column in self._columns.items()
            }
            self._alive = np.concatenate([self._alive, np.zeros(room - len(self._alive), np.bool_)])
        for name in _COLUMNS:
            self._columns[name][first : self.count] = [getattr(row, name) for row in rows]
        self._alive[first : self.count] = True
        for slot, row in enumerate(rows, first):
            self._slots.setdefault(row.passage, []).append(slot)
        self._note_ends(first, rows)
        texts = [row.terms or b"" for row in rows]
        data = np.frombuffer(b"".join(texts), _packed)
        sizes = [len(text) // TERM_BYTES for text in texts]
        slots = np.repeat(np.arange(first, self.count, dtype=np.int32), sizes)
        self._segments.append(_segment(data["term"], slots, data["count"]))

    def _merge(self) -> None:
        """Merges the last segments, until each one is some times as large as the next."""
        if not self._segments:
            return
        first = len(self._segments) - 1
        size = len(self._segments[first].slots)
        while first and len(self._segments[first - 1].slots) < _MERGED * size:
            first -= 1
            size += len(self._segments[first].slots)
        if first < len(self._segments) - 1:
            self._segments[first:] = [_merged(self._segments[first:])]

    def _note_ends(self, first: int, rows: Sequence[PartRow]) -> None:
        found = [self._ends]
        for slot, row in enumerate(rows, first):
            if row.until_before:
                ends = np.frombuffer(row.until_before, "<i8").reshape(-1, 2)
                found.append(np.insert(ends.astype(np.int64), 0, slot, axis=1))
        if len(found) > 1:
            self._ends = np.concatenate(found)

    def forget_vectors(self) -> None:
        """Drops all vectors: those of another model follow."""
        self.vectors = VectorIndex()
        self.vector_change = 0

    def take_vectors(self, rows: Sequence[VectorRow]) -> None:
        """Takes vectors that have come, in the order of their changes."""
        if not rows:
            return
        parts = self._columns["part"]
        slots, data = [], []
        for row in rows:
            for slot in self._slots.get(row.passage, ()):
                if parts[slot] == row.part:
                    slots.append(slot)
                    data.append(row.vector)
        self.vectors.put(slots, data)
        self.vector_change = rows[-1].change

    def visible(
        self,
        known_at: int | None,
        as_of: int,
        hidden: Sequence[int] = (),
        hidden_labels: Sequence[int] = (),
    ) -> Mask:
        """Returns which slots counted at `known_at` and say what was true at `as_of`, in ms.

        Without `known_at`, those that count now, whatever the clock said when they were stored.
        Passages that are `hidden` do not count, nor do parts with one of the `hidden_labels`.
        """
        mask = self._alive[: self.count] & (self.column("valid_from") <= as_of)
        mask &= self._until(known_at) > as_of
        if known_at is None:
            mask &= self.column("closed_at") == NEVER
        else:
            mask &= self.column("recorded_at") <= known_at
            mask &= self.column("closed_at") > known_at
        if hidden:
            mask &= ~np.isin(self.column("passage"), np.array(hidden, np.int64))
        return self._without(mask, hidden_labels)

    def open(self, hidden_labels: Sequence[int] = ()) -> Mask:
        """Returns which slots are of passages that count, whatever the time."""
        mask: Mask = self._alive[: self.count] & (self.column("closed_at") == NEVER)
        return self._without(mask, hidden_labels)

    def _without(self, mask: Mask, labels: Sequence[int]) -> Mask:
        for label in labels:
            mask[self.postings(label).slots] = False
        return mask

    def _until(self, known_at: int | None) -> Ints:
        """Returns when each slot's period ends, as far as was known at a time."""
        until = self.column("valid_until")
        if known_at is None or not len(self._ends):
            return until
        until = until.copy()
        slots, _, before = self._ends[self._ends[:, 1] > known_at].T
        # An end only becomes earlier, so the latest of those that came later was known then.
        np.maximum.at(until, slots, before)
        return until

    def postings(self, term: int) -> Postings:
        """Returns the postings of a term."""
        found = []
        for segment in self._segments:
            at = int(np.searchsorted(segment.terms, np.uint64(term)))
            if at < len(segment.terms) and int(segment.terms[at]) == term:
                start, end = segment.starts[at : at + 2]
                found.append(Postings(segment.slots[start:end], segment.counts[start:end]))
        if len(found) == 1:
            return found[0]
        if not found:
            return Postings(np.zeros(0, np.int32), np.zeros(0, np.uint8))
        return Postings(
            np.concatenate([one.slots for one in found]),
            np.concatenate([one.counts for one in found]),
        )


def _segment(terms: NDArray[np.uint64], slots: Slots, counts: NDArray[np.uint8]) -> _Segment:
    order = np.argsort(terms, kind="stable")
    terms = terms[order]
    known, starts = np.unique(terms, return_index=True)
    ends = np.append(starts, len(terms)).astype(np.int64)
    return _Segment(known, ends, slots[order], counts[order])


def _merged(segments: Sequence[_Segment]) -> _Segment:
    return _segment(
        np.concatenate([np.repeat(one.terms, np.diff(one.starts)) for one in segments]),
        np.concatenate([one.slots for one in segments]),
        np.concatenate([one.counts for one in segments]),
    )
