"""Server-sent events: any text arrives whole, however the stream is written or cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from soorma.transport.sent_events import Message, Parser
from soorma_common.json_text import check, compact, decode
from soorma_platform.http import sent_event

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
JSON = st.recursive(
    LEAVES, lambda part: st.lists(part, max_size=4) | st.dictionaries(TEXTS, part, max_size=4)
)
SPACES = st.text(st.sampled_from(" \t\r\n"), max_size=4)
BREAKS = st.sampled_from([b"\n", b"\r", b"\r\n"])


def pieces(text: bytes, cuts: list[int]) -> list[bytes]:
    """Returns the text, cut at these places."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[one:other] for one, other in pairwise(places)]


def read(text: bytes, cuts: list[int] | None = None) -> list[Message]:
    """Returns the messages that the SDK reads from a stream."""
    parser = Parser()
    return [message for piece in pieces(text, cuts or []) for message in parser.feed(piece)]


@st.composite
def loose(draw: st.DrawFn) -> tuple[Any, bytes]:
    """Draws a value, and its JSON text with whitespace where JSON allows it."""
    value = draw(JSON)
    separators = (draw(SPACES) + "," + draw(SPACES), draw(SPACES) + ":" + draw(SPACES))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), separators=separators)
    return value, (draw(SPACES) + text + draw(SPACES)).encode()


@pytest.mark.behaviour("memory.value-round-trip", "readers.line-breaks")
@given(loose())
@example(
    (
        {" a\t": " : , \u2028", "\u0085": "\\n"},
        '\r\n{ " a\\t" :\n" : , \u2028" ,"\u0085":\r"\\\\n"}\t'.encode(),
    )
)
def test_json_loses_its_whitespace_and_nothing_else(case: tuple[Any, bytes]) -> None:
    value, text = case
    short = compact(text)
    assert not {b"\n", b"\r", b"\t"} & {bytes([one]) for one in short}
    assert repr(decode(short)) == repr(decode(text)) == repr(value)
    assert compact(short) == short
    assert len(short) <= len(text)


@pytest.mark.parametrize(
    "text",
    [b"", b" ", b"{", b'{"a": 1', b"nul l", b"\xff \xfe", b"[" * 3000 + b" ", b"NaN ", b"1 2"],
)
@pytest.mark.behaviour("memory.not-json-refused")
def test_what_is_no_json_is_left_to_whoever_decodes_it(text: bytes) -> None:
    assert compact(text) == text


@pytest.mark.behaviour("readers.line-breaks", "readers.any-stream")
@given(
    st.lists(st.tuples(loose(), st.integers(0, 10**18 - 1) | st.none()), max_size=4),
    st.lists(st.integers(0), max_size=9),
)
def test_what_the_platform_sends_is_read_whole(
    sent: list[tuple[tuple[Any, bytes], int | None]], cuts: list[int]
) -> None:
    stream = b"".join(sent_event("event", text, position) for (_, text), position in sent)
    found = read(stream, cuts)
    assert [(kind, position, repr(decode(data))) for kind, position, data in found] == [
        ("event", position, repr(value)) for (value, _), position in sent
    ]


def lines_of(text: str) -> list[str]:
    """Returns the lines by the standard's ends: not at U+2028, U+0085 or a form feed."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Message], bytes]:
    """Draws messages, and a stream of them in some form that the standard allows."""
    end = draw(BREAKS)
    messages, written = [], draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    for _ in range(draw(st.integers(0, 4))):
        text = draw(
            st.text(
                st.characters(codec="utf-8") | st.sampled_from("\r\n\u2028:"),
                min_size=1,
                max_size=12,
            )
        )
        identity = draw(st.none() | st.integers(0, 10**18 - 1))
        fields = [f"data:{draw(st.sampled_from(['', ' ']))}{line}" for line in lines_of(text)]
        data = "\n".join(field[6:] if field[5:6] == " " else field[5:] for field in fields)
        fields.insert(0, draw(st.sampled_from(["event:kind", "event: kind"])))
        if identity is not None:
            fields.append(draw(st.sampled_from([f"id:{identity}", f"id: {identity}"])))
        for other in draw(
            st.lists(st.sampled_from([":", ": a comment", "retry: 10", "unknown: field", "noise"]))
        ):
            fields.insert(draw(st.integers(0, len(fields))), other)
        for field in fields:
            written += field.encode() + end
        written += end
        messages.append(Message("kind", identity, data.encode()))
    return messages, written


@pytest.mark.behaviour("readers.any-stream")
@given(streams(), st.lists(st.integers(0), max_size=12))
def test_every_form_of_a_stream_is_read(case: tuple[list[Message], bytes], cuts: list[int]) -> None:
    messages, written = case
    told = [message for message in read(written, cuts) if message.kind]
    assert told == messages


@pytest.mark.behaviour("readers.any-stream")
@pytest.mark.parametrize("text", [b"id: 4\n: still here\n\n", b"id:4\r\r", b"\n\n\nid: 4\r\n\r\n"])
def test_a_message_without_data_tells_how_far_the_stream_is(text: bytes) -> None:
    assert read(text) == [Message("", 4, b"")]


@pytest.mark.behaviour("readers.any-stream")
def test_what_was_cut_off_is_no_message() -> None:
    assert read(b"event: a\ndata: 1\n\nevent: b\ndata: 2\n") == [Message("a", None, b"1")]


@pytest.mark.behaviour("memory.depth")
@given(
    st.lists(st.sampled_from(['"]"', '"[\\""', '"\\\\"', "[]", "{}", "1", '{"[":[]}'])),
    st.integers(100, 160),
    st.data(),
)
def test_depth_is_that_of_the_brackets_outside_strings(
    parts: list[str], depth: int, data: st.DataObject
) -> None:
    inner = f"[{','.join(parts)}]"
    opening = [data.draw(st.sampled_from(["[", '{"}":'])) for _ in range(depth - 1)]
    text = (
        "".join(opening) + inner + "".join("]" if one == "[" else "}" for one in reversed(opening))
    )
    deepest = depth + max(
        (2 if part == '{"[":[]}' else 1 if part in ("[]", "{}") else 0 for part in parts), default=0
    )
    if deepest > 128:
        with pytest.raises(ValueError, match="nested deeper"):
            check(text.encode())
    else:
        assert check(text.encode()) == text
