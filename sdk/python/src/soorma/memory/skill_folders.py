"""Skills as folders: a SKILL.md with what the skill says, and the files that belong to it.

The format is that of the Agent Skills specification: frontmatter in YAML with `name` and
`description`, then Markdown. Its other fields are kept as metadata. Nothing of a folder is
executed; links and special files are refused, and names that begin with a dot are passed over.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import yaml

from soorma_common.errors import InvalidRequest, LimitExceeded
from soorma_common.limits import Limits
from soorma_common.procedural import MOST_FILES, ProcedureVersion, check_path

FILE = "SKILL.md"
LONGEST_NAME = 64
LARGEST_FRONTMATTER = 32 * 1024
"""Characters: a parser of YAML takes a second for some hundred thousand."""
DEEPEST = 16
"""Folders within each other."""
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_FRONTMATTER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_PASSED_OVER = "__pycache__"
_OWN = ("agents", "tags", "conditions")
"""What other programs do not know, each as JSON text in the field `metadata`."""
_OWN_PREFIX = "soorma-"
# Without following a link, and without waiting for whoever would write to a pipe.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class SkillFolder(msgspec.Struct, kw_only=True):
    """What a folder says: the arguments of `store_procedure`."""

    name: str
    description: str
    content: str
    metadata: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    agents: list[str] = []
    tags: list[str] = []
    conditions: dict[str, Any] | None = None


def read_skill(folder: Path) -> SkillFolder:
    """Reads the folder of a skill.

    Raises InvalidRequest, with the path, for what is no such folder, a link, or a special file;
    LimitExceeded if it has too many files, or more than 1 MiB.
    """
    folder = folder.expanduser().resolve()
    try:
        opened = os.open(folder, _OPEN_FOLDER)
    except OSError as error:
        raise InvalidRequest(f"{folder} cannot be read as a folder: {error.strerror}") from error
    try:
        files = dict(_files(opened, "", DEEPEST))
    except (InvalidRequest, LimitExceeded) as error:
        raise type(error)(f"{folder}: {error.message}", **error.details) from error
    finally:
        os.close(opened)
    text = files.pop(FILE, None)
    if text is None:
        raise InvalidRequest(f"{folder} has no {FILE}, and so is no folder of a skill")
    try:
        return _skill(folder.name, text, files)
    except InvalidRequest as error:
        raise InvalidRequest(f"{folder / FILE}: {error.message}") from error


def _files(folder: int, prefix: str, deepest: int) -> Iterator[tuple[str, bytes]]:
    """Yields the files of an open folder, by their paths in it; raises once they are too many."""
    count = size = 0
    for path, content in _all_files(folder, prefix, deepest):
        count, size = count + 1, size + len(content)
        if count > MOST_FILES + 1:
            raise LimitExceeded(f"a skill has at most {MOST_FILES} files beside its {FILE}")
        Limits().check("passage_bytes", size, "the skill with its files, in bytes,")
        yield path, content


def _all_files(folder: int, prefix: str, deepest: int) -> Iterator[tuple[str, bytes]]:
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") or name == _PASSED_OVER:
            continue
        path = f"{prefix}{name}"
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            if not deepest:
                raise InvalidRequest(f"{path}: folders within each other are {DEEPEST} at most")
            within = os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            try:
                yield from _all_files(within, f"{path}/", deepest - 1)
            finally:
                os.close(within)
        elif stat.S_ISREG(mode):
            if path != FILE:
                check_path(path)
            yield path, _content(folder, name, path)
        else:
            what = "a link" if stat.S_ISLNK(mode) else "no regular file"
            raise InvalidRequest(f"{path} is {what}: a skill has only files of its own")


def _content(folder: int, name: str, path: str) -> bytes:
    try:
        opened = os.open(name, _OPEN_FILE, dir_fd=folder)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it was replaced meanwhile
            raise InvalidRequest(f"{path} is no regular file: a skill has only files of its own")
        return file.read(Limits().passage_bytes + 1)


def _skill(folder_name: str, text: bytes, files: dict[str, bytes]) -> SkillFolder:
    try:
        whole = text.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"it is no UTF-8: {error}") from error
    found = _FRONTMATTER.match(whole)
    if found is None:
        raise InvalidRequest("it begins with no frontmatter: a line ---, fields in YAML, and ---")
    fields = _fields(found[1])
    name, description = fields.pop("name", None), fields.pop("description", None)
    check_skill_name(name)
    if name != folder_name:
        raise InvalidRequest(f"its name is {name!r}, and its folder is called {folder_name!r}")
    if not isinstance(description, str) or not description.strip():
        raise InvalidRequest("its description is missing: what the skill does, and when to use it")
    content = whole[found.end() :].strip()
    if not content:
        raise InvalidRequest("it says nothing below its frontmatter")
    own = _taken_out(fields)
    return SkillFolder(
        name=name,
        description=description.strip(),
        content=content,
        metadata=fields,
        files=files,
        agents=own.get("agents", []),
        tags=own.get("tags", []),
        conditions=own.get("conditions"),
    )


def check_skill_name(name: Any) -> None:
    """Raises InvalidRequest unless the Agent Skills specification allows the name."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        quotes = "" if isinstance(name, str) else ", in quotes if it looks like anything else"
        raise InvalidRequest(
            f"in a folder, the name of a skill has 1 to {LONGEST_NAME} lowercase letters, digits "
            f"and single hyphens between them{quotes}; not {name!r:.80}"
        )


def _fields(text: str) -> dict[str, Any]:
    """Reads the frontmatter: an object, each of its keys once, without references."""
    if len(text) > LARGEST_FRONTMATTER:
        raise InvalidRequest(
            f"its frontmatter has {len(text):,} characters, and may have {LARGEST_FRONTMATTER:,}"
        )
    try:
        # A reference multiplies what it stands for: ten lines of them are gigabytes.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InvalidRequest("its frontmatter has references (* and &), which are not allowed")
        _check_keys(yaml.compose(text, yaml.SafeLoader))
        fields = _plain(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InvalidRequest(f"its frontmatter is no YAML: {error}") from error
    except (RecursionError, ValueError) as error:
        raise InvalidRequest(f"its frontmatter cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("its frontmatter has no fields: name and description at least")
    return fields


def _check_keys(node: yaml.Node | None) -> None:
    """Raises InvalidRequest for a key that is given twice: YAML would take the last one."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise InvalidRequest(f"its frontmatter has {min(twice)!r} twice")
        for _, value in node.value:
            _check_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value)


def _plain(value: Any) -> Any:
    """Returns what JSON can say of a value of YAML: dates as text, and keys too."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, date):  # or a time
        return value.isoformat()
    if isinstance(value, bytes | set):
        raise InvalidRequest(f"its frontmatter has a {type(value).__name__}, which is not allowed")
    return value


def _taken_out(fields: dict[str, Any]) -> dict[str, Any]:
    """Takes what this platform has written of its own out of the fields."""
    metadata = fields.get("metadata")
    if not isinstance(metadata, dict):
        return {}
    own: dict[str, Any] = {}
    for name in _OWN:
        text = metadata.pop(_OWN_PREFIX + name, None)
        if text is None:
            continue
        try:
            own[name] = msgspec.json.decode(text, type=dict if name == "conditions" else list[str])
        except (msgspec.DecodeError, TypeError) as error:
            raise InvalidRequest(f"metadata {_OWN_PREFIX}{name}: {error}") from error
    if not metadata:
        del fields["metadata"]
    return own


def write_skill(skill: ProcedureVersion, files: Mapping[str, bytes], parent: Path) -> Path:
    """Writes the folder of a skill into `parent`, and returns its path: all of it or nothing.

    Raises InvalidRequest if there is something of that name, if the name or the description is
    not one of the format, or a path leads out of the folder.
    """
    check_skill_name(skill.name)
    if skill.description is None:
        raise InvalidRequest(
            f"skill {skill.name!r} has no description, which a {FILE} must have: store it with one"
        )
    folder = parent.expanduser().resolve() / skill.name
    if os.path.lexists(folder):
        raise InvalidRequest(f"{folder} is there already: remove it, or choose another place")
    for path in files:
        check_path(path)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{skill.name}.", dir=folder.parent))
    except OSError as error:
        raise InvalidRequest(f"{folder.parent} cannot be written: {error.strerror}") from error
    try:
        (made / FILE).write_text(_text(skill), encoding="utf-8")
        for path, content in files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_bytes(content)
        made.chmod(0o755)  # as of a folder that was not made for a while
        made.rename(folder)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise InvalidRequest(f"{folder} cannot be written: {error.strerror}") from error
    return folder


def _text(skill: ProcedureVersion) -> str:
    fields = {"name": skill.name, "description": skill.description, **(skill.metadata or {})}
    own = {
        _OWN_PREFIX + name: msgspec.json.encode(value).decode()
        for name in _OWN
        if (value := getattr(skill, name))
    }
    if own:
        others = fields.get("metadata", {})
        if not isinstance(others, dict):
            raise InvalidRequest(
                f"the field metadata of a {FILE} is an object, and that of skill {skill.name!r} is "
                "none, so that nothing can be added to it"
            )
        fields["metadata"] = {**others, **own}
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---\n\n{skill.content}\n"
