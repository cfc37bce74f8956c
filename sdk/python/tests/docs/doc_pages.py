"""The Markdown pages of the repository: their blocks of code, their links and their anchors.

An HTML comment before a block says how to read it, and is not shown to readers:

    <!-- doc: setup            code that runs before the block, up to the end of the comment
    <!-- doc: then             behind a block: code that runs after it
    <!-- doc: preamble -->     the block runs before each other Python block of the page, for its
                               names
    <!-- doc: continues -->    the block goes on where the Python block before it has ended
    <!-- doc: handler {…} -->  the block is the body of a handler; the JSON is its event's data
    <!-- doc: excerpt of F --> the block is part of the file F; a line `# …` stands for an omission
    <!-- doc: output of C -->  the block shows lines that the command C prints

Without one, a Python block runs by itself. The names it uses are defined by itself or by the page's
preamble: a reader sees both.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[4]
LANGUAGES = {"python", "bash", "text", "json", "toml"}

_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*(\S*)")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_DEFINITION = re.compile(r"^\s*\[[^\]]+\]:\s*(\S+)")
_BARE = re.compile(r"https?://[^\s<>()\"']+")


@dataclass
class Block:
    """A fenced block: its place, its content, and the remarks about it."""

    page: Path
    line: int
    language: str
    code: str
    setup: str = ""
    then: str = ""
    continues: bool = False
    is_preamble: bool = False
    handler: dict[str, Any] | None = None
    excerpt_of: str = ""
    output_of: str = ""

    @property
    def name(self) -> str:
        """The path and line of the block."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a block for the shell: one a line, without comments."""
        lines = re.sub(r"\\\n\s*", "", self.code).splitlines()
        told = [re.sub(r"\s+#\s.*$", "", line).strip() for line in lines]
        return [line for line in told if line and not line.startswith("#")]


@dataclass
class Page:
    """A page; `prose` is its text outside blocks and comments, with line numbers."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    prose: list[tuple[int, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The path of the page."""
        return str(self.path.relative_to(ROOT))

    def links(self) -> Iterator[tuple[int, str]]:
        """Every target that the page names, with its line."""
        for number, text in self.prose:
            line = _without_code(text)
            for pattern in (_LINK, _DEFINITION, _BARE):
                for found in pattern.finditer(line):
                    yield number, (found[1] if pattern.groups else found[0]).rstrip(".,;:")

    def anchors(self) -> set[str]:
        """The anchors of the page's headings."""
        found: set[str] = set()
        for _, line in self.prose:
            if heading := re.match(r"#{1,6}\s+(.+?)\s*#*$", line):
                text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
                slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
                number = 0
                while (anchor := f"{slug}-{number}" if number else slug) in found:
                    number += 1
                found.add(anchor)
        return found

    def section(self, title: str) -> str:
        """The text under a heading of the second level, blocks included."""
        parts = re.split(r"^## (.+)$", self.path.read_text("utf-8"), flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))[title]


def _without_code(line: str) -> str:
    return re.sub(r"(`+).+?\1", "``", line)


@cache
def pages() -> dict[Path, Page]:
    """All pages of the repository."""
    found = sorted(ROOT.rglob("*.md"))
    return {path: read(path) for path in found if not _is_of_others(path.relative_to(ROOT))}


def _is_of_others(path: Path) -> bool:
    """True if a file lies in a tool's folder or in somebody's environment."""
    return any(part.startswith(".") or part == "site-packages" for part in path.parts)


def blocks(*languages: str) -> list[Block]:
    """All blocks in one of these languages."""
    return [
        block for page in pages().values() for block in page.blocks if block.language in languages
    ]


def chains() -> list[list[Block]]:
    """The Python blocks that run, each with those that continue it."""
    found: list[list[Block]] = []
    for page in pages().values():
        for block in page.blocks:
            if block.language != "python" or block.excerpt_of or block.is_preamble:
                continue
            if block.continues:
                assert found, f"{block.name} continues nothing"
                assert found[-1][0].page == block.page, (
                    f"{block.name} continues a block of another page"
                )
                found[-1].append(block)
            else:
                found.append([block])
    return found


def preamble_of(page: Path) -> Block | None:
    """The block that runs before each other of the page."""
    found = [block for block in pages()[page].blocks if block.is_preamble]
    assert len(found) < 2, f"{page} has several preambles"
    return found[0] if found else None


def read(path: Path) -> Page:
    """The page of a file."""
    page = Page(path)
    lines = iter(enumerate(path.read_text("utf-8").splitlines(), 1))
    said: list[tuple[str, str]] = []
    for number, line in lines:
        if line.startswith("<!--"):
            _take_comment(page, said, _comment(line, lines))
        elif fence := _FENCE.match(line):
            body = _body(lines, fence[2])
            assert body is not None, f"{page.name}:{number}: the block has no end"
            block = Block(path, number + 1, fence[3], textwrap.dedent(body))
            _describe(block, said)
            said.clear()
            page.blocks.append(block)
        else:
            page.prose.append((number, line))
            assert not said or not line.strip(), (
                f"{page.name}:{number}: a comment that speaks of no block"
            )
    return page


def _comment(line: str, lines: Iterator[tuple[int, str]]) -> str:
    text = line
    while "-->" not in text:
        text += "\n" + next(lines)[1]
    return text.removeprefix("<!--").partition("-->")[0]


def _body(lines: Iterator[tuple[int, str]], fence: str) -> str | None:
    body = []
    for _, line in lines:
        if line.strip() == fence:
            return "\n".join(body) + "\n"
        body.append(line)
    return None


def _take_comment(page: Page, said: list[tuple[str, str]], text: str) -> None:
    if not text.strip().startswith("doc:"):
        return
    first, _, code = text.strip().removeprefix("doc:").strip().partition("\n")
    word, _, rest = first.partition(" ")
    if word == "then":
        assert page.blocks, f"{page.name}: `then` behind no block"
        page.blocks[-1].then += code + "\n"
    else:
        said.append((word, code if word == "setup" else rest.strip()))


def _describe(block: Block, said: list[tuple[str, str]]) -> None:
    for word, rest in said:
        match word:
            case "setup":
                block.setup += rest + "\n"
            case "preamble":
                block.is_preamble = True
            case "continues":
                block.continues = True
            case "handler":
                block.handler = json.loads(rest or "{}")
            case "excerpt":
                block.excerpt_of = rest.removeprefix("of ")
            case "output":
                block.output_of = rest.removeprefix("of ")
            case _:
                raise AssertionError(f"{block.name}: there is no directive {word!r}")
