"""The public names and signatures, pinned: changing one is a decision, made in `public_api.txt`.

python tests/unit/test_public_api.py > tests/unit/public_api.txt
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import soorma
import soorma.errors

PINNED = Path(__file__).with_name("public_api.txt")
CLASSES = [
    "soorma.workflow.WorkflowState",
    "soorma.workflow.StateAt",
    "soorma.workflow.Difference",
    "soorma.workflow.StateTransaction",
    "soorma.workflow.Claim",
    "soorma.memory.client.MemoryClient",
    "soorma.agents.Agent",
    "soorma.agents.Worker",
    "soorma.event_client.EventClient",
    "soorma.registry.RegistryClient",
    "soorma.bus.BusClient",
    "soorma.context.PlatformContext",
    "soorma.context.HandlerContext",
    "soorma.config.ClientConfig",
    "soorma.flow.Retry",
    "soorma.flow.Reject",
    "soorma_common.delivery.RetryPolicy",
    "soorma.testing.LocalPlatform",
    "soorma.testing.Trace",
    "soorma.testing.Crash",
    "soorma.testing.Failure",
    "soorma.testing.Waiting",
]


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _defined(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("soorma"):
            found.update(vars(base))
    return {
        name: found[name]
        for name in sorted(found)
        if name == "__init__" or not name.startswith("_")
    }


def _line(path: str, name: str, member: Any) -> str | None:
    if isinstance(member, property):
        return f"{path}.{name}: property"
    function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    if not callable(function):
        return None
    parameters = [
        _plain(parameter) for parameter in inspect.signature(function).parameters.values()
    ]
    written = inspect.unwrap(function)
    kind = (
        "async "
        if inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written)
        else ""
    )
    return f"{kind}{path}.{name}{inspect.Signature(parameters)}"


class _Some:
    """A default that has no short text of its own."""

    def __repr__(self) -> str:
        return "…"


def _plain(parameter: inspect.Parameter) -> inspect.Parameter:
    default = parameter.default
    if default is not inspect.Parameter.empty and not isinstance(default, str | int | float | None):
        default = _Some()
    return parameter.replace(annotation=inspect.Parameter.empty, default=default)


def table() -> str:
    """All public names, and the signatures of the public methods of public classes, a line each."""
    lines = [f"soorma.{name}" for name in sorted(soorma.__all__)]
    lines += [f"soorma.errors.{name}" for name in sorted(soorma.errors.__all__)]
    for path in CLASSES:
        made = [_line(path, name, member) for name, member in _defined(_load(path)).items()]
        lines += [line for line in made if line is not None]
    return "\n".join(lines) + "\n"


@pytest.mark.behaviour("errors.public-names")
def test_the_public_api_is_what_is_pinned() -> None:
    assert table().splitlines() == PINNED.read_text("utf-8").splitlines()


@pytest.mark.behaviour("errors.public-names")
def test_every_public_name_can_be_imported() -> None:
    assert sorted(set(soorma.__all__)) == sorted(soorma.__all__)
    for name in soorma.__all__:
        assert getattr(soorma, name) is not None
    assert set(soorma.__all__) == set(dir(soorma))


@pytest.mark.behaviour("errors.public-names")
def test_what_is_not_public_is_not_there() -> None:
    assert not hasattr(soorma, "Nothing")


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201
