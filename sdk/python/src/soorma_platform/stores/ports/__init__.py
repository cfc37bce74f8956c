"""Ports of a store: a small protocol for each noun. `tests/conformance` says the same as tests.

Each failure of the store itself is raised as Unavailable, with nothing half-written.
"""

from soorma_platform.stores.ports.store import Store

__all__ = ["Store"]
