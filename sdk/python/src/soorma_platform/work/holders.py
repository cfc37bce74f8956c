"""Who holds the fence of a delivery, and so who and what the changes under it are made for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from soorma_common.causes import NOBODY, Cause
from soorma_common.names import Scope
from soorma_platform.engine.deliveries import cause_of
from soorma_platform.stores.ports.deliveries import DeliveryStore

MOST_KNOWN = 4096
"""Holders kept: more than attempts run at a time, so that each is looked up about once."""


class Held(NamedTuple):
    """A delivery in hand: the cause of what is done under it, its event's user, and the key family.

    `family` is that of the key by which its agent took it; None on an open platform.
    """

    cause: Cause
    scope: Scope
    family: str | None


Holder: TypeAlias = Callable[[str], Held | None]
"""An agent's connection: returns a delivery by its fence, None if the agent does not hold it."""


class Holders:
    """The holders of fences: agents connected here say so, others are looked up in the store.

    The store is read on the event loop, where a read waits for the interpreter while the writer is
    busy: so it is asked last, and once for all the calls of an attempt.
    """

    def __init__(self, deliveries: DeliveryStore) -> None:
        self._deliveries = deliveries
        self._here: dict[str, Holder] = {}
        self._known: OrderedDict[str, Held] = OrderedDict()
        """by fence, those asked for last"""

    def add(self, fence: str, holder: Holder) -> None:
        """Notes that an agent connected here holds a fence."""
        self._here[fence] = holder

    def remove(self, fence: str, holder: Holder) -> None:
        """Forgets a holder, unless its agent has connected again since and holds the fence."""
        if self._here.get(fence) == holder:
            del self._here[fence]
            self._known.pop(fence, None)

    async def cause_of(self, fence: str) -> Cause:
        """Returns the holder of a delivery and its event; NOBODY if the fence is not valid.

        It never changes while the fence is valid. Whether it still is, the commit finds out.
        """
        if (known := self._known.get(fence)) is not None:
            return known.cause
        held = await self.held(fence)
        if held is None:
            return NOBODY
        if held.cause.instance is not None:  # else its connection is being replaced
            self._known[fence] = held
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return held.cause

    async def held(self, fence: str) -> Held | None:
        """Returns the delivery that is in hand under a fence now; None if none is."""
        if (holder := self._here.get(fence)) is not None and (held := holder(fence)) is not None:
            return held
        row = await self._deliveries.holder(fence)
        if row is None:
            return None
        return Held(cause_of(row.agent, row.instance, row.envelope), row.scope, row.family)
