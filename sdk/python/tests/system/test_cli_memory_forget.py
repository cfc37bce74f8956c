"""`soorma memory forget` by what memories have in common, `publish`, and `quarantine`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from cli_terminal import FEW_SECONDS, Terminal, at_terminal
from platform_process import PlatformProcess
from running import config_of, platform_in, unique

from soorma import Agent
from soorma.cli.exits import Exit

DOGS = "Dogs travel free of charge in all carriages."
TRAIN = "The night train to Lund leaves from platform 4."
LATER, EARLIER = "2999-01-01T00:00:00Z", "2000-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """A platform that searches by words, whatever is installed."""
    folder = tmp_path_factory.mktemp("platform")
    with platform_in(folder, SOORMA_EMBEDDINGS="none") as platform:
        yield platform


def add(terminal: Terminal, *arguments: str) -> str:
    """Stores a passage; returns its id."""
    return terminal.run("memory", "add", *arguments).stdout.strip()


def fill(terminal: Terminal) -> None:
    """Stores two passages and two interactions that differ in what they can be forgotten by."""
    add(terminal, DOGS, "--source", "mail")
    add(terminal, TRAIN, "--source", "web", "--public")
    for session, agent, plan in (("s", "cook", "p"), ("t", "waiter", "q")):
        terminal.run("memory", "log", "user", f"Said in {session}.", "--session", session,
                     "--agent", agent, "--plan", plan)  # fmt: skip


def left(terminal: Terminal) -> tuple[int, int]:
    """How many passages and interactions there are."""
    known = terminal.json("memory", "search", "dogs train", "--min-score", "0")["hits"]
    return len(known), len(terminal.json("memory", "history")["interactions"])


# --- Forget ------------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-forget")
@pytest.mark.parametrize(
    ("given", "passages", "interactions"),
    [
        (("--plan", "p"), 0, 1),
        (("--session", "t"), 0, 1),
        (("--source", "mail"), 1, 0),
        (("--agent", "waiter"), 0, 1),
        (("--agent", "waiter", "--plan", "p"), 0, 0),
        (("--event", "e"), 0, 0),
        (("--before", LATER), 2, 2),
        (("--before", EARLIER), 0, 0),
        (("--before", LATER, "--kind", "knowledge"), 2, 0),
        (("--before", LATER, "--kind", "interactions"), 0, 2),
        (("--everything",), 2, 2),
        (("--everything", "--kind", "interactions"), 0, 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_fits_is_counted_then_forgotten_and_nothing_else(
    terminal: Terminal, given: tuple[str, ...], passages: int, interactions: int
) -> None:
    fill(terminal)
    preview = terminal.json("memory", "forget", *given, "--preview")
    assert (preview["passages"], preview["interactions"]) == (passages, interactions)
    assert preview["is_preview"] is True
    assert left(terminal) == (2, 2), "a preview forgets nothing"
    receipt = terminal.json("memory", "forget", *given, "--yes")
    assert (receipt["passages"], receipt["interactions"]) == (passages, interactions)
    assert receipt["at"] < receipt["erased_by"]
    assert left(terminal) == (2 - passages, 2 - interactions)


@pytest.mark.behaviour("command.memory-forget")
def test_a_preview_and_a_receipt_for_eyes(terminal: Terminal) -> None:
    fill(terminal)
    terminal.run("memory", "log", "user", "More.", "--session", "s")
    told = terminal.run("memory", "forget", "--everything", "--preview")
    assert told.stdout == "2 passages and 3 interactions fit\n"
    assert told.stderr.startswith("note: without --preview, this is forgotten, with what it has")
    assert terminal.run("memory", "forget", "--plan", "p", "--preview").stdout == (
        "1 interaction fits\n"
    )
    nothing = terminal.run("memory", "forget", "--plan", "other", "--preview")
    assert (nothing.stdout, nothing.stderr) == ("Nothing fits\n", "")
    said = terminal.run("memory", "forget", "--before", LATER, "--yes").stdout.splitlines()
    assert said[0] == "Forgot 2 passages and 3 interactions"
    assert re.fullmatch(
        r"The bytes are gone from the database and its log by \d{4}-\d\d-\d\d \d\d:\d\d:\d\d; "
        "backups made before keep them",
        said[1],
    )
    assert terminal.run("memory", "forget", "--everything", "--yes").stdout == "Forgot nothing\n"


@pytest.mark.behaviour("command.memory-forget")
def test_what_is_neither_passage_nor_interaction_counts_too(terminal: Terminal) -> None:
    async def store() -> None:
        async with terminal.context() as platform:
            for text in ("Greet the user.", "Greet the user by name."):
                await platform.memory.store_procedure("greet", text, kind="rule", source="mail")

    asyncio.run(store())
    fill(terminal)
    told = terminal.run("memory", "forget", "--everything", "--preview").stdout
    assert told == "2 passages, 2 interactions and 2 procedure versions fit\n"
    said = terminal.run("memory", "forget", "--kind", "procedures", "--source", "mail", "--yes")
    assert said.stdout.startswith("Forgot 2 procedure versions\nThe bytes are gone")
    assert left(terminal) == (2, 2)


@pytest.mark.behaviour("command.memory-forget")
def test_a_session_goes_with_what_was_derived_from_it(terminal: Terminal) -> None:
    said = terminal.run("memory", "log", "user", "The sun is a lamp.", "--session", "s").stdout
    line = {"content": "Lamps can be switched off.", "derived_from": [said.strip()]}
    terminal.run("memory", "add", "--lines", "-", stdin=json.dumps(line).encode())
    done = terminal.run("memory", "sessions", "delete", "s", "--yes").stdout
    assert done.startswith("Deleted session s with 1 passage and 1 interaction\n")
    assert left(terminal) == (0, 0)


@pytest.mark.behaviour("command.memory-forget")
def test_forgetting_what_fits_asks(terminal: Terminal) -> None:
    fill(terminal)
    refused = terminal.run("memory", "forget", "--everything", exits=Exit.USAGE)
    assert refused.stderr.endswith("say --yes where nobody can be asked\n")
    assert refused.stdout == ""
    code, said = at_terminal(terminal, "memory", "forget", "--everything", answer="n\n")
    assert code == Exit.FAILED
    assert "2 passages and 2 interactions fit. This removes that, with what it has" in said
    assert "soorma: nothing was forgotten" in said
    code, said = at_terminal(terminal, "memory", "forget", "--plan", "other")
    assert (code, said) == (Exit.OK, "note: nothing fits\n")
    assert left(terminal) == (2, 2)
    code, said = at_terminal(terminal, "memory", "forget", "--source", "mail", answer="y\n")
    assert code == Exit.OK, said
    assert "1 passage fits. " in said
    assert "Forgot 1 passage\n" in said
    assert left(terminal) == (1, 2)


@pytest.mark.behaviour("command.memory-forget")
def test_what_was_derived_goes_too(terminal: Terminal) -> None:
    first = add(terminal, "The sun is a lamp.", "--source", "mail")
    line = f'{{"content": "So it can be switched off.", "derived_from": ["{first}"]}}'.encode()
    terminal.run("memory", "add", "--lines", "-", stdin=line)
    assert terminal.json("memory", "forget", "--source", "mail", "--preview")["passages"] == 1
    assert terminal.run("memory", "forget", "--source", "mail", "--yes").stdout.startswith(
        "Forgot 2 passages\n"
    )
    assert terminal.json("memory", "list")["passages"] == []


@pytest.mark.behaviour("command.memory-forget", "command.says-what-is-wrong")
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((), "give the id of a passage, or say what is to be forgotten: --plan, "),
        (("--kind", "interactions"), "give the id of a passage, or say what is to be forgotten"),
        (("--preview",), "give the id of a passage, or say what is to be forgotten"),
        (("passage", "--plan", "p"), "it is one passage, and the options describe many"),
        (("passage", "--everything"), "it is one passage"),
        (("passage", "--kind", "all"), "it is one passage"),
        (("passage", "--preview"), "it is one passage"),
        (("passage", "--all-users"), "it is one passage"),
        (("--all-users",), "give the id of a passage, or say what is to be forgotten"),
        (("--everything", "--all-users", "--user", "bob"), "all users are more than user 'bob'"),
        (("--everything", "--source", "mail"), "it is more than the other options say"),
        (("--before", "yesterday"), "before must be RFC 3339"),
        (("--source", ""), "source must have"),
        (("--kind", "dreams", "--plan", "p"), "knowledge"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_forgotten_is_told(
    terminal: Terminal, given: tuple[str, ...], told: str
) -> None:
    fill(terminal)
    done = terminal.run("memory", "forget", *given, "--yes", exits=Exit.USAGE)
    assert told in " ".join(done.stderr.split())
    assert left(terminal) == (2, 2)


@pytest.mark.behaviour("command.whose")
@pytest.mark.parametrize("option", ["--tenant", "--user"])
def test_everything_is_of_one_user_of_one_tenant(terminal: Terminal, option: str) -> None:
    fill(terminal)
    other = (option, unique("other"))
    assert terminal.run("memory", "forget", "--everything", "--yes", *other).stdout == (
        "Forgot nothing\n"
    )
    assert left(terminal) == (2, 2)


@pytest.mark.behaviour("command.memory-forget", "forgetting.by-tenant")
def test_all_users_of_a_tenant(terminal: Terminal) -> None:
    fill(terminal)
    add(terminal, DOGS, "--source", "mail", "--user", "bob")
    other = ("--tenant", unique("other"))
    add(terminal, DOGS, *other)
    mail = ("memory", "forget", "--source", "mail", "--all-users")
    assert terminal.run(*mail, "--preview", SOORMA_USER_ID="bob").stdout == "2 passages fit\n"
    said = terminal.run(*mail, "--yes").stdout
    assert said.startswith("Forgot 2 passages\n")
    assert left(terminal) == (1, 2)
    everything = ("memory", "forget", "--everything", "--all-users", "--yes")
    assert terminal.run(*everything).stdout.startswith("Forgot 1 passage and 2 interactions\n")
    assert len(terminal.json("memory", "list", *other)["passages"]) == 1


@pytest.mark.behaviour("command.memory-forget", "forgetting.by-tenant")
def test_forgetting_for_all_users_asks_and_says_so(terminal: Terminal) -> None:
    add(terminal, DOGS, "--source", "mail", "--user", "bob")
    forgetting = ("memory", "forget", "--source", "mail", "--all-users")
    code, said = at_terminal(terminal, *forgetting, answer="n\n")
    assert code == Exit.FAILED
    assert "1 passage fits of all users of the tenant. This removes that" in said
    assert terminal.run(*forgetting, "--preview").stdout == "1 passage fits\n"


@pytest.mark.behaviour("command.memory-forget")
def test_much_is_forgotten_however_long_it_takes(terminal: Terminal) -> None:
    # more than 1 s, which is longer than a call is retried for here
    file = terminal.folder / "said.jsonl"
    file.write_text('{"role": "user", "content": "x", "session_id": "s"}\n' * 15_000)
    terminal.run("memory", "log", "--lines", str(file))
    receipt = terminal.json(
        "memory", "sessions", "delete", "s", "--yes", SOORMA_RETRY_SECONDS=FEW_SECONDS
    )
    assert receipt["interactions"] == 15_000


# --- Publish -----------------------------------------------------------------------------------


async def propose(terminal: Terminal, *contents: str) -> list[str]:
    """Lets a handler propose passages for all users of the tenant; returns their ids."""
    config = config_of(terminal.platform, tenant_id=terminal.tenant)
    agent = Agent(unique("agent"), config=config)

    @agent.on_event("propose", topic="business-facts")
    async def handle(event: Any, context: Any) -> None:
        ids = [
            await context.memory.store_knowledge(content, is_public=True) for content in contents
        ]
        await context.bus.respond(event, {"ids": ids})

    async with agent, terminal.context() as platform:
        reply = await platform.bus.request(
            "propose", {}, topic="business-facts", response_event="proposed"
        )
    ids: list[str] = reply.data["ids"]
    return ids


@pytest.mark.behaviour("command.memory-publish")
def test_a_proposal_is_listed_then_published(terminal: Terminal) -> None:
    own = add(terminal, "Only mine.")
    empty = terminal.run("memory", "list", "--proposed")
    assert empty.stderr == "note: this user of this tenant has no proposed passages\n"
    public = add(terminal, DOGS, "--public")
    train, dogs = asyncio.run(propose(terminal, TRAIN, DOGS))
    proposed = terminal.json("memory", "list", "--proposed")["passages"]
    assert [one["id"] for one in proposed] == [train, dogs]
    table = terminal.run("memory", "list", "--proposed")
    assert train in table.stdout
    assert own not in table.stdout
    assert table.stderr == "note: soorma memory publish ID shows one to all users of the tenant\n"

    other = ("--user", unique("user"))
    terminal.run("memory", "publish", train, *other, exits=Exit.NOT_FOUND)
    assert terminal.run("memory", "publish", train).stdout == f"Published passage {train}\n"
    hits = terminal.json("memory", "search", "night train", *other)["hits"]
    assert [hit["id"] for hit in hits] == [train]
    assert terminal.json("memory", "publish", train) == {"id": train}, "a second time is nothing"
    assert terminal.run("memory", "publish", dogs).stdout == (
        f"Published passage {dogs}: it counts with {public}, which says the same\n"
    )
    assert terminal.json("memory", "list", "--proposed")["passages"] == []


@pytest.mark.behaviour("command.memory-publish", "command.says-what-is-wrong")
def test_what_cannot_be_published_is_told(terminal: Terminal) -> None:
    own = add(terminal, DOGS)
    refused = terminal.run("memory", "publish", own, exits=Exit.USAGE)
    assert "nobody has proposed to make it public" in refused.stderr
    missing = terminal.run("memory", "publish", "nothing", exits=Exit.NOT_FOUND)
    assert "'nothing'" in missing.stderr
    assert "id must not be" in terminal.run("memory", "publish", "..", exits=Exit.USAGE).stderr


# --- Quarantine --------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-quarantine")
def test_a_source_is_put_into_quarantine_and_released(terminal: Terminal) -> None:
    passage_id = add(terminal, DOGS, "--source", "mail")
    add(terminal, TRAIN, "--source", "web")
    assert "nothing is in quarantine" in terminal.run("memory", "quarantine").stderr
    done = terminal.run("memory", "quarantine", "add", "--source", "mail", "--reason", "a trick")
    assert "source mail" in done.stdout
    assert "soorma memory list --quarantined" in done.stderr
    assert left(terminal)[0] == 1
    listed = terminal.run("memory", "quarantine", "list").stdout
    assert "source mail" in listed
    assert "a trick" in listed
    (one,) = terminal.json("memory", "quarantine")["quarantines"]
    assert (one["source"], one["reason"]) == ("mail", "a trick")
    (hidden,) = terminal.json("memory", "list", "--quarantined")["passages"]
    assert hidden["id"] == passage_id
    shown = terminal.run("memory", "show", passage_id, exits=Exit.NOT_FOUND)
    assert "is in quarantine, because it comes from source 'mail'" in shown.stderr
    assert terminal.json("memory", "quarantine", "--all-users")["quarantines"] == []
    assert "Released source mail" in terminal.run(
        "memory", "quarantine", "release", "--source", "mail"
    ).stdout  # fmt: skip
    assert left(terminal)[0] == 2
    terminal.run("memory", "quarantine", "release", "--source", "mail", exits=Exit.NOT_FOUND)


@pytest.mark.behaviour("command.memory-quarantine")
def test_an_agent_is_put_into_quarantine_for_the_tenant(terminal: Terminal) -> None:
    fill(terminal)
    assert left(terminal) == (2, 2)
    terminal.run("memory", "quarantine", "add", "--agent", "cook", "--all-users")
    assert left(terminal) == (2, 1)
    (one,) = terminal.json("memory", "quarantine", "list", "--all-users")["quarantines"]
    assert (one["agent_id"], one["all_users"]) == ("cook", True)
    for given in ((), ("--source", "a", "--agent", "b")):
        refused = terminal.run("memory", "quarantine", "add", *given, exits=Exit.USAGE)
        assert "give one of the two" in refused.stderr
    terminal.run("memory", "quarantine", "release", "--agent", "cook", exits=Exit.NOT_FOUND)
    terminal.run("memory", "quarantine", "release", "--agent", "cook", "--all-users")
    assert left(terminal) == (2, 2)
