"""What all calls of a memory client rest on: its configuration, its connections, and its scope."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from soorma.config import ClientConfig
from soorma.memory.memories import Memories
from soorma.memory.plan import raw
from soorma.memory.plans import Plans
from soorma.transport.calls import Caller
from soorma_common.errors import InvalidRequest, InvalidValue
from soorma_common.names import Scope
from soorma_common.times import check_moment
from soorma_common.values import encode

When: TypeAlias = datetime | str
"""A time: a datetime with a time zone, or text in RFC 3339."""


def checked_metadata(metadata: Mapping[str, Any] | None, what: str = "metadata") -> msgspec.Raw:
    """Returns metadata as it is sent; raises InvalidValue for what JSON cannot say."""
    if metadata is None:
        return raw("null")
    if not isinstance(metadata, Mapping):
        raise InvalidValue(
            f"{what} is a dict: names with values, not {type(metadata).__name__}", path=what
        )
    return raw(encode(dict(metadata)))


def checked_time(name: str, when: When | None) -> str | None:
    """Returns a time as text in RFC 3339; raises InvalidRequest if it has no time zone."""
    if when is None:
        return None
    if isinstance(when, datetime):
        when = when.isoformat()
    if not isinstance(when, str):
        raise InvalidRequest(
            f"{name} is a datetime with a time zone, or text in RFC 3339, not {when!r:.40}"
        )
    return check_moment(name, when)


class MemoryCalls:
    """The base of a memory client: plans and memories of the platform, or of a transaction."""

    _config: ClientConfig
    _caller: Caller
    _plans: Plans
    _memories: Memories

    @property
    def collects(self) -> bool:
        """True in a handler or transaction: changes are collected and committed together."""
        return self._plans.collects

    def scope(self, tenant_id: str | None = None, user_id: str | None = None) -> Scope:
        """Returns the scope of a call with these ids.

        In a handler, raises Forbidden unless it is the scope of its event.
        """
        scope = self._config.scope(tenant_id, user_id)
        self._plans.check(scope)
        return scope
