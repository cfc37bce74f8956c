"""Soorma: shared working memory and events for AI agents that work on one goal.

    from soorma import Worker, WorkflowState

Names are imported when they are first used, so that the command line does not load what it does not
use.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from soorma_common import __version__

if TYPE_CHECKING:
    from soorma.agents import Agent, Worker
    from soorma.config import ClientConfig
    from soorma.context import HandlerContext, PlatformContext
    from soorma.event_client import EventClient
    from soorma.flow import Defer, Reject, Retry
    from soorma.memory.client import MemoryClient
    from soorma.registry import RegistryClient
    from soorma.workflow import WorkflowState
    from soorma_common.errors import SoormaError
    from soorma_common.events import Event
    from soorma_common.registry import Capability, EventDefinition
    from soorma_common.retry import RetryPolicy
    from soorma_common.topics import Topic

_HOMES = {
    "Agent": "soorma.agents",
    "Capability": "soorma_common.registry",
    "ClientConfig": "soorma.config",
    "Event": "soorma_common.events",
    "EventClient": "soorma.event_client",
    "EventDefinition": "soorma_common.registry",
    "HandlerContext": "soorma.context",
    "MemoryClient": "soorma.memory.client",
    "PlatformContext": "soorma.context",
    "RegistryClient": "soorma.registry",
    "Defer": "soorma.flow",
    "Reject": "soorma.flow",
    "Retry": "soorma.flow",
    "RetryPolicy": "soorma_common.delivery",
    "SoormaError": "soorma_common.errors",
    "Topic": "soorma_common.topics",
    "Worker": "soorma.agents",
    "WorkflowState": "soorma.workflow",
}

__all__ = [
    "Agent",
    "Capability",
    "ClientConfig",
    "Defer",
    "Event",
    "EventClient",
    "EventDefinition",
    "HandlerContext",
    "MemoryClient",
    "PlatformContext",
    "RegistryClient",
    "Reject",
    "Retry",
    "RetryPolicy",
    "SoormaError",
    "Topic",
    "Worker",
    "WorkflowState",
    "__version__",
]


if not TYPE_CHECKING:  # type checkers must report missing names

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        asker = sys._getframe(1)  # noqa: SLF001 - `inspect` is slow to import
        # The import system looks for a submodule.
        if name.startswith("_") or asker.f_code.co_filename.startswith("<frozen importlib"):
            raise AttributeError(f"module 'soorma' has no attribute {name!r}")
        raise import_module("soorma.hints").missing_name("soorma", name, __all__, asker)


def __dir__() -> list[str]:
    return __all__
