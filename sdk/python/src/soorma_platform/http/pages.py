"""Pages of a list: how many rows one may hold, and where the next begins.

A query reads one row more than the page holds. If that row exists, a next page follows, which
begins after the last row of this one: no query has to count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from soorma_platform.http.endpoints import Number
from soorma_platform.http.requests import Request

Row = TypeVar("Row")
Cursor = TypeVar("Cursor")

LONGEST_PAGE = 1_000
"""Maximum number of rows that a client may request at once."""


class PageSize(NamedTuple):
    """The maximum number of rows on a page."""

    limit: int

    @property
    def to_read(self) -> int:
        """The number of rows to read: one more, which shows whether a next page follows."""
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
        """Returns the requested size of a page."""
        return PageSize(self.value(request))


def page_limit(most: int = LONGEST_PAGE, default: int = 100) -> PageLimit:
    """Makes the parameter `limit` of a list whose pages hold at most `most` rows."""
    return PageLimit("limit", "How many at most.", least=1, most=most, default=default)
