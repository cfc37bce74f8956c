"""Text in paths and headers: ASCII, and percent-encoded UTF-8 for all else."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from soorma_common.errors import InvalidName

_H = "[0-9A-Fa-f]"
_TAIL = f"%[89ABab]{_H}"
_ENCODED = (
    f"%(0[1-9A-Fa-f]|[1-7]{_H})",
    f"%([Cc][2-9A-Fa-f]|[Dd]{_H}){_TAIL}",
    f"%[Ee](0%[ABab]|[Dd]%[89]|[1-9A-CEFa-cef]%[89ABab]){_H}{_TAIL}",
    f"%[Ff](0%[9ABab]|4%8|[1-3]%[89ABab]){_H}{_TAIL}{_TAIL}",
)
ENCODED_NAME: dict[str, Any] = {
    "pattern": f"^([ -$&-~]|{'|'.join(_ENCODED)}){{1,255}}$",
    "not": {"pattern": r"^ *(\.|%2[Ee]){0,2} *$"},
}
"""A name as encoded in a header, as a JSON Schema of a string."""

BLANKS = " \t"
"""Characters to ignore around the value of a header (RFC 9110, 5.5)."""
_NO_TEXT = re.compile(f"%(?!{_H}{{2}})|[^ -~]")


def decoded(what: str, value: str) -> str:
    """Decodes the text of a path or header; raises InvalidName, which names `what`, if invalid."""
    try:
        if _NO_TEXT.search(value) is None:
            return unquote(value, errors="strict")
    except UnicodeDecodeError:
        pass
    raise InvalidName(
        f"{what} must be ASCII, with all else as percent-encoded UTF-8: {value!r}", name=what
    )
