"""`soorma memory` as people and scripts use it: search, add, list, show, update, forget one."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import cli_terminal
import pytest
from cli_shell import eventually
from cli_terminal import FEW_SECONDS, SOORMA, Terminal, at_terminal, rows
from platform_process import PlatformProcess
from running import WAIT, Raw, platform_in, unique

from soorma.cli.dev import services
from soorma.cli.exits import Exit
from soorma_common.names import DEFAULT_USER

README = Path(__file__).parents[2] / "README.md"
DOGS = "Dogs travel free of charge in all carriages."
TRAIN = "The night train to Lund leaves from platform 4."
WORDS_ALONE = "note: it went by words alone: no embedding model is in use, or it does not respond"

COMMANDS = [command for command in cli_terminal.COMMANDS if command[0] == "memory"]
OF_SESSIONS = [
    ("memory", "sessions", "list"),
    ("memory", "sessions", "show", "session"),
    ("memory", "sessions", "name", "session", "name"),
    ("memory", "sessions", "export", "session"),
    ("memory", "sessions", "delete", "session", "--yes"),
]
OF_SKILLS = [
    ("memory", "skills", "list"),
    ("memory", "skills", "show", "name"),
    ("memory", "skills", "versions", "name"),
    ("memory", "skills", "relevant", "agent", "context"),
    ("memory", "skills", "add", "name", "text"),
    ("memory", "skills", "import", "refund"),
    ("memory", "skills", "export", "name", "nowhere"),
    ("memory", "skills", "activate", "name"),
    ("memory", "skills", "roll-back", "name"),
    ("memory", "skills", "retire", "name"),
    ("memory", "skills", "outcome", "name", "1", "--succeeded"),
    ("memory", "skills", "forget", "name", "--yes"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """A platform that searches by words, whatever is installed."""
    folder = tmp_path_factory.mktemp("platform")
    with platform_in(folder, SOORMA_EMBEDDINGS="none") as platform:
        yield platform


def add(terminal: Terminal, *arguments: str, **more: Any) -> str:
    """Stores a passage; returns its id."""
    return terminal.run("memory", "add", *arguments, **more).stdout.strip()


def found(terminal: Terminal, *arguments: str) -> list[str]:
    """The contents that a search has found, the best first."""
    hits = terminal.json("memory", "search", *arguments)["hits"]
    return [hit["content"] for hit in hits]


def listed(terminal: Terminal, *arguments: str) -> list[str]:
    """The contents of all passages, in the order they were stored."""
    passages = terminal.json("memory", "list", *arguments)["passages"]
    return [passage["content"] for passage in passages]


def shown(terminal: Terminal, passage_id: str) -> dict[str, str]:
    """What `show` prints before the text, by its titles."""
    said = terminal.run("memory", "show", passage_id).stdout.partition("\n\n")[0]
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in said.splitlines())


# --- Search ------------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-search")
def test_what_is_found_is_a_table_or_the_services_response(terminal: Terminal) -> None:
    dogs = add(terminal, DOGS, "--source", "handbook", "--external-id", "faq-1")
    add(terminal, TRAIN)
    heading, hit = rows(terminal.run("memory", "search", "dogs free of charge").stdout)
    assert heading == ["Score", "Passage", "Source", "External id", "Id", "Stored"]
    assert hit[:5] == ["1.00", DOGS, "handbook", "faq-1", dogs]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", hit[5])

    raw = Raw(terminal.platform.memory_url, terminal.tenant, DEFAULT_USER)
    answer = raw("POST", "/v1/memory/semantic/search", {"query": "night train"})
    assert terminal.json("memory", "search", "night train") == answer.json
    assert answer.json["hits"][0]["content"] == TRAIN


@pytest.mark.behaviour("command.memory-search")
def test_nothing_found_is_told_from_nothing_stored(terminal: Terminal) -> None:
    done = terminal.run("memory", "search", "dogs")
    assert (done.stdout, done.stderr) == (
        "",
        "note: nothing was ever stored for this user of this tenant, nor publicly\n",
    )
    assert terminal.json("memory", "search", "dogs")["is_known"] is False

    add(terminal, DOGS, "--public")
    alone = terminal.run("memory", "search", "dogs", "--no-public").stderr
    assert alone == "note: nothing was ever stored for this user of this tenant\n"
    done = terminal.run("memory", "search", "the museum")
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "note: nothing good enough was found; --min-score 0 shows the best all the same",
        WORDS_ALONE,
    ]
    done = terminal.run("memory", "search", "the museum", "--mode", "text", "--min-score", "0")
    assert done.stderr == "note: nothing good enough was found\n"
    assert found(terminal, "the museum") == []


@pytest.mark.behaviour("command.memory-search")
def test_what_limits_a_search(terminal: Terminal) -> None:
    add(terminal, "Tickets for dogs cost 3 crowns.", "--tag", "fares", "--tag", "old",
        "--source", "a", "--valid-until", "2020-01-01T00:00:00Z")  # fmt: skip
    add(terminal, "Tickets for dogs cost 4 crowns.", "--tag", "fares", "--source", "b",
        "--metadata", '{"page": 7}')  # fmt: skip
    add(terminal, "Tickets for dogs cost 5 crowns abroad.", "--public")
    query = ("tickets for dogs",)
    cost4, cost5 = "Tickets for dogs cost 4 crowns.", "Tickets for dogs cost 5 crowns abroad."
    assert sorted(found(terminal, *query)) == [cost4, cost5]
    assert len(found(terminal, *query, "--limit", "1")) == 1
    assert found(terminal, *query, "--tag", "fares") == [cost4]
    assert found(terminal, *query, "--tag", "fares", "--tag", "old") == []
    assert found(terminal, *query, "--source", "b", "--mode", "text") == [cost4]
    assert found(terminal, *query, "--no-public") == [cost4]
    assert found(terminal, *query, "--metadata", '{"page": 7}') == [cost4]
    assert sorted(found(terminal, *query, "--since", "2019-06-01T00:00:00Z")) == [cost4, cost5]
    assert found(terminal, *query, "--until", "2019-06-01T00:00:00Z") == []
    assert len(found(terminal, *query, "--max-tokens", "10")) == 1
    assert found(terminal, "dogs at the museum") == []
    assert sorted(found(terminal, "dogs at the museum", "--min-score", "0")) == [cost4, cost5]
    then = found(terminal, *query, "--as-of", "2019-06-01T00:00:00Z", "--source", "a")
    assert then == ["Tickets for dogs cost 3 crowns."]
    assert found(terminal, *query, "--known-at", "2019-06-01T00:00:00+02:00") == []


@pytest.mark.behaviour("command.memory-search")
def test_a_passage_is_one_short_line_for_any_terminal(terminal: Terminal) -> None:
    wild = "Dogs\n\tand \x1b[31mcats\x1b[0m \u202etravel " + "free " * 100
    long = "A first part about the sea. " * 200 + "Whales travel alone. " + "The sea again. " * 200
    for text in (wild, long):
        add(terminal, "-", stdin=text.encode())
    for command in (("search", "dogs and cats travel"), ("list", "--limit", "2")):
        said = terminal.run("memory", *command).stdout
        assert "\x1b" not in said
        assert "\u202e" not in said
        line = next(line for line in said.splitlines() if "Dogs" in line)
        assert r"Dogs and \u001b[31mcats\u001b[0m \u202etravel free" in line
        assert re.search(r"free fr?e?e?…", line)
    (hit,) = rows(terminal.run("memory", "search", "whales").stdout)[1:]
    assert hit[1].startswith("…"), "a part within the passage"
    assert len(hit[1]) == 100
    passage_id = terminal.json("memory", "search", "dogs")["hits"][0]["id"]
    said = terminal.run("memory", "show", passage_id).stdout
    assert "\n\nDogs\n\\u0009and \\u001b[31mcats" in said


class Embeddings:
    """A model behind an address; texts with `later` wait for their time. It can be ill."""

    def __init__(self) -> None:
        self.time = threading.Event()
        self.is_ill = False
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if any("later" in text for text in body["input"]):
                    model.time.wait(WAIT)
                data = [
                    {"index": number, "embedding": [1.0, float("dog" in text.lower()), 0.5]}
                    for number, text in enumerate(body["input"])
                ]
                answer = json.dumps({"data": data}).encode()
                self.send_response(500 if model.is_ill else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.time.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.behaviour("command.memory-search")
def test_how_it_was_searched_is_told(tmp_path: Path) -> None:
    with (
        Embeddings() as model,
        platform_in(
            tmp_path / "platform",
            SOORMA_EMBEDDINGS=model.address,
            SOORMA_EMBEDDINGS_MODEL="a-model",
        ) as platform,
    ):
        terminal = Terminal(platform, tmp_path)
        add(terminal, DOGS)
        assert terminal.run("memory", "search", "dogs", "--wait", "3").stderr == ""
        assert terminal.json("memory", "search", "dogs", "--mode", "vector")["mode"] == "vector"

        add(terminal, "Dogs come later.")
        told = terminal.run("memory", "search", "dogs").stderr
        assert told == (
            "note: 1 part is not embedded yet, and went by words; --wait SECONDS waits for that\n"
        )
        assert terminal.run("memory", "search", "dogs", "--mode", "text").stderr == ""
        late = terminal.run(
            "memory", "search", "dogs", "--wait", "0.1", exits=Exit.UNAVAILABLE,
        )  # fmt: skip
        assert "not all that is stored is embedded after 0.1 s" in late.stderr
        model.time.set()
        assert terminal.run("memory", "search", "dogs", "--wait", "3").stderr == ""

        model.is_ill = True
        assert terminal.run("memory", "search", "dogs travel").stderr == f"{WORDS_ALONE}\n"


# --- Add ---------------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-add")
def test_a_text_from_an_argument_a_file_and_standard_input(terminal: Terminal) -> None:
    file = terminal.folder / "text.txt"
    file.write_bytes("\ufeffFrom a file:\r\nzwei Zeilen ü".encode())
    first = add(terminal, "From an argument")
    second = terminal.json("memory", "add", "--file", str(file))["id"]
    third = add(terminal, "-", stdin=b"From standard input\n")
    assert listed(terminal) == [
        "From an argument",
        "From a file:\r\nzwei Zeilen ü".replace("\r", ""),
        "From standard input",
    ]
    ids = [passage["id"] for passage in terminal.json("memory", "list")["passages"]]
    assert ids == [first, second, third]
    assert add(terminal, "From an argument") == first, "an equal one counts one more"
    assert shown(terminal, first)["Stated"] == "2 times"
    assert add(terminal, "--", "-7 degrees are too cold for dogs")


@pytest.mark.behaviour("command.memory-add", "command.memory-passages")
def test_a_passage_keeps_all_that_it_is_given(terminal: Terminal) -> None:
    older = add(terminal, "Dogs paid half.", "--subject", "dogs", "--attribute", "fare")
    given = (
        "--external-id", "faq-1", "--alias", "dog rule", "--alias", "pets", "--tag", "fares",
        "--tag", "dogs", "--source", "handbook", "--metadata", '{"page": 7, "ü": [null]}',
        "--valid-from", "2020-01-01T00:00:00Z", "--valid-until", "2090-01-01T00:00:00+01:00",
        "--subject", "dogs", "--attribute", "fare",
    )  # fmt: skip
    passage_id = add(terminal, DOGS, *given)
    passage = terminal.json("memory", "show", passage_id)
    assert {name: passage[name] for name in passage if not name.endswith("_at")} == {
        "id": passage_id,
        "content": DOGS,
        "revision": 1,
        "trust": "application",
        "external_id": "faq-1",
        "aliases": ["dog rule", "pets"],
        "tags": ["fares", "dogs"],
        "metadata": {"page": 7, "ü": [None]},
        "source": "handbook",
        "valid_from": "2020-01-01T00:00:00Z",
        "valid_until": "2089-12-31T23:00:00Z",
        "subject": "dogs",
        "attribute": "fare",
        "cause": {},
    }
    told = shown(terminal, passage_id)
    assert {name: told[name] for name in ("Aliases", "Tags", "Metadata", "Found by", "Closed")} == {
        "Aliases": "dog rule, pets",
        "Tags": "fares, dogs",
        "Metadata": '{"page":7,"ü":[null]}',
        "Found by": "its user",
        "Closed": "-",
    }
    assert terminal.run("memory", "show", passage_id).stdout.endswith(f"\n\n{DOGS}\n")
    assert shown(terminal, older)["Closed by"] == passage_id
    newer = add(terminal, "Dogs pay twice.", "--supersedes", passage_id, "--public")
    assert shown(terminal, passage_id)["Closed by"] == newer
    assert shown(terminal, newer)["Found by"] == "all users of the tenant"


@pytest.mark.behaviour("command.memory-add", "command.says-what-is-wrong")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give one of TEXT, --file and --lines"),
        (("text", "--lines", "f"), "give one of TEXT, --file and --lines"),
        (("--file", "nothing.txt"), "does not exist"),
        (("--file", "."), "is a directory"),
        (("--file", "latin"), "latin is no UTF-8"),
        (("--lines", "nothing.jsonl"), "nothing.jsonl cannot be read: No such file"),
        (("--lines", "."), ". cannot be read: Is a directory"),
        (("--lines", "latin", "--tag", "t"), "no other option describes them"),
        (("",), "the passage is empty"),
        (("\udcff",), "lone surrogate"),
        (("text", "--metadata", "page 7"), """as '{"page": 7}'"""),
        (("text", "--metadata", "[7]"), """it is an object, as '{"page": 7}'"""),
        (("text", "--tag", ""), "tags must have 1 to 255 characters"),
        (("text", "--alias", ".."), "aliases must not be"),
        (("text", "--valid-from", "tomorrow"), "valid_from must be RFC 3339"),
        (("text", "--subject", "dogs"), "subject and attribute are given together"),
        (("text", "--tga", "t"), "--tga"),
        (("text", "more"), "more"),
    ],
)
def test_what_cannot_be_added_is_told(
    terminal: Terminal, arguments: tuple[str, ...], told: str
) -> None:
    (terminal.folder / "latin").write_bytes(b"\xe9")
    done = terminal.run("memory", "add", *arguments, exits=Exit.USAGE)
    assert told in done.stderr
    assert done.stdout == ""
    assert listed(terminal) == []


@pytest.mark.behaviour("command.memory-add", "command.says-what-is-wrong")
def test_what_the_platform_does_not_take(terminal: Terminal) -> None:
    large = terminal.run("memory", "add", "-", stdin=b"x" * 1_100_000, exits=Exit.REFUSED)
    assert "1,048,576" in large.stderr
    missing = terminal.run("memory", "add", DOGS, "--supersedes", "nothing", exits=Exit.NOT_FOUND)
    assert "there is no passage 'nothing' that it is to supersede" in missing.stderr
    terminal.run("memory", "add", "-", stdin=b"\xff", exits=Exit.USAGE)
    assert listed(terminal) == []


# --- Lines -------------------------------------------------------------------------------------


def lines_of(terminal: Terminal, *lines: object) -> str:
    """The name of a JSON Lines file with these values."""
    file = terminal.folder / "passages.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(file)


@pytest.mark.behaviour("command.memory-lines")
def test_a_passage_in_each_line(terminal: Terminal) -> None:
    text = b'\xef\xbb\xbf"one"\r\n\n  {"content": "two \\u00fc", "tags": ["t"], "metadata": null}\n'
    done = terminal.run("memory", "add", "--lines", "-", stdin=text + b'"one"')
    assert done.stdout == "Stored 3 passages\n"
    assert done.stderr == "note: 1 of them equal another one, and were counted with it\n"
    assert listed(terminal) == ["one", "two ü"]
    file = lines_of(terminal, "three", {"content": "four", "source": "s", "is_public": True})
    ids = terminal.json("memory", "add", "--lines", file)["ids"]
    assert [shown(terminal, one)["Source"] for one in ids] == ["-", "s"]
    assert terminal.run("memory", "add", "--lines", lines_of(terminal)).stdout == (
        "Stored 0 passages\n"
    )


@pytest.mark.behaviour("command.memory-lines", "command.memory-passages")
def test_as_many_as_there_are(terminal: Terminal) -> None:
    texts = [f"passage {number}" for number in range(2345)]
    done = terminal.run("memory", "add", "--lines", lines_of(terminal, *texts))
    assert (done.stdout, done.stderr) == ("Stored 2,345 passages\n", "")
    assert listed(terminal) == texts, "however many pages"
    assert listed(terminal, "--limit", "2") == texts[-2:]
    done = terminal.run("memory", "list")
    assert done.stderr == "note: the newest 100 of 2345; --limit 2345 shows all\n"
    heading, *table = rows(done.stdout)
    assert heading == ["Id", "Passage", "Tags", "Source", "External id", "Stored"]
    assert [row[1] for row in table] == texts[:-101:-1], "the newest first"
    assert len(rows(terminal.run("memory", "list", "--limit", "2345").stdout)) == 1 + 2345


@pytest.mark.behaviour("command.memory-lines")
def test_more_than_one_commit_takes(terminal: Terminal) -> None:
    # 14 MB of text; the control characters are 84 MB of JSON
    texts = [f"{number} " + sign * 1_000_000 for number, sign in enumerate("x" * 8 + "\1" * 6)]
    file = lines_of(terminal, *texts)
    ids = terminal.json("memory", "add", "--lines", file)["ids"]
    assert [terminal.json("memory", "show", one)["content"] for one in ids] == texts


@pytest.mark.behaviour("command.memory-lines", "command.says-what-is-wrong")
@pytest.mark.parametrize(
    ("line", "told", "code"),
    [
        ("no json", "it is not JSON that can be kept", Exit.USAGE),
        ('"\\ud800"', "it is not JSON that can be kept", Exit.USAGE),
        ("7", "it is neither a text nor a passage: Expected `str | object`", Exit.USAGE),
        ("null", "it is neither a text nor a passage", Exit.USAGE),
        ('{"text": "x"}', "unknown field `text`", Exit.USAGE),
        ('{"tags": []}', "missing required field `content`", Exit.USAGE),
        ('{"content": "x", "tags": null}', "at `$.tags`", Exit.USAGE),
        ('{"content": "x", "tags": [""]}', "tags must have 1 to 255 characters", Exit.USAGE),
        ('{"content": "x", "metadata": [1]}', "metadata is an object", Exit.USAGE),
        ('{"content": "x", "valid_from": 5}', "at `$.valid_from`", Exit.USAGE),
        ('{"content": "x", "id": "mine"}', "external_id is its own", Exit.USAGE),
        ('" "', "the passage is empty", Exit.USAGE),
        (f'"{"x" * 1_100_000}"', "passage_bytes", Exit.REFUSED),
        (f'"{"x" * 8_500_000}"', "it is longer than 8,388,608 bytes", Exit.USAGE),
        ('{"content": "x", "supersedes": "none"}', "there is no passage 'none'", Exit.NOT_FOUND),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else str(value),
)
def test_a_line_that_is_none_is_named(terminal: Terminal, line: str, told: str, code: Exit) -> None:
    text = f'"one"\n\n"two"\n{line}\n"three"\n'.encode()
    done = terminal.run("memory", "add", "--lines", "-", "--json", stdin=text, exits=code)
    assert done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith("soorma: line 4 of standard input: ")
    assert told in said
    assert said.endswith("; before that, 2 passages were stored")
    assert listed(terminal) == ["one", "two"]


@pytest.mark.behaviour("command.memory-lines")
def test_a_line_far_behind_is_named_too(terminal: Terminal) -> None:
    texts: list[Any] = [f"passage {number}" for number in range(1500)]
    file = lines_of(terminal, *texts, {"content": "x", "supersedes": "none"}, *texts, 7)
    done = terminal.run("memory", "add", "--lines", file, exits=Exit.NOT_FOUND)
    assert done.stderr.startswith(f"soorma: line 1501 of {file}: there is no passage 'none'")
    assert done.stderr.endswith("; before that, 1,500 passages were stored\n")
    assert listed(terminal) == texts
    first = terminal.run("memory", "add", "--lines", lines_of(terminal, 7), exits=Exit.USAGE)
    assert first.stderr.endswith("; before that, nothing was stored\n")
    nowhere = dict.fromkeys(services.VARIABLES.values(), "http://127.0.0.1:9")
    lost = terminal.run(
        "memory", "add", "--lines", lines_of(terminal, "a", "b"), exits=Exit.UNAVAILABLE,
        SOORMA_RETRY_SECONDS=FEW_SECONDS, **nowhere,
    )  # fmt: skip
    assert "lines 1 to 2 of " in lost.stderr
    assert "http://127.0.0.1:9 cannot be reached" in lost.stderr


@pytest.mark.behaviour("command.memory-lines")
def test_ctrl_c_says_what_is_stored(terminal: Terminal) -> None:
    # as in a script's background: it would ignore it too
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*SOORMA, "memory", "add", "--lines", "-"],
        cwd=terminal.folder,
        env=terminal.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(b"".join(b'"passage %d"\n' % number for number in range(1001)))
        process.stdin.flush()
        eventually(lambda: len(listed(terminal)) == 1000)
        process.send_signal(signal.SIGINT)
        said, told = process.communicate(timeout=WAIT)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said) == (Exit.INTERRUPTED, b"")
    assert b"interrupted; before that, 1,000 passages were stored" in told
    assert b"Traceback" not in told


# --- Show, update, forget ----------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-passages")
def test_update_changes_what_is_given_and_clears_what_is_named(terminal: Terminal) -> None:
    passage_id = add(terminal, DOGS, "--tag", "a", "--source", "s", "--metadata", '{"n": 1}')
    said = terminal.run(
        "memory", "update", passage_id, "--tag", "b", "--tag", "c", "--alias", "pets",
        "--valid-until", "2090-01-01T00:00:00Z", "--metadata", "-", stdin=b'{"m": 2}',
    ).stdout  # fmt: skip
    assert said == f"Updated passage {passage_id}\n"
    told = shown(terminal, passage_id)
    assert [told[name] for name in ("Tags", "Aliases", "Source", "Metadata", "Revision")] == [
        "b, c",
        "pets",
        "s",
        '{"m":2}',
        "2",
    ]
    assert told["Valid until"] != "-"
    fields = ("aliases", "tags", "source", "metadata", "valid-from", "valid-until")
    changed = terminal.json(
        "memory", "update", passage_id, *(word for field in fields for word in ("--clear", field))
    )
    assert changed["revision"] == 3
    assert changed.keys().isdisjoint(field.replace("-", "_") for field in fields)
    assert terminal.json("memory", "show", passage_id) == changed


@pytest.mark.behaviour("command.memory-passages")
def test_forgetting_names_what_went_with_it(terminal: Terminal) -> None:
    first = add(terminal, "Dogs pay half.", "--external-id", "fare")
    second = add(terminal, DOGS, "--external-id", "fare")
    file = lines_of(terminal, {"content": "Pets are welcome.", "derived_from": [second]})
    (third,) = terminal.json("memory", "add", "--lines", file)["ids"]
    alone = add(terminal, TRAIN)
    said = terminal.run("memory", "forget", second, "--yes").stdout.splitlines()
    assert said[0] == f"Forgot passage {second}:"
    assert {line.split()[2].rstrip(",") for line in said[1:]} == {first, third}
    for gone in (first, second, third):
        terminal.run("memory", "show", gone, exits=Exit.NOT_FOUND)
    done = terminal.json("memory", "forget", alone, "--yes")
    assert done == {"id": alone, "outcome": "forgotten"}
    again = terminal.run("memory", "forget", alone, "--yes", "--json", exits=Exit.NOT_FOUND)
    assert json.loads(again.stdout)["outcome"] == "missing"
    assert again.stderr == (
        f"soorma: there is no passage {alone}: it was never stored, or forgotten\n"
    )
    assert terminal.run("memory", "list").stderr == (
        "note: this user of this tenant has no passages of their own\n"
    )


@pytest.mark.behaviour("command.memory-passages")
def test_forgetting_asks(terminal: Terminal) -> None:
    passage_id = add(terminal, DOGS)
    refused = terminal.run("memory", "forget", passage_id, exits=Exit.USAGE)
    assert refused.stderr.endswith("say --yes where nobody can be asked\n")
    code, said = at_terminal(terminal, "memory", "forget", passage_id, answer="n\n")
    assert code == Exit.FAILED
    assert DOGS in said
    assert "soorma: nothing was forgotten" in said
    assert at_terminal(terminal, "memory", "forget", "nothing")[0] == Exit.NOT_FOUND
    assert listed(terminal) == [DOGS]
    code, said = at_terminal(terminal, "memory", "forget", passage_id, answer="y\n")
    assert code == Exit.OK, said
    assert listed(terminal) == []


@pytest.mark.behaviour("command.memory-lines", "command.tables")
def test_progress_and_tables_on_a_terminal(terminal: Terminal) -> None:
    texts = [f"{DOGS} That is rule {number}." for number in range(1500)]
    file = lines_of(terminal, *({"content": text, "source": "handbook"} for text in texts))
    code, said = at_terminal(terminal, "memory", "add", "--lines", file)
    assert code == Exit.OK
    assert "\r\x1b[Kstored 1,000 passages\r\x1b[Kstored 1,500 passages\r\x1b[K" in said
    for command in (("list", "--limit", "3"), ("search", "rule 7")):
        code, said = at_terminal(terminal, "memory", *command)
        assert code == Exit.OK
        table = [line for line in said.splitlines() if not line.startswith("note: ")]
        assert max(map(len, table)) <= 80
        assert "Dogs travel free of charge in a" in said, "enough to be recognised"
        assert "note: no room for " in said


# --- All of them -------------------------------------------------------------------------------


@pytest.mark.behaviour("command.says-what-is-wrong", "command.memory-passages")
@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (("memory",), Exit.USAGE, "Usage"),
        (("memory", "search"), Exit.USAGE, "QUERY"),
        (("memory", "search", " "), Exit.USAGE, "query is empty"),
        (("memory", "search", "\udcff"), Exit.USAGE, "no UTF-8"),
        (("memory", "search", "x" * 8193), Exit.USAGE, "at most 8,192 characters"),
        (("memory", "search", "x", "--limit", "0"), Exit.USAGE, "--limit"),
        (("memory", "search", "x", "--limit", "101"), Exit.USAGE, "--limit"),
        (("memory", "search", "x", "--mode", "magic"), Exit.USAGE, "hybrid"),
        (("memory", "search", "x", "--mode", "vector"), Exit.USAGE, "no embedding model"),
        (("memory", "search", "x", "--min-score", "2"), Exit.USAGE, "--min-score"),
        (("memory", "search", "x", "--min-score", "nan"), Exit.USAGE, "--min-score"),
        (("memory", "search", "x", "--max-tokens", "0"), Exit.USAGE, "--max-tokens"),
        (("memory", "search", "x", "--wait", "61"), Exit.USAGE, "--wait"),
        (("memory", "search", "x", "--as-of", "now"), Exit.USAGE, "as_of must be RFC 3339"),
        (("memory", "search", "x", "--known-at", "2020-01-01"), Exit.USAGE, "known_at must be"),
        (("memory", "search", "x", "--tag", ""), Exit.USAGE, "tags must have"),
        (("memory", "search", "x", "--since", "now"), Exit.USAGE, "since must be RFC 3339"),
        (("memory", "search", "x", "--metadata", "7"), Exit.USAGE, "it is an object"),
        (("memory", "list", "--limit", "0"), Exit.USAGE, "--limit"),
        (("memory", "list", "--tenant", ""), Exit.USAGE, "tenant_id must have"),
        (("memory", "show", "nothing"), Exit.NOT_FOUND, "there is no passage 'nothing'"),
        (("memory", "show", ".."), Exit.USAGE, "id must not be"),
        (("memory", "forget", "", "--yes"), Exit.USAGE, "id must have"),
        (("memory", "update", "nothing", "--tag", "t"), Exit.NOT_FOUND, "'nothing'"),
        (("memory", "update", "nothing"), Exit.USAGE, "say what to change"),
        (("memory", "update", "x", "--tag", "t", "--clear", "tags"), Exit.USAGE, "at once"),
        (("memory", "update", "x", "--clear", "content"), Exit.USAGE, "valid-from"),
        (("memory", "update", "x", "--metadata", "1"), Exit.USAGE, "it is an object"),
        (("memory", "update", "x", "--valid-until", "soon"), Exit.USAGE, "valid_until must be"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_what_is_not_possible_is_told(
    terminal: Terminal, command: tuple[str, ...], code: Exit, told: str
) -> None:
    done = terminal.run(*command, exits=code)
    assert told in done.stderr + done.stdout


@pytest.mark.behaviour("command.says-what-is-wrong", "outage.every-call")
@pytest.mark.parametrize(
    "command",
    [*COMMANDS, *OF_SESSIONS, *OF_SKILLS, ("memory", "forget", "--everything", "--yes")],
    ids=" ".join,
)
def test_without_a_platform(command: tuple[str, ...], terminal: Terminal) -> None:
    nowhere = dict.fromkeys(services.VARIABLES.values(), "http://127.0.0.1:9")
    (terminal.folder / "refund").mkdir()
    (terminal.folder / "refund" / "SKILL.md").write_text(
        "---\nname: refund\ndescription: How a customer gets money back.\n---\nAt once.\n"
    )
    done = terminal.run(
        *command, "--json", exits=Exit.UNAVAILABLE, SOORMA_RETRY_SECONDS=FEW_SECONDS, **nowhere
    )
    assert done.stdout == ""
    assert "http://127.0.0.1:9 cannot be reached" in done.stderr


@pytest.mark.behaviour("command.whose")
@pytest.mark.parametrize("option", ["--tenant", "--user"])
def test_another_tenant_or_user_sees_nothing(terminal: Terminal, option: str) -> None:
    mine = add(terminal, DOGS)
    other = (option, unique("other"))
    assert listed(terminal, *other) == []
    assert terminal.json("memory", "search", "dogs", *other)["is_known"] is False
    for command in (("show",), ("update", "--tag", "t"), ("forget", "--yes")):
        terminal.run("memory", *command, mine, *other, exits=Exit.NOT_FOUND)
    theirs = add(terminal, DOGS, *other)
    assert theirs != mine
    assert terminal.json("memory", "list", *other)["passages"][0]["id"] == theirs
    assert shown(terminal, mine)["Stated"] == "1 time"


def listed_in_help(terminal: Terminal, *group: str) -> set[str]:
    """The commands that a help lists."""
    said = terminal.run("memory", *group, "--help", COLUMNS="80").stdout
    return set(re.findall(r"^  ([a-z-]+) ", said.partition("\nCommands:\n")[2], flags=re.MULTILINE))


@pytest.mark.behaviour("command.help-fits", "command.complete-help")
def test_help_fits_and_the_reference_names_every_option(terminal: Terminal) -> None:
    section = README.read_text("utf-8").partition("\n## The command\n")[2].partition("\n## ")[0]
    names = {(name,) for _, name, *_ in COMMANDS}
    of_sessions = {(group, name) for _, group, name, *_ in OF_SESSIONS}
    assert listed_in_help(terminal) == {name for (name,) in names}
    assert listed_in_help(terminal, "sessions") == {name for _, name in of_sessions}
    of_skills = {(group, name) for _, group, name, *_ in OF_SKILLS}
    assert listed_in_help(terminal, "skills") == {name for _, name in of_skills}
    for name in names | of_sessions | of_skills:
        shown_as = " ".join(name).removesuffix(" list")  # `sessions` alone is `sessions list`
        assert f"| `soorma memory {shown_as}" in section
        said = terminal.run("memory", *name, "--help", COLUMNS="80").stdout
        assert max(map(len, said.splitlines())) <= 80
        assert not re.search(r"[a-z]-$", said, flags=re.MULTILINE), "a word is broken"
        options = set(re.findall(r"^  (--[a-z-]+)", said, flags=re.MULTILINE)) - {"--help"}
        assert {option for option in options if f"`{option}`" not in section} == set()
