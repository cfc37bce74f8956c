"""Texts that only say again what was recalled, and texts that say something else."""

from __future__ import annotations

import json
import time
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from depth import at_depth, dice

from soorma.memory.recalled import LONGEST_TEXT, MOST_CHARACTERS, MOST_TEXTS, Recalled, says_again
from soorma_common.semantic import StoreKnowledge

ROOT = Path(__file__).parents[4]
LONG = (
    "The night train to Lund leaves from platform 4 at a quarter past ten in the evening, and "
    "stops on request at every station where somebody has told the guard before that there is one "
    "who wants to get on or off with a bicycle, a pram or a dog"
)
AGAIN = [
    ("The user prefers window seats.", "The user prefers window seats."),
    ("the user prefers  window seats", "The user prefers window seats."),
    ("I remember that the user prefers window seats.", "The user prefers window seats."),
    ("As noted before: the user prefers window seats", "The user prefers window seats."),
    ("Ich erinnere mich, dass der Zug um 8 fährt.", "Der Zug um 8 fährt."),
    ("Note: open 9-17", "open 9-17"),
    (LONG.replace("wants", "wishes"), LONG),
    ("Recalled from memory: " + LONG + ".", LONG),
    ("窓側の席が好きです。", "窓側の席が好きです"),
]
ANOTHER = [
    ("The user prefers aisle seats.", "The user prefers window seats."),
    ("The user prefers window seats on long flights.", "The user prefers window seats."),
    ("My wife says that the user prefers window seats.", "The user prefers window seats."),
    ("It is not true that the user prefers window seats.", "The user prefers window seats."),
    ("The user does not prefer window seats.", "The user does prefer window seats."),
    (LONG.replace("platform 4", "platform 5"), LONG),
    (LONG.replace("Lund", "Malmö"), LONG),
    (LONG.replace("stops on request", "never stops"), LONG),
    (LONG.replace("has told", "has not told"), LONG),
    (LONG + " and more than three sentences that nobody has ever said in this place so far", LONG),
    (LONG[:120], LONG),
    ("", "The user."),
    ("So it is.", "..."),
    ("窓側の席が好きではない。", "窓側の席が好きです"),
]


@pytest.mark.behaviour("knowledge.recalled")
@pytest.mark.parametrize(("stored", "recalled"), AGAIN, ids=range(len(AGAIN)))
def test_the_same_said_again_is_recognised(stored: str, recalled: str) -> None:
    assert says_again(stored, recalled)


@pytest.mark.behaviour("knowledge.recalled")
@pytest.mark.parametrize(("stored", "recalled"), ANOTHER, ids=range(len(ANOTHER)))
def test_what_says_something_else_is_not(stored: str, recalled: str) -> None:
    assert not says_again(stored, recalled)


@pytest.mark.proof
@pytest.mark.behaviour("knowledge.recalled")
def test_no_two_passages_of_the_retrieval_sets_are_taken_for_one() -> None:
    """They hold near-duplicates, contradictions and minimal pairs: numbers, names, negations."""
    for name in ("household", "railway"):
        lines = (ROOT / f"benchmarks/retrieval/{name}/passages.jsonl").read_text("utf-8")
        contents = sorted({json.loads(line)["content"] for line in lines.splitlines()})
        assert len(contents) > 300
        # Texts next to each other in their order are the most similar: the sample has all of these.
        pairs = [*combinations(contents, 2)] if at_depth(False, True) else [*pairwise(contents)]
        pairs += dice(name).sample([*combinations(contents, 2)], 2_000)
        assert [pair for pair in pairs if says_again(*pair)] == []


@pytest.mark.behaviour("knowledge.recalled")
def test_a_number_a_name_or_a_negation_makes_another_text() -> None:
    rolled = dice("recalled")
    words = [word.strip(".,") for word in LONG.split()]
    for _ in range(at_depth(200, 5_000)):
        text = [rolled.choice(words) for _ in range(rolled.randrange(5, 200))]
        at = rolled.randrange(len(text) + 1)
        other = [
            *text[:at],
            rolled.choice(["not", "17", "Walter", "nicht", "2026-01-01"]),
            *text[at:],
        ]
        assert says_again(" ".join(text), " ".join(text))
        assert not says_again(" ".join(other), " ".join(text))


@pytest.mark.behaviour("knowledge.recalled")
def test_what_is_remembered_is_bounded_and_the_latest_is_kept() -> None:
    recalled = Recalled()
    for number in range(3 * MOST_TEXTS):
        recalled.note(f"i{number}", f"Sentence number {number} of the story.")
    for number, known in ((3 * MOST_TEXTS - 1, True), (0, False)):
        operation = StoreKnowledge(id="p", content=f"Sentence number {number} of the story.")
        recalled.recognise(operation)
        assert (operation.is_recalled, operation.derived_from) == (
            known, [f"i{number}"] if known else []
        )  # fmt: skip
    for number in range(2 * MOST_CHARACTERS // LONGEST_TEXT):
        recalled.note(f"long{number}", f"{number} " + "x" * (LONGEST_TEXT - 5))
    assert recalled._characters <= MOST_CHARACTERS
    operation = StoreKnowledge(id="p", content="y " * LONGEST_TEXT)
    recalled.note("q", operation.content)
    recalled.recognise(operation)
    assert not operation.is_recalled


@pytest.mark.behaviour("knowledge.recalled")
def test_to_compare_with_all_that_was_recalled_takes_little() -> None:
    recalled = Recalled()
    for number in range(63):
        recalled.note(f"i{number}", (f"{LONG} {number} " * 80)[: LONGEST_TEXT - 10])
    since = time.perf_counter()
    for number in range(5):
        recalled.recognise(StoreKnowledge(id="p", content=(f"{LONG} x{number} " * 80)[:16_000]))
    assert (time.perf_counter() - since) / 5 < 1.0
