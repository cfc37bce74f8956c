"""Pages of a list: how many rows one may hold, and where the next begins.

A list is read with one row more than its page holds. Where that row is there, there is a next page,
and it begins behind the last row of this one: no query has to count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from soorma_platform.http.endpoints import Number
from soorma_platform.http.requests import Request

Row = TypeVar("Row")
Cursor = TypeVar("Cursor")

LONGEST_PAGE = 1_000
"""Rows that a client may ask for at once."""


class PageSize(NamedTuple):
    """The number of rows that a page holds at most."""

    limit: int

    @property
    def to_read(self) -> int:
        """The number of rows to read for it: one more, which tells whether there is a next page."""
        return self.limit + 1

    def cut(
        self, rows: list[Row], cursor: Callable[[Row], Cursor]
    ) -> tuple[list[Row], Cursor | None]:
        """Returns the rows of the page, and the cursor of its last one if a next page follows."""
        page = rows[: self.limit]
        return page, cursor(page[-1]) if len(rows) > self.limit else None


class PageLimit(Number, frozen=True):
    """The query parameter `limit` of a list."""

    def size(self, request: Request) -> PageSize:
        """Returns the size of the page that is asked for."""
        return PageSize(self.value(request))


def page_limit(most: int = LONGEST_PAGE, default: int = 100) -> PageLimit:
    """Makes the parameter `limit` of a list whose pages hold at most `most` rows."""
    return PageLimit("limit", "How many at most.", least=1, most=most, default=default)
