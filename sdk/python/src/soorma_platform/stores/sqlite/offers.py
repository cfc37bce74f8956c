"""Replicas with room: what a transaction makes ready for them, it claims for them.

So a delivery that an agent waits for is in its hands with the commit that made it, without a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import apsw

from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows import Notice
from soorma_platform.stores.protocol import LARGEST_CLAIM, Claimed, Offer
from soorma_platform.stores.sqlite import deliveries


class Offers:
    """The offers that stand, by group. They come and go on the event loop; the rest is the writer's thread."""

    def __init__(self, clock: Callable[[], Moment]) -> None:
        self._clock = clock
        self._standing: dict[int, tuple[Offer, ...]] = {}
        self._asked: list[Offer] = []

    @contextmanager
    def offered(self, offer: Offer) -> Iterator[None]:
        """See `Store.offered`."""
        group = offer.group_id
        self._standing[group] = (*self._standing.get(group, ()), offer)
        try:
            yield
        finally:
            if left := tuple(one for one in self._standing[group] if one is not offer):
                self._standing[group] = left
            else:
                del self._standing[group]

    def served(self) -> set[int]:
        """The subscriptions of which somebody connected takes deliveries."""
        return {id_ for offers in list(self._standing.values()) for offer in offers for id_ in offer.subscription_ids}

    def ask(self, offer: Offer) -> None:
        """Has an offer filled in the transaction under way, whether anything was made ready or not."""
        self._asked.append(offer)

    def forget(self) -> None:
        """A transaction begins: who asked in one that was rolled back asks again in this."""
        self._asked.clear()

    def claim(self, connection: apsw.Connection, notices: Iterable[Notice]) -> list[tuple[Offer, list[Claimed]]]:
        """What the transaction claims, now that its jobs are done: for who asked, and in the groups of its notices."""
        shares = dict.fromkeys(self._asked, LARGEST_CLAIM)
        for group in {group for notice in notices for group in notice.groups}:
            offers = self._standing.get(group, ())
            for offer in sorted(offers, key=_busy):
                shares.setdefault(offer, max(LARGEST_CLAIM // len(offers), 1))
        if not shares:
            return []
        now = self._clock()
        found = ((offer, deliveries.claim(connection, now, offer, share)) for offer, share in shares.items())
        return [(offer, claimed) for offer, claimed in found if claimed]

    def fill(self, filled: list[tuple[Offer, list[Claimed]]]) -> None:
        """The transaction has been committed."""
        for offer, claimed in filled:
            offer.fill(claimed)


def _busy(offer: Offer) -> tuple[int, int]:
    """What has the most room comes first; of those alike, what has had the least so far."""
    return -offer.credit, offer.spent
