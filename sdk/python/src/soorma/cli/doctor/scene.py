"""The scene that the checks examine: this folder, its platform, the environment, the services."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from soorma.cli import connection
from soorma.cli.connection import Response
from soorma.cli.dev import processes, services
from soorma.cli.dev.folder import Folder
from soorma.local import Process, Running
from soorma_common.errors import SoormaError
from soorma_platform.settings import Settings
from soorma_platform.stores.engines import tools_for
from soorma_platform.stores.tools import MemoryCounts, StoreTools

PATIENCE_SECONDS = 1.0
GATEWAY = "gateway"
LOOK_SECONDS = 0.4
"""Seconds for which the record is read, unless all of it is to be read."""

MEMORY_METRICS = "soorma_memory_"


class MemoryMetrics(NamedTuple):
    """The metrics of a platform's memories: values by name, and the embedding model, if any."""

    values: Mapping[str, float]
    model: str | None

    @classmethod
    def of(cls, text: str) -> MemoryMetrics:
        """Returns those in the response to GET /metrics; ValueError if it is no such."""
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - slow

        lines = [line for line in text.splitlines() if line.startswith(MEMORY_METRICS)]
        values: dict[str, float] = {}
        model = None
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for name, labels, value, *_ in family.samples:
                if not labels:
                    values[name.removeprefix(MEMORY_METRICS)] = value
                elif name == f"{MEMORY_METRICS}embedding_model_info":
                    model = labels["model"]
        return cls(values, model)

    @property
    def is_known(self) -> bool:
        """True if the platform is of a version that has them."""
        return "index_limit_bytes" in self.values

    def get(self, name: str) -> float:
        """Returns a value, 0 if the platform is of a version without it."""
        return self.values.get(name, 0.0)


@dataclass(frozen=True)
class Scene:
    """The folder, platform, environment and services that the checks examine.

    `running` is the platform of this folder, if it is alive; `note` is what is wrong with the note
    it left. `settings` are those that a platform would start with; None, with the `complaint`, if
    they are refused. `responses` holds the response to GET /health at each service's address.
    """

    folder: Folder
    environment: Mapping[str, str]
    running: Running | None
    note: str
    settings: Settings | None
    complaint: str
    responses: Mapping[str, Response]
    thorough: bool

    @classmethod
    def here(cls, *, thorough: bool) -> Scene:
        """Returns the scene of the current folder and environment, at this moment."""
        folder = Folder.nearest()
        running, note = _running(folder)
        settings, complaint = _settings()
        return cls(
            folder, os.environ, running, note, settings, complaint, _responses(running), thorough
        )

    @property
    def database(self) -> Path:
        """The database of SOORMA_DATABASE, else of the platform that runs here, or would."""
        return self.folder.database_for(self.environment, self.running)

    @property
    def store(self) -> StoreTools:
        """The store tools of that database."""
        return tools_for(self.database)

    @property
    def place(self) -> Path:
        """The folder of the database, or the nearest above it that exists."""
        return next(folder for folder in self.database.absolute().parents if folder.is_dir())

    @property
    def seconds(self) -> float | None:
        """The seconds for which the record may be read; None: to its end."""
        return None if self.thorough else LOOK_SECONDS

    @cached_property
    def memories(self) -> MemoryCounts | None:
        """What the record holds of memories, None if it has none; counted once.

        Raises Unavailable if the record cannot be read.
        """
        return self.store.memories(self.seconds)

    @cached_property
    def is_store_used(self) -> bool:
        """True if a process has the record open, as far as can be seen."""
        use = self.store.use()
        if use.pid is None:
            return False
        opened = processes.open_files(use.pid)
        is_alive = bool(Process.of(use.pid).born)
        return is_alive and (not opened or str(use.lock.resolve()) in opened)

    @cached_property
    def metrics_text(self) -> str | None:
        """The metrics of the platform that responds; None without one, or if they may not be read.

        They are those of the whole process.
        """
        response = self.responses.get("memory")
        if response is None or not speaks_for(response, "memory"):
            return None
        return connection.probe_text(
            response.address,
            "/metrics",
            seconds=PATIENCE_SECONDS,
            headers=connection.key_headers(),
        )

    @cached_property
    def metrics(self) -> MemoryMetrics | None:
        """The metrics of the memories of the platform that responds; None without one."""
        text = self.metrics_text
        return None if text is None else MemoryMetrics.of(text)

    def metric(self, name: str) -> dict[str, float]:
        """Returns the values of a metric of at most one label by its value, else by an empty text.

        Empty if the platform does not respond, or has no such metric.
        """
        found = {}
        for line in (self.metrics_text or "").splitlines():
            if (parts := _sample(line)) is not None and parts[0] == name:
                found[parts[1] or ""] = float(parts[2])
        return found

    def expects(self, service: str) -> bool:
        """True if the service should respond: it runs here, or the environment names a platform."""
        if self.running is not None and service in self.running.ports:
            return True
        return service in services.VARIABLES and any(
            self.environment.get(name) for name in services.VARIABLES.values()
        )


_sample_of = re.compile(r'([a-z_]+)(?:\{[a-z_]+="([^"]*)"\})? (\S+)').fullmatch


def _sample(line: str) -> tuple[str, str | None, str] | None:
    found = _sample_of(line)
    return None if found is None else (found[1], found[2], found[3])


def speaks_for(response: Response, service: str) -> bool:
    """True if the response is of the service, or of the gateway, which stands for all."""
    return response.document is not None and response.document.get("service") in (service, GATEWAY)


def _running(folder: Folder) -> tuple[Running | None, str]:
    """Finds the running platform as `Folder.running` does, but cleans nothing up."""
    try:
        found = Running.read(folder.state)
    except ValueError as error:
        return None, str(error)
    except OSError as error:
        return None, f"{folder.state} cannot be read: {error.strerror}"
    if found is None or found.process.is_alive():
        return found, ""
    return None, f"the platform of process {found.pid} is gone without a word"


def _settings() -> tuple[Settings | None, str]:
    try:
        return Settings.from_env(), ""
    except SoormaError as error:
        return None, error.message


def _responses(running: Running | None) -> dict[str, Response]:
    """Probes each service at the address where it is looked for in this folder, all at once.

    If the environment names another platform, the gateway is left out: the one at the usual port
    is not that platform's.
    """
    elsewhere = running is None and any(
        os.environ.get(name) for name in services.VARIABLES.values()
    )
    addresses = {
        service: _address(service, running)
        for service in (services.VARIABLES if elsewhere else services.PORTS)
    }
    headers = connection.key_headers()
    with ThreadPoolExecutor(len(addresses)) as pool:
        responses = pool.map(
            lambda address: connection.probe(
                address, "/health", seconds=PATIENCE_SECONDS, headers=headers
            ),
            addresses.values(),
        )
        return dict(zip(addresses, responses, strict=True))


def _address(service: str, running: Running | None) -> str:
    """Returns the address of the environment, else of this folder's platform, else the default."""
    told = os.environ.get(services.VARIABLES.get(service, ""))
    if told:
        return told
    if running is not None and service in running.ports:
        return running.address(service)
    return services.address("127.0.0.1", services.PORTS[service])


def counted_memories(scene: Scene) -> MemoryCounts | None:
    """Returns the counts of the record's memories; None if they cannot be counted."""
    try:
        return scene.memories
    except SoormaError:
        return None  # the check `record` reports it
