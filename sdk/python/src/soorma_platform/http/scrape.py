"""`GET /metrics`: the process's counts and the record's state, in the formats of Prometheus.

The library that writes them is imported at the first scrape, and works in a thread: nobody waits
for either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

import msgspec

from soorma_common import __version__
from soorma_platform.metrics import Distribution, Metrics
from soorma_platform.stores.ports.health import GroupStanding, HealthStore, Standing

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.core import HistogramMetricFamily

_OF_GROUPS = {
    "soorma_group_events": "Events that the group has not done with.",
    "soorma_group_replicas": "Connected agents of the group.",
    "soorma_group_dead_letters": "Dead letters of the group that were not replayed.",
}


class Scrape:
    """The renderer of the metrics. All services of a process have the same: scrape one of them."""

    def __init__(self, health: HealthStore, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    async def render(self, accepted: str) -> tuple[bytes, str]:
        """Returns the metrics and their media type, in a format that the Accept header names.

        Raises Unavailable if the store cannot be read.
        """
        counted = [(counter, set(counter.values())) for counter in self._metrics.groups.counters]
        standing = await self._health.standing()
        groups = by_name(standing.groups)
        for counter, before in counted:
            # Removed groups; a new one was not counted before.
            for labels in before - {(name,) for name in groups}:
                counter.forget(*labels)
            for name in groups:
                counter.begin(name)
        return await asyncio.to_thread(_render, self._metrics, standing, groups, accepted)


def by_name(standings: list[GroupStanding]) -> dict[str, GroupStanding]:
    """Returns the groups by name; those of one name, in several tenants, are taken together."""
    found: dict[str, GroupStanding] = {}
    for one in standings:
        other = found.get(one.name)
        found[one.name] = one if other is None else _together(one, other)
    return found


def _together(one: GroupStanding, other: GroupStanding) -> GroupStanding:
    ages = [age for age in (one.oldest_seconds, other.oldest_seconds) if age is not None]
    return msgspec.structs.replace(
        one,
        events=one.events + other.events,
        ready=one.ready + other.ready,
        delayed=one.delayed + other.delayed,
        in_hand=one.in_hand + other.in_hand,
        parked=one.parked + other.parked,
        replicas=one.replicas + other.replicas,
        dead_letters=one.dead_letters + other.dead_letters,
        oldest_seconds=max(ages, default=None),
    )


def _render(
    metrics: Metrics, standing: Standing, groups: dict[str, GroupStanding], accepted: str
) -> tuple[bytes, str]:
    from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(
        _Collected([*_counted(metrics), *_of_the_record(standing), *_of_groups(groups)])
    )
    ProcessCollector(registry=registry)
    encode, media_type = choose_encoder(accepted)
    return encode(registry), media_type


class _Collected:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _counted(metrics: Metrics) -> Iterator[Metric]:
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )

    yield InfoMetricFamily("soorma_build", "The version of Soorma.", {"version": __version__})
    requests = CounterMetricFamily(
        "soorma_http_requests",
        "Requests served.",
        labels=("service", "method", "route", "status"),
    )
    seconds = HistogramMetricFamily(
        "soorma_http_request_duration_seconds",
        "Seconds until the answer began.",
        labels=("service", "method", "route"),
    )
    for labels, meter in metrics.routes.copy().items():
        for hundreds, count in enumerate(meter.statuses):
            if count:
                requests.add_metric((*labels, f"{hundreds}xx"), count)
        if any(meter.statuses):
            _add(seconds, labels, meter.seconds)
    yield requests
    yield seconds
    held = HistogramMetricFamily(
        "soorma_loop_held_seconds",
        "Processor seconds for which the event loop was held at a time, from 0.02 on.",
    )
    _add(held, (), metrics.loop_held)
    yield held
    for counter in metrics.counters:
        family = CounterMetricFamily(counter.name, counter.about, labels=counter.labels)
        for labels, value in counter.values().items():
            family.add_metric(labels, value)
        yield family
    about = "Commits of handlers that wait for their turn at a key."
    yield GaugeMetricFamily("soorma_commits_waiting", about, metrics.commits.waiting)
    yield from _of_keys(metrics)
    yield from _of_memories(metrics)


def _of_keys(metrics: Metrics) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    family = GaugeMetricFamily("soorma_keys", "API keys, by their state.", labels=["state"])
    for state, count in metrics.door.keys().items():
        family.add_metric([state], count)
    yield family
    issuer = metrics.door.issuer()
    about = "Keys of the issuer of tokens that are known."
    yield GaugeMetricFamily("soorma_issuer_keys", about, issuer.keys)
    about = "Seconds for which the issuer's keys cannot be fetched, 0 if they could last time."
    yield GaugeMetricFamily("soorma_issuer_failing_seconds", about, issuer.failing_seconds)


def _of_memories(metrics: Metrics) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily  # noqa: PLC0415

    counts = metrics.memories
    if counts.embedding_model:
        yield InfoMetricFamily(
            "soorma_memory_embedding_model",
            "The embedding model in use.",
            {"model": counts.embedding_model},
        )
    about = "Parts of memories that wait to be embedded; 10,000 stands for more."
    yield GaugeMetricFamily("soorma_memory_parts_unembedded", about, counts.unembedded)
    since = counts.embedding_failing_since
    yield GaugeMetricFamily(
        "soorma_memory_embedding_failing_seconds",
        "Seconds since the embedding model began to fail, 0 if its last call succeeded.",
        0.0 if since is None else time.monotonic() - since,
    )
    about = "Memory of the indexes of memories that are kept."
    yield GaugeMetricFamily("soorma_memory_index_bytes", about, counts.index_bytes)
    about = "Memory that they may take: SOORMA_INDEX_BYTES."
    yield GaugeMetricFamily("soorma_memory_index_limit_bytes", about, counts.index_bytes_limit)


def _of_the_record(standing: Standing) -> Iterator[Metric]:
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    batches = HistogramMetricFamily(
        "soorma_store_batch_size", "Changes that shared one transaction of the store."
    )
    _add(batches, (), standing.batches)
    yield batches
    seconds = HistogramMetricFamily(
        "soorma_store_transaction_seconds", "Seconds that a transaction of the store took."
    )
    _add(seconds, (), standing.seconds)
    yield seconds
    held = HistogramMetricFamily(
        "soorma_store_transaction_cpu_seconds",
        "Processor seconds that a transaction of the store took.",
    )
    _add(held, (), standing.held)
    yield held
    sizes = GaugeMetricFamily(
        "soorma_database_bytes", "Size of a file of the database.", labels=("file",)
    )
    for file, size in standing.sizes.items():
        sizes.add_metric((file,), size)
    yield sizes
    yield CounterMetricFamily(
        "soorma_clock_jumps",
        "Jumps of the system's clock since the platform started.",
        standing.clock.jumps,
    )
    yield GaugeMetricFamily(
        "soorma_clock_settling_seconds",
        "Seconds for which nothing that has expired is removed: the clock jumped, the machine "
        "slept or booted.",
        standing.clock.settles_in,
    )
    yield GaugeMetricFamily(
        "soorma_memory_erasure_waiting_seconds",
        "Seconds for which the bytes of removed memories have waited to be overwritten.",
        standing.erasure_waits,
    )
    yield GaugeMetricFamily(
        "soorma_log_end_position", "Position of the newest event.", standing.log_end
    )
    yield GaugeMetricFamily(
        "soorma_log_horizon_position",
        "Highest position that was removed from the log.",
        standing.log_horizon,
    )


def _of_groups(groups: dict[str, GroupStanding]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    lanes = GaugeMetricFamily(
        "soorma_group_lanes", "Lanes of the group by state.", labels=("group", "state")
    )
    ages = GaugeMetricFamily(
        "soorma_group_oldest_event_age_seconds",
        "Age of the group's oldest event, 0 without any.",
        labels=("group",),
    )
    counts = [
        GaugeMetricFamily(name, about, labels=("group",)) for name, about in _OF_GROUPS.items()
    ]
    for name, group in groups.items():
        for state in ("ready", "delayed", "in_hand", "parked"):
            lanes.add_metric((name, state), getattr(group, state))
        ages.add_metric((name,), group.oldest_seconds or 0)
        for family, value in zip(
            counts, (group.events, group.replicas, group.dead_letters), strict=True
        ):
            family.add_metric((name,), value)
    yield from (lanes, ages, *counts)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], spread: Distribution) -> None:
    upper = [*(f"{bound:g}" for bound in spread.bounds), "+Inf"]
    family.add_metric(
        labels, list(zip(upper, accumulate(spread.counts), strict=True)), spread.total
    )
