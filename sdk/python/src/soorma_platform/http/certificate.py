"""The certificate that TLS is served with, which is read again when its files change."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import NoReturn

from soorma_common.errors import InvalidRequest
from soorma_platform.listening import CERT_SETTING, KEY_SETTING
from soorma_platform.logs import Log

LARGEST_FILE = 1024 * 1024
LOOK_SECONDS = 1.0
"""Seconds between two looks at the files. A change is read at the second look that finds it."""

_CERTIFICATE = b"BEGIN CERTIFICATE"
_KEY = re.compile(rb"BEGIN (?:[A-Z]+ )?PRIVATE KEY")
_ENCRYPTED = re.compile(rb"BEGIN ENCRYPTED PRIVATE KEY|^Proc-Type: 4,ENCRYPTED", re.MULTILINE)
_MISFITS = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")

State = tuple[tuple[int, ...], ...]
"""Of each file the device, inode, size, and times in nanoseconds; empty without the file."""

log = Log("soorma.tls")


class Certificate:
    """A certificate chain and its key, in PEM files.

    Raises InvalidRequest, which names the file, if TLS cannot be served with them.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self._seen = self._used = self._state()
        self._refused: State = ()
        self.context = _context(cert, key)
        """for new connections; those that stand keep theirs"""

    def look(self) -> bool:
        """Reads the files again if they have changed, and returns True if they are used now.

        If they cannot be used, the certificate stays as it was, and the log says why, once.
        """
        state, before = self._state(), self._seen
        self._seen = state
        # At the second look: the two files change one after the other, or are being written.
        if state in (self._used, self._refused) or state != before:
            return False
        try:
            self.context = _context(self._cert, self._key)
        except InvalidRequest as error:
            self._refused = state
            log.error("the certificate stays as it was", error=error.message)  # noqa: TRY400 - the message is all
            return False
        self._used, self._refused = state, ()
        log.info("certificate renewed", file=str(self._cert))
        return True

    async def follow(self) -> NoReturn:
        """Looks at the files for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.look()
            except Exception:
                log.exception("the certificate is not followed")

    def _state(self) -> State:
        return _state_of(self._cert), _state_of(self._key)


def _state_of(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    """Returns a new context, so that what cannot be used leaves no trace in the one in use."""
    _check(cert, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a function for the password, OpenSSL would ask at the terminal.
        context.load_cert_chain(cert, key, password=lambda: _refuse_encrypted(key))
    except ssl.SSLError as error:
        if error.reason in _MISFITS:
            raise InvalidRequest(
                f"{KEY_SETTING}: the key in {key} is not that of the first certificate in {cert}"
            ) from None
        raise InvalidRequest(
            f"{CERT_SETTING}, {KEY_SETTING}: TLS cannot be served with {cert} and {key}: "
            f"{error.reason or error}"
        ) from None
    except OSError as error:
        raise InvalidRequest(
            f"{CERT_SETTING}, {KEY_SETTING}: {cert} and {key} cannot be read: {error.strerror}"
        ) from None
    return context


def _check(cert: Path, key: Path) -> None:
    """Raises the errors that OpenSSL reports without a file."""
    if _CERTIFICATE not in _content(CERT_SETTING, cert):
        raise InvalidRequest(f"{CERT_SETTING}: {cert} has no certificate in PEM form")
    content = _content(KEY_SETTING, key)
    if _ENCRYPTED.search(content):
        _refuse_encrypted(key)
    if not _KEY.search(content):
        raise InvalidRequest(f"{KEY_SETTING}: {key} has no private key in PEM form")


def _content(setting: str, file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InvalidRequest(f"{setting}: {file} cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise InvalidRequest(f"{setting}: {file} has more than {LARGEST_FILE:,} bytes")
    return content


def _refuse_encrypted(key: Path) -> NoReturn:
    raise InvalidRequest(
        f"{KEY_SETTING}: the key in {key} is encrypted, and nobody is there to type its password; "
        f"store it as it is, for the platform's user only: openssl pkey -in {key} -out FILE"
    )
