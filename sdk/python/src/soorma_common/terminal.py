"""Text of others, made safe for a terminal."""

from __future__ import annotations


def plain(text: str) -> str:
    """Returns the text with unprintable characters escaped, except line breaks.

    The escapes are those of JSON, so that a JSON string keeps its meaning.
    """
    return "".join(one if one.isprintable() or one == "\n" else _escaped(one) for one in text)


def one_line(text: str) -> str:
    """Returns the text with unprintable characters and line breaks escaped."""
    return plain(text).replace("\n", "\\n")


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
