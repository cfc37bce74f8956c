"""What the sets that measure retrieval consist of, and the fields of their files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


class DatasetError(ValueError):
    """A file does not hold what it should."""


@dataclass(frozen=True)
class Passage:
    """What is stored; `user` is that of another one, `group` the session that it is part of."""

    id: str
    content: str
    group: str = ""
    user: str = ""
    is_public: bool = False
    fields: Row = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A query with all that answers it; `how` are its filters."""

    query: str
    wanted: frozenset[str]
    unwanted: frozenset[str] = frozenset()
    kind: str = ""
    how: Row = field(default_factory=dict)


@dataclass
class Haystack:
    """What is stored together, and asked about."""

    name: str
    passages: list[Passage] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


@dataclass
class Dataset:
    """All of a file; `notes` say what of it was left out."""

    form: str
    haystacks: list[Haystack]
    notes: list[str] = field(default_factory=list)

    @property
    def questions(self) -> list[Question]:
        """All questions."""
        return [question for one in self.haystacks for question in one.questions]

    def sample(self, count: int) -> Dataset:
        """Returns at most `count` questions, evenly spread, and only the haystacks they need."""
        total = len(self.questions)
        if count >= total:
            return self
        kept = {number * total // count for number in range(count)}
        numbers = iter(range(total))
        haystacks = [
            Haystack(one.name, one.passages, [of for of in one.questions if next(numbers) in kept])
            for one in self.haystacks
        ]
        note = f"{count:,} of {total:,} questions, evenly spread"
        return Dataset(self.form, [one for one in haystacks if one.questions], [*self.notes, note])


def text(place: str, row: Row, name: str, default: str | None = None) -> str:
    """A field that is text; without a default it may not be missing or empty."""
    value = row.get(name, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise DatasetError(f"{place}: expected text as `{name}`, not {value!r:.40}")
    return value


def texts(place: str, row: Row, name: str) -> list[str]:
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise DatasetError(f"{place}: expected a list of texts as `{name}`, not {value!r:.40}")
    return value
