"""The ports of a store: a small protocol for each noun, tested by `tests/conformance`.

Every failure of the store itself raises Unavailable, and nothing is half-written.
"""

from soorma_platform.stores.ports.store import Store

__all__ = ["Store"]
