"""Fixtures of the tests with real processes."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `from platform_process import …` in these tests

from cli_shell import Shell
from cli_terminal import Terminal
from platform_process import PlatformProcess, PortReservation
from running import config_of, context_of, platform_in, unique

from soorma import Agent, PlatformContext, RetryPolicy, WorkflowState


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformProcess]:
    """A running platform of this test's own, in a folder of its own."""
    folder = tmp_path / "platform"
    folder.mkdir()
    with PlatformProcess(folder) as running:
        yield running


# A platform that the tests of one module share. A module with settings of its own has its own
# `running`.


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with platform_in(tmp_path_factory.mktemp("platform")) as platform:
        yield platform


@pytest.fixture
async def context(running: PlatformProcess) -> AsyncIterator[PlatformContext]:
    """The platform from outside, for a tenant and user of this test's own."""
    async with context_of(running, tenant_id=unique("tenant"), user_id=unique("user")) as made:
        yield made


@pytest.fixture
def state(context: PlatformContext) -> WorkflowState:
    return WorkflowState(context.memory, "plan")


@pytest.fixture
def retry() -> RetryPolicy | None:
    """The retry policy of `agent`: the default, unless a module overrides it."""
    return None


@pytest.fixture
def agent(running: PlatformProcess, context: PlatformContext, retry: RetryPolicy | None) -> Agent:
    """An agent in this process, confined to the tenant of this test."""
    tenant_id = context.memory.scope().tenant_id
    return Agent(unique("agent"), config=config_of(running, tenant_id=tenant_id), retry=retry)


# The command


@pytest.fixture
def terminal(running: PlatformProcess, tmp_path: Path) -> Terminal:
    """A terminal for the commands on data: its own tenant, on the platform of the module."""
    return Terminal(running, tmp_path)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    above = [parent / ".soorma" for parent in tmp_path.parents if (parent / ".soorma").exists()]
    assert not above, (
        f"these tests would find and stop the platform of {above}: move it or set TMPDIR"
    )
    folder = tmp_path / "project"
    folder.mkdir()
    # as in a script's background: children would ignore it too
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    reservation = PortReservation()
    shell = Shell(folder, reservation.offset)
    try:
        yield shell
    finally:
        shell.close()
        reservation.close()
