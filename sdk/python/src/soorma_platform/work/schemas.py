"""JSON Schemas (draft 2020-12) at work: compiled once, never fetched, bounded in cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from soorma_common.errors import InvalidValue
from soorma_platform.engine.schemas import Cost, cost_of, depth_of

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

BACKTRACKS = 10_000
"""Steps after which a pattern with look-around or back references gives up.

Others take linear time.
"""

FEW_STATES = 64 * 1024
"""Bytes that a pattern may compile to if it is matched on the event loop."""

LONGEST_TEXT = 300
LONGEST_PATH = 1_000


class Misfit(msgspec.Struct, frozen=True):
    """The place (a JSON pointer) where a payload does not fit, and what belongs there."""

    path: str
    expected: str


class Schema:
    """A schema, ready to check payloads.

    Raises InvalidValue if it is not a JSON Schema, or could take for ever. With `is_linear`, its
    patterns must take linear time and have few states.
    """

    def __init__(self, what: str, schema: Any, *, is_linear: bool = False) -> None:
        from jsonschema_rs import (  # noqa: PLC0415 - 20 ms, for those who use schemas
            Draft202012Validator,
            FancyRegexOptions,
            RegexOptions,
            ValidationError,
        )

        try:
            self.cost: Cost = cost_of(schema)
        except InvalidValue as error:
            raise InvalidValue(
                f"{what} cannot be used: {error.message}", path=error.path
            ) from error
        self._misfit = ValidationError
        try:
            self._validator = Draft202012Validator(
                schema,
                offline=True,
                mask="it",
                pattern_options=RegexOptions(size_limit=FEW_STATES)
                if is_linear
                else FancyRegexOptions(backtrack_limit=BACKTRACKS),
            )
        except (ValidationError, ValueError) as error:
            path = _pointer(getattr(error, "instance_path", []))
            said = _short(getattr(error, "message", str(error)))
            raise InvalidValue(
                f"{what} is no JSON Schema: at #{path}: {said}", path=f"#{path}"
            ) from error

    def misfit(self, payload: Any) -> Misfit | None:
        """Returns the first place where a payload does not fit; None if it fits.

        Of a choice (`anyOf`, `oneOf`), it is the deepest one.
        """
        if self.cost.branches > 1 and not self.cost.allows(depth := depth_of(payload)):
            return Misfit(
                "",
                f"it must be nested less deeply than {depth} levels for its schema to be checked",
            )
        try:
            self._validator.validate(payload)
        except self._misfit as found:
            error = _deepest(found)
            return Misfit(_pointer(error.instance_path), _short(error.message))
        return None


def _deepest(error: ValidationError) -> ValidationError:
    """Returns the most telling error if no schema of `anyOf` or `oneOf` fits.

    It is of the schema that got furthest, or missed least.
    """
    while branches := [
        branch for branch in getattr(error.kind, "context", ()) if branch and not _is_null(branch)
    ]:
        branches.sort(key=len)
        found = max(
            (one for branch in branches for one in branch), key=lambda one: len(one.instance_path)
        )
        if len(branches) > 1 and len(found.instance_path) <= len(error.instance_path):
            break
        error = found
    return error


def _is_null(branch: list[ValidationError]) -> bool:
    """Returns True if it only says that the value might have been null, as optional ones may."""
    return list(getattr(branch[0].kind, "types", ())) == ["null"]


def _pointer(path: list[str | int]) -> str:
    """Returns a path as a JSON pointer (RFC 6901)."""
    return _short(
        "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path),
        LONGEST_PATH,
    )


def _short(text: str, longest: int = LONGEST_TEXT) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
