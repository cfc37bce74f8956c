"""Prefetch: a transaction claims what it makes ready, for replicas that have room.

So an agent that waits for a delivery has it with the commit that made it, without a transaction of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import apsw

from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.engine.suspects import Trial, TrialTurn
from soorma_platform.stores.ports.deliveries import LARGEST_CLAIM, Claimed, Prefetch
from soorma_platform.stores.ports.groups import Survey
from soorma_platform.stores.sqlite import claims, deaths, subscriptions
from soorma_platform.stores.sqlite.statements import value, values

NEVER = 1 << 62
Filled = list[tuple[Prefetch, list[Claimed]]]


class Prefetches:
    """The prefetch of each connected replica, by group.

    Replicas come and go on the event loop; all else is done by whoever writes. The tuples of
    `_of_group` are replaced, never changed, so that the writer may iterate over one while a replica
    comes or goes.
    """

    def __init__(self, clock: Callable[[], Moment], lease: float = 30.0) -> None:
        self._clock = clock
        self._lease = round(lease * 1000)
        self._of_group: dict[int, tuple[Prefetch, ...]] = {}
        self._requested: list[Prefetch] = []
        self._trials: dict[int, Trial] | None = None
        """those of groups that have suspects; None: to be looked up"""
        self._lapse_at = 0
        """no lease expires before this time (ms): until then nobody has to look"""
        self._lost: list[tuple[Prefetch, list[str]]] = []
        self._unserved: dict[int, list[int]] = {}
        """subscriptions of a group that no connected replica serves, while one serves others"""
        self._silent: set[str] = set()
        """replicas that lost deliveries because they were silent, until they give a sign of life"""
        self._is_open = False

    @contextmanager
    def prefetching(self, prefetch: Prefetch) -> Iterator[None]:
        group = prefetch.group_id
        self._of_group[group] = (*self._of_group.get(group, ()), prefetch)
        try:
            yield
        finally:
            self._silent.discard(prefetch.replica)
            if left := tuple(one for one in self._of_group[group] if one is not prefetch):
                self._of_group[group] = left
            else:
                del self._of_group[group]

    def all_served(self) -> set[int]:
        """Returns the subscriptions that any connected replica serves."""
        return {id_ for prefetch in self._all() for id_ in prefetch.subscription_ids}

    def request(self, prefetch: Prefetch) -> None:
        """Has a prefetch filled in the transaction under way, even if nothing was made ready."""
        self._requested.append(prefetch)

    def heard(self, replica: str) -> None:
        """Notes a sign of life of a replica."""
        self._silent.discard(replica)

    def lease_until(self, at: int) -> None:
        """Notes that a lease was given or prolonged up to a time (ms)."""
        self._lapse_at = min(self._lapse_at, at)

    def suspect(self, with_suspects: Iterable[int]) -> None:
        """Notes groups that may have suspects from now on."""
        if self._trials is not None:
            for group in with_suspects:
                self._trials.setdefault(group, Trial())

    @property
    def next_lapse(self) -> int:
        """The time (ms) before which no lease expires."""
        return self._lapse_at

    @property
    def has_suspects(self) -> bool:
        """True if any group may have suspects."""
        return self._trials is None or bool(self._trials)

    def served(self, group: int) -> set[int]:
        """Returns the subscriptions that the connected replicas of a group serve.

        A replica that is about to stop serves none.
        """
        return {
            id_ for prefetch in self._of_group.get(group, ()) for id_ in prefetch.subscription_ids
        }

    def is_served(self, group: int, subscription: int) -> bool:
        """True if a replica serves a subscription, or none of its group is connected."""
        return subscription not in self._unserved.get(group, ())

    def survey(self, connection: apsw.Connection, group: int) -> Survey:
        served = self.served(group)
        self._unserved.pop(group, None)
        if not served:
            return Survey([], more=False)
        found, unserved = subscriptions.survey(
            connection, self._clock().uptime, subscriptions.patterns.all(connection, group), served
        )
        if unserved:
            self._unserved[group] = unserved
        return found

    def forget(self) -> None:
        """Begins a transaction; jobs of one that was rolled back make their requests again."""
        self._requested.clear()
        self._lost.clear()
        if self._is_open:  # the one before was rolled back: what it noted did not happen
            self._trials, self._lapse_at = None, 0
        self._is_open = True

    def claim(self, connection: apsw.Connection, notices: Iterable[Notice]) -> Filled:
        """Claims after a transaction's jobs: what was requested, and for groups in its notices."""
        concerned = {group for notice in notices for group in notice.groups}
        if (
            not (concerned or self._requested)
            and self._trials is not None
            and self._lapse_at == NEVER
        ):
            return []  # no agent is concerned: what is written is memory alone
        moment = self._clock()
        now = moment.uptime
        if self._trials is None:
            self._trials = {group: Trial() for group in values(connection, "suspected_groups")}
        if now >= self._lapse_at:
            concerned |= self._free_lapsed(connection, now)
        if not (concerned or self._requested):
            return []
        for group in concerned & self._unserved.keys():
            subscriptions.set_aside(connection, now, self._unserved[group])
        shares = dict.fromkeys(self._requested, LARGEST_CLAIM)
        for group in concerned:
            prefetches = self._of_group.get(group, ())
            for prefetch in sorted(prefetches, key=_busy):
                shares.setdefault(prefetch, max(LARGEST_CLAIM // len(prefetches), 1))
        if not shares:
            return []
        found = [
            (prefetch, self._claim_for(connection, moment, prefetch, share))
            for prefetch, share in shares.items()
        ]
        filled = [(prefetch, claimed) for prefetch, claimed in found if claimed]
        if filled:
            self.lease_until(
                now + round(min(one.lease for _, claimed in filled for one in claimed) * 1000)
            )
        return filled

    def fill(self, filled: Filled) -> None:
        """Hands out what was claimed, once that is committed: before, it could be rolled back."""
        self._is_open = False
        for prefetch, claimed in filled:
            prefetch.fill(claimed)
        for prefetch, fences in self._lost:
            prefetch.lose(fences)

    def _free_lapsed(self, connection: apsw.Connection, now: int) -> set[int]:
        """Frees deliveries whose leases have expired; returns their groups."""
        concerned: set[int] = set()
        for replica, freed in deaths.lapse(connection, now, self._lease).items():
            self.suspect(freed.suspected)
            concerned |= freed.groups
            if freed.is_silent:
                self._silent.add(replica)
            self._lost += [
                (prefetch, freed.fences) for prefetch in self._all() if prefetch.replica == replica
            ]
        first = value(connection, "first_lapse")
        self._lapse_at = NEVER if first is None else first
        return concerned

    def _all(self) -> Iterator[Prefetch]:
        for prefetches in list(self._of_group.values()):
            yield from prefetches

    def _claim_for(
        self, connection: apsw.Connection, now: Moment, prefetch: Prefetch, share: int
    ) -> list[Claimed]:
        if prefetch.replica in self._silent:
            return []  # a frozen replica has empty hands, yet must not be tested with a suspect
        trial = self._trials.get(prefetch.group_id) if self._trials else None
        if trial is None:
            return claims.claim(connection, now, prefetch, share)
        match self._turn(connection, now.uptime, prefetch, trial):
            case TrialTurn.NOTHING:
                return []
            case TrialTurn.SUSPECT:
                return self._claim_suspect(connection, now, prefetch, trial)
            case TrialTurn.WORK_FIRST:
                claimed = claims.claim(connection, now, prefetch, share)
                return claimed or self._claim_suspect(connection, now, prefetch, trial)
            case _:
                return claims.claim(connection, now, prefetch, share)

    def _turn(
        self, connection: apsw.Connection, now: int, prefetch: Prefetch, trial: Trial
    ) -> TrialTurn:
        standing = self._of_group.get(prefetch.group_id, ())
        testing = {one.replica for one in standing if one.is_testing}
        if prefetch.replica in testing:
            return TrialTurn.NOTHING
        if claims.newest_suspect(connection, now, prefetch) is None:
            self._end_trial(connection, prefetch.group_id)
            return TrialTurn.WORK
        return trial.turn(
            prefetch.replica,
            now,
            round(prefetch.lease * 1000),
            idle=all(
                one.is_idle for one in (*self._all(), prefetch) if one.process == prefetch.process
            ),
            testing=testing,
            standing={one.replica for one in standing},
        )

    def _end_trial(self, connection: apsw.Connection, group: int) -> None:
        if self._trials is not None and value(connection, "has_suspects", group) is None:
            self._trials.pop(group, None)

    def _claim_suspect(
        self, connection: apsw.Connection, now: Moment, prefetch: Prefetch, trial: Trial
    ) -> list[Claimed]:
        claimed = claims.claim_suspect(connection, now, prefetch)
        if claimed:
            trial.began()
        return claimed


def _busy(prefetch: Prefetch) -> tuple[int, int]:
    """Sorts the one with the most room first; among equals, the one that was sent the least."""
    return -prefetch.room, prefetch.used
