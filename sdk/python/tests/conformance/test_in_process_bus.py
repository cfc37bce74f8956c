"""The bus of the embedded platform passes the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from bus_suite import BusSuite

from soorma_platform.buses.in_process import InProcessBus
from soorma_platform.buses.protocol import Bus


class TestInProcessBus(BusSuite):
    def open_bus(self) -> AbstractAsyncContextManager[Bus]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Bus]:
            yield InProcessBus()

        return opened()
