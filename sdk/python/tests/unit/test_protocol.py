"""Versions of the protocol: a refusal names them, and the SDK accepts only known responses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from soorma.errors import ProtocolMismatch
from soorma.transport.headers import SPOKEN, check_answer
from soorma_common.protocol import PROTOCOL, PROTOCOL_HEADER, mismatch
from soorma_platform.identity import check_protocol

SOURCES = Path(__file__).resolve().parents[2] / "src"
PROBLEM = {"Content-Type": "application/problem+json"}
AT = "http://localhost:8083"


@pytest.mark.parametrize(
    ("sdk", "platform", "named", "advice"),
    [
        (1, 2, "speaks protocol 1 and the platform protocol 2", "update the SDK."),
        ("3", 2, "speaks protocol 3 and the platform protocol 2", "update the platform."),
        (10, "9", "speaks protocol 10 and the platform protocol 9", "update the platform."),
        (0, 1, "speaks none that has a version and the platform protocol 1", "update the SDK."),
        (1, 0, "speaks protocol 1 and the platform none that has", "update the platform, or check"),
        ("one", 1, "speaks protocol one and the platform protocol 1", "update the SDK."),
    ],
)
def test_a_refusal_names_both_versions_and_which_side_to_update(
    sdk: str | int, platform: str | int, named: str, advice: str
) -> None:
    error = mismatch(sdk=sdk, platform=platform)
    assert named in error.message
    assert advice in error.message
    assert error.details == {"sdk_protocol": sdk, "platform_protocol": platform}


def test_a_refusal_is_short_whatever_a_header_says() -> None:
    assert len(mismatch(sdk="9" * 60_000, platform=1).message) < 200


@pytest.mark.parametrize("headers", [{}, {b"x-soorma-protocol": str(PROTOCOL).encode()}])
def test_a_platform_takes_its_own_version_and_plain_http(headers: dict[bytes, bytes]) -> None:
    check_protocol(headers)


@pytest.mark.parametrize("spoken", [b"0", b"2", b"", b"\xff", b"1.0", b"9" * 5000])
def test_a_platform_refuses_any_other_version(spoken: bytes) -> None:
    with pytest.raises(ProtocolMismatch):
        check_protocol({b"x-soorma-protocol": spoken})


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, SPOKEN),
        (404, SPOKEN | PROBLEM),
        (502, {"Content-Type": "text/html"}),  # a proxy on the way
        (404, {"Content-Type": "text/html"}),  # another program
        (503, {}),
    ],
)
def test_the_sdk_takes_answers_of_its_version_and_leaves_what_is_no_platform_to_others(
    status: int, headers: dict[str, str]
) -> None:
    check_answer(status, headers, AT)


@pytest.mark.parametrize(
    ("status", "headers"),
    [(200, {}), (404, PROBLEM), (200, {PROTOCOL_HEADER: "2"}), (503, {PROTOCOL_HEADER: "2"})],
)
def test_the_sdk_refuses_answers_of_any_other_version(status: int, headers: dict[str, str]) -> None:
    with pytest.raises(ProtocolMismatch, match=AT):
        check_answer(status, headers, AT)


def test_the_header_is_named_in_one_place() -> None:
    header = re.compile(re.escape(PROTOCOL_HEADER), re.IGNORECASE)
    found = [path for path in SOURCES.rglob("*.py") if header.search(path.read_text("utf-8"))]
    assert found == [SOURCES / "soorma_common" / "protocol.py"]
