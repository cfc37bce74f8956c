"""Sessions of browsers, for the page of a closed platform: a cookie in place of a key.

A cookie goes to every port of its host. So it is not the key, and opens nothing but what the
gateway shows to people.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from soorma_platform.identity.credentials import Credential

COOKIE = "soorma_session"
SECONDS = 8 * 3_600
MOST_SESSIONS = 1_000
_TOKEN_BYTES = 32


class _Session(NamedTuple):
    credential: Credential
    until: float


class BrowserSessions:
    """Sessions in memory, by the hash of their token; the oldest goes where there are too many.

    `now` is a time in seconds that only goes forward; `is_valid` says of a credential whether it is
    still accepted.
    """

    def __init__(self, now: Callable[[], float], is_valid: Callable[[Credential], bool]) -> None:
        self._now = now
        self._is_valid = is_valid
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    def begin(self, credential: Credential) -> str:
        """Begins a session; returns its token."""
        token = secrets.token_hex(_TOKEN_BYTES)
        self._sessions[_hash(token)] = _Session(credential, self._now() + SECONDS)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def credential(self, token: str) -> Credential | None:
        """Returns the credential with which a session was begun.

        None if there is no such session, or its credential is not valid any more.
        """
        session = self._sessions.get(_hash(token))
        if session is None or session.until <= self._now():
            return None
        return session.credential if self._is_valid(session.credential) else None

    def end(self, token: str) -> None:
        """Ends a session."""
        self._sessions.pop(_hash(token), None)


def token_in(cookies: bytes | None) -> str | None:
    """Returns the token in the header Cookie; None if there is none."""
    for part in (cookies or b"").split(b";"):
        name, _, value = part.strip().partition(b"=")
        if name == COOKIE.encode():
            return value.decode("latin-1")
    return None


def set_cookie(token: str, *, secure: bool) -> bytes:
    """Returns the header Set-Cookie that begins a session; one without a token ends it."""
    age = SECONDS if token else 0
    more = "; Secure" if secure else ""
    return f"{COOKIE}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{more}".encode()


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()
