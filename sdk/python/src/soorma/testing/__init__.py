"""A platform inside the test's own process, for testing agents.

    from soorma.testing import LocalPlatform

It is the whole platform, with its record in a temporary folder and without a socket: agents and
clients reach the services by calls. Time stands still until the test moves it. See docs/TESTING.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soorma.testing.attempts import Crash, Trace
    from soorma.testing.embedder import WordEmbedder
    from soorma.testing.faults import Failure
    from soorma.testing.platform import LocalPlatform
    from soorma.testing.quiescence import Waiting

_HOMES = {
    "Crash": "soorma.testing.attempts",
    "Failure": "soorma.testing.faults",
    "LocalPlatform": "soorma.testing.platform",
    "Trace": "soorma.testing.attempts",
    "Waiting": "soorma.testing.quiescence",
    "WordEmbedder": "soorma.testing.embedder",
}

__all__ = ["Crash", "Failure", "LocalPlatform", "Trace", "Waiting", "WordEmbedder"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'soorma.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
