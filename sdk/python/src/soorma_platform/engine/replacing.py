"""Which passages a new one replaces, and from when on: in their whole period, or in the rest of it.

A value holds from its `valid_from` until its `valid_until`, or until the one after it begins. So a
passage that says since when it is true leaves the one before it open until then, and ends itself
where a later one begins. One that does not say it replaces the others whatever they are about.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from soorma_common.errors import InvalidRequest
from soorma_platform.engine.rows.passages import (
    ALWAYS,
    MOST_REPLACEMENTS,
    NEVER,
    PassageRow,
)

MOST_ENDS = 32
"""Earlier ends of a passage that are kept; of more, the first and the newest."""
_end = struct.Struct("<qq")

Named = Callable[[str], PassageRow | None]


class Replaced(NamedTuple):
    """What a passage replaces, and until when it holds itself.

    `ended` stay open until it begins, `closed` count no more. `follower` is the passage that begins
    at `until`, None if it ends by itself.
    """

    ended: list[PassageRow]
    closed: list[PassageRow]
    until: int
    follower: PassageRow | None


def replaced(
    start: int,
    end: int,
    superseded: Iterable[PassageRow],
    others: Iterable[PassageRow],
    named: Named,
    is_hidden: Callable[[PassageRow], bool] = lambda _: False,
) -> Replaced:
    """Returns what a passage with this period replaces, all of it open.

    Of what it names, `superseded`, and of `others` that have one value at a time with it. No
    passage that `is_hidden` follows it.
    """
    ended: dict[int, PassageRow] = {}
    closed: dict[int, PassageRow] = {}
    after: list[PassageRow] = []
    for row in superseded:
        (ended if row.valid_from < start else closed)[id(row)] = row
    for row in others:
        if id(row) in ended or id(row) in closed:
            continue
        if row.valid_until <= start or end <= row.valid_from:
            continue  # it ended before, or begins after
        if row.valid_from < start:
            ended[id(row)] = row
        elif start in (ALWAYS, row.valid_from):
            closed[id(row)] = row
        else:
            after.append(row)
    if start != ALWAYS:
        for row in (*ended.values(), *closed.values()):
            counting = (one for one in followers(row, named) if one.is_open and not is_hidden(one))
            after += [*counting][:1]
    after = [row for row in after if row.valid_from > start and id(row) not in closed]
    follower = min(after, key=lambda row: (row.valid_from, row.number or NEVER), default=None)
    if follower is None or follower.valid_from >= end:
        return Replaced([*ended.values()], [*closed.values()], end, None)
    return Replaced([*ended.values()], [*closed.values()], follower.valid_from, follower)


def followers(row: PassageRow, named: Named) -> Iterator[PassageRow]:
    """Yields what has replaced a passage, what has replaced that, and so on."""
    seen = {id(row)}
    while row.closed_by is not None:
        following = named(row.closed_by)
        if following is None or id(following) in seen:
            return  # it was forgotten
        seen.add(id(following))
        row = following
        yield row


def in_its_place(row: PassageRow, start: int, named: Named) -> list[PassageRow]:
    """Returns a passage to be superseded, and after it those in its place, up to that at `start`.

    InvalidRequest if there are too many. Of a passage without a start, all of them.
    """
    path = [row]
    for following in followers(row, named):
        if path[-1].is_open and ALWAYS < start < path[-1].valid_until:
            return path
        if len(path) > MOST_REPLACEMENTS:
            raise InvalidRequest(
                f"passage {row.id!r} has been replaced more than {MOST_REPLACEMENTS:,} times: "
                "supersede one that has replaced it later"
            )
        path.append(following)
    return path


def ends_with(before: bytes | None, at: int, until: int) -> bytes:
    """Returns the earlier ends of a passage with one more: at a time, what its end was until then.

    Once dropped, one in the middle counts as the next one after it.
    """
    ends = (before or b"") + _end.pack(at, until)
    if len(ends) > MOST_ENDS * _end.size:
        ends = ends[: _end.size] + ends[2 * _end.size :]
    return ends
