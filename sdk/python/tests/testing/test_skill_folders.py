"""Skills as folders: what is imported and exported, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soorma.errors import InvalidRequest, LimitExceeded, NotFound, SoormaError
from soorma.memory.skill_folders import read_skill, write_skill
from soorma.testing import LocalPlatform
from soorma_common.procedural import ProcedureVersion
from soorma_common.times import time_of

HEAD = "---\nname: refund\ndescription: How a customer gets money back.\n"
BODY = "# Refunds\n\nUp to 50 EUR: at once."
SKILL = f"{HEAD}license: MIT\nmetadata:\n  author: team\n---\n\n{BODY}\n"


def folder(parent: Path, text: str | bytes = SKILL, name: str = "refund", **files: bytes) -> Path:
    """Makes the folder of a skill."""
    made = parent / name
    made.mkdir()
    (made / "SKILL.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    for path, content in files.items():
        (made / path).write_bytes(content)
    return made


@pytest.mark.behaviour("procedures.folders")
async def test_a_folder_is_imported_and_exported_as_it_was(
    soorma_platform: LocalPlatform, tmp_path: Path
) -> None:
    memory = soorma_platform.context.memory
    made = folder(tmp_path, notes=b"\x00\xff")
    (made / "references").mkdir()
    (made / "references" / "limits.md").write_text("# Limits\n")
    (made / ".git").mkdir()
    (made / ".git" / "config").write_text("secret")
    done = await memory.import_skill(made, source="repository")
    skill = await memory.get_procedure("refund")
    assert (skill.id, skill.content) == (done.id, BODY)
    assert skill.description == "How a customer gets money back."
    assert skill.metadata == {"license": "MIT", "metadata": {"author": "team"}}
    assert sorted(skill.files) == ["notes", "references/limits.md"]
    assert (await memory.import_skill(made, source="repository")).outcome == "restated"
    exported = await memory.export_skill("refund", tmp_path / "out")
    assert exported == tmp_path / "out" / "refund"
    assert {
        str(path.relative_to(exported)): path.read_bytes()
        for path in exported.rglob("*")
        if path.is_file()
    } == {
        "SKILL.md": SKILL.encode(),
        "notes": b"\x00\xff",
        "references/limits.md": b"# Limits\n",
    }
    with pytest.raises(InvalidRequest, match="is there already"):
        await memory.export_skill("refund", tmp_path / "out")
    with pytest.raises(NotFound):
        await memory.export_skill("refund", tmp_path / "other", 2)
    assert not (tmp_path / "other").exists()


@pytest.mark.behaviour("procedures.folders")
async def test_whom_and_where_it_applies_is_exported_too(
    soorma_platform: LocalPlatform, tmp_path: Path
) -> None:
    memory = soorma_platform.context.memory
    await memory.store_procedure(
        "refund",
        "At once.",
        description="How a customer gets money back.",
        agents=["support"],
        conditions={"tier": ["gold", 1]},
        tags=["money"],
    )
    exported = await memory.export_skill("refund", tmp_path)
    await memory.import_skill(exported, user_id="other")
    skill = await memory.get_procedure("refund", user_id="other")
    assert (skill.agents, skill.tags) == (["support"], ["money"])
    assert (skill.conditions, skill.metadata) == ({"tier": ["gold", 1]}, None)
    await memory.store_procedure("Not a name", "At once.", description="x")
    with pytest.raises(InvalidRequest, match="lowercase letters"):
        await memory.export_skill("Not a name", tmp_path)
    await memory.store_procedure("bare", "At once.")
    with pytest.raises(InvalidRequest, match="has no description"):
        await memory.export_skill("bare", tmp_path)


BAD: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "no frontmatter"),
    "no end": (HEAD, "no frontmatter"),
    "no fields": ("---\n---\nBody", "no fields"),
    "a list": ("---\n- a\n---\nBody", "no fields"),
    "no name": ("---\ndescription: x\n---\nBody", "name of a skill"),
    "a boolean": ("---\nname: no\ndescription: x\n---\nBody", "in quotes"),
    "another name": ("---\nname: other\ndescription: x\n---\nBody", "folder is called 'refund'"),
    "no description": ("---\nname: refund\n---\nBody", "description is missing"),
    "no body": (f"{HEAD}---\n\n", "says nothing"),
    "twice": (f"{HEAD}name: refund\n---\nBody", "'name' twice"),
    "a reference": (f"{HEAD}a: &a [1]\nb: *a\n---\nBody", "references"),
    "a tag": (f"{HEAD}a: !!python/object/apply:os.system [ls]\n---\nBody", "no YAML"),
    "bytes": (f"{HEAD}a: !!binary aGk=\n---\nBody", "bytes"),
    "deep": (f"{HEAD}a: {'[' * 2_000}\n---\nBody", "frontmatter"),
    "wide": (f"{HEAD}a: {'x' * 40_000}\n---\nBody", "32,768"),
    "no text": (b"---\nname: refund\ndescription: \xff\n---\nBody", "no UTF-8"),
    "a control character": (f"{HEAD}a: \x01\n---\nBody", "no YAML"),
    "not a number": (f"{HEAD}a: .nan\n---\nBody", "JSON"),
    "no list": (f"{HEAD}metadata:\n  soorma-agents: '7'\n---\nBody", "soorma-agents"),
}


@pytest.mark.behaviour("procedures.folders-refused")
@pytest.mark.parametrize("what", BAD)
async def test_what_is_no_skill_is_refused(
    soorma_platform: LocalPlatform, tmp_path: Path, what: str
) -> None:
    text, says = BAD[what]
    with pytest.raises(SoormaError, match=says):
        await soorma_platform.context.memory.import_skill(folder(tmp_path, text))


@pytest.mark.behaviour("procedures.folders-refused")
async def test_links_and_special_files_are_refused(
    soorma_platform: LocalPlatform, tmp_path: Path
) -> None:
    memory = soorma_platform.context.memory
    secret = tmp_path / "secret"
    secret.write_text("the password")
    made = folder(tmp_path)
    inside = made / "inside"
    (made / "sub").mkdir()
    for place in (inside, made / "sub" / "deep"):
        for target in (secret, tmp_path, made / "SKILL.md", Path("nowhere")):
            place.symlink_to(target)
            with pytest.raises(InvalidRequest, match=f"{made}: .*is a link"):
                await memory.import_skill(made)
            place.unlink()
    os.mkfifo(inside)
    with pytest.raises(InvalidRequest, match="no regular file"):
        await memory.import_skill(made)
    inside.unlink()
    (made / "SKILL.md").unlink()
    (made / "SKILL.md").symlink_to(secret)
    with pytest.raises(InvalidRequest, match="is a link"):
        await memory.import_skill(made)
    for no_folder in (tmp_path / "nothing", secret):
        with pytest.raises(InvalidRequest, match="cannot be read as a folder"):
            await memory.import_skill(no_folder)
    with pytest.raises(InvalidRequest, match=r"has no SKILL\.md"):
        await memory.import_skill(made / "sub")


@pytest.mark.behaviour("procedures.folders-refused")
async def test_a_folder_that_is_too_large_is_refused(
    soorma_platform: LocalPlatform, tmp_path: Path
) -> None:
    memory = soorma_platform.context.memory
    made = folder(tmp_path, large=bytes(1024 * 1024))
    with pytest.raises(LimitExceeded, match=f"{made}: the skill with its files"):
        await memory.import_skill(made)
    (made / "large").unlink()
    for number in range(101):
        (made / f"file-{number}").touch()
    with pytest.raises(LimitExceeded, match="100 files"):
        await memory.import_skill(made)
    (made / "file-7").unlink()
    assert (await memory.import_skill(made)).version == 1
    deep = made
    for _ in range(17):
        deep /= "d"
        deep.mkdir()
    with pytest.raises(InvalidRequest, match="within each other"):
        await memory.import_skill(made)


NAMES = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)
LINES = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp", "Cn", "Co")), min_size=1
).filter(lambda text: text.strip() == text != "")
SCALARS = LINES | st.integers(-(2**40), 2**40) | st.booleans()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LINES, inner, max_size=3)
)
FILES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/".join([*names, "f.x"])),
    st.binary(max_size=64),
    max_size=4,
)


@pytest.mark.behaviour("procedures.folders")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=NAMES,
    description=LINES,
    body=st.lists(LINES, min_size=1, max_size=4).map("\n".join),
    fields=st.dictionaries(LINES.filter(lambda key: key not in ("name", "description", "metadata")),
                           VALUES, max_size=3),
    files=FILES,
    tags=st.lists(LINES, max_size=2),
    number=st.integers(0, 10**12),
)  # fmt: skip
def test_whatever_is_exported_is_imported_as_it_was(
    tmp_path: Path,
    name: str,
    description: str,
    body: str,
    fields: dict[str, Any],
    files: dict[str, bytes],
    tags: list[str],
    number: int,
) -> None:
    skill = ProcedureVersion(
        id="i", kind="skill", name=name, version=1, is_active=True, created_at=time_of(0),
        updated_at=time_of(0), trust="application", description=description,
        metadata=fields or None, tags=tags, content=body,
    )  # fmt: skip
    parent = tmp_path / f"{number}-{len(list(tmp_path.iterdir()))}"
    read = read_skill(write_skill(skill, files, parent))
    assert (read.name, read.description, read.content) == (name, description, body)
    assert (read.metadata, read.files, read.tags) == (fields, files, tags)
