"""Checks of the memories: their indexes and limits, and what waits for somebody.

What only its process knows is read from the metrics of the platform that responds, the rest from
the record, whether a platform runs on it or not.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from soorma.cli.doctor.agents import duration
from soorma.cli.doctor.finding import Finding, ok, problem, warning
from soorma.cli.doctor.memories.embeddings import embeddings, vectors
from soorma.cli.doctor.scene import LOOK_SECONDS, Scene, counted_memories
from soorma.cli.doctor.store import size
from soorma_common.errors import SoormaError
from soorma_common.terminal import plain
from soorma_platform.stores.tools import CollectionCount, SearchSize
from soorma_platform.work.secrets import read_patterns

ERASED_SECONDS, STUCK_SECONDS = 120.0, 900.0
"""Seconds after which an erasure, which is promised within one minute, is late, and is stuck."""
NEAR = 0.9
"""The share of a limit from which it is near."""

PART_BYTES = 512
"""Memory that a part takes in an index, without its vector."""
VECTOR_SHARE = 17 / 16
"""Memory that a vector takes there for each of its bytes: its signs take a sixteenth."""
SETTING_STEP = 64 << 20
"""Bytes to which a value for the setting is rounded up."""


def record(scene: Scene) -> Iterator[Finding]:
    """Reports that the memories of the record cannot be counted, and what there was no time for."""
    try:
        counts = scene.memories
    except SoormaError as error:
        yield warning(
            "record",
            f"its memories cannot be counted: {error.message}",
            "follow the advice on the database above",
        )
        return
    if counts is not None and None in counts:
        yield ok(
            "record",
            f"too large to count all of its memories in {LOOK_SECONDS:g} s",
            "soorma doctor --thorough counts them",
        )


def secrets(scene: Scene) -> Iterator[Finding]:
    """Checks the file of patterns, without which a platform does not start."""
    settings = scene.settings
    if settings is None:
        return
    try:
        patterns = read_patterns(settings.memory_secret_patterns)
    except SoormaError as error:
        yield problem("secrets", plain(error.message), "correct the file, or unset the variable")
        return
    if settings.memory_secrets == "keep":
        yield ok("secrets", "they are kept in memories as they are: SOORMA_MEMORY_SECRETS is keep")
        return
    done = "redacted" if settings.memory_secrets == "redact" else "refused"
    own = f", with {len(patterns)} patterns of your own" if patterns else ""
    yield ok("secrets", f"{done} in memories{own}")


def index_memory(scene: Scene) -> Iterator[Finding]:
    """Checks that what a search goes through fits into the memory for indexes."""
    metrics, counts = scene.metrics, counted_memories(scene)
    if counts is None or not counts.searches or not counts.searches[0].parts:
        return
    is_running = metrics is not None and metrics.is_known and scene.is_store_used
    if is_running and metrics is not None:
        limit = metrics.get("index_limit_bytes")
    elif scene.settings is not None:
        limit = scene.settings.index_bytes
    else:
        return
    largest = max(counts.searches, key=_index_bytes)
    need = _index_bytes(largest)
    told = f"about {size(need)} of {size(limit)} ({largest.parts:,} parts)"
    if need > NEAR * limit:
        more = math.ceil(1.5 * need / SETTING_STEP) * SETTING_STEP
        yield warning(
            "index memory",
            f"a search of {_owner(largest)} needs {told}; indexes that do not fit are loaded again "
            "and again",
            f"give it more, and start the platform again: SOORMA_INDEX_BYTES={more}",
        )
        return
    dropped = int(metrics.get("indexes_dropped_total")) if is_running and metrics else 0
    if dropped:
        yield ok(
            "index memory",
            f"the largest search needs {told}; {dropped:,} indexes were dropped for others since "
            "the start",
            "if searches are slow, raise SOORMA_INDEX_BYTES",
        )
    else:
        yield ok("index memory", f"the largest search needs {told}")


def collections(scene: Scene) -> Iterator[Finding]:
    """Checks for collections that are nearly full."""
    counts, settings = counted_memories(scene), scene.settings
    if counts is None or settings is None:
        return
    kinds = (
        _Kind(
            "parts of passages (closed ones count)",
            counts.passages or [],
            settings.limits.memory_parts,
            "SOORMA_LIMIT_MEMORY_PARTS",
            "--before TIME --kind knowledge",
        ),
        _Kind(
            "skills, prompts and rules",
            counts.procedures or [],
            settings.limits.procedures,
            "SOORMA_LIMIT_PROCEDURES",
            "--before TIME --kind procedures",
        ),
    )
    near = [finding for kind in kinds for finding in kind.near()]
    yield from near
    if not near and any(kind.largest for kind in kinds):
        yield ok(
            "collections",
            "the largest has "
            + ", another ".join(
                f"{kind.largest:,} of {kind.limit:,} {kind.name}" for kind in kinds if kind.largest
            ),
        )


class _Kind(NamedTuple):
    """A kind of memories: its collections, and what to do when they are nearly full."""

    name: str
    counts: list[CollectionCount]
    limit: int
    setting: str
    fitting: str
    """options of `soorma memory forget` for what may go"""

    @property
    def largest(self) -> int:
        return max((one.total for one in self.counts), default=0)

    def near(self) -> Iterator[Finding]:
        for one in self.counts:
            if one.total and one.total >= NEAR * self.limit:
                yield warning(
                    "collections",
                    f"{_owner(one)} has {one.total:,} of {self.limit:,} {self.name}; more is "
                    "refused",
                    f"{self._forget(one)}, or raise {self.setting}",
                )

    def _forget(self, one: CollectionCount) -> str:
        if one.user_id is None:
            return "forget what is public and out of date"
        user = shlex.join(["--tenant", plain(one.tenant_id), "--user", plain(one.user_id)])
        return f"forget the oldest: soorma memory forget {self.fitting} {user}"


def erasure(scene: Scene) -> Iterator[Finding]:
    """Checks that the bytes of what was removed are overwritten in time."""
    metrics, counts = scene.metrics, counted_memories(scene)
    if metrics is not None and metrics.is_known:
        yield _being_erased(metrics.get("erasure_waiting_seconds"))
    elif counts is not None and counts.removals is not None and not scene.is_store_used:
        if counts.removals:
            yield warning(
                "erasure",
                f"the file may still hold the bytes of {counts.removals:,} memories that were "
                "removed",
                "start a platform, which overwrites them: soorma dev",
            )
        else:
            yield ok("erasure", _ERASED)


_ERASED = "the bytes of all that was removed are overwritten"


def _being_erased(seconds: float) -> Finding:
    if seconds <= ERASED_SECONDS:
        return ok("erasure", _ERASED if not seconds else "what was removed is being overwritten")
    return (problem if seconds > STUCK_SECONDS else warning)(
        "erasure",
        f"what was removed {duration(seconds)} ago is still in the file",
        "end what keeps the database open for long, such as a backup or sqlite3; the platform's "
        "log may say more (upkeep failed)",
    )


def proposals(scene: Scene) -> Iterator[Finding]:
    """Counts what handlers have proposed, and nobody has decided on."""
    counts = counted_memories(scene)
    found = None if counts is None else counts.proposals
    if found is None:
        return
    if not any(found):
        yield ok("proposals", "none wait")
        return
    yield ok(
        "proposals",
        f"{found.passages:,} passages and {found.versions:,} versions of procedures wait for "
        "somebody",
        "each user's are listed by soorma memory list --proposed and soorma memory skills; "
        "publish or activate them, or forget them",
    )


def quarantines(scene: Scene) -> Iterator[Finding]:
    """Counts the sources and agents in quarantine."""
    counts = counted_memories(scene)
    if counts is None or counts.quarantines is None:
        return
    if not counts.quarantines:
        yield ok("quarantine", "no source or agent is in it")
        return
    yield ok(
        "quarantine",
        f"{counts.quarantines:,} sources and agents: what comes from them counts for nothing",
        "soorma memory quarantine lists them; end one with soorma memory quarantine release",
    )


def _index_bytes(search: SearchSize) -> float:
    return search.parts * (PART_BYTES + VECTOR_SHARE * search.vector_bytes)


def _owner(one: CollectionCount | SearchSize) -> str:
    if one.user_id is None:
        return f"what is public in tenant {plain(one.tenant_id)}"
    return f"user {plain(one.user_id)} of tenant {plain(one.tenant_id)}"


CHECKS = (
    record,
    embeddings,
    vectors,
    secrets,
    index_memory,
    collections,
    erasure,
    proposals,
    quarantines,
)
