"""Stored responses: the outcome of a commit, for whoever sends it again."""

from __future__ import annotations

from typing import Any

import msgspec

from soorma_platform.engine.rows.deliveries import InHand
from soorma_platform.engine.rows.idempotency import (
    KeyNeed,
    KeySeen,
    ResponseFound,
    ResponseNeed,
    SeenKey,
    StoredResponse,
)
from soorma_platform.stores.sqlite.statements import Mutation, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_put = Mutation("put_answer", "tenant_id", "user_id", "key", "expires_at", "answer")
_OF_NOBODY = ("", "")
"""The tenant and user of rows that belong to nobody: real names are never empty."""
_decode = msgspec.json.Decoder(StoredResponse).decode


def load(loading: Loading, need: ResponseNeed) -> None:
    """Loads the response that was stored before."""
    if need.if_settled and loading.found.part(InHand).delivery is not None:
        return  # a delivery in hand has not been settled, so no response is stored
    scope = loading.scope
    text = value(
        loading.connection,
        "answer",
        scope.tenant_id,
        scope.user_id,
        need.key,
        loading.moment.uptime,
    )
    if text is not None:
        loading.found.part(ResponseFound).stored = _decode(text)
        loading.is_repeated = True


def write(writing: Writing, row: StoredResponse) -> None:
    """Stores a response."""
    scope, text = writing.scope, msgspec.json.encode(row).decode()
    _put.run(writing.connection, scope.tenant_id, scope.user_id, row.key, row.expires_at, text)


def load_key(loading: Loading, need: KeyNeed) -> None:
    """Checks whether something was done under a key."""
    if (
        value(loading.connection, "answer", *_OF_NOBODY, need.key, loading.moment.uptime)
        is not None
    ):
        loading.found.part(KeySeen).is_seen = loading.is_repeated = True


def write_key(writing: Writing, row: SeenKey) -> None:
    """Records that something was done under a key."""
    _put.run(writing.connection, *_OF_NOBODY, row.key, row.expires_at, "{}")


LOADERS: dict[type[Any], Any] = {ResponseNeed: load, KeyNeed: load_key}
WRITERS: dict[type[Any], Any] = {StoredResponse: write, SeenKey: write_key}
