"""Keys to begin with, from a file: of a deployment's secrets, or of `soorma dev --secure`."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import msgspec

from soorma_common.errors import InvalidRequest
from soorma_common.identity import NewKey, check_new_key
from soorma_platform.engine.keys import CreateKey
from soorma_platform.engine.rows.audit_log import Author
from soorma_platform.identity.credentials import FreshKey, digest_of, split
from soorma_platform.identity.keys import new_row
from soorma_platform.stores.ports.store import Commits

SETTING = "SOORMA_BOOTSTRAP_KEYS_FILE"
LARGEST_FILE = 1024 * 1024
BOOTSTRAP = "bootstrap"
"""Who has created these keys, as they are listed."""


class _Key(NewKey, forbid_unknown_fields=True, kw_only=True):
    """A key, and the credential that stands for it."""

    credential: str

    def __repr__(self) -> str:
        return f"_Key({self.name!r})"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_Key]


def read_keys(path: Path) -> list[_Key]:
    """Reads a file of keys: TOML with a table `[[keys]]` for each, whose secret is in `credential`.

    Raises InvalidRequest, which never shows a secret, if it cannot be read, if others may write to
    it, or if something is wrong with a key.
    """
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(path.stat().st_mode) & stat.S_IWOTH:
                raise InvalidRequest(f"{path} can be written by everybody; chmod o-w it")
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InvalidRequest(f"{SETTING}: {path} cannot be read: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise InvalidRequest(f"{path} has more than {LARGEST_FILE:,} bytes")
    try:
        found = msgspec.convert(tomllib.loads(data.decode()), _File)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        # Without the cause: it quotes the text, which holds secrets.
        raise InvalidRequest(f"{path} is not TOML in UTF-8") from None
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{path} does not describe keys: {error}") from None
    for key in found.keys:
        if split(key.credential) is None:
            raise InvalidRequest(
                f"{path}: the credential of key {key.name!r} is none that soorma keys generate "
                "makes"
            )
        try:
            check_new_key(key)
        except InvalidRequest as error:
            raise InvalidRequest(f"{path}, key {key.name!r}: {error.message}") from error
    return found.keys


async def ensure_keys(store: Commits, path: Path) -> None:
    """Creates those keys of a file that are not there yet.

    One that was revoked stays so. Raises Conflict if an id has another secret.
    """
    for key in read_keys(path):
        parts = split(key.credential)
        assert parts is not None  # noqa: S101 - reading it has checked that
        key_id, secret = parts
        fresh = FreshKey(key_id, key.credential, digest_of(secret))
        life = None if key.expires_in is None else round(key.expires_in * 1000)
        row = new_row(key, fresh, BOOTSTRAP)
        await store.transact(CreateKey(row, life, author=Author(by_name=BOOTSTRAP)))
