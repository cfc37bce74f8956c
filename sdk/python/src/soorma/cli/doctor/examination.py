"""All checks, and the run of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from soorma.cli.doctor import (
    agents,
    installation,
    keys,
    machine,
    platform,
    settings,
    store,
)
from soorma.cli.doctor.finding import Finding, problem, warning
from soorma.cli.doctor.memories import checks as memory_checks
from soorma.cli.doctor.scene import Scene

Check = Callable[[Scene], Iterable[Finding]]

GROUPS: dict[str, tuple[Check, ...]] = {
    "machine": machine.CHECKS,
    "installation": installation.CHECKS,
    "settings": settings.CHECKS,
    "store": store.CHECKS,
    "platform": platform.CHECKS,
    "keys": keys.CHECKS,
    "agents": agents.CHECKS,
    "memories": memory_checks.CHECKS,
}


def examine(scene: Scene) -> Iterator[tuple[str, Finding]]:
    """Yields all findings, each with its group, in reading order."""
    for group, checks in GROUPS.items():
        for check in checks:
            for finding in _outcome(check, scene):
                yield group, finding


def _outcome(check: Check, scene: Scene) -> list[Finding]:
    name = check.__name__.replace("_", " ")
    try:
        return list(check(scene))
    except OSError as error:
        return [
            warning(
                name, f"could not be looked at: {error}", "look as the user whose it is, or as root"
            )
        ]
    except Exception as error:  # noqa: BLE001 - one check that fails is a finding, and must not hide the others
        return [
            problem(
                name,
                f"could not be checked: {type(error).__name__}: {error}",
                "this check does not know such a machine; report it with this line",
            )
        ]
