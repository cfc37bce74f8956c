"""Client configuration: the addresses of the platform, and the tenant and user of calls.

It comes from the environment, else (the addresses) from the platform of the folder, else from
defaults.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from soorma import local
from soorma_common.errors import InvalidRequest
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER, Scope, check_scope

Service = Literal["memory", "events", "registry", "identity"]
MEMORY_URL = "http://localhost:8083"
EVENTS_URL = "http://localhost:8082"
REGISTRY_URL = "http://localhost:8081"
IDENTITY_URL = "http://localhost:8085"

_SERVICES = ("SOORMA_MEMORY_URL", "SOORMA_EVENT_SERVICE_URL", "SOORMA_REGISTRY_URL")
"""The addresses that agents and applications need; that of identity is for managing keys."""

log = logging.getLogger("soorma.config")


class Unnamed(str):
    """A default tenant or user that nobody has named, for calls with a key.

    It is not sent: the key decides. The same text, named by the program, is.
    """

    __slots__ = ()


_DEFAULTS = Scope(DEFAULT_TENANT, DEFAULT_USER)
UNNAMED = Scope(Unnamed(DEFAULT_TENANT), Unnamed(DEFAULT_USER))
_complaints: set[str] = set()
"""Problems with notes of platforms that have been logged, so that each is logged once."""


@dataclass(frozen=True)
class KeyFile:
    """A file that holds an API key: called, it returns the key that is there now.

    Calls that are refused with one key ask for it again, so a new key is in use as soon as the file
    holds it. Raises InvalidRequest if the file cannot be read.
    """

    path: Path

    def __call__(self) -> str:
        try:
            key = self.path.read_text("ascii").strip()
        except UnicodeDecodeError:
            key = ""
        except OSError as error:
            raise InvalidRequest(
                f"SOORMA_API_KEY_FILE: {self.path} cannot be read: {error.strerror}"
            ) from error
        if not key:
            raise InvalidRequest(f"SOORMA_API_KEY_FILE: {self.path} holds no API key")
        return key


@dataclass(frozen=True, repr=False)
class ClientConfig:
    """The addresses of the services, the default tenant and user of calls, and how long to retry.

    `api_key` is the key, or a function that returns one and is called again when it is not accepted
    any more; an open platform needs none. `tenant_id` confines agents and readers to that tenant;
    None lets them serve all. `origin` describes, for the log, where the addresses come from; it is
    empty if the program sets them itself.
    """

    memory_url: str = MEMORY_URL
    events_url: str = EVENTS_URL
    tenant_id: str | None = None
    user_id: str | None = None
    retry_seconds: float = 10.0
    registry_url: str = REGISTRY_URL
    identity_url: str = IDENTITY_URL
    api_key: str | Callable[[], str] | None = field(default=None, repr=False)
    origin: str = field(default="", compare=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ, *, role: str = "app") -> ClientConfig:
        """Reads the configuration from the environment.

        The variables are SOORMA_MEMORY_URL, SOORMA_EVENT_SERVICE_URL, SOORMA_REGISTRY_URL,
        SOORMA_IDENTITY_URL, SOORMA_API_KEY (or SOORMA_API_KEY_FILE), SOORMA_TENANT_ID,
        SOORMA_USER_ID and SOORMA_RETRY_SECONDS. An address that is not set is that of the platform
        that `soorma dev` runs for the current folder or one above it, else the default; so is a
        key, if it was started with --secure, that of the `role`. Raises InvalidRequest if a
        variable is invalid.
        """
        retry = env.get("SOORMA_RETRY_SECONDS", "").strip() or "10"
        try:
            retry_seconds = float(retry)
        except ValueError:
            raise InvalidRequest(
                f"SOORMA_RETRY_SECONDS must be a number of seconds, not {retry!r}"
            ) from None
        here, keys, origin = _platform(env)
        api_key = _api_key(env)
        tenant_id, user_id = env.get("SOORMA_TENANT_ID") or None, env.get("SOORMA_USER_ID") or None
        if api_key is None and role in keys:
            # These are for the default tenant, as everything is in a folder of one's own.
            api_key = keys[role]
            tenant_id, user_id = tenant_id or DEFAULT_TENANT, user_id or DEFAULT_USER
        return cls(
            memory_url=_address(env, here, "SOORMA_MEMORY_URL", MEMORY_URL),
            events_url=_address(env, here, "SOORMA_EVENT_SERVICE_URL", EVENTS_URL),
            tenant_id=tenant_id,
            user_id=user_id,
            retry_seconds=retry_seconds,
            registry_url=_address(env, here, "SOORMA_REGISTRY_URL", REGISTRY_URL),
            identity_url=_address(env, here, "SOORMA_IDENTITY_URL", IDENTITY_URL),
            api_key=api_key,
            origin=origin,
        )

    def __repr__(self) -> str:
        shown = {
            name: local.shown(getattr(self, name))
            for name in ("memory_url", "events_url", "registry_url", "identity_url")
        }
        shown |= {name: getattr(self, name) for name in ("tenant_id", "user_id", "retry_seconds")}
        return f"ClientConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def addresses(self) -> dict[Service, str]:
        """The address of each service."""
        return {
            "memory": self.memory_url,
            "events": self.events_url,
            "registry": self.registry_url,
            "identity": self.identity_url,
        }

    def scope(self, tenant_id: str | None, user_id: str | None) -> Scope:
        """The tenant and user of a call: as given, else as configured, else the default ones.

        With a key, the defaults are `Unnamed`; an open platform has to be told.
        """
        if tenant_id is None and user_id is None:
            return self._scope
        return check_scope(
            self._scope.tenant_id if tenant_id is None else tenant_id,
            self._scope.user_id if user_id is None else user_id,
        )

    @cached_property
    def _scope(self) -> Scope:
        default = _DEFAULTS if self.api_key is None else UNNAMED
        return check_scope(self.tenant_id or default.tenant_id, self.user_id or default.user_id)


def _api_key(env: Mapping[str, str]) -> str | KeyFile | None:
    """The key that the environment holds or names; InvalidRequest if it does both."""
    key, file = (env.get(name, "").strip() for name in ("SOORMA_API_KEY", "SOORMA_API_KEY_FILE"))
    if not file:
        return key or None
    if key:
        raise InvalidRequest(
            "SOORMA_API_KEY and SOORMA_API_KEY_FILE are both set; which of them is meant is not to "
            "be guessed: unset one"
        )
    found = KeyFile(Path(file))
    found()  # a file that is not there is reported at the start, not by the first call
    return found


def _platform(env: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str], str]:
    """The addresses and keys of the folder's platform, and the addresses' origin.

    None if the environment sets all. A key goes nowhere but to the platform it belongs to.
    """
    if all(env.get(name) for name in _SERVICES):
        return {}, {}, "that the environment names"
    found = local.platform_here()
    if found.trouble and found.trouble not in _complaints:
        _complaints.add(found.trouble)
        log.warning("%s; the default addresses are used", found.trouble)
    named = [name for name in local.VARIABLES.values() if env.get(name)]
    if named:
        return found.addresses, {}, f"that {', '.join(named)} and this folder name"
    if found.addresses:
        return found.addresses, found.keys, f"that soorma dev runs for {found.root}"
    return {}, {}, "at the default addresses"


def _address(env: Mapping[str, str], here: Mapping[str, str], name: str, default: str) -> str:
    address = (env.get(name) or here.get(name) or default).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise InvalidRequest(f"{name} must begin with http:// or https://, not {address!r}")
    return address
