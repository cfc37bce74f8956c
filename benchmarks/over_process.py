"""Figures of the platform as a process: how long its start takes, and how much memory it holds."""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from statistics import median

from measuring import FULL_COMMIT, Figure, ratio_of, resident_mib, rounds, say, times
from stage import Stage, clean_environment

IMPORTS = (
    "import uvloop, soorma_platform.__main__, uvicorn.protocols.http.httptools_impl, "
    "uvicorn.protocols.websockets.websockets_sansio_impl"
)
"""The imports of a running platform."""
START_SECONDS = 30.0
PLAN_KEYS = 10
PLANS_PER_COMMIT = 50


def start(stage: Stage) -> None:
    """The time from the process's start to the first responses of all services, on a new record."""
    say("start of the platform against importing what it imports")
    pairs: list[tuple[float, float]] = []
    bare: list[float] = []
    resident: list[float] = []
    for turn in rounds(stage.sizes.starts + 1, 30, least=2):
        took, holds = _one_start(stage, f"start-{turn}")
        imports, empty = _until_told(IMPORTS), _until_told("")
        if turn:  # the first round finds cold files
            pairs.append((took, imports))
            bare.append(empty)
            resident.append(holds)
    ratio, holds, floor = ratio_of(pairs), median(resident), resident_mib(stage.bare.pid)
    stage.report.numbers["start of the platform, s"] = median(took for took, _ in pairs)
    stage.report.numbers["resident memory after start, MiB"] = holds
    stage.report.figures += [
        Figure(
            "platform, start to first answers of all services, new database",
            f"{median(took for took, _ in pairs) * 1e3:.0f} ms",
            f"importing what it imports: {median(imports for _, imports in pairs) * 1e3:.0f} ms "
            f"(Python alone {median(bare) * 1e3:.0f} ms)",
            times(ratio), "≤ 3 ×", ratio <= 3, FULL_COMMIT,
        ),
        Figure("platform, resident memory after "
               "start", f"{holds:.0f} MiB", f"bare server: {floor:.0f} MiB",
               times(holds / floor), "≤ 90 MiB", holds <= 90),
    ]  # fmt: skip


def _one_start(stage: Stage, name: str) -> tuple[float, float]:
    """Seconds of one start, and the memory of the process after it."""
    platform = stage.new_platform(name)
    command = [sys.executable, "-P", "-m", "soorma_platform"]
    env = clean_environment(
        SOORMA_PORT_OFFSET=str(platform.offset),
        SOORMA_DATABASE=str(platform.database),
        SOORMA_ACCESS="open",
        SOORMA_LOG_LEVEL="warning",
    )
    try:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=env, cwd=platform.folder)
        try:
            for url in (platform.registry_url, platform.events_url, platform.memory_url):
                _await_answer(f"{url}/health", started + START_SECONDS)
            return time.perf_counter() - started, resident_mib(process.pid)
        finally:
            process.terminate()
            process.wait()
    finally:
        platform.close()


def _until_told(code: str) -> float:
    """Seconds from the start of a Python until it has run some code."""
    command = [sys.executable, "-P", "-c", f"{code}\nprint(flush=True)"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        process.stdout.readline()
        return time.perf_counter() - started


def _await_answer(url: str, until: float) -> None:
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - on loopback
                return
        except OSError:
            if time.perf_counter() > until:
                raise
            time.sleep(0.002)


def memory(stage: Stage) -> None:
    """Resident memory after many plans were written."""
    count = stage.sizes.plans
    say(f"memory with {count:,} plans of {PLAN_KEYS} keys")
    sets = ", ".join(f'{{"op": "set", "key": "k{n}", "value": {{"n": {n}, "text": '
                     f'"measured"}}}}' for n in
                     range(PLAN_KEYS))  # fmt: skip
    plans = ", ".join(
        f'{{"plan_id": "plan-<n>-{n}", "operations": [{sets}]}}' for n in range(PLANS_PER_COMMIT)
    )  # fmt: skip
    with stage.new_platform("memory") as platform:
        before = resident_mib(platform.pid)
        started = time.perf_counter()
        requests = count // PLANS_PER_COMMIT
        stage.commit(f'{{"plans": [{plans}]}}', of=platform, requests=requests, connections=4)
        seconds = time.perf_counter() - started
        after = resident_mib(platform.pid)
        size = sum(file.stat().st_size for file in platform.folder.glob("soorma.db*")) / 1024**2
    stage.report.numbers[f"resident memory with {count:,} plans, MiB"] = after
    stage.report.numbers["keys written in large commits, /s"] = count * PLAN_KEYS / seconds
    stage.report.figures.append(
        Figure(f"platform, resident memory with {count:,} plans of {PLAN_KEYS} "
               "keys", f"{after:.0f} MiB",
               f"the same process without plans: {before:.0f} "
               "MiB", times(after / before), "≤ 200 MiB", after <= 200,
               FULL_COMMIT)
    )  # fmt: skip
    stage.report.notes.append(
        f"{count * PLAN_KEYS:,} keys were written by 4 connections in commits of "
        f"{PLANS_PER_COMMIT * PLAN_KEYS} keys "
        f"at {count * PLAN_KEYS / seconds:,.0f} keys/s, and take {size:,.0f} MiB on disk with "
        "their history."
    )
