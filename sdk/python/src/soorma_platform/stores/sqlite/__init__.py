"""The embedded record: SQLite in WAL mode with synchronous=FULL, one process, group commit on one writer."""

from soorma_platform.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
