"""Every page: its code runs, its commands work, its links resolve, its tables are complete."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from doc_blocks import Stage, execute, run_chain
from doc_pages import LANGUAGES, ROOT, Block, Page, blocks, chains, pages, preamble_of
from doc_server import commands_of_the_page
from doc_tour import Tour
from platform_process import PlatformProcess, clean_environment

import soorma.errors
from soorma import (
    ClientConfig,
    EventClient,
    MemoryClient,
    PlatformContext,
    Reject,
    Worker,
    WorkflowState,
)
from soorma.context import caller_for
from soorma_platform.identity.oidc import ClaimTable, OidcSettings
from soorma_platform.settings import Settings

TESTS = ROOT / "sdk" / "python" / "tests"
REFERENCE = ROOT / "sdk" / "python" / "README.md"

EXTERNAL = {
    # Both name the rules that a changelog keeps to, and are part of the form itself.
    "https://keepachangelog.com/en/1.1.0/",
    "https://semver.org/spec/v2.0.0.html",
}

TOUR, AGENTS = "runs in the tour", "the example's agents"
COMMANDS = {
    # in the order of the tour
    "pip install -e sdk/python": "test_the_installation_command",
    "soorma dev --build": TOUR,
    "soorma dev --status": TOUR,
    "curl http://localhost:8083/health": TOUR,
    "cd examples/05-memory-working": TOUR,
    "python manual_state.py": TOUR,
    "./start.sh": AGENTS,  # of this example; the others' are run by system/test_examples.py
    'python client.py "Write a blog post about Docker"': TOUR,
    "pip install -e ../../sdk/python": "test_the_installation_command",
    'curl -X PUT http://localhost:8083/v1/memory/working/plan-1/goal -H "X-Tenant-ID: acme" -H '
    '"X-User-ID: ann" '
    '-H "Content-Type: application/json" -d \'{"value": "a blog post"}\'': TOUR,
    'curl http://localhost:8083/v1/memory/working/plan-1/goal -H "X-Tenant-ID: acme" -H '
    '"X-User-ID: ann"': TOUR,
    'curl -X POST http://localhost:8082/v1/events/publish -H "Content-Type: application/json" '
    '-d \'{"type": "tea.ordered", "topic": "business-facts", "data": {"order": 7}}\'': TOUR,
    "curl http://localhost:8082/v1/events/groups": TOUR,
    "soorma events groups": TOUR,
    "soorma events dead-letters": TOUR,
    "soorma events replay 1": TOUR,
    "soorma agents": TOUR,
    "soorma doctor": TOUR,
    "curl http://localhost:8080/health": TOUR,
    "soorma dev --logs": TOUR,
    'soorma backup "soorma-$(date +%F).db"': TOUR,
    "soorma backup before-the-change.db": TOUR,
    "soorma backup before-upgrade.db": TOUR,
    "soorma dev --stop": TOUR,
    "soorma restore before-the-change.db": TOUR,
    # what makes an environment; its parts are what every test here stands on
    "python3 -m venv .venv": "test_the_shell_commands_of_an_environment",
    ". .venv/bin/activate": "test_the_shell_commands_of_an_environment",
    ". ../../.venv/bin/activate": "test_the_shell_commands_of_an_environment",
    # the other examples, each on a platform of its own
    "cd examples/01-hello-world": "system/test_examples.py::test_a_greeting_as_the_page_shows_it",
    "python client.py Ada": "system/test_examples.py::test_a_greeting_as_the_page_shows_it",
    "cd examples/02-events-simple": "system/test_examples.py::"
    "test_each_name_gets_a_copy_as_the_page_shows_it",
    "python publisher.py tea "
    "coffee": "system/test_examples.py::test_each_name_gets_a_copy_as_the_page_shows_it",
    "python publisher.py salt pepper sugar flour": "system/test_examples.py::test_replicas_share",
    "python publisher.py "
    "milk": "system/test_examples.py::test_what_is_announced_while_they_are_away_waits",
    "cd examples/04-memory-semantic": "system/test_examples.py::"
    "test_answers_with_citations_as_the_page_shows_them",
    "python knowledge.py": "system/test_examples.py::"
    "test_answers_with_citations_as_the_page_shows_them",
    "python ask.py": "system/test_examples.py::test_answers_with_citations_as_the_page_shows_them",
    'python ask.py "When is the shop open?"': "system/test_examples.py::"
    "test_answers_with_citations_as_the_page_shows_them",
    "OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_MODEL=llama3.2 "
    "./start.sh": "system/test_examples.py::test_a_real_model_answers",
    "soorma run answerer": "system/test_examples.py::test_the_command_runs_the_answerer",
    "cd examples/06-memory-episodic": "system/test_examples.py::"
    "test_a_user_is_known_in_later_sessions_as_the_page_shows_it",
    "python talk.py": "system/test_examples.py::"
    "test_a_user_is_known_in_later_sessions_as_the_page_shows_it",
    "python talk.py --interactive": "system/test_examples.py::"
    "test_what_is_typed_and_what_is_forgotten",
    "python talk.py --forget": "system/test_examples.py::test_what_is_typed_and_what_is_forgotten",
    "soorma run companion librarian": "system/test_examples.py::"
    "test_what_is_typed_and_what_is_forgotten",
    "soorma dev --secure": "system/test_cli_keys.py::test_a_closed_platform_on_a_laptop",
    "soorma whoami": "system/test_cli_keys.py::test_a_closed_platform_on_a_laptop",
    "soorma keys create shop --role app --tenant acme": "system/test_cli_keys.py::"
    "test_a_closed_platform_on_a_laptop",
    "soorma keys create packers --role agent --tenant acme --agent packer --subscribe "
    "order.paid@business-facts --publish order.packed@business-facts": "system/test_cli_keys.py::"
    "test_a_closed_platform_on_a_laptop",
    "soorma run worker": "system/test_cli_run.py::test_the_examples_run",
    "soorma run subscriber:warehouse "
    "subscriber:accounts": "system/test_cli_run.py::test_the_examples_run",
    "soorma run planner worker coordinator": "system/test_cli_run.py::test_the_examples_run",
    # elsewhere, because they take long, or run this very test
    "make demo": "system/test_demo.py::test_it_shows_the_workflow",
    "make demo-crash": "system/test_demo.py::test_kills_change_nothing_but_the_attempts",
    "make test": "test_the_tasks_are_there",
    "make prove": "test_the_tasks_are_there",
    'make test ARGS="-k increment"': "test_the_tasks_are_there",
    "sh tools/run test -k increment": "test_the_tasks_are_there",
    "sh tools/pin.sh": "test_the_tasks_are_there",
    "make lowest": "test_the_tasks_are_there",
    "make bench": "test_the_tasks_are_there",
    'make bench ARGS="--dataset '
    'PATH"': "system/test_benchmarks.py::test_a_set_that_is_not_ours_is_measured",
    'make bench ARGS="--against '
    'REV"': "system/test_benchmarks.py::test_two_checkouts_are_measured_by_turns",
}
COMMANDS |= {
    command: how for command, how in commands_of_the_page().items() if command not in COMMANDS
}
"""The check of each command of a page: the tour, or the test named.

`make` itself is checked by test_the_tasks_are_there. A command that is not listed fails.
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """One platform for all blocks; each has a tenant of its own."""
    with PlatformProcess(tmp_path_factory.mktemp("docs")) as platform:
        yield platform


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The output of each command of the tour."""
    said: dict[str, str] = {}
    with Tour(tmp_path_factory.mktemp("tour")) as shell:
        for command, how in COMMANDS.items():
            if how == AGENTS:
                shell.start_agents(command)
            elif how == TOUR:
                if command == "soorma events dead-letters":
                    asyncio.run(leave_a_dead_letter(shell.env))
                said[command] = shell.run(command)
        shell.stop_agents()
    return said


async def leave_a_dead_letter(env: dict[str, str]) -> None:
    config = ClientConfig.from_env(env)
    agent = Worker("refuser", config=config)
    dead = asyncio.get_running_loop().create_future()

    @agent.on_event("refused")
    async def refuse(event: object, context: object) -> None:
        raise Reject("for the tour")

    async with agent, EventClient("tour", config=config) as client:

        @client.on_event("event.dead_lettered")
        def on_dead(event: object) -> None:
            dead.set_result(event)

        await client.connect(["system-events"])
        await client.publish("refused", "action-requests")
        async with asyncio.timeout(20):
            await dead


def id_of(thing: object) -> str:
    """The name of a test's parameter."""
    if isinstance(thing, list):
        thing = thing[0]
    assert isinstance(thing, Block | Page)
    return thing.name


# --- Code ----------------------------------------------------------------------------------


@pytest.mark.behaviour("docs.code-runs")
@pytest.mark.parametrize("chain", chains(), ids=id_of)
async def test_code_runs(
    chain: list[Block], running: PlatformProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = f"docs-{uuid4().hex[:12]}"
    for name in [name for name in clean_environment() if name.startswith("SOORMA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SOORMA_MEMORY_URL", running.memory_url)
    monkeypatch.setenv("SOORMA_EVENT_SERVICE_URL", running.events_url)
    monkeypatch.setenv("SOORMA_REGISTRY_URL", running.registry_url)
    monkeypatch.setenv("SOORMA_TENANT_ID", tenant_id)
    monkeypatch.setenv("SOORMA_DATABASE", str(running.database))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    caller = caller_for(ClientConfig.from_env())
    try:
        async with PlatformContext.from_env("documentation") as context, asyncio.timeout(40):
            await run_chain(chain, Stage(context, caller, tenant_id), preamble_of(chain[0].page))
    finally:
        await caller.close()


@pytest.mark.behaviour("docs.code-runs")
@pytest.mark.parametrize(
    "block", [block for block in blocks("python") if block.excerpt_of], ids=id_of
)
def test_excerpts_are_what_the_file_says(block: Block) -> None:
    content = _without_layout((ROOT / block.excerpt_of).read_text("utf-8"))
    at = 0
    for part in re.split(r"^\s*# …\n", block.code, flags=re.MULTILINE):
        wanted = _without_layout(part)
        at = content.find(wanted, at)
        assert at >= 0, (
            f"{block.name}: {block.excerpt_of} has no such lines, or in another order:\n{part}"
        )
        at += len(wanted)


def _without_layout(code: str) -> str:
    """The code without blanks: what is less indented in a document breaks its lines elsewhere."""
    return re.sub(r",(?=[)\]}])", "", re.sub(r"\s", "", code))


@pytest.mark.behaviour("docs.code-runs")
@pytest.mark.parametrize("page", pages().values(), ids=id_of)
def test_every_block_has_a_language_that_is_checked(page: Page) -> None:
    for block in page.blocks:
        assert block.language in LANGUAGES, (
            f"{block.name}: a block in {block.language or 'no language'}"
        )
        if block.language == "json":
            json.loads(block.code)
        if block.language == "toml":
            tomllib.loads(block.code)


@pytest.mark.behaviour("docs.code-runs")
async def test_the_checks_of_blocks_can_fail() -> None:
    def block(code: str) -> Block:
        return Block(REFERENCE, 1, "python", code)

    for wrong in (
        "1 + 1  # -> 3",
        "n = 2  # -> 3",
        "len([])  # raises TypeError",
        "if True:\n    1 + 1  # -> 3",
    ):
        with pytest.raises(AssertionError):
            await execute(wrong, {}, block(wrong), 1)
    for right in (
        "1 + 1  # -> 2",
        "n = 2  # -> 2",
        "len(1)  # raises TypeError",
        "if True:\n    1 + 1  # -> 2",
    ):
        await execute(right, {}, block(right), 1)


@pytest.mark.behaviour("docs.self-sufficient")
async def test_a_block_sees_what_its_reader_sees(running: PlatformProcess) -> None:
    """Hidden code may use the test's names; the block itself only its own and the preamble's."""
    context = PlatformContext.on(
        ClientConfig(running.memory_url, running.events_url), "documentation"
    )
    async with context:
        stage = Stage(context, caller_for(ClientConfig()), "docs")
        for name in stage.names():
            hidden = Block(ROOT / "LICENSE.md", 1, "python", "", then=name)
            await run_chain([hidden], stage, preamble=None)
            with pytest.raises(NameError):
                await run_chain(
                    [Block(ROOT / "LICENSE.md", 1, "python", name)], stage, preamble=None
                )


@pytest.mark.behaviour("docs.self-sufficient")
def test_blocks_publish_nothing_that_the_examples_take() -> None:
    """An example started within ten minutes of trying a page would take the page's events."""
    sources = [path.read_text("utf-8") for path in (ROOT / "examples").rglob("*.py")]
    taken = {kind for source in sources for kind in re.findall(r'\.on_event\("([^"]+)"', source)}
    assert {"order.placed", "goal.received", "task.assigned", "greeting.requested"} <= taken
    for block in blocks("python", "bash"):
        if not block.page.is_relative_to(ROOT / "examples") and not block.excerpt_of:
            assert not taken & set(published(block)), (
                f"{block.name} publishes what an example takes"
            )


def published(block: Block) -> Iterator[str]:
    """The event types that a block publishes itself, not in an agent's handler."""
    if block.language == "bash":
        yield from re.findall(r'"type": "([^"]+)"', block.code)
        return
    waiting: list[ast.AST] = list(ast.parse(block.code).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in (
            "publish",
            "announce",
            "request",
        ):
            yield from (each.value for each in node.args[:1] if isinstance(each, ast.Constant))


# --- Commands ------------------------------------------------------------------------------


@pytest.mark.behaviour("docs.commands-run")
def test_every_command_is_known() -> None:
    told = {command: block.name for block in blocks("bash") for command in block.commands}
    unknown = {command: place for command, place in told.items() if command not in COMMANDS}
    assert not unknown, f"commands that no test runs: {unknown}"
    assert not COMMANDS.keys() - told.keys(), "commands that no page names any more"


@pytest.mark.behaviour("docs.commands-run")
@pytest.mark.parametrize(
    "test", sorted({how for how in COMMANDS.values() if how not in (TOUR, AGENTS)})
)
def test_the_tests_that_run_commands_exist(test: str) -> None:
    file, _, name = test.rpartition("::")
    path = TESTS / file if file else Path(__file__)
    names = {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert name in names


@pytest.mark.behaviour("docs.commands-run", "document.what-to-expect")
def test_the_tour(tour: dict[str, str]) -> None:
    assert "memory" in tour["soorma dev --status"]
    assert "cleaned up" in tour["python manual_state.py"]
    assert '"status":"ok"' in tour["curl http://localhost:8083/health"]
    assert "workflow-planner" in tour["curl http://localhost:8082/v1/events/groups"]
    assert "for the tour" in tour["soorma events dead-letters"]
    assert "workflow-planner" in tour["soorma agents"]
    assert "has stopped" in tour["soorma dev --stop"]
    assert "before-restore" in tour["soorma restore before-the-change.db"]


@pytest.mark.behaviour("docs.commands-run", "document.what-to-expect")
def test_the_clients_output_is_as_shown(tour: dict[str, str]) -> None:
    (shown,) = (block for block in blocks("text") if block.output_of in tour)
    assert without_what_varies(shown.code) == without_what_varies(tour[shown.output_of])


@pytest.mark.behaviour("docs.commands-run", "examples.demo-crash")
def test_the_demos_output_is_as_shown(tmp_path: Path) -> None:
    """Lines of a timeline may swap places, so each is looked for by itself."""
    shown = [block for block in blocks("text") if block.output_of.startswith("tools/demo.py")]
    assert len(shown) == 2
    said = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo.py"), "--crash"],
        cwd=tmp_path,
        env=clean_environment(COLUMNS="200", NO_COLOR="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    ).stdout
    lines = without_what_varies(said).splitlines()
    for block in shown:
        missing = [
            line for line in without_what_varies(block.code).splitlines() if line not in lines
        ]
        assert not missing, (
            f"{block.name} shows what `make demo-crash` does not say: {missing}\n{said}"
        )


def without_what_varies(text: str) -> str:
    """Without ids, process numbers and times."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22,}|\b[0-9a-f]{8}\b", "ID", text)
    return re.sub(
        r"process \d+", "process N", re.sub(r"^ *\d+\.\d\d s", "T", text, flags=re.MULTILINE)
    ).strip()


@pytest.mark.behaviour("docs.commands-run")
def test_the_installation_command() -> None:
    """Only a dry run of pip: it would change this environment, which was made in that way."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--no-deps",
            "--no-build-isolation",
            "-e",
            "sdk/python",
        ],
        cwd=ROOT,
        env=clean_environment(PIP_DISABLE_PIP_VERSION_CHECK="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"soorma-core-{soorma.__version__}" in done.stdout


@pytest.mark.behaviour("docs.commands-run")
def test_the_shell_commands_of_an_environment(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", ".venv"],
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
    script = '. .venv/bin/activate && python -c "import sys; print(sys.prefix)"'
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=tmp_path, check=True, timeout=60, capture_output=True
    )
    assert Path(done.stdout.decode().strip()).resolve() == (tmp_path / ".venv").resolve()


@pytest.mark.behaviour("docs.commands-run")
def test_the_tasks_are_there() -> None:
    """`make TASK` is `sh tools/run TASK` for every task that a page names."""
    makefile, script = (
        (ROOT / "Makefile").read_text("utf-8"),
        (ROOT / "tools" / "run").read_text("utf-8"),
    )
    named = set()
    for page in pages().values():
        text = page.path.read_text("utf-8")
        named |= set(
            re.findall(r"(?:^|`)(?:make|sh tools/run) ([a-z][a-z-]*)", text, flags=re.MULTILINE)
        )
    assert named >= {"demo", "demo-crash", "test"}
    targets = {
        name
        for line in re.findall(r"^([a-z -]+):", makefile, flags=re.MULTILINE)
        for name in line.split()
    }
    tasks = set(re.findall(r"^    ([a-z-]+)(?: \|[^)]*)?\)", script, flags=re.MULTILINE))
    assert named <= targets
    assert named <= tasks
    for file in ("run", "pin.sh"):
        subprocess.run(["/bin/sh", "-n", str(ROOT / "tools" / file)], check=True, timeout=60)


# --- Links ---------------------------------------------------------------------------------


@pytest.mark.behaviour("docs.links")
@pytest.mark.parametrize("page", pages().values(), ids=id_of)
def test_every_link_leads_somewhere(page: Page) -> None:
    for line, target in page.links():
        where = f"{page.name}:{line}: {target}"
        if re.match(r"[a-z]+:", target):
            assert target in EXTERNAL, f"{where} leads out of the repository"
            continue
        file, _, anchor = target.partition("#")
        path = (page.path.parent / file).resolve() if file else page.path
        assert path.exists(), f"{where} leads nowhere"
        assert path.is_relative_to(ROOT), f"{where} leads out of the repository"
        if anchor:
            assert anchor in pages()[path].anchors(), f"{where}: there is no such heading"


@pytest.mark.behaviour("docs.links")
def test_the_paths_that_users_know() -> None:
    found = {page.name for page in pages().values()}
    assert found >= {
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "docs/MEMORY_PATTERNS.md",
        "docs/DESIGN_PATTERNS.md",
        "docs/DEPLOYMENT.md",
        "docs/OPERATIONS.md",
        "examples/README.md",
        "examples/01-hello-world/README.md",
        "examples/02-events-simple/README.md",
        "examples/04-memory-semantic/README.md",
        "examples/05-memory-working/README.md",
        "examples/06-memory-episodic/README.md",
        "sdk/python/README.md",
    }
    assert "workflowstate" in pages()[REFERENCE].anchors()


# --- Completeness --------------------------------------------------------------------------


def public(kind: type) -> set[str]:
    """The names of a class's own public methods and properties."""
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


@pytest.mark.behaviour("docs.tables")
def test_the_reference_names_every_method() -> None:
    page = pages()[REFERENCE]
    state = page.section("WorkflowState")
    headings = set(
        re.findall(r"\w+", " ".join(re.findall(r"^### (.+)$", state, flags=re.MULTILINE)))
    )
    assert public(WorkflowState) <= headings
    assert headings <= public(WorkflowState)
    memory = (
        page.section("MemoryClient")
        + page.section("Semantic memory")
        + page.section("Episodic memory")
        + page.section("Procedural memory")
    )
    inside = {"on", "plan", "scope", "collects"}
    assert {name for name in public(MemoryClient) - inside if f"`{name}(" not in memory} == set()


@pytest.mark.behaviour("docs.counted")
def test_eight_to_one_is_counted() -> None:
    page = ROOT / "examples" / "05-memory-working" / "README.md"
    section = pages()[page].section("The helper: WorkflowState")
    _, short, long = (
        [line for line in code[code.index("await ") :].splitlines() if line.strip()]
        for code in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    )
    assert (len(short), len(long)) == (3, 24)


@pytest.mark.behaviour("docs.tables")
def test_the_table_of_errors() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| (\d+) \|",
        pages()[REFERENCE].section("Errors"),
        flags=re.MULTILINE,
    )
    known = [(name, getattr(soorma.errors, name)) for name in soorma.errors.__all__]
    assert sorted(rows) == sorted((name, kind.code, str(kind.status)) for name, kind in known)


@pytest.mark.behaviour("docs.tables")
def test_the_table_of_environment_variables() -> None:
    section = pages()[REFERENCE].section("Environment variables")
    table = dict(re.findall(r"^\| `(SOORMA_\w+)` \| `?([^`|]*?)`? \|", section, flags=re.MULTILINE))
    asked = Asked()
    platform, client = Settings.from_env(asked), ClientConfig.from_env(asked)
    assert asked.names <= table.keys()
    source = "".join(path.read_text("utf-8") for path in (ROOT / "sdk/python/src").rglob("*.py"))
    assert set(re.findall(r'"(SOORMA_[A-Z_]*[A-Z])"', source)) <= table.keys()
    assert {
        name for name in table if name not in asked.names and f'"{name}"' not in source
    } == set()
    defaults: dict[str, object] = {
        "SOORMA_HOST": platform.host,
        "SOORMA_TLS_CERT": "none",
        "SOORMA_TLS_KEY": "none",
        "SOORMA_TRUSTED_PROXIES": "none",
        "SOORMA_PUBLIC_HOSTS": "none",
        "SOORMA_PORT_OFFSET": platform.port_offset,
        "SOORMA_DATABASE": platform.database,
        "SOORMA_MAY_MIGRATE": str(platform.may_migrate).lower(),
        "SOORMA_LEASE_SECONDS": f"{platform.lease:g}",
        "SOORMA_SESSION_IDLE_SECONDS": f"{platform.session_idle:g}",
        "SOORMA_OUTLIVES_PLAN": platform.outlives_plan,
        "SOORMA_PAYLOAD_CHECK": platform.payload_check,
        "SOORMA_MEMORY_SECRETS": platform.memory_secrets,
        "SOORMA_MEMORY_SECRET_PATTERNS": "none",
        "SOORMA_INDEX_BYTES": platform.index_bytes,
        "SOORMA_EMBEDDINGS": platform.embeddings,
        "SOORMA_EMBEDDINGS_MODEL": "none",
        "SOORMA_EMBEDDINGS_KEY": "none",
        "SOORMA_LOG_LEVEL": platform.log_level,
        "SOORMA_LOG_FORMAT": platform.log_format,
        "SOORMA_MEMORY_URL": client.memory_url,
        "SOORMA_EVENT_SERVICE_URL": client.events_url,
        "SOORMA_REGISTRY_URL": client.registry_url,
        "SOORMA_IDENTITY_URL": client.identity_url,
        "SOORMA_API_KEY": "none",
        "SOORMA_API_KEY_FILE": "none",
        "SOORMA_ACCESS": platform.access,
        **{f"SOORMA_OIDC_{name}": "none" for name in ("ISSUER", "AUDIENCE", "JWKS_URL")},
        "SOORMA_OIDC_ALGORITHMS": ",".join(OidcSettings("https://a.example", "a").algorithms),
        **{
            f"SOORMA_OIDC_CLAIM_{name.upper()}": getattr(ClaimTable(), name)
            for name in ClaimTable.__struct_fields__
        },
        "SOORMA_BOOTSTRAP_KEYS_FILE": "none",
        "SOORMA_FAILED_ATTEMPTS": platform.failed_attempts,
        "SOORMA_TENANT_ID": "none",
        "SOORMA_USER_ID": "none",
        "SOORMA_RETRY_SECONDS": f"{client.retry_seconds:g}",
    }
    groups = {
        "SOORMA_LIMIT_": platform.limits,
        "SOORMA_KEEP_": platform.retention,
        "SOORMA_QUOTA_": platform.quotas,
    }
    for prefix, group in groups.items():
        given = {name: getattr(group, name) for name in group.__struct_fields__}
        defaults |= {
            prefix + name.upper(): "none" if value is None else int(value)
            for name, value in given.items()
        }
    assert table == {name: str(value) for name, value in defaults.items()}


@pytest.mark.behaviour("docs.tables")
def test_the_table_of_the_commands_options() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "soorma.cli", "dev", "--help"],
        env=clean_environment(COLUMNS="200", NO_COLOR="1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    options = set(re.findall(r"^[│|* ]*(--[a-z-]+)", done.stdout, flags=re.MULTILINE)) - {"--help"}
    rows = re.findall(r"^\| .+ \|$", pages()[REFERENCE].section("The command"), flags=re.MULTILINE)
    assert set(re.findall(r"`(--[a-z-]+)`", "".join(rows))) == options | {"--follow"}


class Asked(dict[str, str]):
    """An empty environment that notes the variables read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
        self.names.add(name)
        return default
