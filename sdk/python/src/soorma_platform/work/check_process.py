"""The process in which schemas are compiled and payloads checked that could take long. It ends with its input.

A line for each question and each answer, in JSON. The one who asks ends the process where an answer is late.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from soorma_common.errors import InvalidValue
from soorma_common.json_text import decode
from soorma_platform.work.schemas import Misfit, Schema

MOST_SCHEMAS = 128


class Question(msgspec.Struct):
    """Does the payload fit the schema? Without a payload: is it a schema that can be used?"""

    what: str
    schema: msgspec.Raw
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Answer(msgspec.Struct, omit_defaults=True):
    """Where the payload does not fit, or why the schema cannot be used; neither of it: all is well."""

    misfit: Misfit | None = None
    unusable: str | None = None
    path: str = ""


class _Desk:
    def __init__(self) -> None:
        self._schemas: dict[bytes, Schema] = {}

    def answer(self, question: Question) -> Answer:
        try:
            schema = self._schema(question)
        except InvalidValue as error:
            return Answer(unusable=error.message, path=str(error.details.get("path", "")))
        payload: Any = question.payload
        return Answer() if payload is msgspec.UNSET else Answer(misfit=schema.misfit(decode(bytes(payload))))

    def _schema(self, question: Question) -> Schema:
        text = bytes(question.schema)
        schema = self._schemas.pop(text, None) or Schema(question.what, decode(text))
        while len(self._schemas) >= MOST_SCHEMAS:
            del self._schemas[next(iter(self._schemas))]
        self._schemas[text] = schema  # the latest used stand at the end
        return schema


def main() -> None:
    """Answers until there are no more questions."""
    desk, questions, encode = _Desk(), msgspec.json.Decoder(Question), msgspec.json.encode
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(encode(desk.answer(questions.decode(line))) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
