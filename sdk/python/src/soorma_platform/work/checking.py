"""Checks against schemas: at once if they are certainly cheap, else apart and within a time.

A schema of a few lines can be made to take minutes for a payload of some kilobytes, and no analysis
beforehand finds all such cases. So whatever is not certainly cheap is checked in a process of its
own, which is killed if it takes too long.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import subprocess
import sys
import threading
import time
from typing import IO, Any

import msgspec

from soorma_common.errors import InvalidValue, Unavailable
from soorma_common.json_text import compact, decode
from soorma_platform.engine.schemas import depth_of
from soorma_platform.logs import Log
from soorma_platform.work.check_process import CheckRequest, CheckResult
from soorma_platform.work.schemas import Misfit, Schema

LONGEST_SECONDS = 2.0
"""Time after which a check is given up, and the payload or the schema refused."""
SMALL_SCHEMA, SMALL_PAYLOAD = 4 * 1024, 16 * 1024
"""Bytes up to which a check may be made at once."""
FEW_PATTERNS = 8
FEW_BYTES = 16 * 1024
"""Bytes of text to match, times the patterns.

A pattern that compiles to 64 KiB looks at 2,000 states for each byte.
"""
FEW_STEPS = 500_000
"""Parts of the schema times those of the payload: 15 ms at most."""
PIECE = 65_536
START_SECONDS = 30.0
"""Time for the process to start on a busy machine."""

log = Log("soorma.payloads")


class Check:
    """A schema and the way to check against it; `what` is its name in errors."""

    def __init__(self, what: str, schema: Any, apart: Apart) -> None:
        self._what = what
        self._text = compact(msgspec.json.encode(schema))
        self._apart = apart
        self._patterns = self._text.count(b'"pattern"')
        self._small: Schema | None = None
        if (
            len(self._text) <= SMALL_SCHEMA
            and self._patterns <= FEW_PATTERNS
            and b"patternProperties" not in self._text
        ):
            try:
                self._small = Schema(what, schema, is_linear=True)
            except InvalidValue:
                self._small = None  # look-around or many states: apart

    async def make(self) -> None:
        """Compiles the schema; raises InvalidValue if it cannot be used."""
        if self._small is None:
            await self._apart.ask(CheckRequest(self._what, msgspec.Raw(self._text)))

    async def misfit(self, payload: bytes) -> Misfit | None:
        """Returns the first place where a payload (JSON text) does not fit; None if it fits."""
        if (
            self._small is not None
            and len(payload) <= SMALL_PAYLOAD
            and self._is_cheap(self._small, payload)
        ):
            return self._small.misfit(decode(payload))
        request = CheckRequest(self._what, msgspec.Raw(self._text), msgspec.Raw(compact(payload)))
        return (await self._apart.ask(request)).misfit

    def _is_cheap(self, schema: Schema, payload: bytes) -> bool:
        parts = (
            payload.count(b",")
            + payload.count(b"[")
            + payload.count(b"{")
            + payload.count(b":")
            + 1
        )
        weight = max(schema.cost.parts, len(self._text) // 2)
        if self._patterns * len(payload) > FEW_BYTES or weight * parts > FEW_STEPS:
            return False
        return (
            schema.cost.branches == 1
            or weight * schema.cost.branches ** depth_of(decode(payload)) <= FEW_STEPS
        )


class Apart:
    """The process for checks that could take long, started by the first and ended by `close`.

    It makes one check at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    async def ask(self, request: CheckRequest) -> CheckResult:
        """Returns the result of a check.

        Raises InvalidValue if the schema cannot be used, or compiling it took too long; Unavailable
        if the process cannot be started, or the platform is stopping.
        """
        result = await asyncio.to_thread(self._ask, request)
        if result.unusable is not None:
            raise InvalidValue(result.unusable, path=result.path)
        return result

    async def close(self) -> None:
        """Ends the process once the current check is over."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._end()

    def _ask(self, request: CheckRequest) -> CheckResult:
        line = msgspec.json.encode(request) + b"\n"
        with self._lock:
            for _ in range(2):  # a process killed from outside says nothing about the request
                if self._is_closed:
                    raise Unavailable("the platform is stopping")
                try:
                    return msgspec.json.decode(_exchange(self._running(), line), type=CheckResult)
                except TimeoutError:
                    self._end()
                    break
                except EOFError:
                    self._end()
        log.warning(
            "check given up, it took too long or ended its process", seconds=LONGEST_SECONDS
        )
        if request.payload is msgspec.UNSET:
            return CheckResult(
                unusable=f"{request.what} takes more than {LONGEST_SECONDS:.0f} s to be read; make "
                "it simpler"
            )
        reason = (
            f"it must be checked within {LONGEST_SECONDS:.0f} s; make it smaller, or its "
            "schema simpler"
        )
        return CheckResult(misfit=Misfit("", reason))

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            command = [sys.executable, "-P", "-m", "soorma_platform.work.check_process"]
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
                )
            except OSError as error:
                raise Unavailable(
                    f"a process to check payloads in cannot be started: {error.strerror}"
                ) from error
            os.set_blocking(_pipes(self._process)[0].fileno(), False)
            _await_start(self._process)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in _pipes(process):
                pipe.close()


def _await_start(process: subprocess.Popen[bytes]) -> None:
    """Waits for a first result, so that no check is charged for the start of the process."""
    line = msgspec.json.encode(CheckRequest("it", msgspec.Raw(b"true"))) + b"\n"
    try:
        _exchange(process, line, START_SECONDS)
    except (TimeoutError, EOFError) as error:
        raise Unavailable("the process to check payloads in does not begin") from error


def _exchange(
    process: subprocess.Popen[bytes], line: bytes, seconds: float = LONGEST_SECONDS
) -> bytes:
    """Writes a line and reads one.

    Raises TimeoutError if it is not complete in time, EOFError if the process is gone.
    """
    until = time.monotonic() + seconds
    left, said = memoryview(line), bytearray()
    writing, reading = _pipes(process)
    with selectors.DefaultSelector() as selector:
        selector.register(writing, selectors.EVENT_WRITE)
        selector.register(reading, selectors.EVENT_READ)
        while not said.endswith(b"\n"):
            ready = selector.select(max(until - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if key.fileobj is reading:
                    said += _read(reading)
                    continue
                left = _write(writing, left)
                if not left:
                    selector.unregister(writing)
    return bytes(said)


def _read(pipe: IO[bytes]) -> bytes:
    if piece := os.read(pipe.fileno(), PIECE):
        return piece
    raise EOFError


def _write(pipe: IO[bytes], text: memoryview) -> memoryview:
    try:
        return text[os.write(pipe.fileno(), text[:PIECE]) :]
    except BrokenPipeError as error:
        raise EOFError from error


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    return process.stdin, process.stdout
