"""Reads LongMemEval and LoCoMo, as they are published."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from dataset_rows import Dataset, DatasetError, Haystack, Passage, Question, Row, text, texts

_evidence = re.compile(r"D(\d+):(\d+)")
_session = re.compile(r"session_(\d+)")


def longmemeval(name: str, rows: list[Any]) -> Dataset:
    """Reads questions, each with a haystack of its own; those for abstention want nothing."""
    found, empty, unmarked = Dataset("LongMemEval", []), 0, 0
    for number, row in enumerate(rows, 1):
        haystack, without_text = _longmemeval_question(f"{name}, question {number}", row)
        empty += without_text
        if haystack.questions:
            found.haystacks.append(haystack)
        else:
            unmarked += 1
    if unmarked:
        found.notes.append(f"{unmarked:,} questions without a turn with has_answer left out")
    if empty:
        found.notes.append(f"{empty:,} empty turns left out")
    return found


def _longmemeval_question(place: str, row: Any) -> tuple[Haystack, int]:
    """Returns the haystack, and the number of turns without text; no question if none is marked."""
    if not isinstance(row, dict):
        raise DatasetError(f"{place}: expected an object, not {row!r:.40}")
    haystack, empty, wanted = Haystack(text(place, row, "question_id")), 0, set[str]()
    place = f"{place} ({haystack.name})"
    answering = set(texts(place, row, "answer_session_ids"))
    for session, at, turn in _turns(place, row):
        content = text(f"{place}, session {session}, turn {at}", turn, "content", "")
        if not content.strip():
            empty += 1
            continue
        haystack.passages.append(Passage(at, content, session))
        if turn.get("has_answer") is True and session in answering:
            wanted.add(at)
    query = text(place, row, "question")
    if haystack.name.endswith("_abs"):
        haystack.questions.append(Question(query, frozenset(), kind="abstention"))
    elif wanted:
        kind = text(place, row, "question_type", "")
        haystack.questions.append(Question(query, frozenset(wanted), kind=kind))
    return haystack, empty


def _turns(place: str, row: Row) -> Iterator[tuple[str, str, Row]]:
    """The session, an id and the turn of each turn of a question's haystack."""
    ids, sessions = texts(place, row, "haystack_session_ids"), row.get("haystack_sessions")
    if not isinstance(sessions, list) or len(sessions) != len(ids):
        count = len(sessions) if isinstance(sessions, list) else "no list of"
        raise DatasetError(
            f"{place}: expected as many `haystack_sessions` as `haystack_session_ids`, {len(ids)}, "
            f"not {count} sessions"
        )
    for number, (session, turns) in enumerate(zip(ids, sessions, strict=True)):
        if not isinstance(turns, list):
            raise DatasetError(f"{place}, session {session}: expected a list of turns")
        for at, turn in enumerate(turns):
            if not isinstance(turn, dict):
                raise DatasetError(
                    f"{place}, session {session}, turn {at + 1}: expected an object with `role` "
                    f"and `content`, not {turn!r:.40}"
                )
            yield session, f"{number}:{at}", turn


def locomo(name: str, rows: list[Any]) -> Dataset:
    """Reads conversations and what is asked about each; evidence answers a question."""
    found, unknown, unmarked = Dataset("LoCoMo", []), 0, 0
    for number, row in enumerate(rows, 1):
        place = f"{name}, sample {number}"
        if not isinstance(row, dict) or not isinstance(row.get("conversation"), dict):
            raise DatasetError(f"{place}: expected an object with `conversation`, an object")
        if not isinstance(row.get("qa"), list):
            raise DatasetError(f"{place}: expected a list of questions as `qa`")
        haystack = Haystack(text(place, row, "sample_id", str(number)))
        haystack.passages += _dialogue(place, row["conversation"])
        ids = {passage.id for passage in haystack.passages}
        for at, asked in enumerate(row["qa"], 1):
            question, strange = _locomo_question(f"{place}, question {at}", asked, ids)
            unknown += strange
            if question.wanted:
                haystack.questions.append(question)
            else:
                unmarked += 1
        found.haystacks.append(haystack)
    if unmarked:
        found.notes.append(f"{unmarked:,} questions without evidence left out")
    if unknown:
        found.notes.append(f"{unknown:,} pieces of evidence name no turn and are left out")
    return found


def _dialogue(place: str, conversation: Row) -> Iterator[Passage]:
    for name, turns in conversation.items():
        if not _session.fullmatch(name):
            continue
        if not isinstance(turns, list):
            raise DatasetError(f"{place}, {name}: expected a list of turns")
        for number, turn in enumerate(turns, 1):
            at = f"{place}, {name}, turn {number}"
            if not isinstance(turn, dict):
                raise DatasetError(f"{at}: expected an object with `dia_id` and `text`")
            match = _evidence.fullmatch(text(at, turn, "dia_id"))
            if match is None:
                raise DatasetError(
                    f"{at}: expected a `dia_id` such as D1:3, not {turn['dia_id']!r}"
                )
            caption = text(at, turn, "blip_caption", "")
            picture = f" (shares a picture: {caption})" if caption else ""
            speaker = text(at, turn, "speaker")
            content = f"{speaker}: {text(at, turn, 'text', '')}{picture}"
            yield Passage(_turn_id(match), content, name)


def _turn_id(match: re.Match[str]) -> str:
    return f"D{int(match[1])}:{int(match[2])}"


def _locomo_question(place: str, row: Any, ids: set[str]) -> tuple[Question, int]:
    """Returns a question and the number of pieces of its evidence that name no turn.

    The file has some such: ids with zeros or colons too many, and several in one text.
    """
    if not isinstance(row, dict):
        raise DatasetError(f"{place}: expected an object with `question` and `evidence`")
    named: set[str] = set()
    strange = 0
    for one in texts(place, row, "evidence") if "evidence" in row else []:
        matches = [_turn_id(match) for match in _evidence.finditer(one.replace("D:", "D"))]
        strange += max(1, len(matches)) - len(ids.intersection(matches))
        named |= ids.intersection(matches)
    kind = f"category {row['category']}" if "category" in row else ""
    return Question(text(place, row, "question"), frozenset(named), kind=kind), strange
