"""The certificate that TLS is served with: what cannot be used, and files that change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import pytest
from private_ca import Pair, PrivateCA

from soorma_common.errors import InvalidRequest
from soorma_platform.http.certificate import Certificate


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PrivateCA:
    return PrivateCA(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def pair(ca: PrivateCA) -> Pair:
    return ca.issue("server")


@pytest.mark.behaviour("security.tls")
def test_old_versions_of_tls_are_not_served(pair: Pair) -> None:
    context = Certificate(*pair).context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.behaviour("security.certificate")
def test_what_cannot_be_used_is_named(ca: PrivateCA, pair: Pair, tmp_path: Path) -> None:
    other, nothing, large = ca.issue("other"), tmp_path / "nothing.pem", tmp_path / "large.pem"
    large.write_bytes(b" " * (1024 * 1024 + 1))
    broken = tmp_path / "broken.pem"
    broken.write_text(f"{pair.cert.read_text()[:200]}\n-----END CERTIFICATE-----\n")
    both = tmp_path / "both.pem"
    both.write_text(pair.cert.read_text() + pair.key.read_text())
    for cert, key, named in (
        (nothing, pair.key, f"SOORMA_TLS_CERT: {nothing} cannot be read: No such file"),
        (pair.cert, nothing, f"SOORMA_TLS_KEY: {nothing} cannot be read: No such file"),
        (tmp_path, pair.key, f"SOORMA_TLS_CERT: {tmp_path} cannot be read: Is a directory"),
        (large, pair.key, f"SOORMA_TLS_CERT: {large} has more than"),
        (pair.key, pair.key, f"SOORMA_TLS_CERT: {pair.key} has no certificate"),
        (pair.cert, pair.cert, f"SOORMA_TLS_KEY: {pair.cert} has no private key"),
        (pair.cert, other.key, f"SOORMA_TLS_KEY: the key in {other.key} is not that of"),
        (broken, pair.key, f"TLS cannot be served with {broken}"),
        (*ca.encrypted(pair), "is encrypted"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            Certificate(cert, key)
        assert named in str(refused.value)
        assert refused.value.__cause__ is None
    Certificate(both, both)


@pytest.mark.behaviour("security.certificate")
def test_changed_files_are_read_once_they_stay(ca: PrivateCA, pair: Pair) -> None:
    certificate = Certificate(*pair)
    first = certificate.context
    assert [certificate.look() for _ in range(3)] == [False] * 3
    ca.issue("next").put_in_place_of(pair)
    assert [certificate.look() for _ in range(4)] == [False, True, False, False]
    assert certificate.context is not first, "connections that stand keep theirs"


@pytest.mark.behaviour("security.certificate")
def test_files_that_change_one_after_the_other_are_no_fault(
    ca: PrivateCA, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = Certificate(*pair)
    new = ca.issue("next")
    new.cert.replace(pair.cert)
    certificate.look()
    new.key.replace(pair.key)
    assert [certificate.look() for _ in range(2)] == [False, True]
    assert [record.levelno for record in caplog.records] in ([], [logging.INFO])


@pytest.mark.behaviour("security.certificate")
def test_what_cannot_be_used_is_logged_once_and_the_old_one_stays(
    ca: PrivateCA, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = Certificate(*pair)
    context, kept = certificate.context, pair.cert.read_bytes()
    faults = (
        lambda: pair.cert.write_text("nothing"),
        lambda: ca.issue("other").cert.replace(pair.cert),
        pair.cert.unlink,
    )
    for number, fault in enumerate(faults, 1):
        fault()
        assert [certificate.look() for _ in range(5)] == [False] * 5
        assert certificate.context is context
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == number
        assert "the certificate stays as it was" in errors[-1].getMessage()
        assert "PRIVATE" not in errors[-1].getMessage()
    pair.cert.write_bytes(kept)
    assert [certificate.look() for _ in range(2)] == [False, True]
