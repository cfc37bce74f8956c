"""The distribution: its contents, and that it works without a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from cli_shell import SECONDS, Shell
from depth import at_depth

PROJECT = Path(__file__).parents[2]
LICENSE = PROJECT.parents[1] / "LICENSE"
PACKAGES = ("soorma", "soorma_common", "soorma_platform")
DEPENDENCIES = at_depth(["borrowed"], ["borrowed", "pinned"])
"""The source of an installation's packages: this environment, or the package index, as pinned."""

USE = """
import asyncio, json, soorma, soorma_common, soorma_platform
from soorma import MemoryClient, WorkflowState

async def main():
    async with MemoryClient() as memory:
        state = WorkflowState(memory, "plan")
        await state.set("key", {"a": [1, None]})
        return await state.get("key")

homes = [module.__file__ for module in (soorma, soorma_common, soorma_platform)]
print(json.dumps([asyncio.run(main()), homes]))
"""


def run(
    *command: str | Path, cwd: Path, env: dict[str, str] | None = None, seconds: int = SECONDS
) -> str:
    """Runs a command, which must succeed, and returns its output."""
    done = subprocess.run(
        command, cwd=cwd, env=env or environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment() -> dict[str, str]:
    """The environment of somebody without a checkout; where pip finds packages is their choice."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SOORMA_", "PYTHON"))
    }


def build(project: Path, output: Path, kind: str) -> Path:
    """The wheel or sdist of a project."""
    run(sys.executable, "-I", "-m", "hatchling", "build", "-t", kind, "-d", output, cwd=project)
    (built,) = output.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(PROJECT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.mark.behaviour("install.wheel")
def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    packed = {name: data for name, data in contents(wheel).items() if ".dist-info/" not in name}
    sources = [
        path
        for package in PACKAGES
        for path in (PROJECT / "src" / package).rglob("*")
        if path.is_file()
    ]
    wanted = {
        path.relative_to(PROJECT / "src").as_posix(): path
        for path in sources
        if "__pycache__" not in path.parts
    }
    assert packed.keys() == wanted.keys()
    assert packed == {name: path.read_bytes() for name, path in wanted.items()}
    assert {f"{package}/py.typed" for package in PACKAGES} <= packed.keys()
    assert [name for name in packed if name.endswith(".sql")]


@pytest.mark.behaviour("install.wheel")
def test_the_wheel_tells_its_licence_and_its_command(wheel: Path) -> None:
    metadata = {
        name.partition("/")[2]: data
        for name, data in contents(wheel).items()
        if ".dist-info/" in name
    }
    assert metadata["licenses/LICENSE"] == LICENSE.read_bytes()
    assert b"License-Expression: MIT\nLicense-File: LICENSE\n" in metadata["METADATA"]
    assert b"soorma = soorma.cli.main:main" in metadata["entry_points.txt"]


@pytest.mark.behaviour("install.wheel")
def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build(PROJECT, tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (project,) = (tmp_path / "unpacked").iterdir()
    assert contents(build(project, tmp_path / "wheel", "wheel")) == contents(wheel)


class Installation:
    """An environment that holds the wheel, and no way to the checkout."""

    def __init__(self, folder: Path, wheel: Path, dependencies: str) -> None:
        self.folder = folder
        self._bin = folder / "bin"
        venv.create(folder, with_pip=False)
        if dependencies == "pinned":
            self._pip(
                "install",
                "--require-hashes",
                "-r",
                PROJECT / "requirements" / "runtime.txt",
                seconds=300,
            )
        self._pip("install", "--no-deps", "--no-index", wheel)
        if dependencies == "pinned":
            self._pip("check")
        else:
            self._borrow()

    def _pip(self, *arguments: str | Path, seconds: int = SECONDS) -> None:
        pip = (
            sys.executable,
            "-I",
            "-m",
            "pip",
            "--python",
            self.folder,
            "--disable-pip-version-check",
        )
        run(*pip, *arguments, cwd=self.folder, seconds=seconds)

    def _borrow(self) -> None:
        """Borrows the packages of this environment.

        Its .pth files, one of which leads to the checkout, do not count there.
        """
        site = run(
            self._bin / "python",
            "-I",
            "-c",
            "import site; print(site.getsitepackages()[0])",
            cwd=self.folder,
        )
        lines = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
        (Path(site.strip()) / "borrowed.pth").write_text("\n".join(lines))

    def __call__(self, program: str, *arguments: str, cwd: Path, env: dict[str, str]) -> str:
        """Runs a program of the environment; returns its output."""
        return run(self._bin / program, *arguments, cwd=cwd, env={**environment(), **env})


@pytest.mark.behaviour("install.without-the-checkout")
@pytest.mark.proof
@pytest.mark.parametrize("dependencies", DEPENDENCIES)
def test_soorma_dev_works_without_the_checkout(
    wheel: Path, shell: Shell, tmp_path: Path, dependencies: str
) -> None:
    installed = Installation(tmp_path / "installed", wheel, dependencies)
    env = {"SOORMA_PORT_OFFSET": str(shell.offset)}
    version = json.loads(installed("soorma", "version", "--json", cwd=shell.folder, env={}))
    assert version["version"] == wheel.name.split("-")[1]
    try:
        installed("soorma", "dev", cwd=shell.folder, env=env)
        status = json.loads(
            installed("soorma", "dev", "--status", "--json", cwd=shell.folder, env={})
        )
        assert status["healthy"] is True
        assert str(installed.folder) in run(
            "ps", "-ww", "-o", "command=", "-p", str(shell.pid()), cwd=tmp_path
        )
        told, homes = json.loads(
            installed("python", "-c", USE, cwd=shell.folder, env=status["environment"])
        )
        assert told == {"a": [1, None]}
        assert all(Path(home).is_relative_to(installed.folder) for home in homes), homes
    finally:
        installed("soorma", "dev", "--stop", cwd=shell.folder, env={})
    assert not shell.is_up()
