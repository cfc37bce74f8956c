"""A plain model of passages that replace each other: of each one, the days on which it is true."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count

from soorma_common.semantic import StoreKnowledge

FIRST, LAST = 1, 10
"""Days on which something may begin."""
DAYS = range(FIRST - 1, LAST + 2)


@dataclass
class Drawn:
    """A passage to be stored; `start` and `end` are days, None if it has none."""

    text: str
    start: int | None = None
    end: int | None = None
    external_id: str | None = None
    subject: str | None = None
    supersedes: str | None = None

    @property
    def days(self) -> set[int]:
        """The days that it speaks of."""
        return {
            day
            for day in DAYS
            if (self.start is None or day >= self.start) and (self.end is None or day < self.end)
        }

    def equals(self, other: Drawn) -> bool:
        """Returns whether they are stored as one passage."""
        return replace(self, supersedes=None) == replace(other, supersedes=None)

    def is_like(self, other: Drawn) -> bool:
        """Returns whether the two have one value at a time."""
        return (self.external_id is not None and self.external_id == other.external_id) or (
            self.subject is not None and self.subject == other.subject
        )


@dataclass
class Known:
    """A passage as it is known: on which days it is true, none if it counts no more."""

    drawn: Drawn
    days: set[int]
    by: str | None = None


@dataclass
class Model:
    """All passages, and on which days each was true as known after each step."""

    passages: dict[str, Known] = field(default_factory=dict)
    past: list[dict[str, set[int]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def next_id(self) -> str:
        """Returns the id of the next passage to be stored."""
        return f"id{next(self._numbers)}"

    def store(self, passage_id: str, drawn: Drawn) -> str:
        """Stores a passage; returns its id, or that of the one that it restates."""
        equal = next(
            (
                name
                for name, known in self.passages.items()
                if known.days and known.drawn.equals(drawn)
            ),
            None,
        )
        days, gone, ended, follower = self._replaced(drawn, equal)
        if equal is not None:
            old = self.passages[equal]
            if old.by is None or old.days == days:
                self._end(drawn, gone, ended, equal)
                return equal
            days, gone, ended, follower = self._replaced(drawn, None, also=equal)
        self._end(drawn, gone, ended, passage_id)
        self.passages[passage_id] = Known(drawn, days, follower)
        return passage_id

    def _end(self, drawn: Drawn, gone: set[str], ended: set[str], by: str) -> None:
        for name in gone | ended:
            known = self.passages[name]
            known.by = by
            known.days = (
                set() if name in gone else {day for day in known.days if day < (drawn.start or 0)}
            )

    def _replaced(
        self, drawn: Drawn, equal: str | None, also: str | None = None
    ) -> tuple[set[int], set[str], set[str], str | None]:
        """Returns the days that are left, what counts no more, what ends, and what begins then."""
        gone: set[str] = set()
        ended: set[str] = set()
        for name in self._superseded(drawn):
            if name != equal and self.passages[name].days:
                (ended if self._starts_before(name, drawn) else gone).add(name)
        later: list[str] = []
        for name, known in self.passages.items():
            if name == equal or name in gone | ended or not known.days & drawn.days:
                continue
            if not (known.drawn.is_like(drawn) or name == also):
                continue
            if self._starts_before(name, drawn):
                ended.add(name)
            elif drawn.start is None or min(known.days) == drawn.start:
                gone.add(name)
            else:
                later.append(name)
        if drawn.start is not None:
            for name in gone | ended:
                following = self._open_follower(name)
                if following is not None and min(self.passages[following].days) > drawn.start:
                    later.append(following)
        days, order = drawn.days, [*self.passages]
        follower = min(
            (name for name in later if name not in gone),
            key=lambda name: (min(self.passages[name].days), order.index(name)),
            default=None,
        )
        if follower is None or min(self.passages[follower].days) > max(days):
            return days, gone, ended, None
        first = min(self.passages[follower].days)
        return {day for day in days if day < first}, gone, ended, follower

    def _starts_before(self, name: str, drawn: Drawn) -> bool:
        known = self.passages[name].drawn
        return drawn.start is not None and (known.start is None or known.start < drawn.start)

    def _superseded(self, drawn: Drawn) -> list[str]:
        """Returns what a passage replaces of those that it names, and that replaced these."""
        if drawn.supersedes is None:
            return []
        path = [drawn.supersedes]
        while (by := self.passages[path[-1]].by) is not None and by not in path:
            days = self.passages[path[-1]].days
            if drawn.start is not None and days and drawn.start <= max(days):
                break
            path.append(by)
        return path if drawn.start is None else path[-1:]

    def _open_follower(self, name: str) -> str | None:
        seen = {name}
        while (by := self.passages[name].by) is not None and by not in seen:
            if self.passages[by].days:
                return by
            seen.add(by)
            name = by
        return None

    def forget(self, name: str) -> None:
        """Forgets a passage and those that it has replaced, as if they had never been."""
        doomed = [name]
        for one in doomed:  # it grows
            doomed += [other for other, known in self.passages.items()
                       if known.by == one and other not in doomed]  # fmt: skip
        for one in doomed:
            del self.passages[one]
            for step in self.past:
                step.pop(one, None)

    def note(self) -> None:
        """Notes what is known after a step."""
        self.past.append({name: set(known.days) for name, known in self.passages.items()})

    def true(self, day: int, step: int = -1) -> set[str]:
        """Returns what was true on a day as known after a step."""
        return {name for name, days in self.past[step].items() if day in days}


def operation(passage_id: str, drawn: Drawn, moment: dict[int, str]) -> StoreKnowledge:
    """Returns the operation that stores what was drawn."""
    return StoreKnowledge(
        content=drawn.text,
        id=passage_id,
        valid_from=None if drawn.start is None else moment[drawn.start],
        valid_until=None if drawn.end is None else moment[drawn.end],
        external_id=drawn.external_id,
        subject=drawn.subject,
        attribute=None if drawn.subject is None else "fare",
        supersedes=drawn.supersedes,
    )
