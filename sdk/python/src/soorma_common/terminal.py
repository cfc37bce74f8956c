"""Text of others on a person's terminal."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text with what would steer a terminal escaped, but line breaks; in a JSON string it says the same."""
    return "".join(one if one.isprintable() or one == "\n" else _escaped(one) for one in text)


def one_line(text: str) -> str:
    """The same with line breaks escaped too."""
    return plain(text).replace("\n", "\\n")


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
