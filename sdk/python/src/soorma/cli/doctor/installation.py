"""Checks of the installation: the command, the package and its dependencies belong together."""

from __future__ import annotations

import json
import re
import shutil
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from soorma.cli.doctor.finding import Finding, ok, problem, warning
from soorma.cli.doctor.scene import Scene
from soorma_common import __version__

NAME = "soorma-core"
PLACE = Path(__file__).resolve().parents[2]
INSTALL = "install it from its source: pip install -e sdk/python"
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)\s*(?:\[.*?\])?\s*(?P<range>[^;]*)(?:;(?P<marker>.*))?$"
)
_BOUND = re.compile(r"(?P<relation><|>=)\s*(?P<version>[0-9.]+)$")


def package(_: Scene) -> Iterator[Finding]:
    """Checks that the imported package is the installed one.

    On the package index, its name belongs to another project.
    """
    found = list(distributions(name=NAME))
    if not found:
        yield warning(
            "package", f"soorma {__version__} in {PLACE} is used without being installed", INSTALL
        )
        return
    installed = found[0]
    if installed.version != __version__:
        yield problem(
            "package",
            f"{NAME} {installed.version} is installed, but soorma {__version__} of {PLACE} is "
            "imported",
            f"remove it (pip uninstall {NAME}); {INSTALL}",
        )
    elif (home := _home(installed)) != PLACE:
        yield warning(
            "package",
            f"{NAME} is installed in {home}, but {PLACE} is imported instead",
            "check PYTHONPATH and the current folder; if the source was moved, install it again",
        )
    elif len(found) > 1:
        yield warning(
            "package",
            f"{NAME} is installed {len(found)} times in this Python",
            f"remove all; {INSTALL}",
        )
    else:
        yield ok("package", f"soorma {__version__} in {PLACE}")


def command(_: Scene) -> Iterator[Finding]:
    """Checks that the `soorma` on the PATH belongs to this Python."""
    own, first = Path(sysconfig.get_path("scripts")) / "soorma", shutil.which("soorma")
    if first is None:
        yield warning(
            "command",
            "there is no `soorma` on the PATH",
            f"put {own.parent} on it: activate the environment",
        )
    elif not own.exists() or not Path(first).samefile(own):
        yield warning(
            "command",
            f"`soorma` is {first}, of another installation than this one ({own.parent})",
            "activate the environment that you mean",
        )
    else:
        yield ok("command", first)


def dependencies(_: Scene) -> Iterator[Finding]:
    """Checks that each dependency is installed, in a version within its range."""
    versions = {requirement: _version_of(requirement.name) for requirement in _requirements()}
    wrong = [
        f"{each.name} {have} is not {each.range}" if have else f"{each.name} is missing"
        for each, have in versions.items()
        if have is None or not each.takes(have)
    ]
    if wrong:
        yield problem("dependencies", "; ".join(wrong), f"in an environment of its own, {INSTALL}")
    elif versions:
        yield ok(
            "dependencies", ", ".join(f"{each.name} {have}" for each, have in versions.items())
        )


class Requirement(NamedTuple):
    """A required distribution and the range of its versions."""

    name: str
    range: str

    def takes(self, version: str) -> bool:
        """True if the version is in the range; ValueError for a bound other than >= or <."""
        have = _release(version)
        for part in filter(None, map(str.strip, self.range.split(","))):
            bound = _BOUND.fullmatch(part)
            if bound is None:
                raise ValueError(f"{part!r} of {self.name} is no bound that is known here")
            edge = _release(bound["version"])
            if have < edge if bound["relation"] == ">=" else have >= edge:
                return False
        return True


def _requirements() -> list[Requirement]:
    """Returns the requirements of the installed distribution, if any, without those of extras."""
    installed = next(iter(distributions(name=NAME)), None)
    return requirements(installed.requires or []) if installed else []


def requirements(lines: list[str]) -> list[Requirement]:
    """Returns the requirements in a distribution's metadata that hold without an extra.

    The only other marker in use excludes Windows, where this command does not run.
    """
    found = [match for match in map(_REQUIREMENT.match, lines) if match]
    return [
        Requirement(match["name"], match["range"].strip())
        for match in found
        if "extra" not in (match["marker"] or "")
    ]


def _version_of(name: str) -> str | None:
    found = next(iter(distributions(name=name)), None)
    return None if found is None else found.version


def _release(version: str) -> tuple[int, ...]:
    """Returns the numbers of a version without trailing zeros: 3.0 is 3."""
    numbers = [int(part) for part in takewhile(str.isdigit, re.split(r"[.]|(?=[^0-9.])", version))]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _home(installed: Distribution) -> Path:
    """Returns the folder of a distribution's `soorma`: its source, if the install is editable."""
    source = json.loads(installed.read_text("direct_url.json") or "{}")
    if source.get("dir_info", {}).get("editable"):
        return (Path(unquote(urlsplit(source["url"]).path)) / "src" / "soorma").resolve()
    return Path(str(installed.locate_file("soorma"))).resolve()


CHECKS = (package, command, dependencies)
