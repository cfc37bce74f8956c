"""The workflow on DBOS with SQLite, in the client's process: `python dbos_workflow.py FOLDER`.

Plain steps, which run in its threads, are faster here than async ones. With `--again` it waits for
a command before it takes over what another process has left.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from common import STEPS, Clock, State, check, next_state, start, tell
from dbos import DBOS
from sqlalchemy import event

clock = Clock()
commits: Counter[str] = Counter()


@event.listens_for(sa.Engine, "connect")
def make_durable(connection: Any, _: object) -> None:
    """Configures each connection of its pool: WAL is faster than its default journal."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def watch(connection: sa.Connection) -> None:
    """Asks the connection that is about to commit."""
    asked = ("journal_mode", "synchronous")
    commits[
        "/".join(str(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()) for name in asked)
    ] += 1


@DBOS.step()
def step(state: State) -> State:
    """One step; its result is recorded before the next begins."""
    return next_state(state)


@DBOS.workflow()
def workflow() -> State:
    """Three steps."""
    state = start()
    for _ in range(STEPS):
        state = step(state)
    return state


@DBOS.step()
def timed_step(state: State) -> State:
    """One step; a replay takes its result from the record and does not come here."""
    clock.begins(state["step"])
    return next_state(state)


@DBOS.workflow()
def long_workflow() -> State:
    """Steps until it is killed."""
    state = start()
    while True:
        state = timed_step(state)


def run_one(_: int) -> float:
    """The seconds of one workflow."""
    began = time.perf_counter()
    check(DBOS.start_workflow(workflow).get_result())
    return time.perf_counter() - began


def run_many(count: int, width: int) -> float:
    """The seconds of many workflows, `width` in flight."""
    with ThreadPoolExecutor(width) as threads:
        began = time.perf_counter()
        list(threads.map(run_one, range(count)))
        return time.perf_counter() - began


def do(command: dict[str, Any]) -> None:
    """Carries out a command."""
    match command["do"]:
        case "watch":
            event.listen(sa.Engine, "commit", watch)
            run_many(command["count"], command["width"])
            event.remove(sa.Engine, "commit", watch)
            tell(commits=commits)
        case "one":
            tell(latencies=[run_one(number) for number in range(command["count"])])
        case "many":
            tell(seconds=run_many(command["count"], command["width"]))
        case "long":
            clock.measure(command["earlier"], command["more"])
            DBOS.start_workflow(long_workflow)
        case "resume":
            clock.resume()
            DBOS.launch()  # recovers what was under way


def main() -> None:
    """Serves until its input ends."""
    database = Path(sys.argv[1]) / "dbos.sqlite"
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{database}",
            "log_level": "WARNING",
        }
    )
    if "--again" not in sys.argv:
        DBOS.launch()
    tell(version=version("dbos"), sqlite=sqlite3.sqlite_version)
    for line in sys.stdin:
        do(json.loads(line))
    os._exit(0)  # whatever its threads do


if __name__ == "__main__":
    main()
