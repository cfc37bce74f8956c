"""Who holds the fence of a delivery, and so who and what the changes under it are made for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from soorma_common.causes import NOBODY, Cause
from soorma_platform.engine.deliveries import cause_of
from soorma_platform.stores.ports.deliveries import DeliveryStore

MOST_CAUSES = 4096
"""Causes kept: more than attempts run at a time, so that each is looked up about once."""

Holder: TypeAlias = Callable[[str], Cause | None]
"""An agent's connection: returns the cause of a delivery, None if the agent does not hold it."""


class Holders:
    """The holders of fences: agents connected here say so, others are looked up in the store.

    The store is read on the event loop, where a read waits for the interpreter while the writer is
    busy: so it is asked last, and once for all the calls of an attempt.
    """

    def __init__(self, deliveries: DeliveryStore) -> None:
        self._deliveries = deliveries
        self._here: dict[str, Holder] = {}
        self._causes: OrderedDict[str, Cause] = OrderedDict()
        """by fence, those asked for last"""

    def add(self, fence: str, holder: Holder) -> None:
        """Notes that an agent connected here holds a fence."""
        self._here[fence] = holder

    def remove(self, fence: str, holder: Holder) -> None:
        """Forgets a holder, unless its agent has connected again since and holds the fence."""
        if self._here.get(fence) == holder:
            del self._here[fence]
            self._causes.pop(fence, None)

    async def cause_of(self, fence: str) -> Cause:
        """Returns the holder of a delivery and its event; NOBODY if the fence is not valid.

        It never changes while the fence is valid. Whether it still is, the commit finds out.
        """
        if (known := self._causes.get(fence)) is not None:
            return known
        cause = holder(fence) if (holder := self._here.get(fence)) is not None else None
        if cause is None:
            row = await self._deliveries.holder(fence)
            if row is None:
                return NOBODY
            cause = cause_of(row.agent, row.instance, row.envelope)
        if cause.instance is not None:  # else its connection is being replaced
            self._causes[fence] = cause
            if len(self._causes) > MOST_CAUSES:
                self._causes.popitem(last=False)
        return cause
