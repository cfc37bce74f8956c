"""The `soorma` command as its users meet it: real processes, exit codes, and what is said to a person."""

from __future__ import annotations

import fcntl
import json
import os
import re
import selectors
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from platform_process import EVENTS_PORT, MEMORY_PORT, PlatformProcess, PortReservation, answer_of, clean_environment

from soorma import config
from soorma.cli import ports, processes, services
from soorma.cli.exits import Exit
from soorma.cli.folder import LARGEST_LOG
from soorma.cli.processes import Process
from soorma_platform import settings

SOORMA = [sys.executable, "-m", "soorma.cli"]
SECONDS = 60


class Shell:
    """A person's terminal in a folder: runs `soorma …` there and ends what it started at the end."""

    def __init__(self, folder: Path, offset: int) -> None:
        self.folder = folder
        self.offset = offset
        self.env = clean_environment(SOORMA_PORT_OFFSET=str(offset), COLUMNS="200")
        self._platforms: set[Process] = set()
        self._children: list[subprocess.Popen[str]] = []

    def soorma(
        self, *arguments: str, exits: Exit = Exit.OK, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command; it must end with this exit code, and never with a traceback."""
        done = subprocess.run(
            [*SOORMA, *arguments],
            cwd=cwd or self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
        )
        self.remember(cwd)
        assert done.returncode == exits, f"{arguments} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def spawn(self, *arguments: str, program: Sequence[str] = SOORMA, **env: str) -> subprocess.Popen[str]:
        """The command, or another program, at the same time as this test."""
        child = subprocess.Popen(
            [*program, *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._children.append(child)
        return child

    def python(self, program: str) -> subprocess.Popen[str]:
        """Another program, which has begun when it says so; it lives until the end."""
        child = self.spawn("-c", program, program=[sys.executable])
        read_until(child, "begun")
        return child

    @property
    def state(self) -> Path:
        return self.folder / ".soorma" / "platform.json"

    def pid(self) -> int:
        """The platform's process, as the command knows it."""
        found: int = json.loads(self.state.read_text())["pid"]
        return found

    def url(self, port: int) -> str:
        return f"http://127.0.0.1:{port + self.offset}"

    def is_up(self) -> bool:
        return bool(answer_of(self.url(EVENTS_PORT)) and answer_of(self.url(MEMORY_PORT)))

    def remember(self, cwd: Path | None = None) -> None:
        """Notes the platform that runs now, to end it with the test even if the command forgets it."""
        for folder in (self.folder, cwd or self.folder):
            with suppress(OSError, ValueError, TypeError, KeyError):
                found = json.loads((folder / ".soorma" / "platform.json").read_text())
                self._platforms.add(Process(found["pid"], found["born"]))

    def close(self) -> None:
        self.remember()
        for child in self._children:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
        for platform in self._platforms:
            if platform.pid != os.getpid() and platform.born and platform.is_alive():
                os.kill(platform.pid, signal.SIGKILL)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    above = [parent / ".soorma" for parent in tmp_path.parents if (parent / ".soorma").exists()]
    assert not above, f"these tests would find and stop the platform of {above}: move it or set TMPDIR"
    folder = tmp_path / "project"
    folder.mkdir()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background: children would ignore it too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    reservation = PortReservation()
    shell = Shell(folder, reservation.offset)
    try:
        yield shell
    finally:
        shell.close()
        reservation.close()


def read_until(child: subprocess.Popen[str], text: str) -> str:
    """What the child says up to this text, within a bounded time."""
    assert child.stdout is not None
    said = b""
    until = time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while text.encode() not in said:
            assert selector.select(until - time.monotonic()), f"{text!r} was not said, but:\n{said.decode()}"
            chunk = os.read(child.stdout.fileno(), 65536)
            assert chunk, f"it ended without {text!r}, saying:\n{said.decode()}"
            said += chunk
    return said.decode()


def eventually(condition: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    return not Process.of(pid).born


# --- Starting, looking, stopping ---------------------------------------------------------------


def test_starts_a_platform_that_outlives_the_command(shell: Shell) -> None:
    said = shell.soorma("dev").stdout

    assert shell.is_up()
    pid = shell.pid()
    assert os.getsid(pid) == pid, "a session of its own, so that closing the terminal does not end it"
    assert f"process {pid}" in said
    assert f"http://localhost:{EVENTS_PORT + shell.offset}" in said
    assert f"export SOORMA_MEMORY_URL=http://localhost:{MEMORY_PORT + shell.offset}\n" in said
    assert f"export SOORMA_EVENT_SERVICE_URL=http://localhost:{EVENTS_PORT + shell.offset}\n" in said
    assert "Next:" in said


def test_status_tells_how_it_is(shell: Shell) -> None:
    shell.soorma("dev")
    del shell.env["SOORMA_PORT_OFFSET"]  # --status and --stop remember it

    said = shell.soorma("dev", "--status").stdout
    found = json.loads(shell.soorma("dev", "--status", "--json").stdout)

    pid = shell.pid()
    for part in ("events", "memory", "ok", str(pid), str(shell.folder / ".soorma" / "soorma.db")):
        assert part in said
    assert found["running"]
    assert found["healthy"]
    assert found["pid"] == pid
    assert found["port_offset"] == shell.offset
    assert {each["service"]: each["health"] for each in found["services"]} == {"events": "ok", "memory": "ok"}
    assert found["environment"]["SOORMA_MEMORY_URL"] == f"http://localhost:{MEMORY_PORT + shell.offset}"

    shell.soorma("dev", "--stop")
    assert is_gone(pid)
    assert "start one: soorma dev" in shell.soorma("dev", "--status", exits=Exit.NOT_RUNNING).stderr
    nothing = json.loads(shell.soorma("dev", "--status", "--json", exits=Exit.NOT_RUNNING).stdout)
    assert nothing["running"] is False


def test_stopping_what_does_not_run_is_fine(shell: Shell) -> None:
    assert "nothing was ever started" in shell.soorma("dev", "--stop").stdout
    assert not (shell.folder / ".soorma").exists(), "looking leaves nothing behind"
    shell.soorma("dev")
    assert "has stopped" in shell.soorma("dev", "--stop").stdout
    assert "No platform runs" in shell.soorma("dev", "--stop").stdout


def test_the_port_offset_can_be_an_option(shell: Shell) -> None:
    del shell.env["SOORMA_PORT_OFFSET"]
    shell.soorma("dev", "--port-offset", str(shell.offset))
    assert shell.is_up()


def test_a_platform_that_runs_is_found_again(shell: Shell) -> None:
    shell.soorma("dev")
    pid = shell.pid()
    for arguments in (("dev",), ("dev", "--build")):
        said = shell.soorma(*arguments).stdout
        assert f"runs already: process {pid}" in said
        assert f"http://localhost:{MEMORY_PORT + shell.offset}" in said
    assert shell.pid() == pid


def test_a_platform_that_runs_on_other_ports_is_an_error(shell: Shell) -> None:
    shell.soorma("dev")
    refused = shell.soorma("dev", "--port-offset", "0", exits=Exit.RUNNING_ELSEWHERE)
    assert f"with port offset {shell.offset}, not 0" in refused.stderr
    assert shell.is_up()


def test_two_at_the_same_moment_start_one_platform(shell: Shell) -> None:
    both = [shell.spawn("dev") for _ in range(2)]
    said = [child.communicate(timeout=SECONDS)[0] for child in both]

    assert [child.returncode for child in both] == [Exit.OK, Exit.OK], said
    pids = {match for text in said for match in re.findall(r"process (\d+)", text)}
    assert pids == {str(shell.pid())}


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


def test_default_ports_need_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in services.VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    assert services.exports("127.0.0.1", services.PORTS) == []
    monkeypatch.setenv("SOORMA_MEMORY_URL", "http://localhost:9083")
    assert services.exports("127.0.0.1", services.PORTS) == ["export SOORMA_MEMORY_URL=http://localhost:8083"]


def test_the_three_sides_agree_on_the_ports() -> None:
    assert services.PORTS == settings.PORTS
    assert services.variables("127.0.0.1", services.PORTS) == {
        "SOORMA_MEMORY_URL": config.MEMORY_URL,
        "SOORMA_EVENT_SERVICE_URL": config.EVENTS_URL,
    }


# --- The store: --build and --clean ------------------------------------------------------------


def test_build_prepares_a_store_that_never_was(shell: Shell) -> None:
    said = shell.soorma("dev", "--build").stdout
    assert f"Preparing the store {shell.folder / '.soorma' / 'soorma.db'}" in said
    assert "It is new" in said
    assert shell.is_up()

    shell.soorma("dev", "--stop")
    assert "It is up to date" in shell.soorma("dev", "--build").stdout


@pytest.fixture
def later_soorma(tmp_path: Path) -> str:
    """A PYTHONPATH on which Soorma has one migration more than this one."""
    place = tmp_path / "later"
    place.mkdir()
    (place / "sitecustomize.py").write_text(
        "from soorma_platform.stores.sqlite import database\n"
        "steps = [*database.migrations(), 'CREATE TABLE later (x)']\n"
        "database.migrations = lambda: steps\n"
    )
    return os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_a_store_of_an_earlier_soorma_is_migrated_only_when_asked(shell: Shell, later_soorma: str) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "kept")
    shell.soorma("dev", "--stop")

    refused = shell.soorma("dev", exits=Exit.NEEDS_BUILD, PYTHONPATH=later_soorma)
    assert "soorma dev --build" in refused.stderr
    shell.soorma("dev", "--foreground", exits=Exit.NEEDS_BUILD, PYTHONPATH=later_soorma)

    said = shell.soorma("dev", "--build", PYTHONPATH=later_soorma).stdout
    assert re.search(r"migrated from schema (\d+) to (\d+)", said)
    assert kept(shell, "a plan") == "kept"

    shell.soorma("dev", "--stop")
    assert "newer Soorma" in shell.soorma("dev", "--build", exits=Exit.DATABASE).stderr
    assert "newer Soorma" in shell.soorma("dev", exits=Exit.DATABASE).stderr


def test_clean_starts_from_nothing(shell: Shell) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "gone")

    said = shell.soorma("dev", "--stop", "--clean").stdout

    assert f"Removed {shell.folder / '.soorma' / 'soorma.db'}\n" in said
    assert f"Removed {shell.folder / '.soorma' / 'platform.log'}\n" in said
    assert not (shell.folder / ".soorma").exists()
    shell.soorma("dev")
    assert kept(shell, "a plan") is None


def test_clean_keeps_what_is_not_the_platforms(shell: Shell, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    shell.soorma("dev", SOORMA_DATABASE=str(elsewhere))
    mine = shell.folder / ".soorma" / "mine.txt"
    mine.write_text("mine")

    done = shell.soorma("dev", "--stop", "--clean", SOORMA_DATABASE=str(elsewhere))

    assert f"{elsewhere} lies elsewhere and was kept" in done.stderr
    assert elsewhere.exists()
    assert [each.name for each in (shell.folder / ".soorma").iterdir()] == ["mine.txt"]


def test_clean_leaves_a_store_alone_that_another_platform_uses(shell: Shell) -> None:
    serving = shell.spawn("serve")
    read_until(serving, "platform ready")

    refused = shell.soorma("dev", "--stop", "--clean", exits=Exit.RUNNING_ELSEWHERE)

    assert f"process {serving.pid}" in refused.stderr
    assert shell.is_up()
    assert (shell.folder / ".soorma" / "soorma.db").exists()


def keep(shell: Shell, plan_id: str, value: str) -> None:
    """Writes one value into the platform's memory."""
    ask_memory(shell, "PUT", plan_id, json.dumps({"value": value}).encode())


def kept(shell: Shell, plan_id: str) -> object:
    """The value that `keep` wrote, None if there is none."""
    try:
        return ask_memory(shell, "GET", plan_id)["value"]
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 404:
            raise
        return None


def ask_memory(shell: Shell, method: str, plan_id: str, body: bytes | None = None) -> dict[str, object]:
    request = urllib.request.Request(
        f"{shell.url(MEMORY_PORT)}/v1/memory/working/{plan_id.replace(' ', '%20')}/key",
        data=body,
        method=method,
        headers={"X-Tenant-ID": "t", "X-User-ID": "u", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        found: dict[str, object] = json.load(response)
    return found


# --- The log -----------------------------------------------------------------------------------


def test_logs_prints_what_the_platform_said(shell: Shell) -> None:
    assert "start a platform" in shell.soorma("dev", "--logs", exits=Exit.NOT_RUNNING).stderr
    shell.soorma("dev")
    shell.soorma("dev", "--stop")
    said = shell.soorma("dev", "--logs").stdout
    assert "platform ready" in said
    assert "platform stopped" in said


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
    shell.soorma("dev", "--stop", "--clean")
    shell.soorma("dev")
    read_until(following, "platform ready")

    following.send_signal(signal.SIGINT)
    assert following.wait(SECONDS) == Exit.OK


def test_a_large_log_is_set_aside(shell: Shell) -> None:
    shell.soorma("dev")
    shell.soorma("dev", "--stop")
    log = shell.folder / ".soorma" / "platform.log"
    os.truncate(log, LARGEST_LOG + 1)
    shell.soorma("dev")
    assert log.stat().st_size < LARGEST_LOG
    assert log.with_name("platform.log.1").stat().st_size == LARGEST_LOG + 1


# --- In the foreground -------------------------------------------------------------------------


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


def test_the_foreground_is_stopped_from_another_terminal(shell: Shell) -> None:
    foreground = shell.spawn("dev", "--foreground")
    read_until(foreground, "Ctrl+C")
    shell.soorma("dev", "--stop")
    assert foreground.wait(SECONDS) == Exit.OK


# --- When something is wrong -------------------------------------------------------------------


def test_a_process_is_known_again_without_proc() -> None:
    """Where there is no /proc, ps tells when a process was born, and that a zombie is no process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        born = processes._born_elsewhere(child.pid)
        assert born
        assert processes._born_elsewhere(child.pid) == born
        child.kill()
        eventually(lambda: processes._born_elsewhere(child.pid) is None)


def test_kill_9_and_again(shell: Shell) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "acknowledged")
    first = shell.pid()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: is_gone(first))
    assert "is gone" in shell.soorma("dev", "--status", exits=Exit.NOT_RUNNING).stderr

    again = shell.soorma("dev")

    assert f"process {first} was gone" in again.stderr
    assert shell.pid() != first
    assert kept(shell, "a plan") == "acknowledged"


def test_a_pid_given_to_another_process_is_recognised(shell: Shell) -> None:
    shell.soorma("dev")
    shell.soorma("dev", "--stop")
    bystander = shell.python("print('begun', flush=True); import sys, time; time.sleep(600)")
    shell.soorma("dev")
    note = json.loads(shell.state.read_text())
    os.kill(note["pid"], signal.SIGKILL)
    shell.state.write_text(json.dumps({**note, "pid": bystander.pid}))

    shell.soorma("dev", "--status", exits=Exit.NOT_RUNNING)
    assert "was gone" in shell.soorma("dev", "--stop").stderr
    assert bystander.poll() is None, "it was not the platform"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "null"])
def test_a_note_that_cannot_be_read_is_removed(shell: Shell, text: str) -> None:
    (shell.folder / ".soorma").mkdir()
    shell.state.write_text(text)
    shell.soorma("dev", "--status", exits=Exit.NOT_RUNNING)
    assert "it was removed" in shell.soorma("dev", "--stop").stderr
    assert not shell.state.exists()


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


def test_a_port_taken_by_a_platform_of_another_folder(shell: Shell, tmp_path: Path) -> None:
    shell.soorma("dev")
    other = tmp_path / "other"
    other.mkdir()
    refused = shell.soorma("dev", cwd=other, exits=Exit.RUNNING_ELSEWHERE).stderr
    assert f"another Soorma platform, process {shell.pid()}" in refused
    assert f"`soorma dev --stop` in {shell.folder}" in refused


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
@pytest.mark.skipif(sys.byteorder != "little", reason="the kernel writes addresses in the machine's byte order")
def test_the_kernels_addresses_are_understood(written: str, ours: str, collide: bool) -> None:
    assert ports._collide(ports._address(written), ip_address(ours)) is collide


def test_a_listener_on_ipv6_is_named(shell: Shell) -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", MEMORY_PORT + shell.offset))
        listener.listen()
        assert not ports.is_free("127.0.0.1", MEMORY_PORT + shell.offset)
        if sys.platform == "linux":
            assert ports.holder("127.0.0.1", MEMORY_PORT + shell.offset).pid == os.getpid()


def test_a_file_where_the_folder_should_be(shell: Shell) -> None:
    (shell.folder / ".soorma").write_text("a file")
    for command in (["dev"], ["dev", "--build"], ["dev", "--foreground"], ["dev", "--stop"]):
        refused = shell.soorma(*command, exits=Exit.UNWRITABLE).stderr
        assert f"{shell.folder / '.soorma'} cannot be written: it is not a folder" in refused
    shell.soorma("dev", "--logs", exits=Exit.NOT_RUNNING)


def test_a_folder_that_may_not_be_written(shell: Shell) -> None:
    """As root permissions do not bite, but a folder in place of the log does."""
    (shell.folder / ".soorma" / "platform.log").mkdir(parents=True)
    refused = shell.soorma("dev", exits=Exit.UNWRITABLE).stderr
    assert "cannot be written: Is a directory" in refused
    assert not shell.state.exists()


def test_a_damaged_database(shell: Shell) -> None:
    (shell.folder / ".soorma").mkdir()
    database = shell.folder / ".soorma" / "soorma.db"
    database.write_bytes(b"no database, but long enough to be taken for one" * 100)
    for command in (["dev"], ["dev", "--build"], ["dev", "--foreground"], ["serve"]):
        refused = shell.soorma(*command, exits=Exit.DATABASE).stderr
        assert f"the database {database} is damaged" in refused
        assert "backup" in refused
        assert not shell.state.exists()
    assert not shell.is_up()


def test_a_database_locked_by_another_program(shell: Shell) -> None:
    database = locked_database(shell)
    for command in (["dev"], ["dev", "--build"]):
        refused = shell.soorma(*command, exits=Exit.DATABASE).stderr
        assert f"the database {database} is locked by another process" in refused


def test_a_database_used_by_another_platform(shell: Shell, platform: PlatformProcess) -> None:
    for command in (["dev"], ["dev", "--build"], ["serve"]):
        refused = shell.soorma(*command, exits=Exit.RUNNING_ELSEWHERE, SOORMA_DATABASE=str(platform.database))
        assert f"in use by another platform (process {platform.pid})" in refused.stderr


def test_a_start_that_takes_too_long_is_given_up(shell: Shell) -> None:
    locked_database(shell)
    refused = shell.soorma("dev", "--timeout", "0.3", exits=Exit.START_TIMEOUT).stderr
    assert "not healthy within 0.3 s and was stopped" in refused
    assert not shell.state.exists()
    assert ports.is_free("127.0.0.1", MEMORY_PORT + shell.offset)


def test_ctrl_c_while_starting_leaves_nothing(shell: Shell) -> None:
    locked_database(shell)
    starting = shell.spawn("dev")
    eventually(shell.state.exists)
    pid = shell.pid()
    starting.send_signal(signal.SIGINT)
    assert starting.wait(SECONDS) == Exit.INTERRUPTED
    assert is_gone(pid)
    assert not shell.state.exists()


def locked_database(shell: Shell) -> Path:
    """A database that another program keeps locked until the end of the test."""
    database = shell.folder / ".soorma" / "soorma.db"
    database.parent.mkdir()
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    shell.python(
        f"import sqlite3, time; c = sqlite3.connect({str(database)!r}); c.execute('BEGIN EXCLUSIVE'); "
        "print('begun', flush=True); time.sleep(600)"
    )
    return database


def test_a_platform_that_ends_while_starting_tells_its_reason(shell: Shell) -> None:
    refused = shell.soorma("dev", exits=Exit.START_FAILED, SOORMA_LEASE_SECONDS="long").stderr
    assert "SOORMA_LEASE_SECONDS must be a number" in refused
    refused = shell.soorma("dev", exits=Exit.START_FAILED, SOORMA_HOST="192.0.2.1").stderr
    assert "SOORMA_HOST" in refused


def test_a_platform_that_does_not_answer(shell: Shell) -> None:
    shell.soorma("dev")
    pid = shell.pid()
    os.kill(pid, signal.SIGSTOP)
    assert "no answer" in shell.soorma("dev", "--status", exits=Exit.UNHEALTHY).stdout
    assert "not healthy" in shell.soorma("dev", "--timeout", "0.2", exits=Exit.UNHEALTHY).stderr

    stopped = shell.soorma("dev", "--stop", "--timeout", "0.5")

    assert "did not stop within 0.5 s and was killed" in stopped.stderr
    assert is_gone(pid)


def test_waiting_for_another_command_is_said(shell: Shell) -> None:
    shell.soorma("dev")
    lock = os.open(shell.folder / ".soorma" / "dev.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = shell.spawn("dev", "--stop")
    read_until(waiting, "another soorma command is at work")
    os.close(lock)
    assert waiting.wait(SECONDS) == Exit.OK


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


# --- serve and version -------------------------------------------------------------------------


def test_serve_runs_all_services_until_it_is_told_to_stop(shell: Shell, tmp_path: Path) -> None:
    database = tmp_path / "served" / "soorma.db"
    serving = shell.spawn("serve", "memory", "events", "--database", str(database), "--host", "localhost")
    read_until(serving, "platform ready")
    assert shell.is_up()
    assert database.exists()
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(SECONDS) == Exit.OK


def test_serve_refuses_a_part_of_the_embedded_platform(shell: Shell) -> None:
    refused = shell.soorma("serve", "memory", exits=Exit.USAGE).stderr
    assert "the embedded database has one process" in refused


def test_version(shell: Shell) -> None:
    found = json.loads(shell.soorma("version", "--json").stdout)
    assert found["version"] == "1.0.0"
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert Path(found["installed"]).name == "soorma"
    for arguments in (("version",), ("--version",)):
        assert shell.soorma(*arguments).stdout.startswith("soorma 1.0.0 (Python ")


def test_help_lists_every_exit_code(shell: Shell) -> None:
    said = shell.soorma("dev", "--help").stdout
    for code in Exit:
        assert f"{code.value}  {code.meaning}" in said
    for arguments in (("--help",), ("serve", "--help"), ("version", "--help")):
        shell.soorma(*arguments)


HEAVY = ("aiohttp", "apsw", "http.client", "soorma_platform", "starlette", "uvicorn")


@pytest.mark.parametrize("program", ["import soorma.cli", "from soorma.cli.app import run; run(['version'])"])
def test_the_command_imports_little(program: str) -> None:
    listing = f"{program}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())


# --- Unusual places ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with space", "ünï [bold]cödé 日本", "quote'\"$HOME"])
def test_unusual_folders(shell: Shell, name: str) -> None:
    shell.folder /= name
    shell.folder.mkdir()
    database = str(shell.folder / ".soorma" / "soorma.db")
    assert database in shell.soorma("dev", "--build").stdout
    assert database in shell.soorma("dev", "--status").stdout
    assert json.loads(shell.soorma("dev", "--status", "--json").stdout)["database"] == database
    shell.soorma("dev", "--stop", "--clean")
    assert not (shell.folder / ".soorma").exists()


def test_without_a_home_and_in_plain_ascii(shell: Shell) -> None:
    shell.folder /= "ünï"
    shell.folder.mkdir()
    shell.env.pop("HOME", None)
    shell.env |= {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    shell.soorma("dev", "--build")
    shell.soorma("dev", "--status")
    shell.soorma("dev", "--help", HOME="/nonexistent")
    shell.soorma("dev", "--stop", "--clean", HOME="/nonexistent")


def test_through_a_symbolic_link(shell: Shell, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(shell.folder)
    shell.soorma("dev", cwd=link)
    pid = shell.pid()
    assert f"runs already: process {pid}" in shell.soorma("dev").stdout
    shell.soorma("dev", "--stop", cwd=link)
    assert is_gone(pid)


def test_a_users_files_do_not_pass_for_modules(shell: Shell) -> None:
    (shell.folder / "uvicorn.py").write_text("raise SystemExit('this is not uvicorn')")
    script = [sys.executable, "-P", "-m", "soorma.cli"]
    started = shell.spawn("dev", program=script)
    said, _ = started.communicate(timeout=SECONDS)
    shell.remember()
    assert started.returncode == Exit.OK, said
