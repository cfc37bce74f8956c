"""`soorma memory skills` as people and scripts use it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_terminal import Terminal, at_terminal, rows
from platform_process import PlatformProcess
from running import Raw, config_of, platform_in, unique

from soorma import Agent
from soorma.cli.exits import Exit
from soorma_common.names import DEFAULT_USER

REFUND = "Up to 50 EUR: refund at once. Above that, ask the team lead first."
ABOUT = "How a customer gets money back for an order."
CONTEXT = "She wants her money back for the order."
WORDS_ALONE = "note: it went by words alone: no embedding model is in use, or it does not respond\n"
SECONDS = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """A platform that searches by words, whatever is installed."""
    folder = tmp_path_factory.mktemp("platform")
    with platform_in(folder, SOORMA_EMBEDDINGS="none") as platform:
        yield platform


class Skills:
    """`soorma memory skills` at a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal

    def __call__(self, *arguments: str, **more: Any) -> str:
        """Runs a command; returns what it has printed."""
        return self.terminal.run("memory", "skills", *arguments, **more).stdout

    def json(self, *arguments: str, **more: Any) -> Any:
        return self.terminal.json("memory", "skills", *arguments, **more)

    def notes(self, *arguments: str, **more: Any) -> str:
        return self.terminal.run("memory", "skills", *arguments, **more).stderr

    def refused(self, *arguments: str, code: Exit = Exit.USAGE, **more: Any) -> str:
        """Runs a command that fails; returns why."""
        return self.terminal.run("memory", "skills", *arguments, exits=code, **more).stderr

    def facts(self, *arguments: str) -> dict[str, str]:
        """What `show` tells, by title."""
        told = self("show", *arguments).partition("\n\n")[0]
        lines = (re.split(r"\s{2,}", line, maxsplit=1) for line in told.splitlines())
        return dict(lines)

    def versions(self, name: str, *arguments: str) -> list[list[str]]:
        """The number and the state of each version."""
        return [row[:2] for row in rows(self("versions", name, *arguments))[1:]]

    def names(self, *arguments: str) -> list[str]:
        return [one["name"] for one in self.json("list", *arguments)["procedures"]]


@pytest.fixture
def skills(terminal: Terminal) -> Skills:
    return Skills(terminal)


def folder(skills: Skills, name: str = "refund", text: str = "At once.", **files: bytes) -> Path:
    """Makes the folder of a skill in that of the terminal."""
    made = skills.terminal.folder / name
    made.mkdir()
    head = f"---\nname: {name}\ndescription: {ABOUT}\n---\n\n"
    (made / "SKILL.md").write_text(f"{head}{text}\n")
    for path, content in files.items():
        (made / path).write_bytes(content)
    return made


async def propose(terminal: Terminal, **fields: Any) -> None:
    """Has a handler of agent `learner` store a version."""
    agent = Agent("learner", config=config_of(terminal.platform, tenant_id=terminal.tenant))

    @agent.on_event("learn", topic="action-requests")
    async def learn(event: Any, context: Any) -> None:
        await context.memory.store_procedure("refund", REFUND, description=ABOUT, **fields)
        await context.bus.respond(event, {})

    async with terminal.context() as platform, agent:
        await platform.bus.request("learn", {}, response_event="learned", plan_id="p", timeout=20)


# --- Add ---------------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-skills-add", "command.memory-skills")
def test_a_procedure_keeps_all_that_it_is_given(skills: Skills, terminal: Terminal) -> None:
    passage = terminal.run("memory", "add", "Refunds above 50 EUR went wrong.").stdout.strip()
    done = skills("add", "refund", REFUND, "--description", ABOUT, "--agent", "support",
                  "--agent", "sales", "--condition", 'tier=["gold", 1]', "--condition", "vip=true",
                  "--tag", "money", "--source", "handbook", "--metadata", '{"page": 7}',
                  "--derived-from", passage)  # fmt: skip
    assert done == "Stored version 1 of skill refund, which is active now\n"
    kept = skills.json("show", "refund")
    assert kept["content"] == REFUND
    names = ("description", "agents", "conditions", "tags", "source", "metadata", "derived_from")
    assert [kept[name] for name in names] == [
        ABOUT,
        ["support", "sales"],
        {"tier": ["gold", 1], "vip": True},
        ["money"],
        "handbook",
        {"page": 7},
        [passage],
    ]
    facts = skills.facts("refund")
    told = [facts[title] for title in ("Name", "Kind", "Version", "State", "Whose", "Agents")]
    assert told == ["refund", "skill", "1", "active", "user", "support, sales"]
    assert facts["Conditions"] == '{"tier":["gold",1],"vip":true}'
    assert (facts["Success"], facts["Trust"], facts["Plan"]) == ("-", "application", "-")
    assert re.fullmatch(SECONDS, facts["Stored"])
    assert skills("show", "refund").endswith(f"\n\n{REFUND}\n")


@pytest.mark.behaviour("command.memory-skills-add")
def test_kinds_versions_and_drafts(skills: Skills) -> None:
    said = skills.json("add", "polite", "-", "--kind", "rule", stdin="Grüße\n".encode())
    assert (said["outcome"], said["version"]) == ("stored", 1)
    assert skills("add", "polite", "Hallo", "--kind", "rule", "--draft") == (
        "Stored version 2 of rule polite\n"
    )
    same = skills.terminal.run("memory", "skills", "add", "polite", "Hallo", "--kind", "rule",
                               "--public", "--draft")  # fmt: skip
    assert same.stdout == "Stored version 1 of rule polite\n", "that of the tenant"
    note = "note: soorma memory skills activate polite --version 1 --kind rule --public makes it "
    assert same.stderr == f"{note}active\n"
    assert skills("add", "polite", "Hallo", "--kind", "rule") == (
        "Not stored again: version 2 of rule polite says the same\n"
    )
    assert skills("add", "polite", "Grüße\n", "--kind", "rule", "--draft") == (
        "Not stored again: version 1 of rule polite says the same\n"
    )
    assert skills.versions("polite", "--kind", "rule") == [["2", "-"], ["1", "active"]]
    assert "no skill 'polite'" in skills.refused("show", "polite", code=Exit.NOT_FOUND)
    assert skills.json("show", "polite", "--kind", "rule", "--version", "1")["content"] == "Grüße"


# --- List, show, versions ----------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-skills")
def test_procedures_are_a_table_or_the_services_response(
    skills: Skills, terminal: Terminal
) -> None:
    empty = terminal.run("memory", "skills")
    told = "note: this user of this tenant has no skills, prompts or rules, nor has the tenant\n"
    assert (empty.stdout, empty.stderr) == ("", told)
    skills("add", "refund", REFUND, "--description", "How\n\tto \x1b[31mrefund\x1b[0m")
    skills("add", "refund", "Otherwise.", "--draft")
    skills("add", "polite", "Never promise a date.", "--kind", "rule", "--public")
    skills("outcome", "refund", "1", "--succeeded")
    skills("outcome", "refund", "1", "--failed")
    done = terminal.run("memory", "skills")
    heading, first, second = rows(done.stdout)
    assert done.stderr == ""
    assert heading == ["Name", "Kind", "Active", "Versions", "Proposed", "Success", "Whose",
                       "Description"]  # fmt: skip
    assert first == ["polite", "rule", "1", "1", "-", "-", "tenant", "-"]
    assert second == ["refund", "skill", "1", "2", "-", "0.09 (1 of 2)", "user",
                      r"How to \u001b[31mrefund\u001b[0m"]  # fmt: skip
    assert skills.json() == skills.json("list")
    answer = Raw(terminal.platform.memory_url, terminal.tenant, DEFAULT_USER)(
        "GET", "/v1/memory/procedural"
    ).json
    assert skills.json("list")["procedures"] == answer["procedures"][::-1]
    assert skills.names("--kind", "rule") == ["polite"]
    assert skills.names("--limit", "1") == ["polite"]
    assert skills.names("--proposed") == []
    note = "note: this user of this tenant has no prompts, nor has the tenant\n"
    assert skills.notes("list", "--kind", "prompt") == note
    note = "note: no handler has proposed a skill, prompt or rule of this user\n"
    assert skills.notes("--proposed") == note


@pytest.mark.behaviour("command.memory-skills")
def test_many_versions(skills: Skills) -> None:
    for number in range(101):
        skills("add", "refund", f"Version {number}.")
    done = skills.terminal.run("memory", "skills", "versions", "refund")
    assert done.stderr == "note: the newest 100 of 101; --limit 101 shows all\n"
    heading, newest, *others = rows(done.stdout)
    assert heading == ["Version", "State", "Success", "Stored", "By", "Whose", "Description"]
    assert newest[:3] == ["101", "active", "-"]
    assert newest[4:] == ["application", "user", "-"]
    assert len(others) == 99
    found = skills.json("versions", "refund")["versions"]
    assert [one["version"] for one in found] == list(range(101, 0, -1))
    assert "content" not in found[0]
    assert len(skills.json("versions", "refund", "--limit", "2")["versions"]) == 2


# --- Proposals ---------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-skills-activate", "command.memory-skills")
@pytest.mark.parametrize("is_public", [False, True])
def test_a_proposal_is_seen_and_activated(skills: Skills, is_public: bool) -> None:
    asyncio.run(propose(skills.terminal, is_public=is_public))
    done = skills.terminal.run("memory", "skills", "list", "--proposed")
    row = rows(done.stdout)[1]
    assert row[:7] == ["refund", "skill", "-", "1", "1", "-", "tenant" if is_public else "user"]
    assert "soorma memory skills versions NAME shows which" in done.stderr
    done = skills.terminal.run("memory", "skills", "versions", "refund")
    assert rows(done.stdout)[1][:2] == ["1", "proposed"]
    assert rows(done.stdout)[1][4] == "learner"
    public = ["--public"] * is_public
    command = " ".join(["activate", "refund", "--version", "1", *public])
    assert done.stderr == f"note: soorma memory skills {command} makes the proposal active\n"
    missing = skills.refused("show", "refund", code=Exit.NOT_FOUND)
    assert "no version of skill 'refund' is active; its newest is 1" in missing
    assert skills.facts("refund", "--version", "1")["State"] == "proposed"
    assert skills.notes("show", "refund", "--version", "1") == done.stderr

    done = skills.terminal.run("memory", "skills", *command.split())
    assert done.stdout == "Version 1 of skill refund is active now\n"
    back = " ".join(["roll-back", "refund", *public])
    note = f"note: soorma memory skills {back} goes back to what was active before\n"
    assert done.stderr == note
    facts = skills.facts("refund")
    assert (facts["State"], facts["Trust"], facts["Agent"]) == ("active", "agent", "learner")
    assert facts["Plan"] == "p"
    assert skills.names("--proposed") == []


# --- Active or not -----------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-skills-activate")
def test_activating_rolling_back_and_retiring(skills: Skills) -> None:
    for text in ("one", "two", "three"):
        skills("add", "refund", text, "--draft")
    skills("activate", "refund", "--version", "1")
    assert skills("activate", "refund") == "Version 3 of skill refund is active now\n"
    assert skills("roll-back", "refund") == "Version 1 of skill refund is active now\n"
    assert skills.versions("refund") == [["3", "-"], ["2", "-"], ["1", "active"]]
    done = skills.terminal.run("memory", "skills", "retire", "refund")
    assert done.stdout == "No version of skill refund is active now\n"
    note = "note: soorma memory skills roll-back refund makes active what was\n"
    assert done.stderr == note
    again = skills.terminal.run("memory", "skills", "retire", "refund")
    assert (again.stdout, again.stderr) == (done.stdout, "")
    assert skills.json("roll-back", "refund")["version"] == 1
    assert skills("roll-back", "refund") == "No version of skill refund is active now\n"
    assert "activate a version" in skills.refused("roll-back", "refund")


@pytest.mark.behaviour("command.memory-skills-activate")
def test_a_change_means_the_kind_and_the_owner_that_are_named(skills: Skills) -> None:
    kinds: list[tuple[str, ...]] = [(), ("--kind", "prompt"), ("--public",)]
    for options in kinds:
        skills("add", "refund", "one", *options)
    for place, options in enumerate(kinds):
        skills("outcome", "refund", "1", "--failed", *options)
        found = skills.json("list")["procedures"]
        assert [one.get("failed", 0) for one in found].count(1) == place + 1
    for place, options in enumerate(kinds):
        skills("retire", "refund", *options)
        found = skills.json("list")["procedures"]
        assert [one.get("active") for one in found].count(None) == place + 1
    for options in kinds:
        skills("roll-back", "refund", *options)
    assert skills.json("show", "refund", "--whose", "public")["is_public"]
    assert "is_public" not in skills.json("show", "refund", "--whose", "any")
    assert skills.json("versions", "refund", "--whose", "public")["versions"][0]["is_public"]


@pytest.mark.behaviour("command.memory-skills-activate")
def test_outcomes_are_counted(skills: Skills) -> None:
    skills("add", "refund", REFUND)
    said = skills("outcome", "refund", "1", "--succeeded")
    assert said == "Counted a success of version 1 of skill refund\n"
    said = skills("outcome", "refund", "1", "--failed")
    assert said == "Counted a failure of version 1 of skill refund\n"
    assert skills.json("outcome", "refund", "1", "--succeeded")["outcome"] == "counted"
    assert skills.facts("refund")["Success"] == "0.21 (2 of 3)"
    assert rows(skills("versions", "refund"))[1][2] == "0.21 (2 of 3)"


# --- Relevant ----------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-skills-relevant")
def test_what_an_agent_would_get(skills: Skills, terminal: Terminal) -> None:
    note = "note: no active skill applies to agent support with these facts\n"
    assert skills.notes("relevant", "support", CONTEXT) == note
    skills("add", "refund", REFUND, "--description", ABOUT, "--agent", "support")
    skills("add", "tried", REFUND, "--description", ABOUT)
    skills("add", "ship", "Ask the carrier.", "--description", "Where a parcel is now.")
    skills("add", "gold", REFUND, "--description", ABOUT, "--condition", 'tier="gold"')
    skills("outcome", "tried", "1", "--succeeded")
    done = terminal.run("memory", "skills", "relevant", "support", CONTEXT)
    heading, first, second = rows(done.stdout)
    assert heading == ["Name", "Version", "Success", "Score", "Whose", "Description"]
    assert first[:3] == ["tried", "1", "0.21 (1 of 1)"]
    assert second[:3] == ["refund", "1", "-"]
    assert 0 < float(second[3]) <= 1
    assert second[4:] == ["user", ABOUT]
    assert done.stderr == (
        f"note: shown: 2 of 3 active skills that apply to agent support\n{WORDS_ALONE}"
    )
    answer = Raw(terminal.platform.memory_url, terminal.tenant, DEFAULT_USER)(
        "POST", "/v1/memory/procedural/relevant", {"agent_id": "support", "context": CONTEXT}
    ).json
    assert skills.json("relevant", "support", CONTEXT) == answer

    def found(*arguments: str) -> list[str]:
        return [one["name"] for one in skills.json("relevant", *arguments)["procedures"]]

    assert found("other", CONTEXT) == ["tried"]
    assert found("support", CONTEXT, "--fact", 'tier="gold"') == ["tried", "gold", "refund"]
    assert found("support", CONTEXT, "--limit", "1") == ["tried"]
    assert found("support", CONTEXT, "--max-tokens", "1") == []
    assert found("support", CONTEXT, "--kind", "prompt") == []
    none = terminal.run("memory", "skills", "relevant", "support", "museum", "--mode", "text")
    assert none.stdout == ""
    assert none.stderr == (
        "note: none of 3 active skills that apply to agent support is about this; --min-score 0 "
        "shows the best all the same\n"
    )


@pytest.mark.behaviour("command.memory-skills-relevant")
def test_rules_apply_without_a_context(skills: Skills) -> None:
    for name in ("polite", "short"):
        skills("add", name, f"Be {name}.", "--kind", "rule")
    table = rows(skills("relevant", "support", "--kind", "rule"))
    assert [row[0] for row in table] == ["Name", "polite", "short"]
    assert table[1][-1] == "Be polite."
    note = "note: shown: 1 of 2 active rules that apply to agent support\n"
    assert skills.notes("relevant", "support", "--kind", "rule", "--limit", "1") == note
    assert "--kind rule" in skills.refused("relevant", "support")


# --- Folders -----------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-skills-folders")
def test_folders_are_imported_and_exported(skills: Skills) -> None:
    made = folder(skills, notes=b"\x00\xff")
    folder(skills, "ship", "Ask the carrier.")
    said = skills("import", "refund", str(skills.terminal.folder / "ship"), "--source", "git")
    assert said.splitlines() == [
        "Stored version 1 of skill refund, which is active now",
        "Stored version 1 of skill ship, which is active now",
    ]
    assert skills.facts("refund")["Files"] == "notes (2 bytes)"
    assert skills.facts("ship")["Source"] == "git"
    again = skills.json("import", "refund", "--source", "git")["imported"]
    assert [(one["folder"], one["name"], one["outcome"]) for one in again] == [
        ("refund", "refund", "restated")
    ]
    done = skills.terminal.run("memory", "skills", "import", "ship", "--draft", "--public")
    assert done.stdout == "Stored version 1 of skill ship\n"
    command = "soorma memory skills activate ship --version 1 --public"
    assert done.stderr == f"note: {command} makes it active\n"
    out = skills.terminal.folder / "out"
    assert skills("export", "refund", "out") == f"{out / 'refund'}\n"
    for name in ("SKILL.md", "notes"):
        assert (out / "refund" / name).read_bytes() == (made / name).read_bytes()
    assert "is there already" in skills.refused("export", "refund", "out")
    skills("add", "refund", "Otherwise.", "--description", ABOUT)
    told = skills.json("export", "refund", "older", "--version", "1")
    assert "At once." in (Path(told["folder"]) / "SKILL.md").read_text()
    skills("add", "bare", "Bare.")
    assert "has no description" in skills.refused("export", "bare", "out")


@pytest.mark.behaviour("command.memory-skills-folders", "command.says-what-is-wrong")
def test_a_folder_that_is_none_does_not_keep_the_others_out(skills: Skills) -> None:
    folder(skills)
    large = folder(skills, "large", big=bytes(1024 * 1024))
    (skills.terminal.folder / "empty").mkdir()
    done = skills.terminal.run("memory", "skills", "import", "empty", "refund", "large",
                               exits=Exit.USAGE)  # fmt: skip
    assert done.stdout == "Stored version 1 of skill refund, which is active now\n"
    first, second, last = done.stderr.splitlines()
    assert first.startswith(f"note: not imported: {skills.terminal.folder / 'empty'} has no SKILL")
    assert second.startswith(f"note: not imported: {large}: the skill with its files, in bytes,")
    assert last == "soorma: 2 of 3 folders could not be imported; the others were"
    alone = skills.refused("import", "large", code=Exit.REFUSED)
    assert alone.startswith(f"soorma: {large}: ")
    document = skills.json("import", "refund", "empty", exits=Exit.USAGE)["imported"]
    assert [sorted(one) for one in document] == [
        ["folder", "id", "name", "outcome", "version"],
        ["error", "folder"],
    ]
    assert skills.names() == ["refund"]


# --- Forget ------------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-skills-forget")
def test_forgetting_asks_and_shows_a_receipt(skills: Skills, terminal: Terminal) -> None:
    for text in ("one", "two"):
        skills("add", "refund", text)
    skills("add", "refund", "public", "--public")
    refused = skills.refused("forget", "refund")
    assert refused.endswith("say --yes where nobody can be asked\n")
    code, said = at_terminal(terminal, "memory", "skills", "forget", "refund", answer="n\n")
    assert code == Exit.FAILED
    assert "Skill refund has 2 versions. This removes it with all that was derived" in said
    code, said = at_terminal(terminal, "memory", "skills", "forget", "refund", answer="y\n")
    assert code == Exit.OK, said
    assert "Forgot skill refund: 2 procedure versions\n" in said
    assert re.search(rf"bytes are gone from the database and its log by {SECONDS}", said)
    missing = skills.refused("forget", "refund", "--yes", code=Exit.NOT_FOUND)
    assert "there is no skill 'refund'" in missing, "and the tenant's is not meant"
    assert skills.names() == ["refund"]
    receipt = skills.json("forget", "refund", "--public", "--yes")
    assert (receipt["procedures"], receipt["passages"]) == (1, 0)
    assert skills.names() == []


# --- All of them -------------------------------------------------------------------------------


@pytest.mark.behaviour("command.says-what-is-wrong", "command.memory-skills")
@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (("nope",), Exit.USAGE, "nope"),
        (("--kind", "habit"), Exit.USAGE, "prompt"),
        (("--limit", "0"), Exit.USAGE, "--limit"),
        (("--tenant", "t", "show", "s"), Exit.USAGE, "unexpected extra argument"),
        (("show",), Exit.USAGE, "NAME"),
        (("show", "x"), Exit.NOT_FOUND, "there is no skill 'x': it was never stored, or forgotten"),
        (("show", ".."), Exit.USAGE, "name must not be"),
        (("show", "x", "--version", "0"), Exit.USAGE, "--version"),
        (("show", "x", "--whose", "all"), Exit.USAGE, "own"),
        (("versions", "x"), Exit.NOT_FOUND, "there is no skill 'x'"),
        (("add", "x"), Exit.USAGE, "TEXT"),
        (("add", "x", " "), Exit.USAGE, "is empty"),
        (("add", "", "text"), Exit.USAGE, "name must have"),
        (("add", "x", "\udcff"), Exit.USAGE, "lone surrogate"),
        (("add", "x", "text", "--description", " "), Exit.USAGE, "the description is empty"),
        (("add", "x", "text", "--description", "d" * 1025), Exit.USAGE, "at most 1,024"),
        (("add", "x", "text", "--agent", ".."), Exit.USAGE, "must not be"),
        (("add", "x", "text", "--condition", "tier"), Exit.USAGE, "tier is no NAME=VALUE"),
        (("add", "x", "text", "--condition", "=1"), Exit.USAGE, "is no NAME=VALUE"),
        (("add", "x", "text", "--condition", "tier=gold"), Exit.USAGE, "as 'tier=\"text\"'"),
        (("add", "x", "text", "--condition", "tier=null"), Exit.USAGE, "a text, a number"),
        (("add", "x", "text", "--condition", "tier=[]"), Exit.USAGE, "1 to 64"),
        (
            ("add", "x", "text", "--condition", "a=1", "--condition", "a=2"),
            Exit.USAGE,
            "a is given twice: give a list",
        ),
        (("add", "x", "text", "--metadata", "[7]"), Exit.USAGE, "it is an object"),
        (("add", "x", "x" * 1_048_577), Exit.REFUSED, "passage_bytes"),
        (("import",), Exit.USAGE, "FOLDER"),
        (("import", "nothing"), Exit.USAGE, "nothing cannot be read as a folder"),
        (("export", "x", "."), Exit.NOT_FOUND, "there is no skill 'x'"),
        (("activate", "x"), Exit.NOT_FOUND, "there is no skill 'x'"),
        (("activate", "x", "--public"), Exit.NOT_FOUND, "there is no public skill 'x'"),
        (("activate", "x", "--version", "0"), Exit.USAGE, "--version"),
        (("roll-back", "x", "--kind", "rule"), Exit.NOT_FOUND, "there is no rule 'x'"),
        (("retire", "x"), Exit.NOT_FOUND, "there is no skill 'x'"),
        (("outcome", "x", "1"), Exit.USAGE, "say how it has ended"),
        (("outcome", "x", "0", "--failed"), Exit.USAGE, "VERSION"),
        (("outcome", "x", "one", "--failed"), Exit.USAGE, "VERSION"),
        (("outcome", "x", "1", "--failed"), Exit.NOT_FOUND, "there is no skill 'x'"),
        (("relevant", "a", ""), Exit.USAGE, "context is empty"),
        (("relevant", "a", "\udcff"), Exit.USAGE, "no UTF-8"),
        (("relevant", "", "x"), Exit.USAGE, "agent_id must have"),
        (("relevant", "a", "x", "--fact", "tier=[1]"), Exit.USAGE, "the fact 'tier' is a text"),
        (("relevant", "a", "x", "--fact", "tier"), Exit.USAGE, "no NAME=VALUE"),
        (("relevant", "a", "x", "--limit", "0"), Exit.USAGE, "--limit"),
        (("relevant", "a", "x", "--mode", "vector"), Exit.USAGE, "no embedding model"),
        (("forget", "x", "--yes"), Exit.NOT_FOUND, "there is no skill 'x'"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_what_is_not_possible_is_told(
    skills: Skills, command: tuple[str, ...], code: Exit, told: str
) -> None:
    done = skills.terminal.run("memory", "skills", *command, exits=code)
    assert told in done.stderr
    assert done.stdout == ""
    assert skills.names() == []


@pytest.mark.behaviour("command.whose")
@pytest.mark.parametrize("option", ["--tenant", "--user"])
def test_another_tenant_or_user_sees_nothing(skills: Skills, option: str) -> None:
    skills("add", "refund", REFUND, "--description", ABOUT)
    other = (option, unique("other"))
    assert skills.names(*other) == []
    assert skills.json("relevant", "support", CONTEXT, *other)["procedures"] == []
    for command in (
        ("show", "refund"),
        ("versions", "refund"),
        ("export", "refund", "out"),
        ("activate", "refund"),
        ("roll-back", "refund"),
        ("retire", "refund"),
        ("outcome", "refund", "1", "--failed"),
        ("forget", "refund", "--yes"),
    ):
        skills.refused(*command, *other, code=Exit.NOT_FOUND)
    skills("add", "refund", "Mine.", *other)
    assert skills.json("show", "refund")["content"] == REFUND
    skills("add", "shared", "Ours.", "--public", *other)
    assert skills.names() == (["shared", "refund"] if option == "--user" else ["refund"])


@pytest.mark.behaviour("command.tables")
def test_tables_on_a_terminal(skills: Skills) -> None:
    skills("add", "refund", REFUND, "--description", f"{ABOUT} {ABOUT}")
    for command in ((), ("versions", "refund"), ("relevant", "support", CONTEXT)):
        code, said = at_terminal(skills.terminal, "memory", "skills", *command)
        assert code == Exit.OK
        table = [line for line in said.splitlines() if not line.startswith("note: ")]
        assert max(map(len, table)) <= 80
        assert "How a customer gets" in said
