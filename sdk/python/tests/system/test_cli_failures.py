"""The `soorma` command when something is wrong: with ports, notes, processes or folders."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_shell import SECONDS, Shell, eventually, is_gone, keep, kept, locked_database, read_until
from platform_process import MEMORY_PORT

from soorma import local
from soorma.cli.dev import processes
from soorma.cli.exits import Exit


@pytest.mark.behaviour("dev.crash")
def test_a_process_is_known_again_without_proc() -> None:
    """Without /proc, ps tells when a process was born, and that a zombie is no process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        born = local._born_elsewhere(child.pid)
        assert born
        assert local._born_elsewhere(child.pid) == born
        child.kill()
        eventually(lambda: local._born_elsewhere(child.pid) is None)


@pytest.mark.behaviour("dev.crash")
def test_kill_9_and_again(shell: Shell) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "acknowledged")
    first = shell.pid()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: is_gone(first))
    assert "is gone" in shell.soorma("dev", "--status", exits=Exit.NOT_RUNNING).stderr

    again = shell.soorma("dev")

    assert f"process {first} had ended" in again.stderr
    assert shell.pid() != first
    assert kept(shell, "a plan") == "acknowledged"


@pytest.mark.behaviour("dev.crash")
def test_a_pid_given_to_another_process_is_recognised(shell: Shell) -> None:
    shell.soorma("dev")
    shell.soorma("dev", "--stop")
    bystander = shell.python("print('begun', flush=True); import sys, time; time.sleep(600)")
    shell.soorma("dev")
    note = json.loads(shell.state.read_text())
    os.kill(note["pid"], signal.SIGKILL)
    shell.state.write_text(json.dumps({**note, "pid": bystander.pid}))

    shell.soorma("dev", "--status", exits=Exit.NOT_RUNNING)
    assert "had ended without a word" in shell.soorma("dev", "--stop").stderr
    assert bystander.poll() is None, "it was not the platform"


@pytest.mark.behaviour("dev.crash")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "null"])
def test_a_note_that_cannot_be_read_is_removed(shell: Shell, text: str) -> None:
    (shell.folder / ".soorma").mkdir()
    shell.state.write_text(text)
    shell.soorma("dev", "--status", exits=Exit.NOT_RUNNING)
    said = shell.soorma("dev", "--stop").stderr
    assert all(part in said for part in ("is damaged", "it was removed", "soorma.db.lock"))
    assert not shell.state.exists()


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_a_port_taken_by_another_program(shell: Shell) -> None:
    port = MEMORY_PORT + shell.offset
    other = shell.python(
        "import socket\n"
        f"taken = socket.create_server(('0.0.0.0', {port}))\n"
        "print('begun', flush=True)\n"
        "while True: taken.accept()"
    )
    for command in (["dev"], ["dev", "--foreground"], ["dev", "--build"], ["serve"]):
        refused = shell.soorma(*command, exits=Exit.PORT_TAKEN).stderr
        assert f"port {port} of the memory service is taken by" in refused
        if sys.platform == "linux":
            assert f"process {other.pid} ({sys.executable} -c import socket" in refused
        assert "--port-offset" in refused
        assert not shell.state.exists()


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_a_port_taken_by_a_platform_of_another_folder(shell: Shell, tmp_path: Path) -> None:
    shell.soorma("dev")
    other = tmp_path / "other"
    other.mkdir()
    refused = shell.soorma("dev", cwd=other, exits=Exit.RUNNING_ELSEWHERE).stderr
    assert f"another Soorma platform, process {shell.pid()}" in refused
    assert f"`soorma dev --stop` in {shell.folder}" in refused


@pytest.mark.behaviour("dev.says-what-is-wrong")
@pytest.mark.parametrize(
    ("written", "ours", "collide"),
    [
        ("0100007F", "127.0.0.1", True),
        ("00000000", "127.0.0.1", True),
        ("0200007F", "127.0.0.1", False),
        ("00000000000000000000000000000000", "127.0.0.1", True),
        ("0000000000000000FFFF00000100007F", "127.0.0.1", True),
        ("00000000000000000000000001000000", "127.0.0.1", False),
        ("00000000000000000000000001000000", "::1", True),
    ],
)
@pytest.mark.parametrize("order", ["little", "big"])
def test_the_kernels_addresses_are_understood(
    monkeypatch: pytest.MonkeyPatch, written: str, ours: str, collide: bool, order: str
) -> None:
    """Addresses as a little-endian kernel writes them: in words, in the machine's byte order."""
    monkeypatch.setattr(processes, "sys", SimpleNamespace(byteorder=order))
    if order == "big":
        words = [bytes.fromhex(written[at : at + 8]) for at in range(0, len(written), 8)]
        written = "".join(word[::-1].hex().upper() for word in words)
    assert processes._collide(processes._address(written), ip_address(ours)) is collide


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_a_listener_on_ipv6_is_named(shell: Shell) -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", MEMORY_PORT + shell.offset))
        listener.listen()
        assert not processes.is_port_free("127.0.0.1", MEMORY_PORT + shell.offset)
        if sys.platform == "linux":
            assert processes.port_holder("127.0.0.1", MEMORY_PORT + shell.offset).pid == os.getpid()


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_a_file_where_the_folder_should_be(shell: Shell) -> None:
    (shell.folder / ".soorma").write_text("a file")
    for command in (["dev"], ["dev", "--build"], ["dev", "--foreground"], ["dev", "--stop"]):
        refused = shell.soorma(*command, exits=Exit.UNWRITABLE).stderr
        assert f"{shell.folder / '.soorma'} cannot be written: it is not a folder" in refused
    shell.soorma("dev", "--logs", exits=Exit.NOT_RUNNING)


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_a_folder_that_may_not_be_written(shell: Shell) -> None:
    """Puts a folder in place of the log, since permissions do not stop root."""
    (shell.folder / ".soorma" / "platform.log").mkdir(parents=True)
    refused = shell.soorma("dev", exits=Exit.UNWRITABLE).stderr
    assert "cannot be written: Is a directory" in refused
    assert not shell.state.exists()


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_a_start_that_takes_too_long_is_given_up(shell: Shell) -> None:
    locked_database(shell)
    refused = shell.soorma("dev", "--timeout", "0.3", exits=Exit.START_TIMEOUT).stderr
    assert "not healthy within 0.3 s and was stopped" in refused
    assert not shell.state.exists()
    assert processes.is_port_free("127.0.0.1", MEMORY_PORT + shell.offset)


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_ctrl_c_while_starting_leaves_nothing(shell: Shell) -> None:
    locked_database(shell)
    starting = shell.spawn("dev")
    eventually(shell.state.exists)
    pid = shell.pid()
    starting.send_signal(signal.SIGINT)
    assert starting.wait(SECONDS) == Exit.INTERRUPTED
    assert is_gone(pid)
    assert not shell.state.exists()


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_a_platform_that_ends_while_starting_tells_its_reason(shell: Shell) -> None:
    refused = shell.soorma("dev", exits=Exit.START_FAILED, SOORMA_LEASE_SECONDS="long").stderr
    assert "SOORMA_LEASE_SECONDS must be a number" in refused
    refused = shell.soorma("dev", exits=Exit.START_FAILED, SOORMA_HOST="192.0.2.1").stderr
    assert "SOORMA_HOST" in refused


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_a_platform_that_does_not_answer(shell: Shell) -> None:
    shell.soorma("dev")
    pid = shell.pid()
    os.kill(pid, signal.SIGSTOP)
    assert "no answer" in shell.soorma("dev", "--status", exits=Exit.UNHEALTHY).stdout
    assert "not healthy" in shell.soorma("dev", "--timeout", "0.2", exits=Exit.UNHEALTHY).stderr

    stopped = shell.soorma("dev", "--stop", "--timeout", "0.5")

    assert "did not stop within 0.5 s and was killed" in stopped.stderr
    assert is_gone(pid)


@pytest.mark.behaviour("dev.found-again")
def test_waiting_for_another_command_is_said(shell: Shell) -> None:
    shell.soorma("dev")
    lock = os.open(shell.folder / ".soorma" / "dev.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = shell.spawn("dev", "--stop")
    read_until(waiting, "another soorma command is at work")
    os.close(lock)
    assert waiting.wait(SECONDS) == Exit.OK


@pytest.mark.behaviour("dev.says-what-is-wrong")
@pytest.mark.parametrize(
    "arguments",
    [
        ("dev", "--stop", "--status"),
        ("dev", "--stop", "--build"),
        ("dev", "--foreground", "--logs"),
        ("dev", "--clean"),
        ("dev", "--json"),
        ("dev", "--follow"),
        ("dev", "--port-offset", "-1"),
        ("dev", "--port-offset", "60000"),
        ("dev", "--port-offset", "x"),
        ("dev", "--unknown"),
        ("unknown",),
        ("serve", "unknown"),
        ("serve", "--host", "0.0.0.0"),
        ("serve", "--host", "example.org"),
    ],
)
def test_what_is_not_possible_is_refused(shell: Shell, arguments: tuple[str, ...]) -> None:
    assert shell.soorma(*arguments, exits=Exit.USAGE).stderr
    assert not (shell.folder / ".soorma").exists()
