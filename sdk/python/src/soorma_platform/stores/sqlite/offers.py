"""Replicas with room: what a transaction makes ready for them, it claims for them.

So a delivery that an agent waits for is in its hands with the commit that made it, without a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import apsw

from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.engine.suspects import Trial, Turn
from soorma_platform.stores.ports.deliveries import LARGEST_CLAIM, Claimed, Offer
from soorma_platform.stores.ports.groups import Survey
from soorma_platform.stores.sqlite import aside, claims, deaths
from soorma_platform.stores.sqlite.statements import value, values

NEVER = 1 << 62
Filled = list[tuple[Offer, list[Claimed]]]


class Offers:
    """The offers that stand, by group. They come and go on the event loop; the rest is the writer's thread."""

    def __init__(self, clock: Callable[[], Moment], lease: float = 30.0) -> None:
        self._clock = clock
        self._lease = round(lease * 1000)
        self._standing: dict[int, tuple[Offer, ...]] = {}
        self._asked: list[Offer] = []
        self._trials: dict[int, Trial] | None = None
        """of the groups that have suspects; None: to be looked up"""
        self._lapse_at = 0
        """no lease runs out before this time (ms): until then nobody has to look"""
        self._lost: list[tuple[Offer, list[str]]] = []
        self._unserved: dict[int, list[int]] = {}
        """subscriptions of a group that no connected replica serves, while there is one that serves others"""
        self._silent: set[str] = set()
        """replicas from which something was taken as they gave no sign of life, until they give one"""
        self._is_open = False

    @contextmanager
    def offered(self, offer: Offer) -> Iterator[None]:
        group = offer.group_id
        self._standing[group] = (*self._standing.get(group, ()), offer)
        try:
            yield
        finally:
            self._silent.discard(offer.replica)
            if left := tuple(one for one in self._standing[group] if one is not offer):
                self._standing[group] = left
            else:
                del self._standing[group]

    def all_served(self) -> set[int]:
        """The subscriptions of which somebody connected takes deliveries."""
        return {id_ for offers in list(self._standing.values()) for offer in offers for id_ in offer.subscription_ids}

    def ask(self, offer: Offer) -> None:
        """Has an offer filled in the transaction under way, whether anything was made ready or not."""
        self._asked.append(offer)

    def heard(self, replica: str) -> None:
        """A replica gave a sign of life."""
        self._silent.discard(replica)

    def lease_until(self, at: int) -> None:
        """A lease was given or prolonged up to a time (ms)."""
        self._lapse_at = min(self._lapse_at, at)

    def suspect(self, with_suspects: Iterable[int]) -> None:
        """Groups that may have suspects from now on."""
        if self._trials is not None:
            for group in with_suspects:
                self._trials.setdefault(group, Trial())

    @property
    def next_lapse(self) -> int:
        """No lease runs out before this time (ms)."""
        return self._lapse_at

    @property
    def has_suspects(self) -> bool:
        """Whether any group may have some."""
        return self._trials is None or bool(self._trials)

    def served(self, group: int) -> set[int]:
        """The subscriptions that the connected replicas of a group serve, unless they are about to stop."""
        return {id_ for offer in self._standing.get(group, ()) for id_ in offer.subscription_ids}

    def is_served(self, group: int, subscription: int) -> bool:
        """Whether a subscription has somebody, or no one of its group is there at all."""
        return subscription not in self._unserved.get(group, ())

    def survey(self, connection: apsw.Connection, group: int) -> Survey:
        served = self.served(group)
        self._unserved.pop(group, None)
        if not served:
            return Survey([], more=False)
        found, unserved = aside.survey(connection, self._clock().uptime, aside.patterns.all(connection, group), served)
        if unserved:
            self._unserved[group] = unserved
        return found

    def forget(self) -> None:
        """A transaction begins: who asked in one that was rolled back asks again in this."""
        self._asked.clear()
        self._lost.clear()
        if self._is_open:  # the one before was rolled back: what it was known by did not happen
            self._trials, self._lapse_at = None, 0
        self._is_open = True

    def claim(self, connection: apsw.Connection, notices: Iterable[Notice]) -> Filled:
        """What the transaction claims, now that its jobs are done: for who asked, and in the groups of its notices."""
        concerned = {group for notice in notices for group in notice.groups}
        if not (concerned or self._asked) and self._trials is not None and self._lapse_at == NEVER:
            return []  # no agent is concerned: what is written is memory alone
        moment = self._clock()
        now = moment.uptime
        if self._trials is None:
            self._trials = {group: Trial() for group in values(connection, "suspected_groups")}
        if now >= self._lapse_at:
            concerned |= self._free_lapsed(connection, now)
        for group in concerned & self._unserved.keys():
            aside.set_aside(connection, now, self._unserved[group])
        shares = dict.fromkeys(self._asked, LARGEST_CLAIM)
        for group in concerned:
            offers = self._standing.get(group, ())
            for offer in sorted(offers, key=_busy):
                shares.setdefault(offer, max(LARGEST_CLAIM // len(offers), 1))
        if not shares:
            return []
        found = [(offer, self._claim_for(connection, moment, offer, share)) for offer, share in shares.items()]
        filled = [(offer, claimed) for offer, claimed in found if claimed]
        if filled:
            self.lease_until(now + round(min(one.lease for _, claimed in filled for one in claimed) * 1000))
        return filled

    def fill(self, filled: Filled) -> None:
        """The transaction has been committed."""
        self._is_open = False
        for offer, claimed in filled:
            offer.fill(claimed)
        for offer, fences in self._lost:
            offer.lose(fences)

    def _free_lapsed(self, connection: apsw.Connection, now: int) -> set[int]:
        """Frees what leases have run out of; the groups it is of."""
        concerned: set[int] = set()
        for replica, freed in deaths.lapse(connection, now, self._lease).items():
            self.suspect(freed.suspected)
            concerned |= freed.groups
            if freed.is_silent:
                self._silent.add(replica)
            self._lost += [(offer, freed.fences) for offer in self._offers() if offer.replica == replica]
        first = value(connection, "first_lapse")
        self._lapse_at = NEVER if first is None else first
        return concerned

    def _offers(self) -> Iterator[Offer]:
        for offers in list(self._standing.values()):
            yield from offers

    def _claim_for(self, connection: apsw.Connection, now: Moment, offer: Offer, share: int) -> list[Claimed]:
        if offer.replica in self._silent:
            return []  # whoever is frozen has empty hands, and must not be tested with a suspect
        trial = self._trials.get(offer.group_id) if self._trials else None
        if trial is None:
            return claims.claim(connection, now, offer, share)
        match self._turn(connection, now.uptime, offer, trial):
            case Turn.NOTHING:
                return []
            case Turn.SUSPECT:
                return self._claim_suspect(connection, now, offer, trial)
            case Turn.WORK_FIRST:
                claimed = claims.claim(connection, now, offer, share)
                return claimed or self._claim_suspect(connection, now, offer, trial)
            case _:
                return claims.claim(connection, now, offer, share)

    def _turn(self, connection: apsw.Connection, now: int, offer: Offer, trial: Trial) -> Turn:
        standing = self._standing.get(offer.group_id, ())
        testing = {one.replica for one in standing if one.is_testing}
        if offer.replica in testing:
            return Turn.NOTHING
        if claims.newest_suspect(connection, now, offer) is None:
            self._end_trial(connection, offer.group_id)
            return Turn.WORK
        return trial.turn(
            offer.replica,
            now,
            round(offer.lease * 1000),
            idle=all(one.is_idle for one in (*self._offers(), offer) if one.process == offer.process),
            testing=testing,
            standing={one.replica for one in standing},
        )

    def _end_trial(self, connection: apsw.Connection, group: int) -> None:
        if self._trials is not None and value(connection, "has_suspects", group) is None:
            self._trials.pop(group, None)

    def _claim_suspect(self, connection: apsw.Connection, now: Moment, offer: Offer, trial: Trial) -> list[Claimed]:
        claimed = claims.claim_suspect(connection, now, offer)
        if claimed:
            trial.began()
        return claimed


def _busy(offer: Offer) -> tuple[int, int]:
    """What has the most room comes first; of those alike, what has had the least so far."""
    return -offer.credit, offer.spent
