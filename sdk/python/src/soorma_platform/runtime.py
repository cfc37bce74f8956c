"""Runs the platform on its sockets until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from soorma_common.starting import RecordUnusable
from soorma_platform.assembly import Platform
from soorma_platform.http.certificate import Certificate
from soorma_platform.http.connections import measure_room
from soorma_platform.logs import Log
from soorma_platform.sampler import LoopSampler
from soorma_platform.serving import Server, listen
from soorma_platform.settings import Settings

log = Log("soorma")


def _settle_memory() -> None:
    """Exempts permanent objects from garbage collection, and makes it run less often.

    A commit makes about a hundred objects that are gone with it; collecting after every few commits
    was a sixth of its cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def run(settings: Settings, on_ready: Callable[[], None] = lambda: None) -> None:
    """Runs the platform until SIGINT or SIGTERM; raises Unavailable if it cannot start or go on."""
    measure_room()
    certificate = certificate_of(settings)
    sockets = listen(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Platform(settings) as platform:
            platform.check_keys()
            sampler = LoopSampler(platform.metrics)
            servers = [
                (Server(platform.services[name], sampler.touch, certificate), listener)
                for name, listener in sockets.items()
            ]
            running = [
                asyncio.create_task(server.serve([listener])) for server, listener in servers
            ]
            while not all(server.started for server, _ in servers):  # noqa: ASYNC110 - sets a flag
                await asyncio.sleep(0.005)
            on_ready()
            _settle_memory()
            log.info("platform ready", **{name: settings.address(name) for name in sockets})
            follower = asyncio.create_task(_follow(certificate))
            await _first_of(stop.wait(), platform.hopeless())
            follower.cancel()
            sampler.stop()
            if platform.end_reason:
                log.error(
                    "the platform ends: its record cannot be kept", reason=platform.end_reason
                )
            platform.stopping()
            for server, _ in servers:
                server.end()
            await asyncio.gather(*running)
    finally:
        for listener in sockets.values():
            listener.close()
    if platform.end_reason:
        raise RecordUnusable(platform.end_reason)
    log.info("platform stopped")


async def _follow(certificate: Certificate | None) -> None:
    if certificate is not None:
        await certificate.follow()


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Waits for the first of several, and cancels the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def certificate_of(settings: Settings) -> Certificate | None:
    """Returns the certificate to serve TLS with; None without one."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)
