"""`soorma doctor`: what it finds right, wrong or broken in real folders, databases, platforms."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import sys
import urllib.error
import urllib.request
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from cli_doctor_report import Report, doctor, here
from cli_shell import SECONDS, SOORMA, Shell, eventually, keep, read_until
from platform_process import EVENTS_PORT, MEMORY_PORT, PlatformProcess
from running import AT_ONCE, addresses_of, config_of, context_of, unique

from soorma import Agent, Reject
from soorma.cli.connection import Response
from soorma.cli.dev import services
from soorma.cli.doctor import agents as checks
from soorma.cli.doctor import examination, installation, machine, settings, store
from soorma.cli.doctor import platform as platform_checks
from soorma.cli.doctor.finding import Finding, State
from soorma.cli.doctor.scene import Scene
from soorma.cli.exits import Exit
from soorma.errors import DeadLettered
from soorma_platform.stores.engines import tools_for
from soorma_platform.stores.sqlite.database import migrations

README = Path(__file__).parents[2] / "README.md"
GROUPS = [
    "machine", "installation", "settings", "store", "platform", "keys", "agents", "memories",
]  # fmt: skip


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """With the command on its PATH, as in an activated environment."""
    shell.env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), shell.env["PATH"]])
    return shell


def doctor_where_nothing_runs(shell: Shell) -> Report:
    """Runs it as on a machine with free default ports: the shell's stand in for this machine's."""
    program = f"""
import sys
from soorma.cli.main import main
from soorma.cli.dev import services
services.PORTS.update({{name: port + {shell.offset} for name, port in services.PORTS.items()}})
sys.exit(main())
"""
    shell.env["SOORMA_PORT_OFFSET"] = "0"
    child = shell.spawn("-c", program, "doctor", "--json", program=[sys.executable])
    said = child.communicate(timeout=SECONDS)[0]
    assert child.returncode == Exit.OK, said
    return Report(said)


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything below, but SQLite's index of its log, which every reader marks."""
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".db-shm"
    }


# --- In order ------------------------------------------------------------------------------


@pytest.mark.behaviour("doctor.well")
def test_a_fresh_folder_has_no_problem_and_stays_as_it_is(shell: Shell) -> None:
    report = doctor_where_nothing_runs(shell)

    assert report.worse("problem") == []
    assert report.document["counts"]["problem"] == 0
    assert report.document["version"] == version("soorma-core")
    assert list(dict.fromkeys(one["group"] for one in report.checks)) == [
        group for group in GROUPS if group not in ("keys", "agents")
    ]
    assert "no platform runs" in report.one("process")["found"]
    assert "soorma dev" in report.one("process")["next"]
    assert str(8082 + shell.offset) in report.one("ports")["found"]
    assert list(shell.folder.iterdir()) == []


@pytest.mark.behaviour("doctor.well")
def test_a_platform_that_is_well(shell: Shell) -> None:
    shell.soorma("dev")
    log = shell.folder / ".soorma" / "platform.log"
    eventually(lambda: "platform ready" in log.read_text("utf-8"))  # said after the first answers
    before = files_of(shell.folder)

    report = doctor(shell, **here(shell))

    assert report.worse("problem") == []
    assert list(dict.fromkeys(one["group"] for one in report.checks)) == GROUPS
    assert str(shell.pid()) in report.one("process")["found"]
    assert {one["found"].split()[0] for one in report.of("health")} == set(services.PORTS)
    assert report.one("addresses")["state"] == "ok"
    assert "undamaged" in report.one("database")["found"]
    assert f"process {shell.pid()}" in report.one("in use")["found"]
    assert report.one("dead letters")["state"] == "ok"
    assert files_of(shell.folder) == before


@pytest.mark.behaviour("doctor.well")
def test_it_reads_for_people_too(shell: Shell) -> None:
    said = shell.soorma("doctor", SOORMA_PORT_OFSET="1").stdout
    assert [line for line in said.splitlines() if line and not line.startswith(" ")][:5] == [
        group.capitalize() for group in GROUPS[:5]
    ]
    assert "warning  names        SOORMA_PORT_OFSET is no variable that Soorma reads" in said
    assert "-> is SOORMA_PORT_OFFSET meant?" in said
    assert "Problems: 0, warnings: " in said.splitlines()[-1]


# --- Machine -------------------------------------------------------------------------------


@pytest.mark.behaviour("doctor.machine")
def test_a_low_limit_of_open_files(shell: Shell) -> None:
    child = shell.spawn(
        "-c", 'ulimit -n 256; exec "$@"', "sh", *SOORMA, "doctor", "--json", program=["/bin/sh"]
    )
    found = Report(child.communicate(timeout=SECONDS)[0]).one("open files")
    assert found["state"] == "warning"
    assert "256" in found["found"]
    assert "ulimit -n" in found["next"]


@pytest.mark.behaviour("doctor.machine")
def test_a_proxy_that_catches_this_machine(shell: Shell) -> None:
    proxy = "http://ann:hidden-word@proxy.example:3128"
    caught = doctor(shell, http_proxy=proxy, no_proxy="localhost")
    assert caught.one("proxies")["state"] == "warning"
    assert "127.0.0.1 to proxy.example" in caught.one("proxies")["found"]
    assert "export no_proxy=localhost,127.0.0.1" in caught.one("proxies")["next"]
    assert "hidden-word" not in json.dumps(caught.document)
    assert (
        doctor(shell, http_proxy=proxy, no_proxy="localhost,127.0.0.1").one("proxies")["state"]
        == "ok"
    )


@pytest.mark.behaviour("doctor.machine")
def test_a_clock_before_the_installation(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    assert states(machine.clock(scene)) == [State.OK]
    monkeypatch.setattr(machine.time, "time", lambda: 86_400.0)
    (found,) = machine.clock(scene)
    assert found.state is State.PROBLEM
    assert "1970-01-02" in found.found


@pytest.mark.behaviour("doctor.machine")
@pytest.mark.parametrize(
    ("addresses", "state"),
    [(["127.0.0.1", "::1"], State.OK), (["10.1.2.3"], State.PROBLEM), (["::1"], State.PROBLEM)],
)
def test_what_localhost_stands_for(
    monkeypatch: pytest.MonkeyPatch, scene: Scene, addresses: list[str], state: State
) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(machine.socket, "getaddrinfo", lambda *_, **__: entries)
    assert states(machine.localhost(scene)) == [state]


# --- Installation --------------------------------------------------------------------------


def distribution(folder: Path, number: str, *needs: str) -> str:
    """A PYTHONPATH with a distribution of our name that comes before the installed one."""
    info = folder / f"soorma_core-{number}.dist-info"
    info.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        "Name: soorma-core",
        f"Version: {number}",
        *(f"Requires-Dist: {one}" for one in needs),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.mark.behaviour("doctor.installation")
def test_the_foreign_package_of_our_name(shell: Shell, tmp_path: Path) -> None:
    found = doctor(
        shell, exits=Exit.PROBLEMS, PYTHONPATH=distribution(tmp_path / "foreign", "0.10.0")
    ).one("package")
    assert found["state"] == "problem"
    assert "soorma-core 0.10.0 is installed" in found["found"]
    assert "pip uninstall soorma-core" in found["next"]


@pytest.mark.behaviour("doctor.installation")
def test_another_installation_than_the_one_imported(shell: Shell, tmp_path: Path) -> None:
    report = doctor(shell, PYTHONPATH=distribution(tmp_path / "elsewhere", version("soorma-core")))
    assert report.one("package")["state"] == "warning"
    assert str(tmp_path / "elsewhere" / "soorma") in report.one("package")["found"]


@pytest.mark.behaviour("doctor.installation")
def test_dependencies_out_of_their_range(shell: Shell, tmp_path: Path) -> None:
    needs = [
        "rich<2,>=1",
        "no-such-thing>=1",
        "typer>=0.1",
        'never-asked-for>=1; extra == "cluster"',
    ]
    path = distribution(tmp_path / "elsewhere", version("soorma-core"), *needs)
    found = doctor(shell, exits=Exit.PROBLEMS, PYTHONPATH=path).one("dependencies")
    assert found["state"] == "problem"
    assert found["found"] == f"rich {version('rich')} is not <2,>=1; no-such-thing is missing"


@pytest.mark.behaviour("doctor.installation")
@pytest.mark.parametrize(
    ("range_", "inside", "outside"),
    [
        (
            "<4,>=3.14",
            ["3.14", "3.14.0", "3.20.1", "3.14.post1"],
            ["3.13.9", "4", "4.0.0", "4.1", "2.99"],
        ),
        ("<0.23,>=0.22", ["0.22.0", "0.22.9"], ["0.23", "0.23.0", "0.21.7", "1.0"]),
        (">=2", ["2", "2.0", "10.0"], ["1.9.9"]),
    ],
)
def test_ranges_of_versions(range_: str, inside: list[str], outside: list[str]) -> None:
    requirement = installation.Requirement("thing", range_)
    assert [one for one in inside if not requirement.takes(one)] == []
    assert [one for one in outside if requirement.takes(one)] == []


@pytest.mark.behaviour("doctor.installation")
def test_every_requirement_of_ours_is_understood() -> None:
    lines = requires("soorma-core")
    assert lines
    ours = [line for line in lines if "extra" not in line]
    found = installation.requirements(lines)
    assert len(found) == len(ours)
    for requirement in found:
        assert requirement.range
        assert requirement.takes(version(requirement.name)), requirement


@pytest.mark.behaviour("doctor.installation")
def test_another_command_on_the_path(shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / "other" / "soorma"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    found = doctor(shell, PATH=str(other.parent)).one("command")
    assert (found["state"], str(other) in found["found"]) == ("warning", True)
    assert "there is no `soorma`" in doctor(shell, PATH="/nowhere").one("command")["found"]


# --- Settings ------------------------------------------------------------------------------


@pytest.mark.behaviour("doctor.environment")
def test_variables_with_a_typing_error(shell: Shell) -> None:
    report = doctor(shell, SOORMA_MEMROY_URL="http://localhost:1", SOORMA_ZZZ="1")
    advice = {one["found"].split()[0]: one["next"] for one in report.of("names")}
    assert advice["SOORMA_MEMROY_URL"] == "is SOORMA_MEMORY_URL meant?"
    assert "unset" in advice["SOORMA_ZZZ"]


@pytest.mark.behaviour("doctor.environment")
def test_every_variable_of_the_reference_is_known() -> None:
    section = (
        README.read_text("utf-8").partition("\n## Environment variables\n")[2].partition("\n## ")[0]
    )
    named = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `SOORMA_")}
    assert len(named) > 10
    assert named - settings.known_names() == set()


@pytest.mark.behaviour("doctor.environment")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOORMA_KEEP_EVENTS", "long"),
        ("SOORMA_MEMORY_URL", "localhost"),
        ("SOORMA_HOST", "0.0.0.0"),
    ],
)
def test_variables_that_would_be_refused(shell: Shell, name: str, value: str) -> None:
    (found,) = doctor(shell, exits=Exit.PROBLEMS, **{name: value}).of("values")
    assert found["state"] == "problem"
    assert repr(value) in found["found"]


@pytest.mark.behaviour("doctor.well")
def test_secrets_are_not_shown(shell: Shell) -> None:
    hidden = "open-sesame-42"
    report = doctor(
        shell,
        exits=Exit.PROBLEMS,
        SOORMA_API_TOKEN=hidden,
        MY_PASSWORD=hidden,
        SOORMA_LOG_LEVEL=hidden,
        SOORMA_DATABASE=f"/nowhere/{hidden}/soorma.db",
    )
    text = json.dumps(report.document)
    assert hidden not in text
    assert "SOORMA_API_TOKEN is no variable" in text


@pytest.mark.behaviour("doctor.environment")
def test_a_platform_that_the_environment_misses(shell: Shell) -> None:
    shell.soorma("dev")
    assert doctor(shell).one("addresses")["state"] == "ok", "the SDK finds it"
    missed = doctor(shell, exits=Exit.PROBLEMS, SOORMA_MEMORY_URL="http://localhost:1").one(
        "addresses"
    )
    assert missed["state"] == "warning"
    assert missed["next"] == "say first: unset SOORMA_MEMORY_URL"
    same = {name: url.replace("localhost", "127.0.0.1") for name, url in here(shell).items()}
    assert doctor(shell, **same).one("addresses")["state"] == "ok"


@pytest.mark.behaviour("doctor.platform")
def test_a_platform_that_is_reached_through_its_gateway(shell: Shell) -> None:
    shell.soorma("dev")
    gateway = services.address("127.0.0.1", services.ports_at(shell.offset)["gateway"])
    report = doctor(shell, **dict.fromkeys(here(shell), gateway))
    assert report.one("addresses")["state"] == "ok"
    assert {one["state"] for one in report.of("health")} == {"ok"}
    assert report.one("groups")["state"] == "ok"


@pytest.mark.behaviour("clocks.told")
@pytest.mark.parametrize(
    ("store", "state", "told"),
    [
        ({}, State.OK, []),
        ({"clock_jumps": 1}, State.WARNING, ["jumped once"]),
        (
            {"clock_jumps": 3, "clock_settles_in": 61},
            State.WARNING,
            ["jumped 3 times", "for 2 min"],
        ),
        ({"clock_settles_in": 600}, State.OK, ["booted, or slept", "for 10 min"]),
    ],
)
def test_a_clock_that_jumped_is_told(
    scene: Scene, store: dict[str, int], state: State, told: list[str]
) -> None:
    document = {"service": "memory", "store": {"status": "ok", **store}}
    responses = {"memory": Response("", document, 200, formatdate(usegmt=True))}
    first, *more = platform_checks.clock(replace(scene, responses=responses))
    assert first.state is State.OK
    assert [finding.state for finding in more] == [state] * bool(told)
    assert all(word in more[0].found for word in told)


# --- Store ---------------------------------------------------------------------------------


@pytest.fixture
def scene(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The shell's folder, for checks in this process."""
    monkeypatch.chdir(shell.folder)
    for name in [name for name in os.environ if name.startswith("SOORMA_")]:
        monkeypatch.delenv(name)
    return Scene.here(thorough=False)


def states(findings: Iterator[Finding]) -> list[State]:
    return [finding.state for finding in findings]


@pytest.mark.behaviour("doctor.machine")
@pytest.mark.parametrize(
    ("kind", "state"), [("ext4", State.OK), ("nfs4", State.WARNING), ("tmpfs", State.WARNING)]
)
def test_file_systems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scene: Scene, kind: str, state: State
) -> None:
    mounts = tmp_path / "mounts"
    where = str(tmp_path).replace(" ", "\\040")
    mounts.write_text(
        f"rootfs / rootfs rw 0 0\ndisk {where} {kind} rw 0 0\nother {where}/projectile cifs rw 0 "
        "0\n"
    )
    monkeypatch.setattr(store, "MOUNTS", mounts)
    (found,) = store.file_system(scene)
    assert (found.state, kind in found.found) == (state, True)


@pytest.mark.behaviour("doctor.machine")
@pytest.mark.parametrize(
    ("free", "state"), [(1 << 20, State.PROBLEM), (500 << 20, State.WARNING), (5 << 30, State.OK)]
)
def test_free_space(monkeypatch: pytest.MonkeyPatch, scene: Scene, free: int, state: State) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - the shape of shutil's own
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage(1 << 40, 0, free))
    assert states(store.disk(scene)) == [state]


@pytest.mark.behaviour("doctor.machine")
def test_a_slow_disk(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    assert len(store._flushes(scene.place)) > 0
    monkeypatch.setattr(store, "_flushes", lambda _: [0.001, 0.020, 0.030])
    (found,) = store.flush(scene)
    assert found.state is State.WARNING
    assert "20.00 ms" in found.found


@pytest.mark.behaviour("doctor.machine")
def test_a_file_in_place_of_the_folder(shell: Shell) -> None:
    (shell.folder / ".soorma").write_text("not a folder")
    report = doctor(shell, exits=Exit.PROBLEMS)
    assert f"{shell.folder / '.soorma'} is not a folder" in report.one("folder")["found"]


@pytest.mark.behaviour("doctor.platform")
def test_a_platform_that_died(shell: Shell) -> None:
    """Its log is read with the database, and neither is changed."""
    shell.soorma("dev")
    keep(shell, "a plan", "kept")
    pid = shell.pid()
    os.kill(pid, signal.SIGKILL)
    before = files_of(shell.folder)
    assert before[str(shell.folder / ".soorma" / "soorma.db-wal")]

    report = doctor(shell)

    assert report.one("note")["state"] == "warning"
    assert f"process {pid} is gone" in report.one("note")["found"]
    assert "undamaged" in report.one("database")["found"]
    assert report.of("in use") == []
    assert files_of(shell.folder) == before

    shell.state.write_text("{broken")
    assert "cannot be understood" in doctor(shell).one("note")["found"]


@pytest.fixture
def database(shell: Shell) -> Path:
    """A store that a platform has made and left."""
    shell.soorma("dev")
    keep(shell, "a plan", "x" * 100_000)
    shell.soorma("dev", "--stop")
    return shell.folder / ".soorma" / "soorma.db"


@pytest.mark.behaviour("doctor.database")
def test_a_database_that_was_left_in_order(shell: Shell, database: Path) -> None:
    before = files_of(shell.folder)
    assert "undamaged" in doctor(shell).one("database")["found"]
    assert "undamaged" in doctor(shell, "--thorough").one("database")["found"]
    assert files_of(shell.folder) == before
    assert not database.with_name("soorma.db-wal").exists()
    assert not database.with_name("soorma.db-shm").exists()


@pytest.mark.behaviour("doctor.database")
def test_a_large_database_is_read_for_a_while(
    monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    monkeypatch.setattr("soorma_platform.stores.sqlite.examination.STEPS", 1)
    assert not tools_for(database).examine(0.0).is_whole
    assert tools_for(database).examine(None).is_whole


@pytest.mark.behaviour("doctor.privacy")
def test_what_the_platform_keeps_is_for_its_owner_alone(shell: Shell) -> None:
    before = os.umask(0o022)
    try:
        shell.soorma("dev")
    finally:
        os.umask(before)
    folder = shell.folder / ".soorma"
    keep(shell, "a plan", "kept")  # so that there is a -wal
    names = ["soorma.db", "soorma.db-wal", "soorma.db-shm", "platform.log"]
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in names}
    assert modes == dict.fromkeys(names, 0o600)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert doctor(shell).of("privacy") == []
    (folder / "soorma.db").chmod(0o644)
    assert doctor(shell).of("privacy") == [], "nobody gets into the folder"
    folder.chmod(0o755)
    found = doctor(shell).one("privacy")
    assert (found["state"], found["next"]) == ("warning", f"chmod go= {folder / 'soorma.db'}")


@pytest.mark.behaviour("doctor.database")
def test_a_damaged_database(shell: Shell, database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database.stat().st_size - 8192))
    found = doctor(shell, exits=Exit.PROBLEMS).one("database")
    assert f"{database} is damaged" in found["found"]
    assert "backup" in found["next"]

    database.write_bytes(b"no database, but long enough to be taken for one" * 100)
    assert "is damaged" in doctor(shell, exits=Exit.PROBLEMS).one("database")["found"]


@pytest.mark.behaviour("doctor.database")
@pytest.mark.parametrize(
    ("ahead", "state", "advice"), [(1, "problem", "install"), (-1, "warning", "soorma dev --build")]
)
def test_a_database_of_another_version(
    shell: Shell, database: Path, ahead: int, state: str, advice: str
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {len(migrations()) + ahead}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    found = doctor(shell, exits=Exit.PROBLEMS if state == "problem" else Exit.OK).one("database")
    assert found["state"] == state
    assert advice in found["next"]


@pytest.mark.behaviour("doctor.database")
def test_a_database_of_another_program(shell: Shell) -> None:
    other = shell.folder / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE addresses (name)")
    found = doctor(shell, exits=Exit.PROBLEMS, SOORMA_DATABASE="other.db").one("database")
    assert f"{other} is not Soorma's" in found["found"]


@pytest.mark.behaviour("doctor.database")
def test_a_database_locked_by_another_program(shell: Shell, database: Path) -> None:
    shell.python(
        f"import sqlite3, time; c = sqlite3.connect({str(database)!r}); c.execute('PRAGMA "
        "locking_mode = EXCLUSIVE');"
        "c.execute('BEGIN EXCLUSIVE'); c.execute('CREATE TABLE more (x)'); print('begun', "
        "flush=True); time.sleep(600)"
    )
    found = doctor(shell, exits=Exit.PROBLEMS).one("database")
    assert f"{database} is locked by another program" in found["found"]
    assert f"fuser {database}" in found["next"]


# --- Platform ------------------------------------------------------------------------------


@pytest.mark.behaviour("doctor.platform")
def test_a_port_that_another_program_has(shell: Shell) -> None:
    shell.python(
        "import socket, time; s = socket.create_server(('127.0.0.1', "
        f"{EVENTS_PORT + shell.offset})); "
        "print('begun', flush=True); time.sleep(600)"
    )
    (found,) = doctor(shell, exits=Exit.PROBLEMS).of("ports")
    assert f"{EVENTS_PORT + shell.offset} (events) is taken by process" in found["found"]
    assert "soorma dev --port-offset " in found["next"]


@pytest.mark.behaviour("doctor.platform")
def test_a_port_that_another_platform_has(shell: Shell, tmp_path: Path) -> None:
    shell.soorma("dev")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = doctor(shell, cwd=elsewhere).of("ports")
    assert [one["state"] for one in found] == ["warning"] * len(services.PORTS)
    assert all(f"another Soorma platform of {shell.folder}" in one["found"] for one in found)


@pytest.mark.behaviour("doctor.platform")
def test_a_platform_that_hangs(shell: Shell) -> None:
    shell.soorma("dev")
    os.kill(shell.pid(), signal.SIGSTOP)
    report = doctor(shell, exits=Exit.PROBLEMS, **here(shell))
    assert [one["state"] for one in report.of("health")] == ["problem"] * len(services.PORTS)
    assert "soorma dev --logs" in report.of("health")[0]["next"]
    assert "undamaged" in report.one("database")["found"]


@pytest.mark.behaviour("doctor.platform")
def test_an_address_where_nothing_is(shell: Shell) -> None:
    (found,) = [
        one
        for one in doctor(shell, exits=Exit.PROBLEMS, SOORMA_MEMORY_URL="http://localhost:9").of(
            "health"
        )
        if "memory" in one["found"]
    ]
    assert "http://localhost:9: no answer" in found["found"]
    assert "unset SOORMA_MEMORY_URL" in found["next"]


OTHER_PLATFORM = """
import http.server, json

class Other(http.server.BaseHTTPRequestHandler):
    def date_time_string(self, timestamp=None):
        return "Thu, 01 Jan 2026 00:00:00 GMT"
    def do_GET(self):
        body = json.dumps({"service": "memory", "status": "ok", "version": "0.0.1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.HTTPServer(("127.0.0.1", PORT), Other)
print("begun", flush=True)
server.serve_forever()
"""


@pytest.mark.behaviour("doctor.platform")
def test_a_platform_of_another_version_and_time(shell: Shell) -> None:
    port = 8083 + shell.offset
    shell.python(OTHER_PLATFORM.replace("PORT", str(port)))
    report = doctor(shell, exits=Exit.PROBLEMS, **here(shell))
    assert report.one("version")["state"] == "warning"
    assert "0.0.1" in report.one("version")["found"]
    assert report.one("clock", "platform")["state"] == "warning"
    assert "differs from this machine's by -" in report.one("clock", "platform")["found"]


@pytest.mark.behaviour("doctor.keys")
def test_keys_that_expire_soon_or_are_of_another_role(shell: Shell) -> None:
    shell.soorma("dev")
    report = doctor(shell)
    assert "the platform is open" in report.one("key")["found"]
    shell.soorma("dev", "--stop")
    shell.soorma("dev", "--secure")
    report = doctor(shell)
    assert (report.one("key")["state"], report.one("keys")["found"]) == ("ok", "4 valid")
    made = ("keys", "create", "short", "--role", "viewer", "--tenant", "t", "--expires", "3d")
    viewer = shell.soorma(*made).stdout.strip()
    report = doctor(shell)
    assert report.one("keys")["state"] == "warning"
    assert "short (" in report.one("keys")["found"]
    report = doctor(shell, SOORMA_API_KEY=viewer, SOORMA_TENANT_ID="t")
    assert report.one("key")["found"] == "short (viewer)"
    assert not report.of("keys")


@pytest.mark.behaviour("doctor.platform", "identity.metrics")
def test_an_issuer_that_cannot_be_reached_and_a_quota_that_was_used_up(shell: Shell) -> None:
    shell.soorma(
        "dev", "--secure", SOORMA_OIDC_ISSUER="http://127.0.0.1:9", SOORMA_OIDC_AUDIENCE="a",
        SOORMA_QUOTA_REQUESTS="1",
    )  # fmt: skip
    key = shell.soorma("keys", "create", "shop", "--role", "app", "--tenant", "t").stdout.strip()
    headers = {"Authorization": f"Bearer {key}", "X-User-ID": "ann"}
    wrong = {"Authorization": "Bearer nobody"}
    url = f"{shell.url(MEMORY_PORT)}/v1/memory/working"
    for each in (*[headers] * 4, *[wrong] * 200):
        request = urllib.request.Request(url, headers=each)
        with suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=10):
            pass
    report = doctor(shell, exits=Exit.PROBLEMS)
    assert report.one("issuer")["state"] == "problem"
    assert "no token is accepted" in report.one("issuer")["found"]
    assert "the quota of requests" in report.one("quotas")["found"]
    assert "SOORMA_QUOTA_REQUESTS" in report.one("quotas")["next"]
    assert "without a valid credential" in report.one("attempts")["found"]


@pytest.mark.behaviour("doctor.platform")
def test_a_platform_that_serve_runs(shell: Shell) -> None:
    shell.env["SOORMA_API_KEY"] = shell.make_key()
    serving = shell.spawn("serve")
    read_until(serving, "platform ready")
    report = doctor(shell, **here(shell))
    assert f"process {serving.pid}" in report.one("in use")["found"]
    assert {one["state"] for one in report.of("health")} == {"ok"}


# --- Agents --------------------------------------------------------------------------------


@pytest.mark.behaviour("doctor.platform")
async def test_events_that_wait_and_events_given_up(shell: Shell, running: PlatformProcess) -> None:
    tenant, name = unique("tenant"), unique("absent")
    agent = Agent(name, config=config_of(running, tenant_id=tenant), retry=AT_ONCE)

    @agent.on_event("refused", topic="action-requests")
    async def refuse(_event: object, _context: object) -> None:
        raise Reject("for the doctor")

    env = {**addresses_of(running), "SOORMA_TENANT_ID": tenant}
    async with context_of(running, tenant_id=tenant, user_id=unique("user")) as context:
        async with agent:
            with pytest.raises(DeadLettered):
                await context.bus.request("refused", {}, response_event="never", timeout=20)
        await context.bus.publish("refused", "action-requests", {})

    report = doctor(shell, **env)

    (late,) = report.of("groups")
    assert late["state"] == "warning"
    assert f"1 events wait for {name}" in late["found"]
    assert "none of its agents is connected" in late["found"]
    dead = report.one("dead letters")
    assert dead["state"] == "warning"
    assert f"1 wait; of group {name}: refused, for the doctor" in dead["found"]
    assert "soorma events replay" in dead["next"]
    assert (
        doctor(shell, **{**env, "SOORMA_TENANT_ID": unique("another")}).one("dead letters")["state"]
        == "ok"
    )


@pytest.mark.behaviour("doctor.platform")
def test_an_agent_of_which_nothing_is_heard(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    """It stays announced until its time to live is over, which takes longer than a test may."""

    def announced(*ages: float) -> list[Finding]:
        instances = [
            {
                "instance": f"i{at}",
                "heard_at": (datetime.now(UTC) - timedelta(seconds=age)).isoformat(),
                "ttl": 30.0,
            }
            for at, age in enumerate(ages)
        ]
        told = Response(
            "http://localhost:1", {"agents": [{"name": "counter", "instances": instances}]}, 200
        )
        monkeypatch.setattr(checks.connection, "probe", lambda *_, **__: told)
        return list(
            checks.announced(
                replace(scene, responses={"registry": Response("", {"service": "registry"}, 200)})
            )
        )

    (fine,) = announced(1, 9)
    assert (fine.state, fine.found) == (State.OK, "counter")
    (silent,) = announced(1, 25)
    assert silent.state is State.WARNING
    assert "counter (i1) for 25 s" in silent.found
    assert announced() == [Finding("agents", State.OK, "counter")]


# --- Itself --------------------------------------------------------------------------------


@pytest.mark.behaviour("doctor.itself")
def test_a_check_that_fails_itself_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, scene: Scene
) -> None:
    def strange_machine(_: Scene) -> Iterator[Finding]:
        raise KeyError("unheard of")

    def closed_door(scene: Scene) -> Iterator[Finding]:
        (scene.folder.root / "nothing").read_text()
        yield from machine.python(scene)

    monkeypatch.setattr(
        examination, "GROUPS", {"machine": (strange_machine, closed_door, machine.python)}
    )
    (_, broken), (_, closed), (_, fine) = examination.examine(scene)
    assert (closed.check, closed.state) == ("closed door", State.WARNING)
    assert str(scene.folder.root / "nothing") in closed.found
    assert broken.check == "strange machine"
    assert broken.state is State.PROBLEM
    assert "KeyError: 'unheard of'" in broken.found
    assert fine.state is State.OK
