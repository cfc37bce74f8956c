"""Credentials of either kind: API keys, and tokens of the issuer."""

from __future__ import annotations

from typing import Protocol

from soorma_platform.identity.credentials import PREFIX, Credential, TokenCredential
from soorma_platform.identity.keyring import Keyring


class CredentialCheck(Protocol):
    """Checks what a request shows, and ends what was admitted with it once it is not valid."""

    @property
    def epoch(self) -> int:
        """A number that changes every second: what was valid before may not be any more."""
        ...

    async def credential(self, authorization: str | None) -> Credential:
        """Returns what the credential in an Authorization header permits.

        Raises Unauthorized without one, and if it is not valid.
        """
        ...

    def is_valid(self, credential: Credential) -> bool:
        """Returns whether a credential that was valid before is so now."""
        ...

    def admit(self, credential: Credential) -> None:
        """Notes the running task as admitted: it is cancelled once the credential is not valid."""
        ...


class Tokens(Protocol):
    """Checks the tokens of an issuer."""

    issuer: str

    epoch: int

    async def credential(self, token: str) -> TokenCredential:
        """Returns what a token permits; raises Unauthorized if it is not valid."""
        ...

    def is_valid(self, credential: TokenCredential) -> bool:
        """Returns whether a token that was valid before is so now."""
        ...

    def admit(self, credential: TokenCredential) -> None:
        """Notes the running task as admitted."""
        ...

    async def follow(self) -> None:
        """Learns of blocks, and ends what was admitted with a token that is not valid now."""
        ...


class Authenticator:
    """A check of keys and tokens: what has three parts and does not begin as keys do is a token."""

    def __init__(self, keyring: Keyring, tokens: Tokens) -> None:
        self._keyring = keyring
        self._tokens = tokens

    @property
    def epoch(self) -> int:
        return self._keyring.epoch + self._tokens.epoch

    async def credential(self, authorization: str | None) -> Credential:
        token = None if authorization is None else _token_in(authorization)
        if token is None:
            return await self._keyring.credential(authorization)
        return await self._tokens.credential(token)

    def is_valid(self, credential: Credential) -> bool:
        if isinstance(credential, TokenCredential):
            return self._tokens.is_valid(credential)
        return self._keyring.is_valid(credential)

    def admit(self, credential: Credential) -> None:
        if isinstance(credential, TokenCredential):
            self._tokens.admit(credential)
        else:
            self._keyring.admit(credential)


def _token_in(authorization: str) -> str | None:
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    is_token = text.count(".") == 2 and not text.startswith(PREFIX) and scheme.lower() == "bearer"
    return text if is_token else None
