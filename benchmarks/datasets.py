"""Reads sets that measure retrieval: LongMemEval, LoCoMo, and the form that we document.

The form is told by the content of a file. What cannot be read is a `DatasetError`, which names the
place and what is expected there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dataset_lines
import dataset_public
from dataset_rows import Dataset, DatasetError

FORMS = (
    "JSON lines with passages and queries (benchmarks/retrieval/README.md), LongMemEval's list of "
    "questions with `haystack_sessions`, or LoCoMo's list of samples with `conversation` and `qa`"
)


def load(path: Path) -> Dataset:
    """Reads a set; raises DatasetError if it is none of the forms, or malformed."""
    try:
        content = path.read_text("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path.name}, byte {error.start}: expected text in UTF-8") from error
    found = _read(path.name, content)
    if not found.questions:
        notes = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise DatasetError(f"{path.name}: expected one question at least that can be scored{notes}")
    return found


def _read(name: str, content: str) -> Dataset:
    match content.lstrip()[:1]:
        case "[":
            return _of_list(name, _value(name, content))
        case "{":
            whole = _object(content)
            return dataset_lines.read(name, content) if whole is None else _of_list(name, [whole])
        case _:
            raise DatasetError(f"{name}, its beginning: expected {FORMS}")


def _value(name: str, content: str) -> list[Any]:
    try:
        found: list[Any] = json.loads(content)
    except json.JSONDecodeError as error:
        place = f"{name}, line {error.lineno}, column {error.colno}"
        raise DatasetError(f"{place}: expected a JSON array: {error.msg}") from error
    return found


def _object(content: str) -> dict[str, Any] | None:
    """Returns a single sample of a public set; None for lines."""
    try:
        found: dict[str, Any] = json.loads(content)
    except json.JSONDecodeError:
        return None
    return found if found.keys() & {"conversation", "haystack_sessions"} else None


def _of_list(name: str, rows: list[Any]) -> Dataset:
    first = rows[0] if rows and isinstance(rows[0], dict) else {}
    if "haystack_sessions" in first:
        return dataset_public.longmemeval(name, rows)
    if "conversation" in first:
        return dataset_public.locomo(name, rows)
    raise DatasetError(f"{name}, first entry: expected {FORMS}")
