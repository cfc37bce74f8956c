"""Example 05 on a closed platform: one key for the agents, one of role app, its code unchanged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from closed_platform import closed_in
from platform_process import clean_environment

from soorma_common.names import DEFAULT_TENANT

EXAMPLE = Path(__file__).parents[4] / "examples" / "05-memory-working"
SECONDS = 60


@pytest.mark.behaviour("identity.deliveries", "identity.roles")
def test_example_05_runs_with_a_key_for_its_agents_and_one_for_its_client(tmp_path: Path) -> None:
    with closed_in(tmp_path) as closed:
        agents = closed.key(
            "agent",
            tenant_id=DEFAULT_TENANT,
            agents=["workflow-planner", "task-worker", "workflow-coordinator"],
            subscribe=["goal.received", "task.assigned", "task.completed"],
            publish=["task.assigned", "task.completed", "workflow.completed"],
        )
        app = closed.key("app", tenant_id=DEFAULT_TENANT)
        started = subprocess.Popen(
            ["bash", str(EXAMPLE / "start.sh")],
            env=clean_environment(**closed.environment(agents.credential)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert started.stdout is not None
            said = ""
            for line in started.stdout:
                said += line
                if line.startswith("Ready"):
                    break
            else:
                pytest.fail(f"they are not ready: {said}")
            done = subprocess.run(
                [sys.executable, str(EXAMPLE / "client.py"), "Write a blog post about Docker"],
                env=clean_environment(**closed.environment(app.credential)),
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert done.returncode == 0, done.stderr + said
            assert "Workflow completed" in done.stdout
            assert "workflow.completed" in done.stdout
        finally:
            started.terminate()
            started.communicate(timeout=SECONDS)
