"""The sets of others that the benchmarks read: each form, and what is said of a malformed file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[4] / "benchmarks"))

import datasets
from dataset_rows import Dataset, DatasetError


def turn(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def longmemeval(name: str = "q1", **more: Any) -> dict[str, Any]:
    return {
        "question_id": name,
        "question_type": "multi-session",
        "question": "Where does Ann live?",
        "answer": "Oslo",
        "question_date": "2023/05/30 (Tue) 23:40",
        "haystack_session_ids": ["other", "answer_1"],
        "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/21 (Sun) 02:21"],
        "haystack_sessions": [
            [turn("Tell me of Rome.", has_answer=True), turn("")],
            [turn("Hello."), turn("Ann moved to Oslo.", has_answer=True), turn("I see.")],
        ],
        "answer_session_ids": ["answer_1"],
        **more,
    }


def locomo(*questions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "sample_id": "conv-1",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bo",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ann", "dia_id": "D1:1", "text": "I paint."},
                {"speaker": "Bo", "dia_id": "D1:2", "text": "Look!", "blip_caption": "a red boat"},
            ],
            "session_2": [{"speaker": "Ann", "dia_id": "D2:1", "text": "I sold it."}],
            **more,
        },
        "qa": list(questions),
    }


def asked(*evidence: str) -> dict[str, Any]:
    return {"question": "What does Ann do?", "answer": 1, "evidence": list(evidence), "category": 2}


LINES: list[dict[str, Any]] = [
    {"query": "tea", "wanted": ["b"], "unwanted": ["a"], "kind": "minimal-pair"},
    {"id": "a", "content": "Coffee at nine.", "tags": ["food"], "group": "monday"},
    {"id": "b", "content": "Tea at ten.", "supersedes": "a", "user": "other", "public": True},
    {"query": "cake", "wanted": [], "as_of": "2026-02-10T12:00:00Z", "tags": ["food"]},
    {"id": "a", "content": "Elsewhere.", "scope": "two"},
    {"query": "where", "passage": "a", "scope": "two"},
    {"id": "c", "content": "Nobody asks here.", "scope": "three"},
]


def load(folder: Path, content: Any, *, indent: int | None = None) -> Dataset:
    file = folder / "set.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content, indent=indent))
    return datasets.load(file)


def lines(*rows: Any) -> str:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


def test_longmemeval_is_read(tmp_path: Path) -> None:
    abstention = longmemeval("q2_abs", question="Where does Bo live?")
    found = load(tmp_path, [longmemeval(), abstention])
    assert found.form == "LongMemEval"
    one, two = found.haystacks
    assert [(each.id, each.content, each.group) for each in one.passages] == [
        ("0:0", "Tell me of Rome.", "other"),
        ("1:0", "Hello.", "answer_1"),
        ("1:1", "Ann moved to Oslo.", "answer_1"),
        ("1:2", "I see.", "answer_1"),
    ]
    assert [(each.query, each.wanted, each.kind) for each in one.questions] == [
        ("Where does Ann live?", {"1:1"}, "multi-session")
    ]
    assert [(each.wanted, each.kind) for each in two.questions] == [(set(), "abstention")]
    assert found.notes == ["2 empty turns left out"]


def test_a_question_without_a_marked_turn_is_left_out_and_counted(tmp_path: Path) -> None:
    unmarked = longmemeval("q3", answer_session_ids=[])
    found = load(tmp_path, [longmemeval(), unmarked])
    assert [one.name for one in found.haystacks] == ["q1"]
    assert "1 questions without a turn with has_answer left out" in found.notes


def test_locomo_is_read(tmp_path: Path) -> None:
    # The published file has evidence in all of these spellings.
    found = load(
        tmp_path, [locomo(asked("D1:02", "D2:1"), asked("D1:1; D:2:1"), asked("D9:9"), asked())]
    )
    assert found.form == "LoCoMo"
    (one,) = found.haystacks
    assert [(each.id, each.content, each.group) for each in one.passages] == [
        ("D1:1", "Ann: I paint.", "session_1"),
        ("D1:2", "Bo: Look! (shares a picture: a red boat)", "session_1"),
        ("D2:1", "Ann: I sold it.", "session_2"),
    ]
    assert [each.wanted for each in one.questions] == [{"D1:2", "D2:1"}, {"D1:1", "D2:1"}]
    assert {each.kind for each in one.questions} == {"category 2"}
    assert found.notes == [
        "2 questions without evidence left out",
        "1 pieces of evidence name no turn and are left out",
    ]


@pytest.mark.parametrize("indent", [None, 2])
def test_one_sample_may_stand_alone(tmp_path: Path, indent: int | None) -> None:
    assert load(tmp_path, locomo(asked("D1:1")), indent=indent).form == "LoCoMo"
    assert load(tmp_path, longmemeval(), indent=indent).form == "LongMemEval"


def test_lines_are_read(tmp_path: Path) -> None:
    found = load(tmp_path, "\n" + lines(*LINES) + "\n\n")
    assert found.form == "JSON lines"
    one, two = found.haystacks
    assert [each.id for each in one.passages] == ["a", "b"]
    first, second = one.passages
    assert (first.group, first.fields) == ("monday", {"tags": ["food"]})
    assert (second.user, second.is_public, second.fields) == ("other", True, {"supersedes": "a"})
    pair, nothing = one.questions
    assert (pair.wanted, pair.unwanted, pair.kind) == ({"b"}, {"a"}, "minimal-pair")
    assert nothing.wanted == set()
    assert nothing.how == {"as_of": "2026-02-10T12:00:00Z", "tags": ["food"]}
    assert [each.wanted for each in two.questions] == [{"a"}]


def test_a_line_separator_in_a_text_ends_no_line(tmp_path: Path) -> None:
    text = "one\u2028two\x85three"
    rows = [{"id": "a", "content": text}, {"query": "q", "wanted": ["a"]}]
    found = load(tmp_path, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert found.haystacks[0].passages[0].content == text


@pytest.mark.parametrize("domain", ["household", "railway"])
def test_the_sets_of_the_project_are_such_lines(tmp_path: Path, domain: str) -> None:
    folder = Path(datasets.__file__).parent / "retrieval" / domain
    names = ("passages", "cases", "hard", "pairs")
    parts = {name: (folder / f"{name}.jsonl").read_text("utf-8") for name in names}
    found = load(tmp_path, "".join(parts.values()))
    assert len(found.haystacks[0].passages) == parts["passages"].count("\n")
    assert len(found.questions) == sum(parts[name].count("\n") for name in names[1:])


def test_a_sample_is_evenly_spread(tmp_path: Path) -> None:
    found = load(tmp_path, [longmemeval(f"q{number}") for number in range(10)])
    few = found.sample(3)
    assert [one.name for one in few.haystacks] == ["q0", "q3", "q6"]
    assert few.notes[-1] == "3 of 10 questions, evenly spread"
    assert found.sample(10) is found


PASSAGE, QUERY = {"id": "a", "content": "Tea."}, {"query": "tea", "wanted": ["a"]}


@pytest.mark.parametrize(
    ("content", "place", "expected"),
    [
        ("", "its beginning", "expected JSON lines"),
        ("id,content\n1,tea", "its beginning", "expected JSON lines"),
        ([], "first entry", "expected JSON lines"),
        ([{"text": "tea"}], "first entry", "LoCoMo"),
        ('[{"haystack_sessions": [', "line 1, column 25", "expected a JSON array"),
        (lines(PASSAGE, QUERY, '{"id": '), "line 3", "expected a JSON object on each line"),
        (lines(PASSAGE, QUERY, "[]"), "line 3", "`content` (a passage) or `query`"),
        (lines(PASSAGE, QUERY, {**PASSAGE, "id": "b", "text": "x"}), "line 3", "'text' is not a"),
        (lines(PASSAGE, QUERY, PASSAGE), "line 3", "'a' is there already"),
        (lines(PASSAGE, {**QUERY, "wanted": ["b"]}), "line 2", "not 'b'"),
        (lines(PASSAGE, {**QUERY, "scope": "two"}), "line 2", "passage of its scope"),
        (lines(PASSAGE, {**QUERY, "wanted": "a"}), "line 2", "list of texts as `wanted`"),
        (lines(PASSAGE, {"query": "tea"}), "line 2", "list of texts as `wanted`, not None"),
        (lines(PASSAGE, {**QUERY, "passage": "a"}), "line 2", "not both"),
        (lines(PASSAGE, {**QUERY, "query": " "}), "line 2", "text as `query`"),
        (lines(PASSAGE, {**QUERY, "as_of": "2026-02-10"}), "line 2", "time with its zone"),
        (lines({**PASSAGE, "valid_from": 5}, QUERY), "line 1", "time with its zone"),
        (lines({**PASSAGE, "public": "yes"}, QUERY), "line 1", "true or false"),
        (lines({**PASSAGE, "supersedes": "z"}, QUERY), "line 1", "a passage above it"),
        (lines({**PASSAGE, "content": 5}, QUERY), "line 1", "text as `content`, not 5"),
        (lines(PASSAGE), "set.json", "one question at least"),
        ([longmemeval(), longmemeval(question=None)], "question 2 (q1)", "text as `question`"),
        ([longmemeval(), 5], "question 2", "expected an object, not 5"),
        ([longmemeval(haystack_session_ids=["other"])], "question 1 (q1)", "1, not 2 sessions"),
        ([longmemeval(haystack_sessions=[[], "x"])], "session answer_1", "a list of turns"),
        ([longmemeval(haystack_sessions=[[], ["x"]])], "answer_1, turn 1", "`content`, not 'x'"),
        ([longmemeval(haystack_sessions=[[], [{"content": 1}]])], "turn 1:0", "text as `content`"),
        ([longmemeval(answer_session_ids=[])], "set.json", "one question at least"),
        ([locomo(asked("D1:1")), {"conversation": 1}], "sample 2", "`conversation`, an object"),
        ([{"conversation": {}}], "sample 1", "a list of questions as `qa`"),
        ([locomo(asked(), session_3={})], "sample 1, session_3", "a list of turns"),
        ([locomo(session_3=[{"dia_id": "x"}])], "session_3, turn 1", "such as D1:3, not 'x'"),
        ([locomo(session_3=[{"dia_id": "D3:1"}])], "session_3, turn 1", "text as `speaker`"),
        ([locomo({"evidence": []})], "question 1", "text as `question`"),
        ([locomo({"question": "q", "evidence": "D1:1"})], "question 1", "texts as `evidence`"),
    ],
)
def test_a_malformed_file_is_told_with_its_place(
    tmp_path: Path, content: Any, place: str, expected: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        load(tmp_path, content)
    assert str(caught.value).startswith("set.json"), caught.value
    assert place in str(caught.value), caught.value
    assert expected in str(caught.value), caught.value


def test_what_is_no_text_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_bytes(b'{"id": "\xff"}')
    with pytest.raises(DatasetError, match=r"set\.json, byte 8: expected text in UTF-8"):
        datasets.load(tmp_path / "set.json")
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        datasets.load(tmp_path / "none.json")
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        datasets.load(tmp_path)
