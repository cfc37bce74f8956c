"""Notes how durable each commit of a platform is, as the connection that commits reports it.

A Python that has this folder in PYTHONPATH imports it before anything else. The lines go to the
file that BENCH_COMMITS names.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw

commits = Path(os.environ["BENCH_COMMITS"])


def watch(runs: apsw.Cursor | apsw.Connection, sql: str, _: object) -> bool:
    """Sees each statement before it runs."""
    if sql == "COMMIT":
        connection = runs if isinstance(runs, apsw.Connection) else runs.connection
        asked = ("journal_mode", "synchronous")
        with commits.open("a", encoding="utf-8") as file:
            file.write("/".join(str(connection.pragma(name)) for name in asked) + "\n")
    return True


def begin(connection: apsw.Connection) -> None:
    """Watches a new connection."""
    connection.exec_trace = watch


apsw.connection_hooks.append(begin)
