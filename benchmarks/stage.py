"""The stage of a run: one platform, the floors beside it and the load generator, each a process."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict, Unpack

from floors import BareCommits, BareServer
from load import Job, LoadProcess, Result
from measuring import Report, Sizes

from soorma import ClientConfig

ROOT = Path(__file__).resolve().parent.parent
MEASURED = Path(os.environ.get("BENCH_CHECKOUT") or ROOT)
"""The checkout that is measured: a comparison measures two, with the same benchmarks."""
EXAMPLE = MEASURED / "examples" / "05-memory-working"
for _tests in ("tests", "tests/system"):
    sys.path.insert(0, str(ROOT / "sdk" / "python" / _tests))

from platform_process import PlatformProcess, clean_environment  # noqa: E402 - not installed

BARE_PORT = 8086
KEY = "/v1/memory/working"
COMMIT = "/v1/memory/commit"
PUT_BODY = '{"value": {"n": <n>, "text": "<pad>"}}'


class How(TypedDict, total=False):
    """The other fields of a `Job`."""

    requests: int
    connections: int
    keys: int
    pad: int
    first: int
    rate: float
    head: str
    heads: list[str]


class Stage:
    """A context manager; everything in it is gone at its end."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes
        self.report = Report()
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as held:
            self.platform = held.enter_context(self.new_platform("stage"))
            self.bare = held.enter_context(BareServer(BARE_PORT + self.platform.offset))
            self.commits = BareCommits(self.folder / "floor.db")
            held.callback(self.commits.close)
            self._load = held.enter_context(LoadProcess(self.folder))
            self._held = held.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    @property
    def config(self) -> ClientConfig:
        """The platform, for a client of the SDK."""
        there = self.platform
        return ClientConfig(
            there.memory_url, there.events_url, "bench", "bench", registry_url=there.registry_url
        )

    def new_platform(self, name: str, **settings: str) -> PlatformProcess:
        """A platform with a database and ports of its own, not yet started."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        # With compiled files, as users have them: to compile all takes longer than the start.
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.folder / "pyc")}
        return PlatformProcess(folder, {"SOORMA_LOG_LEVEL": "warning", **compiled, **settings})

    def get(self, plan: str, *, of: PlatformProcess | None = None, **how: Unpack[How]) -> Result:
        """GETs of the plan's keys `k0`, `k1`, …"""
        return self._run(of or self.platform, "GET", f"{KEY}/{plan}/k<k>", "", how)

    def put(self, plan: str, *, of: PlatformProcess | None = None, **how: Unpack[How]) -> Result:
        """Durable PUTs of the plan's keys, another value each time."""
        return self._run(of or self.platform, "PUT", f"{KEY}/{plan}/k<k>", PUT_BODY, how)

    def commit(self, body: str, *, of: PlatformProcess | None = None, **how: Unpack[How]) -> Result:
        """Durable commits of a body that a job fills in."""
        return self._run(of or self.platform, "POST", COMMIT, body, how)

    def read(self, path: str, **how: Unpack[How]) -> Result:
        """GETs of any path of the memory service."""
        return self._run(self.platform, "GET", path, "", how)

    def bare_get(self, size: int = 0, **how: Unpack[How]) -> Result:
        """GETs of the bare server."""
        path = f"/?size={size}" if size else f"{KEY}/plan/k<k>"
        return self._run(self.bare, "GET", path, "", how)

    def bare_put(self, **how: Unpack[How]) -> Result:
        """PUTs to the bare server, which reads them and returns the same bytes."""
        return self._run(self.bare, "PUT", f"{KEY}/plan/k<k>", PUT_BODY, how)

    def fill(
        self, plan: str, keys: int, *, of: PlatformProcess | None = None, size: int = 100
    ) -> None:
        """Writes keys `k0` … of a plan, each of `size` bytes."""
        self.put(plan, of=of, requests=keys, keys=keys, pad=size)

    def _run(
        self, server: PlatformProcess | BareServer, method: str, path: str, body: str, how: How
    ) -> Result:
        url = server.url if isinstance(server, BareServer) else server.memory_url
        return self._load.run(Job(url, method, path, body, server=server.pid, **how))


__all__ = ["EXAMPLE", "ROOT", "How", "Stage", "clean_environment"]
