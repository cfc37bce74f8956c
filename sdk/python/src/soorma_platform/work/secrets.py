"""Secrets at the door of the memories: what a commit is about to store is redacted, or refused.

Every passage, interaction and procedure comes through here before anything is made of it: before it
is tokenized, hashed, logged or stored, and before its response is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from soorma_common.episodic import LogInteraction, NameSession
from soorma_common.errors import InvalidRequest, SecretFound
from soorma_common.json_text import decode
from soorma_common.limits import Limits
from soorma_common.memories import AnyMemoryOperation, check_memories
from soorma_common.names import Scope
from soorma_common.procedural import StoreProcedure
from soorma_common.semantic import StoreKnowledge
from soorma_platform.engine.secrets import SecretPlace, find, parse_patterns, redacted
from soorma_platform.engine.secrets.formats import Format
from soorma_platform.metrics import Metrics

SecretsMode: TypeAlias = Literal["redact", "refuse", "keep"]
SECRETS_MODES = ("redact", "refuse", "keep")
FILE_SETTING = "SOORMA_MEMORY_SECRET_PATTERNS"
LARGE_BODY = 32 * 1024
"""Bytes that are searched in a few milliseconds; more are searched in a thread."""

MOST_COUNTED = 10_000
"""Users whose secrets are counted for an audit."""

_TEXTS = ("content", "description", "source")
_LISTS = ("aliases", "tags")
_OBJECTS = ("metadata", "conditions")
_IDENTITIES = (
    "id", "external_id", "subject", "attribute", "name", "agent_id", "session_id",
    "plan_id",
)  # fmt: skip
"""Names that tell things apart: redacted, they would make one of two."""
_LISTS_OF_IDENTITIES = ("agents", "derived_from")


def read_patterns(file: str) -> list[Format]:
    """Returns the patterns in a file; none without a file. Raises InvalidRequest if it is no such.

    It is read once, when the platform starts.
    """
    if not file:
        return []
    try:
        text = Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InvalidRequest(
            f"{FILE_SETTING} names {file}, which cannot be read: {reason}"
        ) from error
    return parse_patterns(text, file)


class SecretDoor:
    """The check of what a commit stores in memories, with the formats of an operator beside ours.

    With `redact`, the kind of a secret is stored in its place; a secret in a name that tells things
    apart is refused. With `refuse`, the commit is. With `keep`, nothing is looked at.
    """

    def __init__(self, mode: SecretsMode, own: Sequence[Format], metrics: Metrics) -> None:
        self._mode = mode
        self._own = own
        self._metrics = metrics
        self._counts: dict[Scope, list[int]] = {}
        """secrets redacted and refused, of the users with the latest ones"""

    def counts(self, tenant_id: str | None, user_id: str | None) -> tuple[int, int]:
        """Returns the secrets redacted and refused since the start; None stands for all."""
        found = [
            counts
            for scope, counts in self._counts.copy().items()
            if tenant_id in (None, scope.tenant_id) and user_id in (None, scope.user_id)
        ]
        return sum(one[0] for one in found), sum(one[1] for one in found)

    def _count(self, scope: Scope, redacted: int, refused: int) -> None:
        counts = self._counts.pop(scope, [0, 0])
        self._counts[scope] = [counts[0] + redacted, counts[1] + refused]
        if len(self._counts) > MOST_COUNTED:
            del self._counts[next(iter(self._counts))]

    async def check(
        self, scope: Scope, operations: list[AnyMemoryOperation], size: int, limits: Limits
    ) -> list[str]:
        """Redacts operations in place; returns the kinds of what it has redacted, one for each.

        `size` is that of their message in bytes. Raises SecretFound for what it refuses, and
        LimitExceeded if the redacted text is too large: it may be longer.
        """
        if self._mode == "keep" or not operations:
            return []
        try:
            if size > LARGE_BODY:
                kinds = await asyncio.to_thread(self._redact, operations)
            else:
                kinds = self._redact(operations)
        except SecretFound as found:
            self._metrics.memories.secrets.add(found.kind, "refused")
            self._count(scope, 0, 1)
            raise
        for kind in kinds:  # here, as each number is written by one thread
            self._metrics.memories.secrets.add(kind, "redacted")
        if kinds:
            self._count(scope, len(kinds), 0)
            for _ in check_memories(operations, limits):
                pass
        return kinds

    def _redact(self, operations: list[AnyMemoryOperation]) -> list[str]:
        kinds: list[str] = []
        for number, operation in enumerate(operations):
            search = _Search(self._own, self._mode, number)
            search.operation(operation)
            kinds += search.kinds
        return kinds


class _Search:
    """The search of one operation, `number` of its commit."""

    def __init__(self, own: Sequence[Format], mode: SecretsMode, number: int) -> None:
        self._own = own
        self._mode = mode
        self._number = number
        self.kinds: list[str] = []

    def operation(self, operation: AnyMemoryOperation) -> None:
        """Redacts the fields of an operation in place."""
        fields = operation.__struct_fields__
        if isinstance(operation, NameSession):  # its name is only shown
            operation.name = operation.name and self.text("name", operation.name)
        elif isinstance(operation, StoreKnowledge | LogInteraction | StoreProcedure):
            self._identities(operation)
        for name in _TEXTS:
            if name in fields and isinstance(text := getattr(operation, name), str):
                setattr(operation, name, self.text(name, text))
        for name in _LISTS:
            if name in fields and isinstance(given := getattr(operation, name), list):
                setattr(operation, name, list(dict.fromkeys(self.text(name, one) for one in given)))
        for name in _OBJECTS:
            if name in fields and (raw := getattr(operation, name)) is not msgspec.UNSET:
                setattr(operation, name, self._object(name, raw))
        for path, content in getattr(operation, "files", {}).items():
            self._identity("the path of a file", path)
            operation.files[path] = self._file(path, content)  # type: ignore[union-attr]

    def _identities(self, operation: AnyMemoryOperation) -> None:
        """Refuses secrets in new names; others only name what is there, perhaps to forget it."""
        fields = operation.__struct_fields__
        for name in _IDENTITIES:
            if name in fields:
                self._identity(name, getattr(operation, name))
        for name in _LISTS_OF_IDENTITIES:
            for one in getattr(operation, name) if name in fields else ():
                self._identity(name, one)

    def text(self, field: str, text: str) -> str:
        """Returns a text without its secrets."""
        return redacted(text, self._noted(field, find(text, self._own)))

    def _noted(self, field: str, found: list[SecretPlace]) -> list[SecretPlace]:
        """Counts what was found; raises SecretFound if it is to be refused."""
        if found and self._mode == "refuse":
            raise self._refused(field, found[0], "remove it")
        self.kinds += [one.kind for one in found]
        return found

    def _identity(self, field: str, name: str | None) -> None:
        if name is not None and (found := find(name, self._own)):
            raise self._refused(
                field, found[0], "name it otherwise: a name that tells things apart is not redacted"
            )

    def _refused(self, field: str, found: SecretPlace, advice: str) -> SecretFound:
        return SecretFound(
            f"{field} holds what looks like a secret ({found.kind}) at character {found.start}, "
            f"and memories store none; {advice}",
            path=field,
            kind=found.kind,
            position=found.start,
            operation=self._number,
        )

    def _object(self, field: str, raw: msgspec.Raw) -> msgspec.Raw:
        given = decode(bytes(raw))
        before = len(self.kinds)
        clean = self._value(field, "", given)
        # As it was written, unless something was found: numbers keep their digits.
        return raw if len(self.kinds) == before else msgspec.Raw(msgspec.json.encode(clean))

    def _value(self, field: str, name: str, value: Any) -> Any:
        """Returns a JSON value without secrets. What its `name` says of it counts, too."""
        if isinstance(value, dict):
            for key in value:
                self._identity(f"a name in {field}", key)
            return {key: self._value(f"{field}/{key}", key, one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._value(field, name, one) for one in value]
        if value is None or isinstance(value, bool | float):
            return value
        text, before = str(value), f"{name}: "
        found = [
            SecretPlace(max(0, one.start - len(before)), one.end - len(before), one.kind)
            for one in find(before + text, self._own)
            if one.end > len(before)
        ]
        return redacted(text, self._noted(field, found)) if found else value

    def _file(self, path: str, content: bytes) -> bytes:
        """Returns a file without secrets, as text of its encoding; Latin-1 takes any bytes."""
        for encoding in ("utf-16", "utf-8", "latin-1"):
            if encoding == "utf-16" and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
                continue
            try:
                text = content.decode(encoding)
            except UnicodeDecodeError:
                continue
            found = self._noted(f"the file {path}", find(text, self._own))
            return redacted(text, found).encode(encoding) if found else content
        return content
