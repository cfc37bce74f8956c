"""The connections of an open record: one writes, one reads, one looks over all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import apsw

from soorma_platform.stores.sqlite.clock import RecordClock
from soorma_platform.stores.sqlite.database import FailuresNamed
from soorma_platform.stores.sqlite.erasure import Erasure
from soorma_platform.stores.sqlite.overview import Overview
from soorma_platform.stores.sqlite.writer import GroupCommitter

T = TypeVar("T")


class Connections:
    """The connections and the clock that the parts of a store share."""

    def __init__(
        self, path: Path, reading: apsw.Connection, writer: GroupCommitter, clock: RecordClock
    ) -> None:
        self.path = path
        self.writer = writer
        self.clock = clock
        self.overview = Overview(path)
        self.erasure = Erasure(path, writer)
        self.failures = FailuresNamed(path)
        self.reading = reading

    @contextmanager
    def reads(self, *, together: bool = False) -> Iterator[apsw.Connection]:
        """Lends the reading connection; with `together`, all statements see the same commit."""
        with self.failures:
            if not together:
                yield self.reading
                return
            self.reading.execute("BEGIN")
            try:
                yield self.reading
            finally:
                self.reading.execute("COMMIT")

    async def close(self) -> None:
        """Waits for what is under way, then closes all of them."""
        await self.writer.close()
        await self.overview.close()
        self.reading.close()
        self.writer.connection.close()
        self.erasure.close()

    async def change(self, job: Callable[[apsw.Connection], T], *, durable: bool = True) -> T:
        """Runs a change that nobody is notified of."""
        value: T = await self.writer.run(
            lambda connection: (job(connection), None), durable=durable
        )
        return value

    def now(self) -> int:
        """Returns the wall clock's time in ms."""
        return self.clock.wall()

    def uptime(self) -> int:
        """Returns the time for which platforms have run on the record, in ms."""
        return self.clock.read().uptime
