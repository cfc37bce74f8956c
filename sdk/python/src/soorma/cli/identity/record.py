"""Keys in the record itself, while no platform runs on it: the first key, and a lost one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from soorma.cli.exits import CommandError, Exit, exit_of
from soorma_common.errors import SoormaError
from soorma_common.starting import RecordInUse

if TYPE_CHECKING:
    from soorma_common.identity import AuditAction, AuditPage, CreatedKey, KeyInfo, NewKey
    from soorma_platform.stores.ports import Store

T = TypeVar("T")
PAGE = 1_000


def create(database: Path, body: NewKey) -> CreatedKey:
    """Creates a key in a database, which is made if it is not there."""
    from soorma_common.identity import check_new_key  # noqa: PLC0415 - --help does without
    from soorma_platform.identity.keys import created_in  # noqa: PLC0415

    check_new_key(body)
    return _on(database, lambda store: created_in(store, body))


def rotate(database: Path, key_id: str, overlap: float) -> CreatedKey:
    """Creates the successor of a key in a database."""
    from soorma_platform.identity.keys import rotated_in  # noqa: PLC0415 - --help does without

    return _on(_there(database), lambda store: rotated_in(store, key_id, overlap))


def revoke(database: Path, key_id: str) -> KeyInfo:
    """Revokes a key in a database."""
    from soorma_platform.identity.keys import revoked_in  # noqa: PLC0415 - --help does without

    return _on(_there(database), lambda store: revoked_in(store, key_id))


def all_keys(database: Path) -> list[KeyInfo]:
    """Returns the keys of a database."""
    from soorma_platform.identity.keys import keys_in  # noqa: PLC0415 - --help does without

    return _on(_there(database), keys_in)


def audit(database: Path, action: AuditAction | None, tenant: str | None, limit: int) -> AuditPage:
    """Returns the last rows of the audit of a database."""
    from soorma_common.names import All  # noqa: PLC0415 - --help does without
    from soorma_platform.services.audit_log import page_of  # noqa: PLC0415

    owner = All.TENANTS if tenant is None else tenant
    return _on(_there(database), lambda store: page_of(store.audit_log, owner, action, limit))


def _there(database: Path) -> Path:
    if not database.exists():
        raise CommandError(Exit.DATABASE, f"there is no database {database}")
    return database


def _on(database: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    from soorma_platform.stores.engines import open_store  # noqa: PLC0415 - --help does without

    async def run() -> T:
        store = await open_store(database, lambda _: None)
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except RecordInUse as error:
        raise CommandError(
            exit_of(error),
            f"{database} is in use by a platform (process {error.holder}): leave --database out, "
            "and set SOORMA_API_KEY to a key of role operator; or stop the platform",
        ) from error
    except SoormaError as error:
        raise CommandError(exit_of(error), error.message) from error
