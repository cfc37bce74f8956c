"""The passages or interactions of a JSON Lines file, stored batch by batch."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import msgspec

from soorma.cli import output
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.exits import CommandError, Exit, exit_of
from soorma.cli.memory.fields import counted
from soorma.cli.parameters import STANDARD_INPUT
from soorma_common import json_text
from soorma_common.episodic import Interaction, LogInteraction, check_interaction
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

BATCH_BYTES = 2 * MIB
"""Bytes of text in a commit. One may have five times as many, but then it can take longer on a
busy machine than the command waits for it; more commits cost next to nothing."""

_OF_A_LINE = (InvalidRequest, NotFound, LimitExceeded, Conflict)
"""Errors that are about a line; others are about the platform, and concern all of them."""

_passage_form = msgspec.json.Decoder(str | Knowledge)
_interaction_form = msgspec.json.Decoder(Interaction)


class LineForm(NamedTuple):
    """What each line holds: its name, what is done with it, how it is read, and the call for many.

    `read` returns the size of its text in bytes, and the arguments of the call.
    """

    what: str
    done: str
    read: Callable[[bytes], tuple[int, dict[str, Any]]]
    store: Callable[[MemoryClient, list[dict[str, Any]]], Awaitable[list[str]]]


class MemoryLine(NamedTuple):
    """A line with its number from 1, the size of its text in bytes, and the arguments of a call."""

    number: int
    size: int
    arguments: dict[str, Any]


class LineError(Exception):
    """A line that holds no passage or interaction; the error says why."""

    def __init__(self, number: int, error: SoormaError) -> None:
        super().__init__(number, error)
        self.number = number
        self.error = error


def add_lines(path: Path, form: LineForm, tenant: str | None, user: str | None) -> list[str]:
    """Stores what the lines of a file hold, or of standard input if it is `-`; returns the ids.

    CommandError, which names the line of an error and says what was stored before it.
    """
    is_file = str(path) != STANDARD_INPUT
    with ExitStack() as opened:
        reader = opened.enter_context(_opened(path)) if is_file else sys.stdin.buffer
        name = str(path) if is_file else "standard input"
        addition = _Addition(name, form, tenant, user)
        opened.callback(output.rewrite, "")
        try:
            addition.run(reader)
        except KeyboardInterrupt:
            raise CommandError(
                Exit.INTERRUPTED, f"interrupted; {addition.told}, and perhaps what was under way"
            ) from None
    return addition.ids


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise CommandError(Exit.USAGE, plain(f"{path} cannot be read: {error.strerror}")) from error


class _Addition:
    """The storing of the lines of the file `name`: those before an error are stored, and stay.

    `ids` are those of what is stored so far.
    """

    def __init__(self, name: str, form: LineForm, tenant: str | None, user: str | None) -> None:
        self._name = name
        self._form = form
        self._tenant = tenant
        self._user = user
        self.ids: list[str] = []

    @property
    def told(self) -> str:
        """How much was stored before an error."""
        done = self._form.done
        if not self.ids:
            return f"before that, nothing was {done}"
        verb = "was" if len(self.ids) == 1 else "were"
        return f"before that, {counted(len(self.ids), self._form.what)} {verb} {done}"

    def run(self, file: BinaryIO) -> None:
        """Stores all lines; CommandError, which names the line of an error."""
        try:
            # Read outside the event loop, so Ctrl+C ends it.
            for batch in _batches(_lines(file, self._form)):
                self._store_batch(batch)
        except LineError as failed:
            raise self._failure(f"line {failed.number}", failed.error) from failed

    def _store_batch(self, batch: list[MemoryLine]) -> None:
        async def store(platform: PlatformConnection) -> None:
            await self._store(platform.memory, batch)

        on_platform(self._tenant, self._user, store)

    async def _store(self, memory: MemoryClient, batch: list[MemoryLine]) -> None:
        try:
            self.ids += await self._form.store(memory, [line.arguments for line in batch])
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
            output.rewrite(f"{self._form.done} {len(self.ids):,} {self._form.what}s")

    def _failure(self, where: str, error: SoormaError) -> CommandError:
        reason = " ".join(error.message.split())
        return CommandError(
            exit_of(error), plain(f"{where} of {self._name}: {reason}; {self.told}")
        )


def _batches(lines: Iterator[MemoryLine]) -> Iterator[list[MemoryLine]]:
    """Yields as many lines together as one commit stores; those before an error, too."""
    batch: list[MemoryLine] = []
    size = 0
    try:
        for line in lines:
            if batch and (len(batch) == LIMITS.memory_operations or size + line.size > BATCH_BYTES):
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


def _lines(file: BinaryIO, form: LineForm) -> Iterator[MemoryLine]:
    """Yields the lines that are not blank; LineError for one that holds nothing of this form."""
    number = 0
    while text := file.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1:
            text = text.removeprefix(codecs.BOM_UTF8)
        if not text.strip():
            continue
        try:
            if len(text) > LONGEST_LINE:
                raise InvalidRequest(f"it is longer than {LONGEST_LINE:,} bytes")
            json_text.check(text, "it")
            yield MemoryLine(number, *form.read(text))
        except SoormaError as error:
            raise LineError(number, error) from error


def _passage(text: bytes) -> tuple[int, dict[str, Any]]:
    try:
        given = _passage_form.decode(text)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"it is neither a text nor a passage: {error}") from error
    knowledge = Knowledge(content=given) if isinstance(given, str) else given
    if knowledge.id is not None:
        raise InvalidRequest("a passage gets its id when it is stored; external_id is its own")
    check_store(StoreKnowledge(**msgspec.structs.asdict(knowledge)), LIMITS)
    passage = {"content": given} if isinstance(given, str) else json_text.decode(text)
    return len(knowledge.content.encode()), passage


def _interaction(text: bytes) -> tuple[int, dict[str, Any]]:
    try:
        given = _interaction_form.decode(text)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"it is no interaction: {error}") from error
    if given.id is not None:
        raise InvalidRequest("an interaction gets its id when it is logged")
    check_interaction(LogInteraction(**msgspec.structs.asdict(given)), LIMITS)
    return len(given.content.encode()), json_text.decode(text)


async def _store_passages(memory: MemoryClient, many: list[dict[str, Any]]) -> list[str]:
    return [one.id for one in await memory.store_knowledge_batch(many)]


PASSAGES = LineForm("passage", "stored", _passage, _store_passages)
INTERACTIONS = LineForm(
    "interaction", "logged", _interaction, lambda memory, many: memory.log_interactions(many)
)
