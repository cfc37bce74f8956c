"""The pytest plugin in a project: in pytest-asyncio's modes, and at no cost if it is not used."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

LEAN = ("-p", "no:schemathesis", "-p", "no:hypothesispytest")
"""Plugins that take seconds to load, where they are installed, and have no part in these tests."""

TEST = """
import pytest
from soorma import Worker

worker = Worker("echo")


@worker.on_event("said", topic="business-facts")
async def echo(event, context):
    await context.bus.publish("echoed", "business-facts", event.data)


{mark}
async def test_it_echoes(soorma_platform):
    await soorma_platform.run(worker)
    await soorma_platform.publish("said", "business-facts", "hello")
    await soorma_platform.settle()
    assert [event.data for event in soorma_platform.published("echoed")] == ["hello"]
"""


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SOORMA_", "PYTEST_"))
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.behaviour("testing.plugin")
@pytest.mark.parametrize(("mode", "mark"), [("strict", "@pytest.mark.asyncio"), ("auto", "")])
def test_the_fixture_works_in_both_modes_of_pytest_asyncio(
    tmp_path: Path, mode: str, mark: str
) -> None:
    tmp_path.joinpath("test_echo.py").write_text(TEST.format(mark=mark), "utf-8")
    options = (
        "-W",
        "error",
        "-o",
        f"asyncio_mode={mode}",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    )
    done = _python(tmp_path, "-m", "pytest", *LEAN, "-q", *options, "test_echo.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.behaviour("testing.plugin")
def test_the_fixture_says_what_it_is(tmp_path: Path) -> None:
    shown = _python(tmp_path, "-m", "pytest", *LEAN, "--fixtures", "-p", "no:cacheprovider").stdout
    assert "soorma_platform" in shown
    assert "The test's own platform in this process, without a socket" in shown


@pytest.mark.behaviour("testing.plugin")
def test_whoever_does_not_use_it_does_not_pay(tmp_path: Path) -> None:
    done = _python(
        tmp_path,
        "-c",
        "import sys, pytest; before = set(sys.modules)\n"
        "import soorma.testing.plugin\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))",
    )
    loaded = set(done.stdout.split())
    assert "soorma" in loaded
    assert not loaded & {"soorma_platform", "aiohttp", "apsw", "msgspec", "uvicorn"}


@pytest.mark.behaviour("testing.plugin")
def test_pytest_is_not_needed_to_run_anything(tmp_path: Path) -> None:
    done = _python(
        tmp_path,
        "-c",
        "import sys; sys.modules['pytest'] = sys.modules['pytest_asyncio'] = None\n"
        "import asyncio\n"
        "from soorma.testing import LocalPlatform\n"
        "async def main():\n"
        "    async with LocalPlatform() as platform:\n"
        "        await platform.state('plan').set('key', 1)\n"
        "        print(await platform.state('plan').get('key'))\n"
        "asyncio.run(main())",
    )
    assert done.stdout.split() == ["1"], done.stderr
    assert not [needed for needed in requires("soorma-core") or [] if needed.startswith("pytest")]
