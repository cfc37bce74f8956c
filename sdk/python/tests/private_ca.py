"""A certificate authority of a test's own, and certificates of it, made with `openssl`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

_CONFIG = """
[req]
distinguished_name = nobody
prompt = no
[nobody]
CN = Soorma tests
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


class Pair(NamedTuple):
    """The files of a certificate and of its key."""

    cert: Path
    key: Path

    def put_in_place_of(self, other: Pair) -> None:
        """Replaces the files of another pair, each at once, as a renewal does."""
        for new, old in zip(self, other, strict=True):
            new.replace(old)

    def variables(self) -> dict[str, str]:
        """Returns the settings that name these files."""
        return {"SOORMA_TLS_CERT": str(self.cert), "SOORMA_TLS_KEY": str(self.key)}


class PrivateCA:
    """A certificate authority in a folder; clients that are to trust it get the file `root`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.root = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl(
            "req", "-x509", *_new_key(self._key), "-out", self.root, "-days", "2",
            "-config", self._config("localhost"), "-extensions", "authority",
        )  # fmt: skip

    def issue(self, name: str, *hosts: str) -> Pair:
        """Issues a certificate for hosts: names or addresses, those of loopback if left out."""
        made = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request = self.folder / f"{name}.csr"
        config = self._config(*(hosts or ("localhost", "127.0.0.1", "127.0.0.2")))
        _openssl("req", "-new", *_new_key(made.key), "-out", request, "-config", config)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.root, "-CAkey", self._key,
            "-CAcreateserial", "-out", made.cert, "-days", "2",
            "-extfile", config, "-extensions", "server",
        )  # fmt: skip
        return made

    def encrypted(self, pair: Pair) -> Pair:
        """Returns the pair with its key encrypted."""
        key = pair.key.with_suffix(".encrypted")
        _openssl("pkey", "-in", pair.key, "-aes256", "-passout", "pass:secret", "-out", key)
        return Pair(pair.cert, key)

    def _config(self, *hosts: str) -> Path:
        kinds = (f"{'IP' if host[-1].isdigit() else 'DNS'}:{host}" for host in hosts)
        config = self.folder / "openssl.cnf"
        config.write_text(_CONFIG.format(names=", ".join(kinds)), "ascii")
        return config


def _new_key(file: Path) -> tuple[str | Path, ...]:
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["openssl", *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
