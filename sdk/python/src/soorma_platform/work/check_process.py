"""The process that compiles schemas and checks payloads if that could take long.

It ends with its input. Each request and each result is a line of JSON. The sender of the requests
kills the process if a result is late.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from soorma_common.errors import InvalidValue
from soorma_common.json_text import decode
from soorma_platform.work.schemas import Misfit, Schema

MOST_SCHEMAS = 128


class CheckRequest(msgspec.Struct):
    """A payload to check against a schema; without a payload, a schema to compile."""

    what: str
    schema: msgspec.Raw
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class CheckResult(msgspec.Struct, omit_defaults=True):
    """The misfit of a payload, or why the schema cannot be used; neither if all is well."""

    misfit: Misfit | None = None
    unusable: str | None = None
    path: str = ""


class _Checker:
    def __init__(self) -> None:
        self._schemas: dict[bytes, Schema] = {}

    def check(self, request: CheckRequest) -> CheckResult:
        try:
            schema = self._schema(request)
        except InvalidValue as error:
            return CheckResult(unusable=error.message, path=str(error.details.get("path", "")))
        payload: Any = request.payload
        return (
            CheckResult()
            if payload is msgspec.UNSET
            else CheckResult(misfit=schema.misfit(decode(bytes(payload))))
        )

    def _schema(self, request: CheckRequest) -> Schema:
        text = bytes(request.schema)
        schema = self._schemas.pop(text, None) or Schema(request.what, decode(text))
        while len(self._schemas) >= MOST_SCHEMAS:
            del self._schemas[next(iter(self._schemas))]
        self._schemas[text] = schema  # the last used are at the end
        return schema


def main() -> None:
    """Handles requests until there are no more."""
    checker, requests, encode = _Checker(), msgspec.json.Decoder(CheckRequest), msgspec.json.encode
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(encode(checker.check(requests.decode(line))) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
