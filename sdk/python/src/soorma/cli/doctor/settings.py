"""Checks of the SOORMA_… variables: known, valid, and naming the platform of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from soorma.cli.dev import services
from soorma.cli.doctor.finding import Finding, ok, problem, warning
from soorma.cli.doctor.scene import GATEWAY, Scene
from soorma.config import ClientConfig
from soorma.local import Running
from soorma_common.errors import SoormaError
from soorma_platform.settings import Settings

PREFIX = "SOORMA_"


class _Asked(dict[str, str]):
    """An empty environment that records the names that are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return default


def known_names() -> set[str]:
    """Returns every variable that the platform, the SDK or the command reads."""
    asked = _Asked()
    Settings.from_env(asked)
    ClientConfig.from_env(asked)
    return asked.names | set(services.VARIABLES.values())


def names(scene: Scene) -> Iterator[Finding]:
    """Checks that the names are known: one with a typing error sets nothing, silently."""
    given, known = {name for name in scene.environment if name.startswith(PREFIX)}, known_names()
    for name in sorted(given - known):
        nearest = get_close_matches(
            name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known], 1
        )
        advice = (
            f"is {PREFIX}{nearest[0]} meant?"
            if nearest
            else "its README lists those there are; unset this one"
        )
        yield warning("names", f"{name} is no variable that Soorma reads", advice)
    if given <= known:
        yield ok(
            "names", ", ".join(sorted(given)) or "no SOORMA_ variable is set: the defaults hold"
        )


def values(scene: Scene) -> Iterator[Finding]:
    """Checks that neither the platform nor the SDK would reject a variable."""
    complaints = [scene.complaint] if scene.complaint else []
    try:
        ClientConfig.from_env(scene.environment).scope(None, None)
    except SoormaError as error:
        complaints.append(error.message)
    for complaint in complaints:
        yield problem("values", complaint, "correct the variable, or unset it")
    if not complaints:
        yield ok("values", "all can be understood")


def addresses(scene: Scene) -> Iterator[Finding]:
    """Checks that the variables, which win over this folder's platform, do not lead elsewhere."""
    if scene.running is None:
        return
    wrong = dict(_astray(scene, scene.running))
    if wrong:
        yield warning(
            "addresses",
            "agents that are started here miss this folder's platform: they look at "
            f"{', '.join(wrong.values())}",
            f"say first: unset {' '.join(name for name, _ in wrong)}",
        )
    else:
        yield ok("addresses", "agents that are started here find this folder's platform")


def _astray(scene: Scene, running: Running) -> Iterator[tuple[tuple[str, str], str]]:
    """Yields each variable that leads elsewhere, with the right address, and the one it has."""
    here = services.variables(running.host, running.ports)
    gateway = _plain(running.address(GATEWAY)) if GATEWAY in running.ports else ""
    for name in services.VARIABLES.values():
        used = scene.environment.get(name)
        if used and _plain(used) not in (_plain(here[name]), gateway):
            yield (name, here[name]), used


def _plain(address: str) -> str:
    return address.rstrip("/").replace("//127.0.0.1:", "//localhost:")


CHECKS = (names, values, addresses)
