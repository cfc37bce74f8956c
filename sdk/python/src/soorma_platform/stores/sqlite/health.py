"""The port of health: the state of the record, and the faults that end it."""

from __future__ import annotations

import time

import apsw

from soorma_common.errors import Unavailable
from soorma_platform.stores.ports.health import ClockStanding, Standing
from soorma_platform.stores.sqlite import events
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.overview import standings
from soorma_platform.stores.sqlite.vitals import HOPELESS_SECONDS, SILENT_SECONDS, Vitals


class SqliteHealth:
    """The port of health."""

    def __init__(self, connections: Connections, vitals: Vitals) -> None:
        self._connections = connections
        self._vitals = vitals

    async def standing(self) -> Standing:
        uptime, writer, overview = (
            self._connections.uptime(),
            self._connections.writer,
            self._connections.overview,
        )

        def look(connection: apsw.Connection) -> Standing:
            bounds = events.bounds_of(connection)
            return Standing(
                groups=list(standings(connection, uptime).values()),
                log_end=bounds.end,
                log_horizon=bounds.horizon,
                sizes=overview.file_sizes(),
                batches=writer.batches,
                seconds=writer.seconds,
                clock=self.clock(),
                held=writer.held,
                erasure_waits=self._connections.erasure.waits(),
            )

        return await overview.look(look)

    def look_at_clock(self) -> None:
        clock = self._connections.clock
        clock.look()
        if clock.report():
            clock.is_old = True

    def clock(self) -> ClockStanding:
        clock = self._connections.clock
        return ClockStanding(clock.jumps, clock.settles_in)

    async def check(self) -> None:
        if lost := self._vitals.lost():
            raise Unavailable(lost)
        if (failure := self._connections.writer.failure) is not None:
            raise failure
        if (seconds := self.silence()) > SILENT_SECONDS:
            path = self._connections.path
            raise Unavailable(
                f"no change of the database {path} has got through for {seconds:.0f} seconds"
            )
        with self._connections.reads() as connection:
            events.bounds_of(connection)

    def hopeless(self) -> str | None:
        return self._vitals.lost() or self._connections.writer.hopeless(HOPELESS_SECONDS)

    def silence(self) -> float:
        """Returns the seconds since the last change got through."""
        return time.monotonic() - self._connections.writer.written_at
