"""Finds secrets in a text, in time proportional to its length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from soorma_platform.engine.secrets.formats import FORMATS, NUMBERS, Format


class SecretPlace(msgspec.Struct, frozen=True, order=True):
    """A secret in a text: its place in characters, and its kind. It never holds the secret."""

    start: int
    end: int
    kind: str


def find(text: str, own: Sequence[Format] = ()) -> list[SecretPlace]:
    """Returns the secrets in a text, in their order; of those that overlap, the first one's kind.

    `own` are formats beside those that are known.
    """
    found = sorted(_all(text, own), key=lambda one: (one.start, -one.end))
    apart: list[SecretPlace] = []
    for one in found:
        if apart and one.start < apart[-1].end:
            last = apart[-1]
            apart[-1] = SecretPlace(last.start, max(last.end, one.end), last.kind)
        else:
            apart.append(one)
    return apart


def _grouped() -> list[tuple[str, list[Format]]]:
    """Returns the formats by a character that few texts hold, to rule many out at once."""
    groups: dict[str, list[Format]] = {}
    for form in FORMATS:
        rare = next((one for one in "_=/.-:" if one in form.anchor), "")
        groups.setdefault(rare, []).append(form)
    return list(groups.items())


_GROUPS = _grouped()


def _all(text: str, own: Sequence[Format]) -> Iterator[SecretPlace]:
    possible = [form for rare, forms in _GROUPS if rare in text for form in forms]
    for form in (*possible, *own):
        if form.anchor not in text:  # far faster than the pattern, and nearly always true
            continue
        for match in form.pattern.finditer(text):
            if (span := form.check(match)) is not None:
                yield SecretPlace(*span, form.kind)
    for numbers in NUMBERS:
        for kind, start, end in numbers(text):
            yield SecretPlace(start, end, kind)


def redacted(text: str, found: Sequence[SecretPlace]) -> str:
    """Returns the text with the kind of each secret in its place."""
    kept, last = [], 0
    for one in found:
        kept += [text[last : one.start], f"[redacted: {one.kind}]"]
        last = one.end
    return "".join([*kept, text[last:]])
