"""The `soorma` command as its users meet it: real processes, exit codes, and output for people."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_shell import SECONDS, Shell, is_gone, read_until
from platform_process import EVENTS_PORT, GATEWAY_PORT, MEMORY_PORT

from soorma import config
from soorma.cli.dev import services
from soorma.cli.dev.folder import LARGEST_LOG
from soorma.cli.exits import Exit
from soorma_platform import settings

# --- Starting, looking, stopping ---------------------------------------------------------------


@pytest.mark.behaviour("dev.starts")
def test_starts_a_platform_that_outlives_the_command(shell: Shell) -> None:
    said = shell.soorma("dev").stdout

    assert shell.is_up()
    pid = shell.pid()
    assert os.getsid(pid) == pid, (
        "a session of its own, so that closing the terminal does not end it"
    )
    assert f"process {pid}" in said
    assert f"http://localhost:{EVENTS_PORT + shell.offset}" in said
    assert f"A page shows how they are: http://localhost:{GATEWAY_PORT + shell.offset}\n" in said
    assert f"export SOORMA_MEMORY_URL=http://localhost:{MEMORY_PORT + shell.offset}\n" in said
    assert (
        f"export SOORMA_EVENT_SERVICE_URL=http://localhost:{EVENTS_PORT + shell.offset}\n" in said
    )
    assert "Next: start your agents; `soorma init my-agents` makes some to begin with\n" in said


@pytest.mark.behaviour("dev.starts")
def test_the_next_step_is_an_example_where_there_are_some(shell: Shell) -> None:
    (shell.folder / "examples" / "05-memory-working").mkdir(parents=True)
    (shell.folder / "sdk").mkdir()
    said = shell.soorma("dev", cwd=shell.folder / "sdk").stdout
    assert f"`python manual_state.py` in {Path('..', 'examples', '05-memory-working')}\n" in said


@pytest.mark.behaviour("dev.status-logs-stop")
def test_status_tells_how_it_is(shell: Shell) -> None:
    shell.soorma("dev")
    del shell.env["SOORMA_PORT_OFFSET"]  # --status and --stop remember it

    said = shell.soorma("dev", "--status").stdout
    found = json.loads(shell.soorma("dev", "--status", "--json").stdout)

    pid = shell.pid()
    database = str(shell.folder / ".soorma" / "soorma.db")
    for part in ("gateway", "registry", "events", "memory", "ok", str(pid), database):
        assert part in said
    assert found["running"]
    assert found["healthy"]
    assert found["pid"] == pid
    assert found["port_offset"] == shell.offset
    assert {each["service"]: each["health"] for each in found["services"]} == {
        "gateway": "ok",
        "registry": "ok",
        "identity": "ok",
        "events": "ok",
        "memory": "ok",
    }
    assert (
        found["environment"]["SOORMA_MEMORY_URL"]
        == f"http://localhost:{MEMORY_PORT + shell.offset}"
    )

    shell.soorma("dev", "--stop")
    assert is_gone(pid)
    assert "start one: soorma dev" in shell.soorma("dev", "--status", exits=Exit.NOT_RUNNING).stderr
    nothing = json.loads(shell.soorma("dev", "--status", "--json", exits=Exit.NOT_RUNNING).stdout)
    assert nothing["running"] is False


@pytest.mark.behaviour("dev.status-logs-stop")
def test_stopping_what_does_not_run_is_fine(shell: Shell) -> None:
    assert "nothing was ever started" in shell.soorma("dev", "--stop").stdout
    assert not (shell.folder / ".soorma").exists(), "looking leaves nothing behind"
    shell.soorma("dev")
    assert "has stopped" in shell.soorma("dev", "--stop").stdout
    assert "No platform runs" in shell.soorma("dev", "--stop").stdout


@pytest.mark.behaviour("dev.ports")
def test_the_port_offset_can_be_an_option(shell: Shell) -> None:
    del shell.env["SOORMA_PORT_OFFSET"]
    shell.soorma("dev", "--port-offset", str(shell.offset))
    assert shell.is_up()


@pytest.mark.behaviour("dev.found-again")
def test_a_platform_that_runs_is_found_again(shell: Shell) -> None:
    shell.soorma("dev")
    pid = shell.pid()
    for arguments in (("dev",), ("dev", "--build")):
        said = shell.soorma(*arguments).stdout
        assert f"runs already: process {pid}" in said
        assert f"http://localhost:{MEMORY_PORT + shell.offset}" in said
    assert shell.pid() == pid


@pytest.mark.behaviour("dev.found-again")
def test_a_platform_that_runs_on_other_ports_is_an_error(shell: Shell) -> None:
    shell.soorma("dev")
    refused = shell.soorma("dev", "--port-offset", "0", exits=Exit.RUNNING_ELSEWHERE)
    assert f"with port offset {shell.offset}, not 0" in refused.stderr
    assert shell.is_up()


@pytest.mark.behaviour("dev.found-again")
def test_two_at_the_same_moment_start_one_platform(shell: Shell) -> None:
    both = [shell.spawn("dev") for _ in range(2)]
    said = [child.communicate(timeout=SECONDS)[0] for child in both]

    assert [child.returncode for child in both] == [Exit.OK, Exit.OK], said
    pids = {match for text in said for match in re.findall(r"process (\d+)", text)}
    assert pids == {str(shell.pid())}


@pytest.mark.behaviour("dev.ports")
def test_two_folders_at_the_same_moment_share_no_port(shell: Shell, tmp_path: Path) -> None:
    other = Shell(tmp_path / "other", shell.offset)
    other.folder.mkdir()
    try:
        both = [each.spawn("dev") for each in (shell, other)]
        said = [child.communicate(timeout=SECONDS)[0] for child in both]
        assert sorted(child.returncode for child in both) == [Exit.OK, Exit.RUNNING_ELSEWHERE], said
        assert shell.state.exists() != other.state.exists()
    finally:
        other.close()


@pytest.mark.behaviour("dev.starts")
def test_a_folder_below_uses_the_same_platform(shell: Shell) -> None:
    below = shell.folder / "examples" / "deep"
    below.mkdir(parents=True)
    shell.soorma("dev")
    pid = shell.pid()

    assert f"process {pid}" in shell.soorma("dev", cwd=below).stdout
    shell.soorma("dev", "--status", cwd=below)
    shell.soorma("dev", "--stop", cwd=below)
    assert is_gone(pid)

    shell.soorma("dev", cwd=below)
    assert not (below / ".soorma").exists()
    assert Path(f"/proc/{shell.pid()}").exists()


@pytest.mark.behaviour("dev.ports")
def test_default_ports_need_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in services.VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    assert services.exports("127.0.0.1", services.PORTS) == []
    monkeypatch.setenv("SOORMA_MEMORY_URL", "http://localhost:9083")
    assert services.exports("127.0.0.1", services.PORTS) == [
        "export SOORMA_MEMORY_URL=http://localhost:8083"
    ]


@pytest.mark.behaviour("dev.ports")
def test_the_three_sides_agree_on_the_ports() -> None:
    assert services.PORTS == settings.PORTS
    assert services.variables("127.0.0.1", services.PORTS) == {
        "SOORMA_MEMORY_URL": config.MEMORY_URL,
        "SOORMA_EVENT_SERVICE_URL": config.EVENTS_URL,
        "SOORMA_REGISTRY_URL": config.REGISTRY_URL,
        "SOORMA_IDENTITY_URL": config.IDENTITY_URL,
    }


@pytest.mark.behaviour("dev.found-again")
def test_a_platform_of_before_the_registry_is_found_where_it_is() -> None:
    assert services.variables("127.0.0.1", {"memory": 1, "events": 2}) == {
        "SOORMA_MEMORY_URL": "http://localhost:1",
        "SOORMA_EVENT_SERVICE_URL": "http://localhost:2",
    }


# --- The log -----------------------------------------------------------------------------------


@pytest.mark.behaviour("dev.status-logs-stop")
def test_logs_prints_what_the_platform_said(shell: Shell) -> None:
    assert "start a platform" in shell.soorma("dev", "--logs", exits=Exit.NOT_RUNNING).stderr
    shell.soorma("dev")
    shell.soorma("dev", "--stop")
    said = shell.soorma("dev", "--logs").stdout
    assert "platform ready" in said
    assert "platform stopped" in said


@pytest.mark.behaviour("dev.status-logs-stop")
def test_logs_are_followed_also_when_replaced(shell: Shell) -> None:
    shell.soorma("dev")
    log = shell.folder / ".soorma" / "platform.log"
    following = shell.spawn("dev", "--logs", "-f")
    read_until(following, "platform ready")

    shell.soorma("dev", "--stop")
    read_until(following, "platform stopped")
    replacement = log.with_suffix(".new")
    replacement.write_text("a log in its place\n")
    replacement.replace(log)
    read_until(following, "a log in its place")
    log.write_text("emptied\n")
    read_until(following, "emptied")
    shell.soorma("dev", "--stop", "--clean", "--yes")
    shell.soorma("dev")
    read_until(following, "platform ready")

    following.send_signal(signal.SIGINT)
    assert following.wait(SECONDS) == Exit.OK


@pytest.mark.behaviour("dev.status-logs-stop")
def test_a_large_log_is_set_aside(shell: Shell) -> None:
    shell.soorma("dev")
    shell.soorma("dev", "--stop")
    log = shell.folder / ".soorma" / "platform.log"
    os.truncate(log, LARGEST_LOG + 1)
    shell.soorma("dev")
    assert log.stat().st_size < LARGEST_LOG
    assert log.with_name("platform.log.1").stat().st_size == LARGEST_LOG + 1


# --- In the foreground -------------------------------------------------------------------------


@pytest.mark.behaviour("dev.foreground")
def test_in_the_foreground_ctrl_c_stops_it(shell: Shell) -> None:
    foreground = shell.spawn("dev", "--foreground", "--build")
    said = read_until(foreground, "Ctrl+C")
    assert f"http://localhost:{MEMORY_PORT + shell.offset}" in said
    found = json.loads(shell.soorma("dev", "--status", "--json").stdout)
    assert found["pid"] == foreground.pid
    assert found["foreground"]
    assert found["healthy"]
    assert f"process {foreground.pid}" in shell.soorma("dev").stdout
    shell.soorma("dev", "--foreground", exits=Exit.RUNNING_ELSEWHERE)

    foreground.send_signal(signal.SIGINT)

    assert foreground.wait(SECONDS) == Exit.OK
    assert not shell.state.exists()
    shell.soorma("dev", "--status", exits=Exit.NOT_RUNNING)


@pytest.mark.behaviour("dev.foreground")
def test_the_foreground_is_stopped_from_another_terminal(shell: Shell) -> None:
    foreground = shell.spawn("dev", "--foreground")
    read_until(foreground, "Ctrl+C")
    shell.soorma("dev", "--stop")
    assert foreground.wait(SECONDS) == Exit.OK


# --- serve and version -------------------------------------------------------------------------


@pytest.mark.behaviour("dev.serve")
def test_serve_runs_all_services_until_it_is_told_to_stop(shell: Shell, tmp_path: Path) -> None:
    database = tmp_path / "served" / "soorma.db"
    named = ("memory", "events", "registry", "gateway", "identity")
    shell.make_key(database)
    serving = shell.spawn("serve", *named, "--database", str(database), "--host", "localhost")
    read_until(serving, "platform ready")
    assert shell.is_up()
    assert database.exists()
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(SECONDS) == Exit.OK


@pytest.mark.behaviour("dev.serve")
def test_serve_refuses_a_part_of_the_embedded_platform(shell: Shell) -> None:
    refused = shell.soorma("serve", "memory", exits=Exit.USAGE).stderr
    assert "the embedded database has one process" in refused


@pytest.mark.behaviour("dev.exit-codes")
def test_version(shell: Shell) -> None:
    found = json.loads(shell.soorma("version", "--json").stdout)
    assert found["version"] == "1.0.0"
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert Path(found["installed"]).name == "soorma"
    for arguments in (("version",), ("--version",)):
        assert shell.soorma(*arguments).stdout.startswith("soorma 1.0.0 (Python ")


@pytest.mark.behaviour("dev.exit-codes")
def test_help_lists_every_exit_code(shell: Shell) -> None:
    said = " ".join(shell.soorma("dev", "--help").stdout.split())
    for code in Exit:
        assert f" {code.value} {code.meaning}" in said
    for arguments in (("--help",), ("serve", "--help"), ("version", "--help")):
        shell.soorma(*arguments)


HEAVY = ("aiohttp", "apsw", "http.client", "soorma_platform", "starlette", "uvicorn")


@pytest.mark.behaviour("costs.imports")
@pytest.mark.parametrize(
    "program", ["import soorma.cli", "from soorma.cli.main import run; run(['version'])"]
)
def test_the_command_imports_little(program: str) -> None:
    listing = f"{program}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )
    assert not set(HEAVY) & set(done.stdout.split())


# --- Unusual places ----------------------------------------------------------------------------


@pytest.mark.behaviour("dev.anywhere")
@pytest.mark.parametrize("name", ["with space", "ünï [bold]cödé 日本", "quote'\"$HOME"])
def test_unusual_folders(shell: Shell, name: str) -> None:
    shell.folder /= name
    shell.folder.mkdir()
    database = str(shell.folder / ".soorma" / "soorma.db")
    assert database in shell.soorma("dev", "--build").stdout
    assert database in shell.soorma("dev", "--status").stdout
    assert json.loads(shell.soorma("dev", "--status", "--json").stdout)["database"] == database
    shell.soorma("dev", "--stop", "--clean", "--yes")
    assert not (shell.folder / ".soorma").exists()


@pytest.mark.behaviour("dev.anywhere")
def test_without_a_home_and_in_plain_ascii(shell: Shell) -> None:
    shell.folder /= "ünï"
    shell.folder.mkdir()
    shell.env.pop("HOME", None)
    shell.env |= {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    shell.soorma("dev", "--build")
    assert shell.is_up()
    shell.soorma("dev", "--status")
    shell.soorma("dev", "--help", HOME="/nonexistent")
    shell.soorma("dev", "--stop", "--clean", "--yes", HOME="/nonexistent")
    assert not (shell.folder / ".soorma").exists()


@pytest.mark.behaviour("dev.anywhere")
def test_through_a_symbolic_link(shell: Shell, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(shell.folder)
    shell.soorma("dev", cwd=link)
    pid = shell.pid()
    assert f"runs already: process {pid}" in shell.soorma("dev").stdout
    shell.soorma("dev", "--stop", cwd=link)
    assert is_gone(pid)


@pytest.mark.behaviour("dev.anywhere")
def test_a_users_files_do_not_pass_for_modules(shell: Shell) -> None:
    (shell.folder / "uvicorn.py").write_text("raise SystemExit('this is not uvicorn')")
    script = [sys.executable, "-P", "-m", "soorma.cli"]
    started = shell.spawn("dev", program=script)
    said, _ = started.communicate(timeout=SECONDS)
    shell.remember()
    assert started.returncode == Exit.OK, said
