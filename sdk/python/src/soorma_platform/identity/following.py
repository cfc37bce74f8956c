"""The task that keeps what is known of credentials up to date, and removes those long over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soorma_common.errors import SoormaError
from soorma_platform.buses.protocol import KEY_BELL, Bus
from soorma_platform.identity.keyring import FOLLOW_SECONDS, Keyring
from soorma_platform.logs import Log
from soorma_platform.stores.ports.keys import KeyStore

if TYPE_CHECKING:
    from soorma_platform.identity.tokens import TokenCheck

KEPT = 30 * 86_400_000
"""Milliseconds for which a key that has expired or was revoked can still be looked up."""
SWEEP_EVERY = 3_600_000

log = Log("soorma")


class Following:
    """Follows the record: keys that were created or revoked elsewhere, and blocks of tokens."""

    def __init__(
        self, keyring: Keyring, tokens: TokenCheck | None, keys: KeyStore, bus: Bus
    ) -> None:
        self._keyring = keyring
        self._tokens = tokens
        self._keys = keys
        self._bus = bus
        self._swept_at = 0

    async def run(self) -> None:
        """Runs until it is cancelled; failures are logged."""
        with self._bus.bell(KEY_BELL) as bell:
            while True:
                if self._tokens is not None:
                    self._tokens.end_invalid()  # even if the record cannot be read
                try:
                    await self._follow()
                except SoormaError as error:
                    log.error("keys are not followed", error=error.message)  # noqa: TRY400 - the message is all
                except Exception:
                    log.exception("keys are not followed")
                await bell.wait(FOLLOW_SECONDS)

    async def _follow(self) -> None:
        await self._keyring.follow()
        if self._tokens is not None:
            await self._tokens.follow()
        await self._keyring.note_use()
        now = self._keys.now()
        if now - self._swept_at >= SWEEP_EVERY:
            self._swept_at = now
            await self._keys.remove_old(now - KEPT)
            await self._keys.blocks.remove_old(now - KEPT)
