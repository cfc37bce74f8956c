"""The passages of a JSON Lines file, stored batch by batch."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import msgspec

from soorma.cli import output
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.exits import CommandError, exit_of
from soorma_common import json_text
from soorma_common.errors import (
    Conflict,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    SoormaError,
)
from soorma_common.limits import MIB, Limits
from soorma_common.semantic import Knowledge, StoreKnowledge, check_store
from soorma_common.terminal import plain

if TYPE_CHECKING:
    from soorma.memory.client import MemoryClient

LIMITS = Limits()
LONGEST_LINE = 8 * MIB
"""Bytes of a line: a passage of 1 MiB, each character escaped, has 6 MiB."""

_OF_A_LINE = (InvalidRequest, NotFound, LimitExceeded, Conflict)
"""Errors that are about a passage; others are about the platform, and concern all of them."""

_form = msgspec.json.Decoder(str | Knowledge)


class PassageLine(NamedTuple):
    """A line with its number from 1, the size of its text in bytes, and its passage."""

    number: int
    size: int
    passage: dict[str, Any]


class LineError(Exception):
    """A line that holds no passage; the error says why."""

    def __init__(self, number: int, error: SoormaError) -> None:
        super().__init__(number, error)
        self.number = number
        self.error = error


class Addition:
    """The storing of passages of the file `name`: those before an error are stored, and stay.

    `ids` are those of the passages stored so far.
    """

    def __init__(self, name: str, tenant: str | None, user: str | None) -> None:
        self._name = name
        self._tenant = tenant
        self._user = user
        self.ids: list[str] = []

    @property
    def told(self) -> str:
        """How much was stored before an error."""
        if not self.ids:
            return "before that, nothing was stored"
        one = len(self.ids) == 1
        return f"before that, {len(self.ids):,} passage{' was' if one else 's were'} stored"

    def run(self, file: BinaryIO) -> None:
        """Stores the passages of all lines; CommandError, which names the line of an error."""
        try:
            for batch in _batches(_lines(file)):  # read outside the event loop, so Ctrl+C ends it
                self._store_batch(batch)
        except LineError as failed:
            raise self._failure(f"line {failed.number}", failed.error) from failed

    def _store_batch(self, batch: list[PassageLine]) -> None:
        async def store(platform: PlatformConnection) -> None:
            await self._store(platform.memory, batch)

        on_platform(self._tenant, self._user, store)

    async def _store(self, memory: MemoryClient, batch: list[PassageLine]) -> None:
        try:
            self.ids += await memory.store_knowledge_batch([line.passage for line in batch])
        except _OF_A_LINE as error:
            if len(batch) == 1:
                raise LineError(batch[0].number, error) from error
            # One of them is to blame: halves find it, and store those before it.
            half = len(batch) // 2
            await self._store(memory, batch[:half])
            await self._store(memory, batch[half:])
        except SoormaError as error:
            where = f"lines {batch[0].number} to {batch[-1].number}"
            raise self._failure(where, error) from error
        else:
            output.rewrite(f"stored {len(self.ids):,} passages")

    def _failure(self, where: str, error: SoormaError) -> CommandError:
        reason = " ".join(error.message.split())
        return CommandError(
            exit_of(error), plain(f"{where} of {self._name}: {reason}; {self.told}")
        )


def _batches(lines: Iterator[PassageLine]) -> Iterator[list[PassageLine]]:
    """Yields as many lines together as one commit stores; those before an error, too."""
    batch: list[PassageLine] = []
    size = 0
    try:
        for line in lines:
            if batch and (
                len(batch) == LIMITS.memory_operations or size + line.size > LIMITS.memory_bytes
            ):
                yield batch
                batch, size = [], 0
            batch.append(line)
            size += line.size
    except LineError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _lines(file: BinaryIO) -> Iterator[PassageLine]:
    """Yields the lines that are not blank; LineError for one that holds no passage."""
    number = 0
    while text := file.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1:
            text = text.removeprefix(codecs.BOM_UTF8)
        if not text.strip():
            continue
        try:
            yield _line(number, text)
        except SoormaError as error:
            raise LineError(number, error) from error


def _line(number: int, text: bytes) -> PassageLine:
    if len(text) > LONGEST_LINE:
        raise InvalidRequest(f"it is longer than {LONGEST_LINE:,} bytes")
    json_text.check(text, "it")
    try:
        given = _form.decode(text)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"it is neither a text nor a passage: {error}") from error
    knowledge = Knowledge(content=given) if isinstance(given, str) else given
    if knowledge.id is not None:
        raise InvalidRequest("a passage gets its id when it is stored; external_id is its own")
    check_store(StoreKnowledge(**msgspec.structs.asdict(knowledge)), LIMITS)
    passage = {"content": given} if isinstance(given, str) else json_text.decode(text)
    return PassageLine(number, len(knowledge.content.encode()), passage)
