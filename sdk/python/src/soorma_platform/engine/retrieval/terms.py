"""The terms of a part, packed as a store keeps them.

A term is a token, or a label that is matched as a whole: a tag, a source, a field of the metadata,
an alias. So a filter is a lookup in the same index as a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from soorma_platform.engine.retrieval.tokens import STOP_WORDS, term_of, tokens

TERM_BYTES = 9
"""A term is packed as its 64 bits and one byte with how often it occurs, 0 for a label."""
_MOST = 255
_canonical = msgspec.json.Encoder(order="deterministic").encode


def label(what: str, name: str) -> int:
    """Returns the label of something with a name."""
    return term_of(f"{what}\0{name}")


def tag(text: str) -> int:
    """Returns the label of a tag."""
    return label("tag", text)


def source(text: str) -> int:
    """Returns the label of a source."""
    return label("source", text)


def field(name: str, value: Any) -> int:
    """Returns the label of a field of the metadata with its value."""
    return term_of(f"field\0{name}\0{_canonical(value).decode()}")


def alias(words: Iterable[str]) -> int:
    """Returns the label of an alias, by its tokens."""
    return term_of(f"alias\0{' '.join(words)}")


def labels(
    tags: Iterable[str], of_source: str | None, metadata: Mapping[str, Any] | None
) -> list[int]:
    """Returns the labels by which a passage can be filtered."""
    found = [tag(one) for one in tags]
    if of_source is not None:
        found.append(source(of_source))
    found += [field(name, value) for name, value in (metadata or {}).items()]
    return found


def aliases(texts: Iterable[str]) -> list[int]:
    """Returns the labels of aliases; one without a word that says something has none."""
    found = (tokens(text) for text in texts)
    return [alias(words) for words in found if any(word not in STOP_WORDS for word in words)]


def packed(text: str, of_labels: Iterable[int]) -> tuple[bytes, int]:
    """Returns the packed terms of a text with its labels, and the number of its tokens."""
    found = tokens(text)
    counted = Counter(found)
    pieces = [
        term_of(token).to_bytes(8, "little") + min(count, _MOST).to_bytes(1, "little")
        for token, count in counted.items()
    ]
    pieces += map(packed_label, of_labels)
    return b"".join(pieces), len(found)


def packed_label(of_label: int) -> bytes:
    """Returns a label as it is packed among the terms of a part."""
    return of_label.to_bytes(8, "little") + b"\0"
