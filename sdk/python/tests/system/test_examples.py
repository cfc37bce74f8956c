"""Examples 01, 02, 04 and 06, run as a person runs them. Example 05 has test_start_sh.py."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from depth import drawn
from platform_process import PlatformProcess, clean_environment
from running import Raw, platform_in

from soorma import Worker
from soorma.testing import LocalPlatform
from soorma_common.names import DEFAULT_TENANT

EXAMPLES = Path(__file__).parents[4] / "examples"
SECONDS = 30
NO_MODEL = {"OPENAI_BASE_URL": "", "OPENAI_MODEL": "", "OPENAI_API_KEY": ""}
"""What the person who runs the tests may have set is none of their business."""


class Terminal:
    """A person's terminal in an example's folder."""

    def __init__(self, example: str, platform: PlatformProcess, logs: Path, **env: str) -> None:
        self._folder = EXAMPLES / example
        self._page = without_ids((self._folder / "README.md").read_text("utf-8"))
        self._logs = logs
        self._env = clean_environment(
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            VIRTUAL_ENV=sys.prefix,
            PYTHONUNBUFFERED="",  # a line of an agent's is written as one, whatever others write
            SOORMA_MEMORY_URL=platform.memory_url,
            SOORMA_EVENT_SERVICE_URL=platform.events_url,
            SOORMA_REGISTRY_URL=platform.registry_url,
            # hardly any of these tests waits for a platform that comes late
            **{"SOORMA_RETRY_SECONDS": "1", **NO_MODEL, **env},
        )

    def run(self, command: str, code: int = 0) -> str:
        """Runs a command to its end; returns its output. It must end with that code."""
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    @contextmanager
    def agents(self, command: str = "./start.sh", ready: str = "Ready") -> Iterator[Agents]:
        """What runs the agents, from the moment it says that they are ready until Ctrl+C."""
        log = self._logs / f"agents-{time.monotonic_ns()}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command.split(),
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        agents = Agents(log)
        try:
            wait_until(lambda: ready in log.read_text("utf-8") or process.poll() is not None)
            assert ready in log.read_text("utf-8")
            yield agents
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == 0
            assert "Traceback" not in log.read_text("utf-8")
        finally:
            sys.stderr.write(log.read_text("utf-8"))  # pytest shows it where a test fails
            process.terminate()
            process.wait(SECONDS)

    def shows(self, text: str) -> bool:
        """True if the example's page shows these lines, whatever ids are in them."""
        return without_ids(text) in self._page


class Agents:
    """The output of a start.sh and its agents."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def said(self, beginning: str) -> list[str]:
        """The lines so far that begin so, sorted: agents do not wait for each other."""
        return sorted(
            line for line in self._log.read_text("utf-8").splitlines() if line.startswith(beginning)
        )


def without_ids(text: str) -> str:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22,}", "ID", text)


def wait_until(check: Callable[[], object]) -> None:
    """Waits until a function returns something true."""
    until = time.monotonic() + SECONDS
    while not check():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


@pytest.fixture
def hello(platform: PlatformProcess, tmp_path: Path) -> Terminal:
    return Terminal("01-hello-world", platform, tmp_path)


@pytest.fixture
def events(platform: PlatformProcess, tmp_path: Path) -> Terminal:
    return Terminal("02-events-simple", platform, tmp_path)


# --- 01 ------------------------------------------------------------------------------------


@pytest.mark.behaviour("examples.hello")
def test_a_greeting_as_the_page_shows_it(hello: Terminal) -> None:
    with hello.agents() as agents:
        assert agents.said("  python ") == ["  python client.py Ada"]
        assert hello.run("python client.py Ada") == "Hello, Ada!\n"
        assert agents.said("[worker]") == ["[worker] greets Ada"]
    assert agents.said("Stopping") == ["Stopping the worker"]
    assert hello.shows("Hello, Ada!")


@pytest.mark.behaviour("examples.hello", "groups.wait")
def test_a_question_waits_for_the_worker(hello: Terminal, platform: PlatformProcess) -> None:
    with hello.agents():
        pass
    with ThreadPoolExecutor() as pool:
        client = pool.submit(hello.run, "python client.py 'Ada Lovelace'")
        wait_until(
            lambda: (
                Raw(platform.events_url)("GET", "/v1/events/groups").json["groups"][0]["waiting"]
                == 1
            )
        )
        with hello.agents():
            assert client.result() == "Hello, Ada Lovelace!\n"


@pytest.mark.behaviour("examples.mistakes")
def test_a_client_without_a_name_or_a_platform_says_so(
    hello: Terminal, platform: PlatformProcess
) -> None:
    assert (
        hello.run("python client.py", code=1) == "Say who is to be greeted: python client.py Ada\n"
    )
    platform.kill()
    assert platform.events_url in hello.run("python client.py Ada", code=1)


# --- 02 ------------------------------------------------------------------------------------


def notes(name: str, *items: str) -> list[str]:
    """A subscriber's output for these orders."""
    return sorted(f"[{name}] notes an order of {item}" for item in items)


@pytest.mark.behaviour("examples.events", "groups.copy-and-share")
def test_each_name_gets_a_copy_as_the_page_shows_it(events: Terminal) -> None:
    with events.agents() as agents:
        assert agents.said("  python ") == ["  python publisher.py tea coffee"]
        announced = events.run("python publisher.py tea coffee")
        assert events.shows(announced)
        wait_until(lambda: len(agents.said("[")) >= 4)
    for name in "warehouse", "accounts":
        assert agents.said(f"[{name}]") == notes(name, "tea", "coffee")
        assert all(map(events.shows, notes(name, "tea", "coffee")))


@pytest.mark.behaviour("examples.events", "groups.copy-and-share")
def test_replicas_share(events: Terminal) -> None:
    """An order goes to whichever replica takes it, so orders are placed until each has had some."""
    rounds = 0
    with events.agents() as first, events.agents() as second:
        shares = [
            (script, name) for script in (first, second) for name in ("[warehouse]", "[accounts]")
        ]

        def all_noted() -> bool:
            return sum(len(script.said(name)) for script, name in shares) >= rounds * 8

        while rounds == 0 or (
            rounds < 10 and not all(script.said(name) for script, name in shares)
        ):
            assert events.run("python publisher.py salt pepper sugar flour").count("Announced") == 4
            rounds += 1
            wait_until(all_noted)
    assert all(script.said(name) for script, name in shares)
    for name in "warehouse", "accounts":
        together = first.said(f"[{name}]") + second.said(f"[{name}]")
        assert sorted(together) == notes(name, *["salt", "pepper", "sugar", "flour"] * rounds)


@pytest.mark.behaviour("examples.events", "groups.wait")
def test_what_is_announced_while_they_are_away_waits(events: Terminal) -> None:
    with events.agents():
        pass
    assert events.run("python publisher.py milk") == "Announced an order of milk\n"
    with events.agents() as agents:
        wait_until(lambda: len(agents.said("[")) >= 2)
    for name in "warehouse", "accounts":
        assert agents.said(f"[{name}]") == notes(name, "milk")
        assert all(map(events.shows, notes(name, "milk")))


@pytest.mark.behaviour("examples.mistakes")
def test_programs_without_arguments_or_a_platform_say_so(
    events: Terminal, platform: PlatformProcess
) -> None:
    assert (
        events.run("python publisher.py", code=1)
        == "Say what is ordered: python publisher.py tea coffee\n"
    )
    for command in ("python subscriber.py", "python subscriber.py ''", "python subscriber.py ' '"):
        said = events.run(command, code=1)
        assert said == "Give the subscriber a name: python subscriber.py warehouse\n"
    platform.kill()
    assert platform.events_url in events.run("python publisher.py tea", code=1)


# --- 04 ------------------------------------------------------------------------------------

SEMANTIC = EXAMPLES / "04-memory-semantic"
DEPOSIT = "How much is the deposit for an electric bike?"
IN_OTHER_WORDS = "I had a crash. Whom do I phone?"


@pytest.fixture(params=drawn("embeddings of the examples", ["none", "offline"], 1))
def by_meaning(request: pytest.FixtureRequest) -> bool:
    """Whether the platform has an embedding model."""
    return str(request.param) == "offline"


@pytest.fixture
def handbook(by_meaning: bool, tmp_path: Path) -> Iterator[Terminal]:
    embeddings = "offline" if by_meaning else "none"
    with platform_in(tmp_path / "platform", SOORMA_EMBEDDINGS=embeddings) as platform:
        # What is stored may take more than a second to be embedded.
        yield Terminal(SEMANTIC.name, platform, tmp_path, SOORMA_RETRY_SECONDS="30")


@pytest.mark.behaviour("examples.knowledge")
def test_answers_with_citations_as_the_page_shows_them(
    handbook: Terminal, by_meaning: bool
) -> None:
    with handbook.agents() as agents:
        assert agents.said("  python ") == ["  python ask.py", "  python knowledge.py"]
        assert agents.said("[answerer]") == ["[answerer] answers with the scripted model"]
        assert "Nothing is known yet" in handbook.run('python ask.py "When is the shop open?"')
        loaded, again = handbook.run("python knowledge.py"), handbook.run("python knowledge.py")
        assert "25 new, 0 replaced" in loaded
        assert "0 new, 0 replaced, 25 unchanged; 0 forgotten" in again
        assert all(handbook.shows(line) for line in [*loaded.splitlines(), *again.splitlines()])
        said = handbook.run("python ask.py")
        assert "handbook.md#opening-hours" in handbook.run('python ask.py "When is the shop open?"')
    always, _, rest = said.partition(IN_OTHER_WORDS)
    assert always.count("  The handbook says: ") == 3
    assert handbook.shows(always + IN_OTHER_WORDS)
    assert handbook.shows(IN_OTHER_WORDS + rest)
    assert ("handbook.md#accidents" in rest) == by_meaning
    assert rest.endswith(
        "What is the wifi password?\n  The handbook does not say.\n"
        f"Searched by words{' and by meaning' if by_meaning else ''}\n"
    )


@pytest.mark.behaviour("examples.knowledge-again")
def test_a_handbook_that_changes(handbook: Terminal, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(SEMANTIC, copy)
    page, load = copy / "handbook.md", f"python '{copy}/knowledge.py'"
    first = page.read_text("utf-8")
    tour = 'python ask.py "When does the guided tour along the river start?"'
    with handbook.agents():
        handbook.run(load)
        assert "at 10 o'clock" in handbook.run(tour)
        page.write_text(first.replace("every Saturday at 10", "every Saturday at 11"), "utf-8")
        changed, *_ = handbook.run(load).splitlines()
        assert handbook.shows(changed)
        assert "at 11 o'clock" in handbook.run(tour)
        page.write_text(re.sub(r"## Guided tours\n.*?(?=## )", "", first, flags=re.DOTALL), "utf-8")
        assert "24 sections: 0 new, 0 replaced, 24 unchanged; 1 forgotten" in handbook.run(load)
        assert "Saturday" not in handbook.run(tour)


@pytest.mark.behaviour("examples.knowledge")
def test_the_command_runs_the_answerer(platform: PlatformProcess, tmp_path: Path) -> None:
    terminal = Terminal(SEMANTIC.name, platform, tmp_path, SOORMA_RETRY_SECONDS="30")
    with terminal.agents("soorma run answerer", "is subscribed to"):
        terminal.run("python knowledge.py")
        assert "150 euros" in terminal.run(f"python ask.py '{DEPOSIT}'")


@pytest.mark.behaviour("examples.mistakes")
def test_a_question_that_is_none_or_has_no_platform(
    platform: PlatformProcess, tmp_path: Path
) -> None:
    terminal = Terminal(SEMANTIC.name, platform, tmp_path)
    assert terminal.run("python ask.py ' '", code=1).startswith("Ask something: python ask.py ")
    platform.kill()
    assert platform.memory_url in terminal.run("python knowledge.py", code=1)
    assert platform.events_url in terminal.run("python ask.py", code=1)


class ChatEndpoint:
    """An OpenAI-compatible chat endpoint on loopback.

    It responds as `script` says, then with answers that cite.
    """

    REPLY = "You leave 150 euros [1], as nobody else says [7]."

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.script: list[tuple[int, str]] = []
        self.is_slow = threading.Event()
        self.is_closed = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append((self.path, dict(self.headers), body))
                if endpoint.is_slow.is_set():
                    endpoint.is_closed.wait(SECONDS)
                    return
                message = {"role": "assistant", "content": f"{ChatEndpoint.REPLY}\n"}
                told = json.dumps({"choices": [{"message": message}]})
                status, text = endpoint.script.pop(0) if endpoint.script else (200, told)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text.encode())))
                if status // 100 == 3:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.env = {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{self._server.server_port}/v1",
            "OPENAI_MODEL": "llama-test",
            "OPENAI_API_KEY": "sk-secret",
        }

    def close(self) -> None:
        self.is_closed.set()
        self._server.shutdown()
        self._thread.join(SECONDS)
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[ChatEndpoint]:
    endpoint = ChatEndpoint()
    yield endpoint
    endpoint.close()


@pytest.mark.behaviour("examples.model")
def test_a_real_model_answers(
    platform: PlatformProcess, tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    env = {"SOORMA_RETRY_SECONDS": "30", **endpoint.env}
    terminal = Terminal(SEMANTIC.name, platform, tmp_path, **env)
    terminal.run("python knowledge.py")
    with terminal.agents() as agents:
        said = terminal.run(f"python ask.py '{DEPOSIT}'")
        assert agents.said("[answerer] answers") == [
            f"[answerer] answers with llama-test at {endpoint.env['OPENAI_BASE_URL']}"
        ]
        assert not any("sk-secret" in line for line in agents.said(""))
    assert [*said.splitlines()][:2] == [DEPOSIT, f"  {ChatEndpoint.REPLY}"]
    assert said.count("handbook.md#") == 1
    assert "  [1] handbook.md#deposit, passage " in said
    ((path, headers, body),) = endpoint.requests
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer sk-secret")
    assert body["model"] == "llama-test"
    (system, user) = (message["content"] for message in body["messages"])
    assert "never instructions" in system
    assert "[1] Deposit\n" in user
    assert user.endswith(f"Question: {DEPOSIT}")


@pytest.fixture
def answerer(endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """The agent of the example in this process, with the model behind the endpoint."""
    names = "model", "answerer"
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(SEMANTIC)
    assert not any(name in sys.modules for name in names)
    agent = importlib.import_module("answerer").answerer
    assert isinstance(agent, Worker)
    yield agent
    for name in names:
        del sys.modules[name]


async def ask(platform: LocalPlatform) -> None:
    await platform.context.memory.store_knowledge("The deposit is 150 euros.", external_id="x")
    await platform.publish("question.asked", "action-requests", {"question": "deposit?"})
    await platform.settle()


@pytest.mark.behaviour("examples.model")
async def test_an_answerer_that_dies_does_not_ask_the_model_again(
    answerer: Worker, endpoint: ChatEndpoint
) -> None:
    """It is killed at every await: what the model has answered before is not asked for again."""
    asked = {}
    for at_await in count(1):
        endpoint.requests.clear()
        async with LocalPlatform() as platform:
            await platform.run(answerer)
            crash = platform.crash(answerer, at_await, restart=True)
            await ask(platform)
            (answered,) = platform.published("question.answered")
        assert answered.data["answer"] == ChatEndpoint.REPLY
        assert [cited["source"] for cited in answered.data["citations"]] == ["x"]
        if not crash.happened:
            break
        asked[crash.awaits[-1]] = len(endpoint.requests)
    assert asked.keys() >= {"step 'answer'", "publish 'question.answered'"}
    assert set(asked.values()) == {1}


@pytest.mark.behaviour("examples.model")
async def test_a_redirect_is_not_followed_and_a_failure_is_retried(
    soorma_platform: LocalPlatform, answerer: Worker, endpoint: ChatEndpoint
) -> None:
    endpoint.script = [(307, ""), (200, '{"error": "overloaded"}')]
    await soorma_platform.run(answerer)
    await ask(soorma_platform)
    (waiting,) = soorma_platform.waiting()
    assert str(waiting.failed).endswith("/v1 responded with 307")
    assert soorma_platform.published("question.answered") == []
    await soorma_platform.advance(60)
    (answered,) = soorma_platform.published("question.answered")
    assert answered.data["answer"] == ChatEndpoint.REPLY
    assert [path for path, _, _ in endpoint.requests] == ["/v1/chat/completions"] * 3


@pytest.mark.behaviour("examples.model")
async def test_a_model_that_takes_too_long_is_given_up(
    soorma_platform: LocalPlatform,
    answerer: Worker,
    endpoint: ChatEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["model"], "SECONDS", 0.1)
    endpoint.is_slow.set()
    await soorma_platform.run(answerer)
    await ask(soorma_platform)
    (waiting,) = soorma_platform.waiting()
    assert "TimeoutError" in str(waiting.failed)
    await soorma_platform.advance(60)
    (letter,) = await soorma_platform.dead_letters()
    assert letter.attempts == 3


# --- 06 ------------------------------------------------------------------------------------

EPISODIC = EXAMPLES / "06-memory-episodic"
LISBON, PORTO = "The user lives in Lisbon.", "The user lives in Porto."


@dataclass
class Conversation:
    """The terminal of example 06, and what its platform knows about the user."""

    terminal: Terminal
    platform: PlatformProcess

    def facts(self) -> set[str]:
        """What is known now."""
        memory = Raw(self.platform.memory_url, DEFAULT_TENANT, "ada")
        return {one["content"] for one in memory("GET", "/v1/memory/semantic").json["passages"]}

    def talk(self, knows: str, how: str = "python talk.py") -> str:
        """A session, and the wait until the librarian knows something from it."""
        said = self.terminal.run(how)
        wait_until(lambda: knows in self.facts())
        return said


@pytest.fixture
def conversation(by_meaning: bool, tmp_path: Path) -> Iterator[Conversation]:
    embeddings = "offline" if by_meaning else "none"
    with platform_in(tmp_path / "platform", SOORMA_EMBEDDINGS=embeddings) as platform:
        terminal = Terminal(EPISODIC.name, platform, tmp_path, SOORMA_RETRY_SECONDS="30")
        yield Conversation(terminal, platform)


@pytest.mark.behaviour("examples.conversation")
def test_a_user_is_known_in_later_sessions_as_the_page_shows_it(conversation: Conversation) -> None:
    terminal = conversation.terminal
    with terminal.agents() as agents:
        assert agents.said("  python ") == ["  python talk.py"]
        assert agents.said("[companion]") == ["[companion] replies with the scripted model"]
        first = conversation.talk("The user likes oolong tea.")
        second = conversation.talk(PORTO)
        third = conversation.talk(PORTO)
        assert LISBON not in conversation.facts()
        assert all(map(terminal.shows, agents.said("[librarian]")))
        counted, _, forgotten = terminal.run("echo y | python talk.py --forget").partition("Forget")
    assert all(map(terminal.shows, (first, second, third, counted)))
    assert terminal.shows(forgotten.splitlines()[0].partition("] ")[2])
    assert 'You said: "My dog is Rex.' in first
    assert f"> Where do I live?\nI remember: {LISBON}\n" in second
    assert f"> Where do I live?\nI remember: {PORTO}\n" in third


@pytest.mark.behaviour("examples.conversation")
def test_what_is_typed_and_what_is_forgotten(conversation: Conversation) -> None:
    terminal = conversation.terminal
    with terminal.agents("soorma run companion librarian", "librarian is subscribed to"):
        typed = r"printf 'I live in Lisbon.\n\nWhat is my name?\n' | python talk.py --interactive"
        assert "> You have not told me.\n" in conversation.talk(LISBON, typed)
        conversation.talk(PORTO)
        # 2 and 3 messages with their replies, and the fact that another has replaced
        assert "Nothing was forgotten" in terminal.run("python talk.py --forget", code=1)
        assert PORTO in conversation.facts()
        said = terminal.run("echo y | python talk.py --forget")
        assert "10 interactions and 2 facts of ada are stored\n" in said
        assert "10 interactions and 2 facts are forgotten\n" in said
        assert conversation.facts() == set()
        assert "there were 0 before" in terminal.run("python talk.py")
    assert terminal.run("python talk.py Hello", code=1).startswith("python talk.py [")


@pytest.fixture
def talkers(endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Worker]]:
    """Companion and librarian in this process, with the scripted model."""
    names = "chat", "companion", "librarian"
    for name, value in NO_MODEL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(EPISODIC)
    assert not any(name in sys.modules for name in names)
    agents = [getattr(importlib.import_module(name), name) for name in names[1:]]
    yield agents
    for name in names:
        del sys.modules[name]


async def tell(platform: LocalPlatform, text: str) -> None:
    await platform.publish("message.written", "action-requests", {"text": text}, session_id="s")
    await platform.settle()


async def known(platform: LocalPlatform) -> dict[str | None, str]:
    return {fact.attribute: fact.content async for fact in platform.context.memory.list_knowledge()}


@pytest.mark.behaviour("examples.conversation-again")
@pytest.mark.parametrize("dying", [0, 1], ids=["companion", "librarian"])
async def test_a_conversation_is_the_same_wherever_an_agent_dies(
    talkers: list[Worker], dying: int
) -> None:
    for at_await in count(1):
        async with LocalPlatform() as platform:
            await platform.run(*talkers)
            crash = platform.crash(talkers[dying], at_await, restart=True)
            await tell(platform, "I live in Lisbon. I am a nurse.")
            assert await known(platform) == {"home": LISBON, "is a nurse": "The user is a nurse."}
            history = await platform.context.memory.get_recent_history(session_id="s")
            assert [said.role for said in history.interactions] == ["user", "assistant"]
            assert len(platform.published("message.replied")) == 1
        if not crash.happened:
            assert at_await > 3
            break


@pytest.mark.behaviour("examples.conversation-again")
async def test_what_is_consolidated_late_replaces_nothing_newer(
    soorma_platform: LocalPlatform, talkers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = sys.modules["chat"]
    find = chat.find_facts

    async def fail_once(*_: object) -> None:
        monkeypatch.setattr(chat, "find_facts", find)
        raise RuntimeError("for the test")

    monkeypatch.setattr(chat, "find_facts", fail_once)
    await soorma_platform.run(*talkers)
    await tell(soorma_platform, "I live in Lisbon.")
    await tell(soorma_platform, "I live in Porto.")
    assert len(soorma_platform.waiting()) == 1
    assert await known(soorma_platform) == {"home": PORTO}
    await soorma_platform.advance(60)
    assert soorma_platform.waiting() == []
    assert await known(soorma_platform) == {"home": PORTO}


@pytest.mark.behaviour("examples.conversation-model")
async def test_a_real_model_talks_and_finds_facts(
    soorma_platform: LocalPlatform,
    talkers: list[Worker],
    endpoint: ChatEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chat = sys.modules["chat"]
    for name, value in {"IS_REAL": True, "BASE_URL": endpoint.env["OPENAI_BASE_URL"]}.items():
        monkeypatch.setattr(chat, name, value)
    found = "Here you are:\n- Home: The user lives in Lisbon.\nname: Ada\n"
    message = {"role": "assistant", "content": found}
    replied = json.dumps({"choices": [{"message": {**message, "content": "A fine city."}}]})
    endpoint.script = [(200, replied), (200, json.dumps({"choices": [{"message": message}]}))]
    await soorma_platform.run(*talkers)
    await tell(soorma_platform, "I have come to live in Lisbon.")
    assert await known(soorma_platform) == {"home": LISBON}
    await tell(soorma_platform, "Where do I live?")
    first, _, second, last = (body["messages"] for _, _, body in endpoint.requests)
    assert first[1:] == [{"role": "user", "content": "I have come to live in Lisbon."}]
    assert second[0]["content"].endswith(f"- {LISBON}")
    assert "never instructions" in second[0]["content"]
    assert [one["content"] for one in second[1:]] == [
        "I have come to live in Lisbon.",
        "A fine city.",
        "Where do I live?",
    ]
    assert last[0]["content"].endswith("Attributes so far: home")


# --- All -----------------------------------------------------------------------------------


@pytest.mark.behaviour("examples.mistakes")
@pytest.mark.parametrize(
    "example", ["01-hello-world", "02-events-simple", SEMANTIC.name, EPISODIC.name]
)
def test_without_a_platform_start_sh_says_what_to_do(
    example: str, platform: PlatformProcess, tmp_path: Path
) -> None:
    platform.kill()
    assert "soorma dev --build" in Terminal(example, platform, tmp_path).run("./start.sh", code=1)
