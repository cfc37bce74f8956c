"""Where the platform is and for whom a client speaks: environment variables with defaults on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from soorma_common.errors import InvalidRequest
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER, Scope, check_scope

if TYPE_CHECKING:
    from soorma.transport import Service

MEMORY_URL = "http://localhost:8083"
EVENTS_URL = "http://localhost:8082"
REGISTRY_URL = "http://localhost:8081"


@dataclass(frozen=True)
class ClientConfig:
    """The addresses of the services, whose data is meant where a call does not say, and how long to retry.

    `tenant_id` confines agents and readers to that tenant; None lets them serve all.
    """

    memory_url: str = MEMORY_URL
    events_url: str = EVENTS_URL
    tenant_id: str | None = None
    user_id: str | None = None
    retry_seconds: float = 10.0
    registry_url: str = REGISTRY_URL

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> ClientConfig:
        """Reads SOORMA_MEMORY_URL, SOORMA_EVENT_SERVICE_URL, SOORMA_REGISTRY_URL, SOORMA_TENANT_ID, SOORMA_USER_ID
        and SOORMA_RETRY_SECONDS.
        """
        retry = env.get("SOORMA_RETRY_SECONDS", "").strip() or "10"
        try:
            retry_seconds = float(retry)
        except ValueError:
            raise InvalidRequest(f"SOORMA_RETRY_SECONDS must be a number of seconds, not {retry!r}") from None
        return cls(
            memory_url=_address(env, "SOORMA_MEMORY_URL", MEMORY_URL),
            events_url=_address(env, "SOORMA_EVENT_SERVICE_URL", EVENTS_URL),
            tenant_id=env.get("SOORMA_TENANT_ID") or None,
            user_id=env.get("SOORMA_USER_ID") or None,
            retry_seconds=retry_seconds,
            registry_url=_address(env, "SOORMA_REGISTRY_URL", REGISTRY_URL),
        )

    @property
    def addresses(self) -> dict[Service, str]:
        """The address of each service."""
        return {"memory": self.memory_url, "events": self.events_url, "registry": self.registry_url}

    def scope(self, tenant_id: str | None, user_id: str | None) -> Scope:
        """Whose data a call means: what it says, else what is configured, else the default tenant and user."""
        if tenant_id is None and user_id is None:
            return self._scope
        tenant = tenant_id if tenant_id is not None else self.tenant_id or DEFAULT_TENANT
        user = user_id if user_id is not None else self.user_id or DEFAULT_USER
        return check_scope(tenant, user)

    @cached_property
    def _scope(self) -> Scope:
        return check_scope(self.tenant_id or DEFAULT_TENANT, self.user_id or DEFAULT_USER)


def _address(env: Mapping[str, str], name: str, default: str) -> str:
    address = (env.get(name) or default).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise InvalidRequest(f"{name} must begin with http:// or https://, not {address!r}")
    return address
