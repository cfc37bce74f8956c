"""Patterns of an operator's own secrets: a small language whose matching is always fast.

It is a part of regular expressions: a text of its own to begin with, then characters and classes,
each with a bounded repetition that takes as many as it can. There are no groups, alternatives or
unbounded repetitions, so that no text makes a match slow.
"""

from __future__ import annotations

import re

from soorma_common.errors import InvalidRequest
from soorma_platform.engine.secrets.formats import Format, _whole

MOST_PATTERNS = 32
LARGEST_FILE = 64 * 1024
"""Maximum characters of all patterns."""
LONGEST_SECRET = 256
"""Maximum characters that a pattern may match."""
LEAST_START = 3
"""Least characters with which a pattern begins."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,39}")
_ATOM = re.compile(
    r"(?P<one>\\[dw]|\\[^A-Za-z0-9\s]|\[\^?(?:\\[dw]|\\[^A-Za-z0-9\s]|[^\]\[\\])+\]"
    r"|[^\\\[\](){}|*+?.^$])(?P<times>\{[0-9]{1,3}(?:,[0-9]{1,3})?\}|\?)?"
)


def parse_patterns(text: str, where: str) -> list[Format]:
    """Returns the formats in a text of lines `kind: pattern`; `#` begins a comment.

    Raises InvalidRequest, which names the line in `where`, for what is no pattern.
    """
    if len(text) > LARGEST_FILE:
        raise InvalidRequest(f"{where} has at most {LARGEST_FILE:,} characters, not {len(text):,}")
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found.append(_parsed(line.strip(), f"line {number} of {where}"))
    if len(found) > MOST_PATTERNS:
        raise InvalidRequest(f"{where} has at most {MOST_PATTERNS} patterns, not {len(found)}")
    return found


def _parsed(line: str, where: str) -> Format:
    kind, colon, pattern = (part.strip() for part in line.partition(":"))
    if not colon or not _NAME.fullmatch(kind):
        raise InvalidRequest(
            f"{where} is `kind: pattern`, where the kind is letters, digits and spaces, such as "
            "`badge number: BADGE-[0-9]{6}`"
        )
    atoms, at = [], 0
    while at < len(pattern):
        atom = _ATOM.match(pattern, at)
        if atom is None:
            raise InvalidRequest(
                f"{where} has what no pattern may at character {at + 1} of it: a pattern is made "
                r"of characters, \d, \w and classes such as [a-z0-9], each with ?, {n} or {n,m} "
                "behind it if it is repeated; a special character has a backslash before it"
            )
        atoms.append(atom)
        at = atom.end()
    anchor = _start_of(atoms)
    if len(anchor) < LEAST_START:
        raise InvalidRequest(
            f"{where} must begin with {LEAST_START} characters of its own or more, as they are: "
            "a text without them is not looked at"
        )
    if (longest := sum(_most(atom, where) for atom in atoms)) > LONGEST_SECRET:
        raise InvalidRequest(
            f"{where} may match {longest} characters; the maximum is {LONGEST_SECRET}"
        )
    return Format(kind, anchor, _compiled(atoms, where), _whole)


def _compiled(atoms: list[re.Match[str]], where: str) -> re.Pattern[str]:
    text = "".join(one[0] + ("+" if one["times"] else "") for one in atoms)
    try:
        return re.compile(text, re.ASCII)
    except re.error as error:
        raise InvalidRequest(f"{where} is no pattern: {error.msg}") from error


def _start_of(atoms: list[re.Match[str]]) -> str:
    """Returns the characters with which every match begins."""
    start = ""
    for atom in atoms:
        one = atom["one"]
        if atom["times"] or one.startswith("[") or one in (r"\d", r"\w"):
            break
        start += one[-1]
    return start


def _most(atom: re.Match[str], where: str) -> int:
    times = (atom["times"] or "").strip("{}")
    if times in ("", "?"):
        return 1
    least, _, most = times.partition(",")
    if most and int(most) < int(least):
        raise InvalidRequest(f"{where} repeats {least} to {most} times, which is never")
    return int(most or least)
