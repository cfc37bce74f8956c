"""The parts that identify callers, assembled: keys, tokens, sessions of browsers, and the door."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soorma_common.errors import Unavailable
from soorma_platform.buses.protocol import Bus
from soorma_platform.identity.authenticator import Authenticator, CredentialCheck
from soorma_platform.identity.blocks import Blocks
from soorma_platform.identity.bootstrap import ensure_keys
from soorma_platform.identity.closed import ClosedDoor, FenceHolders
from soorma_platform.identity.door import Door, OpenDoor
from soorma_platform.identity.following import Following
from soorma_platform.identity.keyring import Keyring
from soorma_platform.identity.oidc import OidcSettings
from soorma_platform.identity.sessions import BrowserSessions
from soorma_platform.metrics import DoorMeters
from soorma_platform.stores.ports import Store

if TYPE_CHECKING:
    from soorma_platform.identity.issuer import Issuer
    from soorma_platform.identity.tokens import TokenCheck


class IdentityParts:
    """Keys, tokens of the issuer if there is one, sessions of browsers, and the door."""

    def __init__(self, access: str, bootstrap_keys: Path | None, oidc: OidcSettings | None) -> None:
        self._is_closed = access == "closed"
        self._bootstrap_keys = bootstrap_keys
        self._issuer = _issuer_of(oidc)
        self.tokens: TokenCheck | None = None
        self.door: Door = OpenDoor()

    async def open(self, store: Store, bus: Bus, holders: FenceHolders) -> None:
        """Creates the keys to begin with, and reads what the record knows of credentials."""
        keyring = self.keyring = Keyring(store.keys)
        if self._bootstrap_keys is not None:
            await ensure_keys(store, self._bootstrap_keys)
        await keyring.follow()
        check: CredentialCheck = keyring
        if self._issuer is not None:
            self.tokens = _check_of(self._issuer, store)
            await self.tokens.follow()
            check = Authenticator(keyring, self.tokens)
        self.sessions = BrowserSessions(time.monotonic, keyring.is_valid)
        if self._is_closed:
            self.door = ClosedDoor(check, holders, self.sessions)
        self._following = Following(keyring, self.tokens, store.keys, bus)

    def meter(self, meters: DoorMeters) -> None:
        """Lets metrics count keys, and tell how it is with the issuer."""
        meters.keys = self.keyring.counts
        if self._issuer is not None:
            meters.issuer = self._issuer.standing

    @property
    def refuses_everybody(self) -> bool:
        """True if the platform is closed, and there is no credential that it could accept."""
        return self._is_closed and self.tokens is None and not self.keyring.has_keys

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Returns what has to run in the background."""
        running = [self._following.run()]
        if self._issuer is not None:
            running.append(self._issuer.run())
        return running

    async def close(self) -> None:
        """Closes the connection to the issuer."""
        if self._issuer is not None:
            await self._issuer.close()


def _issuer_of(settings: OidcSettings | None) -> Issuer | None:
    """Returns the issuer whose tokens are accepted; None if there is none."""
    if settings is None:
        return None
    try:
        from soorma_platform.identity.issuer import Issuer  # noqa: PLC0415 - cryptography
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"tokens of {settings.issuer} need joserfc: pip install -e 'sdk/python[oidc]', or "
            "unset SOORMA_OIDC_ISSUER"
        ) from error
    return Issuer(settings)


def _check_of(issuer: Issuer, store: Store) -> TokenCheck:
    from soorma_platform.identity.tokens import TokenCheck  # noqa: PLC0415 - cryptography

    return TokenCheck(issuer, Blocks(store.keys.blocks), store.keys.now)
