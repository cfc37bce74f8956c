"""Reads the form of a set that we document: passages and queries, one JSON object a line."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from dataset_rows import Dataset, DatasetError, Haystack, Passage, Question, Row, text, texts

FIELDS = ("source", "tags", "aliases", "valid_from", "valid_until", "supersedes", "subject",
          "attribute")  # fmt: skip
"""Of a passage, besides its id and content; `supersedes` is the id of one above it."""
FILTERS = ("as_of", "source", "tags")
PASSAGE_KEYS = {"id", "content", "scope", "user", "public", "group", *FIELDS}
QUERY_KEYS = {"id", "query", "kind", "scope", "wanted", "unwanted", "passage", *FILTERS}
_LISTS = ("tags", "aliases")
_TIMES = ("valid_from", "valid_until", "as_of")


def read(name: str, lines: str) -> Dataset:
    """Reads all lines; each query names passages of its own scope, above it or below."""
    haystacks: dict[str, Haystack] = {}
    ids: dict[str, set[str]] = {}
    asked: list[tuple[str, str, Question]] = []
    for number, line in enumerate(lines.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        row = _object(place, line)
        scope = text(place, row, "scope", "")
        haystack = haystacks.setdefault(scope, Haystack(scope))
        if "query" in row:
            question = _question(place, row)
            haystack.questions.append(question)
            asked.append((place, scope, question))
        else:
            _add(place, haystack, ids.setdefault(scope, set()), _passage(place, row))
    for place, scope, question in asked:
        for one in sorted(question.wanted | question.unwanted):
            if one not in ids.get(scope, ()):
                raise DatasetError(
                    f"{place}: expected the id of a passage of its scope, not {one!r}"
                )
    return Dataset("JSON lines", [one for one in haystacks.values() if one.questions])


def _object(place: str, line: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DatasetError(f"{place}: expected a JSON object on each line: {error}") from error
    if not isinstance(row, dict) or not ("content" in row or "query" in row):
        raise DatasetError(
            f"{place}: expected an object with `content` (a passage) or `query` (a query)"
        )
    known = QUERY_KEYS if "query" in row else PASSAGE_KEYS
    if unknown := sorted(row.keys() - known):
        raise DatasetError(
            f"{place}: {unknown[0]!r} is not a field of it: expected {', '.join(sorted(known))}"
        )
    return row


def _passage(place: str, row: Row) -> Passage:
    fields = {name: row[name] for name in FIELDS if name in row}
    _check(place, fields)
    if not isinstance(row.get("public", False), bool):
        raise DatasetError(f"{place}: expected true or false as `public`")
    return Passage(
        text(place, row, "id"), text(place, row, "content"), text(place, row, "group", ""),
        text(place, row, "user", ""), row.get("public", False), fields,
    )  # fmt: skip


def _question(place: str, row: Row) -> Question:
    if "passage" in row and "wanted" in row:
        raise DatasetError(f"{place}: expected either `wanted` or `passage`, not both")
    wanted = [text(place, row, "passage")] if "passage" in row else texts(place, row, "wanted")
    how = {name: row[name] for name in FILTERS if name in row}
    _check(place, how)
    unwanted = texts(place, row, "unwanted") if "unwanted" in row else []
    return Question(
        text(place, row, "query"), frozenset(wanted), frozenset(unwanted),
        text(place, row, "kind", ""), how,
    )  # fmt: skip


def _check(place: str, fields: Row) -> None:
    for name, value in fields.items():
        if name in _LISTS:
            texts(place, fields, name)
        elif name in _TIMES:
            _moment(place, name, value)
        else:
            text(place, fields, name)


def _moment(place: str, name: str, value: Any) -> None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise DatasetError(
            f"{place}: expected a time with its zone as `{name}`, such as 2026-02-10T12:00:00Z, "
            f"not {value!r:.40}"
        )


def _add(place: str, haystack: Haystack, ids: set[str], passage: Passage) -> None:
    if passage.id in ids:
        raise DatasetError(f"{place}: expected an id of its own, {passage.id!r} is there already")
    old = passage.fields.get("supersedes")
    if old is not None and old not in ids:
        raise DatasetError(f"{place}: expected a passage above it as `supersedes`, not {old!r}")
    ids.add(passage.id)
    haystack.passages.append(passage)
