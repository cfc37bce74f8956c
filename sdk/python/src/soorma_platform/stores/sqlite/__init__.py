"""The embedded record: an SQLite database of one process, with group commit on one writer.

It is in WAL mode, with synchronous=FULL.
"""

from soorma_platform.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
