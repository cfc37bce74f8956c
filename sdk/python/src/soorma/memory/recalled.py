"""What a handler has recalled, and whether a text that it stores only says that again.

An agent that searches its memory, and stores what it has found as if it had learnt it, fills the
memory with copies, and makes a single statement look like many.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from unicodedata import normalize

import msgspec

from soorma_common.semantic import MOST_SOURCES, Passage, StoreKnowledge

MOST_TEXTS = 256
"""Texts that are remembered of a transaction: the latest ones."""
MOST_CHARACTERS = 1024 * 1024
"""Characters of all of these."""
LONGEST_TEXT = 16 * 1024
"""Characters of a text that is compared; what is longer is no saying."""
SHINGLE = 3
ALIKE = 0.9
"""The least share of the shingles of each text that the other one has, too."""
LEAST_WORDS = 4
"""Words of which a text must have more to be compared by shingles; a shorter one must be equal."""
LONGEST_LEAD_IN = 8


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?:['.,:/-][^\W_]+)*")
_NEGATIONS = _listed(
    "no not never none nobody nothing neither nor without false wrong untrue cannot "
    "nicht nie niemals kein keine keinen keiner keines ohne nichts niemand weder falsch "
    "ne pas jamais aucun aucune sans rien personne faux nunca ningún ninguna sin nada nadie falso "
    "non mai nessuno nessuna senza niente não nenhum sem niet geen nooit zonder нет не никогда без "
    "不 没 沒 未 无 無 非 な 안"
)
_LEAD_IN = _listed(
    "i we remember remembered recall recalled that as noted note known know memory memories "
    "according to my our the from earlier previously before stored it is was said says mentioned "
    "reminder again fact info information in "
    "ich wir erinnere mich uns dass aus dem der gedächtnis wie bekannt zur erinnerung laut notiz "
    "je me souviens que selon ma mémoire recuerdo que según mi memoria ricordo che"
)
"""Words that say that something is recalled, as in "I remember that …"."""


class _Text:
    """A text as it is compared: its words, and of these the ones that must be equal."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def written(self) -> list[str]:
        return _WORDS.findall(normalize("NFKC", self.text))

    @cached_property
    def words(self) -> list[str]:
        return [one.casefold() for one in self.written]

    @cached_property
    def shingles(self) -> set[tuple[str, ...]]:
        return _shingles(self.words)

    @cached_property
    def telling(self) -> set[str]:
        """Numbers, negations and names: every word that is written with a capital."""
        return {
            word
            for written, word in zip(self.written, self.words, strict=True)
            if written != written.lower() or _tells(word)
        }


def _tells(word: str) -> bool:
    return word in _NEGATIONS or word.endswith("n't") or any(map(str.isdigit, word))


def _shingles(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)}


def says_again(stored: str, recalled: str) -> bool:
    """Returns whether a text only says what another one says.

    That is: without an introduction such as "I remember that", its words are equal, or nine in ten
    sequences of three words of each text are in the other one, and their numbers, negations and
    names are the same, in the same order.
    """
    return _says_again(_Text(stored), _Text(recalled))


def _says_again(stored: _Text, recalled: _Text) -> bool:
    if not _may_be_alike(len(stored.text), len(recalled.text)) or not recalled.words:
        return False
    words = _without_lead_in(stored.words, recalled.words)
    if words == recalled.words:
        return True
    if min(len(words), len(recalled.words)) <= LEAST_WORDS:
        return False
    telling = stored.telling | recalled.telling
    if [one for one in words if one in telling] != [
        one for one in recalled.words if one in telling
    ]:
        return False
    shingles = _shingles(words)
    common = len(shingles & recalled.shingles)
    return common >= ALIKE * max(len(shingles), len(recalled.shingles))


def _may_be_alike(stored: int, recalled: int) -> bool:
    """Returns whether texts of these lengths may be alike: cheaper than to look at their words."""
    return 0.7 * recalled <= stored <= 1.4 * recalled + 100


def _without_lead_in(words: list[str], of: list[str]) -> list[str]:
    for count in range(min(LONGEST_LEAD_IN, len(words) - 1) + 1):
        if words[count : count + 2] == of[:2]:
            return words[count:]
        if words[count] not in _LEAD_IN:
            break
    return words


class _Recalled(msgspec.Struct):
    """What was recalled: a text, and the names under which another passage would replace it."""

    id: str
    text: _Text
    external_id: str | None = None
    subject: str | None = None
    attribute: str | None = None


class Recalled:
    """The texts that were read in a transaction, up to a bound, the latest ones."""

    def __init__(self) -> None:
        self._memories: dict[tuple[str, str], _Recalled] = {}
        self._characters = 0
        self._recognised: dict[str, list[str]] = {}
        """by passage to be stored: the sources that it was given here"""

    def note(self, recalled_id: str, text: str) -> None:
        """Notes an interaction, or a procedure."""
        self._note(_Recalled(recalled_id, _Text(text)))

    def note_passage(self, passage: Passage) -> None:
        """Notes a passage, or the part of it that was found."""
        self._note(
            _Recalled(
                passage.id,
                _Text(passage.content),
                passage.external_id,
                passage.subject,
                passage.attribute,
            )
        )

    def _note(self, memory: _Recalled) -> None:
        text = memory.text.text
        if len(text) > LONGEST_TEXT:
            return
        key = (memory.id, text)
        known = self._memories.pop(key, None)
        self._characters += 0 if known is not None else len(text)
        self._memories[key] = known or memory
        while len(self._memories) > MOST_TEXTS or self._characters > MOST_CHARACTERS:
            oldest = next(iter(self._memories))
            del self._memories[oldest]
            self._characters -= len(oldest[1])

    def recognise(self, operation: StoreKnowledge) -> None:
        """Names the sources of a passage to be stored that only says again what was recalled."""
        sources = self._sources_of(operation)
        if sources:
            more = [one for one in sources if one not in operation.derived_from]
            more = more[: MOST_SOURCES - len(operation.derived_from)]
            self._recognised[operation.id or ""] = more
            operation.derived_from = [*operation.derived_from, *more]
            operation.is_recalled = True

    def let_go(self, passage_id: str, operations: Iterable[object]) -> None:
        """Keeps what was stored in place of a passage that the transaction forgets after that.

        It would go with it otherwise, though nobody has said that it is derived from it.
        """
        for operation in operations:
            if not isinstance(operation, StoreKnowledge):
                continue
            given = self._recognised.get(operation.id or "", [])
            if passage_id in given:
                given.remove(passage_id)
                operation.derived_from = [
                    one for one in operation.derived_from if one != passage_id
                ]
                operation.is_recalled = bool(given)

    def _sources_of(self, operation: StoreKnowledge) -> list[str]:
        """Returns the ids of what a passage only says again.

        One that replaces what was recalled, or says when it is true, says more than that.
        """
        content = operation.content.strip()
        says_more = (operation.supersedes, operation.valid_from, operation.valid_until)
        if len(content) > LONGEST_TEXT or any(one is not None for one in says_more):
            return []
        stored = _Text(content)
        found = {
            one.id: None
            for one in self._memories.values()
            if not _replaces(operation, one) and _says_again(stored, one.text)
        }
        return list(found)[-MOST_SOURCES:]


def _replaces(operation: StoreKnowledge, memory: _Recalled) -> bool:
    if operation.external_id is not None and operation.external_id == memory.external_id:
        return True
    pair = (operation.subject, operation.attribute)
    return operation.subject is not None and pair == (memory.subject, memory.attribute)
